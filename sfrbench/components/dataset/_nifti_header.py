"""What the header of a NIfTI file says, checked as it stands: before nibabel mends it, and in plain words."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import xform_codes
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from sfrbench.components.dataset._checks import PLAUSIBLE, Place

_AGAIN = "copy or export the file again"
#: Millimetres of a unit, by its code in ``xyzt_units``; 0: not said, and then it is mm.
_UNITS = {0: ("unknown", 1.0), 1: ("metre", 1000.0), 2: ("mm", 1.0), 3: ("micron", 0.001)}
_CIFTI = range(3000, 3100)  # intent codes
_DEFLATED = 1100  # no gzip file holds more bytes than this for each of its own
_APART = 0.01  # relative difference of two sizes of a voxel that is told


@dataclass(frozen=True)
class Header:
    """A checked header: the class that reads ``stream``, which stands at the file's first byte, mm per unit
    of length, and what users should know."""

    reads: Any
    stream: IO[bytes]
    unit: float
    notes: tuple[str, ...]
    guessed: bool  # neither qform nor sform is set, and which way the axes run is nobody's word


def checked_header(stream: IO[bytes], size: int, place: Place, *, packed: bool) -> Header:
    """Reads the header at the start of ``stream``. ``size`` is that of the file in bytes, ``packed`` whether
    it is compressed. Raises ``DataError``."""
    raw, reads = _raw(stream, place)
    _check_values(raw, place)
    shape = _shape(raw, place)
    room = size * _DEFLATED if packed else size
    needed = int(np.prod(shape, dtype=object)) * raw.get_data_dtype().itemsize
    if needed > room:
        grid = " x ".join(map(str, shape))
        what = f"the file cannot be read as NIfTI: it is too short for the {grid} voxels of its header"
        raise place.error(what, _AGAIN)
    stream, begun = _begun(stream, raw, needed, room, place)
    spacing = [float(step) for step in raw["pixdim"][1 : 1 + min(len(shape), 3)]]
    unit, notes = _unit(raw, spacing, place)
    if not (np.isfinite(spacing).all() and min(spacing) > 0):
        shown = ", ".join(f"{step:g}" for step in spacing)
        raise place.error(f"the spacing in the header is ({shown}) mm", "set pixdim to the true voxel size")
    if np.isinf(raw["scl_slope"]):
        notes = (*notes, "scl_slope in the header is infinite; the values are taken as they are stored")
    notes = (*begun, *notes, *_forms(raw, np.asarray(spacing), unit, place))
    return Header(reads, stream, unit, notes, not (raw["sform_code"] or raw["qform_code"]))


def _begun(
    stream: IO[bytes], raw: Any, needed: int, room: int, place: Place
) -> tuple[IO[bytes], tuple[str, ...]]:
    """The file with a sound ``vox_offset``, and a note where that was 0.

    The voxels begin at byte ``int(vox_offset)``, in one file not before 352 (NIfTI-2: 544). What 0 means
    there is not said, and readers differ: nifti_clib and ITK take 348, nibabel takes the header for voxels.
    Where header and voxels fill the file it can only be the first byte behind the header. Raises
    ``DataError``.
    """
    first, offset = raw.single_vox_offset, float(raw["vox_offset"])
    hint = f"write the byte at which the voxels begin ({first} where nothing precedes them) into vox_offset"
    if offset == 0:
        content = bytearray(stream.read())
        if len(content) != first + needed:
            what = "the header does not say where the voxels begin: vox_offset is 0, and the file holds"
            raise place.error(f"{what} {len(content)} bytes, not {first} and {needed} of voxels", hint)
        raw["vox_offset"] = first
        content[: len(raw.binaryblock)] = raw.binaryblock
        note = f"vox_offset in the header is 0; the voxels are taken from byte {first}, and fill the file"
        return io.BytesIO(bytes(content)), (note,)
    if not first <= offset < np.inf:
        raise place.error(f"the voxels cannot begin at byte {offset:g}, as vox_offset says", hint)
    if int(offset) + needed > room:
        what = f"the file is too short for {needed} bytes of voxels from byte {offset:.10g}, where vox_offset"
        raise place.error(f"{what} lets them begin", hint)
    return stream, ()


def _raw(stream: IO[bytes], place: Place) -> tuple[Any, Any]:
    """The header as it stands, and nibabel's class for files with it."""
    start = stream.read(4)
    stream.seek(0)
    kinds = {
        struct.pack(f"{order}i", size): (order, kind)
        for size, kind in ((348, nib.Nifti1Image), (540, nib.Nifti2Image))
        for order in "<>"
    }
    order, reads = kinds.get(start, ("", None))
    if reads is None:
        raise place.error(
            "the file cannot be read as NIfTI: it does not begin with a header of NIfTI", _AGAIN
        )
    read: Any = reads.header_class.from_fileobj
    raw = read(stream, endianness=order, check=False)
    stream.seek(0)
    if bytes(raw["magic"].tobytes())[:3] not in (b"n+1", b"n+2"):
        hint = "convert the file to NIfTI in one piece (.nii or .nii.gz), header and voxels together"
        raise place.error("the file cannot be read as NIfTI: it is a header alone, or Analyze", hint)
    return raw, reads


def _check_values(raw: Any, place: Place) -> None:
    """One real number per voxel, in a volume."""
    if int(raw["intent_code"]) in _CIFTI:
        hint = "bring the volume that it was made from, as NIfTI"
        raise place.error("this is a CIFTI file (values on a brain's surface), not a volume", hint)
    try:
        kind = raw.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        what = f"the file cannot be read as NIfTI: its type of values, {int(raw['datatype'])}, is not known"
        raise place.error(what, _AGAIN) from error
    if kind.kind == "c":
        hint = "save the magnitude, or the part that is wanted, as real numbers"
        raise place.error("the file holds complex numbers", hint)
    if kind.kind == "V":
        if not kind.itemsize:
            raise place.error("the header does not say what type of values the file holds", _AGAIN)
        raise place.error("the file holds colours (RGB), not one number per voxel", "save it in grey values")


def _shape(raw: Any, place: Place) -> tuple[int, ...]:
    count = int(raw["dim"][0])
    sides = tuple(int(side) for side in raw["dim"][1 : count + 1]) if 1 <= count <= 7 else ()
    if not sides or min(sides) < 0:
        shown = ", ".join(str(int(value)) for value in raw["dim"])
        what = f"the file cannot be read as NIfTI: the sizes in its header are ({shown})"
        raise place.error(what, _AGAIN)
    return sides


def _unit(raw: Any, spacing: list[float], place: Place) -> tuple[float, tuple[str, ...]]:
    """Millimetres per unit. A unit other than mm with voxels that no scanner makes was written by mistake."""
    code = int(raw["xyzt_units"]) & 7
    if code not in _UNITS:
        return 1.0, (f"the header's unit of length ({code}) is not known; taken as mm",)
    name, factor = _UNITS[code]
    if factor == 1:
        return factor, ()
    shown = " x ".join(f"{step * factor:g}" for step in spacing)
    if not all(PLAUSIBLE[0] <= step * factor <= PLAUSIBLE[1] for step in spacing):
        hint = "write the spacing in mm, with 'mm' as the unit (xyzt_units), into image and label"
        raise place.error(f"the header's unit is the {name}: voxels would be {shown} mm", hint)
    return factor, (f"the header's unit is the {name}; voxels are {shown} mm",)


def _forms(raw: Any, spacing: NDArray[np.float64], unit: float, place: Place) -> tuple[str, ...]:
    """Where pixdim, qform and sform do not say the same. nibabel takes the sform, else the qform."""
    odd = [
        f"{name} {int(raw[name])} is not known; its affine is not looked at"
        for name in ("sform_code", "qform_code")
        if int(raw[name]) not in xform_codes.value_set("code")
    ]
    for note in odd:
        raw[note.partition(" ")[0]] = 0  # as nibabel does
    return (*odd, *_compared(raw, spacing, unit, place))


def _compared(raw: Any, spacing: NDArray[np.float64], unit: float, place: Place) -> tuple[str, ...]:
    sform, s_code = raw.get_sform(coded=True)
    try:
        qform, q_code = raw.get_qform(coded=True)
    except (ValueError, HeaderDataError, np.linalg.LinAlgError) as error:
        if not s_code:
            what = "the qform in the header is no rotation, and there is no sform"
            raise place.error(what, "set qform or sform anew") from error
        return ("the qform in the header is no rotation; the sform is taken",)
    if not s_code and not q_code:
        return ("neither qform nor sform is set, so left and right are a guess: taken as LAS",)
    if not s_code or not np.isfinite(sform).all():
        return ()  # a qform has the sizes of pixdim; what is not finite is refused later
    sizes = np.linalg.norm(sform[:3, :3], axis=0)[: len(spacing)]
    notes = []
    if np.abs(sizes - spacing).max() > _APART * float(sizes.max()):
        have, said = (" x ".join(f"{step * unit:.4g}" for step in steps) for steps in (spacing, sizes))
        notes.append(f"pixdim says {have} mm, the sform {said} mm; the sform is taken")
    if q_code and np.isfinite(qform).all() and sizes.min() > 0:
        notes += _apart(qform, sform, unit)
    return tuple(notes)


def _apart(qform: NDArray[np.float64], sform: NDArray[np.float64], unit: float) -> list[str]:
    """How two affines turn and place the same grid differently."""
    lengths = [np.linalg.norm(form[:3, :3], axis=0) for form in (qform, sform)]
    turned = qform[:3, :3] / lengths[0] - sform[:3, :3] / lengths[1]
    codes: Any = nib.orientations.aff2axcodes
    if np.abs(turned).max() > 0.02:
        names = ["".join(map(str, codes(form))) for form in (qform, sform)]
        axes = f"the axes differently ({names[0]}, {names[1]})" if names[0] != names[1] else "differently"
        return [f"qform and sform turn the volume {axes}; the sform is taken"]
    shift = float(np.abs(qform[:3, 3] - sform[:3, 3]).max())
    if shift > 0.5 * float(lengths[1].min()):
        return [f"the origins of qform and sform lie {shift * unit:.3g} mm apart; the sform is taken"]
    return []
