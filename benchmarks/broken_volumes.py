"""Mutated headers, files, voxels, manifests and DICOM series: what ``data check`` makes of each.

    python benchmarks/broken_volumes.py [--cases 100] [--seed 0] [--verbose]

Each case is a small sound data set with one thing mutated by a fixed seed, checked by the command line in
this process. Wanted: no exception, no warning of another library, exit status 0 (read), 1 (a case refused) or
2 (the lists refused), every refusal with its remedy, at most 10 s, and 1 GB in all.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import gzip
import json
import logging
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from click.testing import CliRunner

from sfrbench.cli import main as command

SECONDS, MEGABYTES = 10.0, 1000.0
CASES = ("c1", "c2", "c3")
SHAPE = (12, 10, 8)
Rng = np.random.Generator


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    label = np.zeros(SHAPE, np.uint8)
    label[3:7, 3:7, 2:6] = 1
    image = 40 + 10 * np.random.default_rng(seed).standard_normal(SHAPE) + 30 * label
    return image.astype(np.float32), label


def write(root: Path) -> dict[str, Any]:
    """A sound data set; returns its manifest."""
    for number, case in enumerate(CASES):
        for folder, values in zip(("imagesTr", "labelsTr"), volume(number), strict=True):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values, np.eye(4)), root / folder / f"{case}.nii.gz")
    return {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "organ"},
        "training": [
            {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in CASES
        ],
        "test": [],
    }


def a_file(root: Path, rng: Rng) -> Path:
    """The image or the label of c2."""
    return root / str(rng.choice(["imagesTr", "labelsTr"])) / "c2.nii.gz"


#: Offset and numpy type of fields of a NIfTI-1 header.
FIELDS = {
    "sizeof_hdr": (0, "<i4"), "dim0": (40, "<i2"), "dim1": (42, "<i2"), "dim3": (46, "<i2"),
    "dim4": (48, "<i2"),
    "intent": (68, "<i2"), "datatype": (70, "<i2"), "bitpix": (72, "<i2"), "qfac": (76, "<f4"),
    "pixdim1": (80, "<f4"), "pixdim3": (88, "<f4"), "vox_offset": (108, "<f4"), "slope": (112, "<f4"),
    "inter": (116, "<f4"), "units": (123, "u1"), "qform": (252, "<i2"), "sform": (254, "<i2"),
    "quatern_b": (256, "<f4"), "qoffset": (268, "<f4"), "srow_x": (280, "<f4"), "srow_z": (320, "<f4"),
    "magic": (344, "<i4"),
}  # fmt: skip
WHOLE = (0, 1, -1, 2, 3, 5, 7, 8, 16, 64, 127, 128, 255, 512, 1536, 2048, 2304, 3001, 9999, 32767, -32768)
REAL = (0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, -1e30, float("nan"), float("inf"), 352.0, 1e6, 0.003921569)


def mutate_header(root: Path, rng: Rng) -> str:
    """One to three fields, or bytes anywhere in the header."""
    path = a_file(root, rng)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    told = []
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(1, 5))):
            at = int(rng.integers(348))
            raw[at] = int(rng.integers(256))
            told.append(f"byte {at} = {raw[at]}")
    else:
        for name in rng.choice(list(FIELDS), int(rng.integers(1, 4)), replace=False):
            offset, kind = FIELDS[str(name)]
            value = rng.choice(REAL if "f" in kind else WHOLE)
            data = np.array(int(value) % 256 if kind == "u1" else value).astype(kind).tobytes()
            raw[offset : offset + len(data)] = data
            told.append(f"{name} = {value:g}")
    path.write_bytes(gzip.compress(bytes(raw)))
    return f"{path.parent.name}: {', '.join(told)}"


def mutate_file(root: Path, rng: Rng) -> str:
    path = a_file(root, rng)
    data = path.read_bytes()
    kinds: dict[str, Callable[[], bytes | None]] = {
        "cut short": lambda: data[: int(rng.integers(len(data)))],
        "a byte changed": lambda: _changed(data, rng),
        "something appended": lambda: data + rng.bytes(40),
        "not compressed": lambda: gzip.decompress(data),
        "another format": lambda: b"\x89PNG\r\n\x1a\n" + rng.bytes(500),
        "text": lambda: b"version https://git-lfs.github.com/spec/v1\n",
        "empty": lambda: b"",
        "a folder": lambda: None,
    }
    name = str(rng.choice(list(kinds)))
    changed = kinds[name]()
    path.unlink()
    if changed is None:
        path.mkdir()
    else:
        path.write_bytes(changed)
    return f"{path.parent.name}: {name}"


def _changed(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    changed[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def mutate_voxels(root: Path, rng: Rng) -> str:
    path = a_file(root, rng)
    values = volume(1)[path.parent.name == "labelsTr"]
    colours = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    kinds: dict[str, Callable[[], np.ndarray]] = {
        "complex": lambda: values.astype(np.complex64),
        "colours": lambda: colours,
        "NaN": lambda: np.where(values > 50, np.nan, values).astype(np.float32),
        "infinite": lambda: np.where(values > 0, np.inf, 1).astype(np.float64),
        "huge": lambda: values.astype(np.float64) * 1e300,
        "negative": lambda: -values.astype(np.float32),
        "constant": lambda: np.zeros_like(values),
        "almost whole": lambda: (values * 0.9999999986).astype(np.float64),
        "halves": lambda: values * 0.5,
        "2D": lambda: values[..., 0],
        "4D of one": lambda: values[..., None],
        "5D of one": lambda: values[..., None, None],
        "4D of two": lambda: np.stack([values, values], -1),
        "empty": lambda: values[:0],
        "another shape": lambda: values[1:],
        "8 bytes": lambda: values.astype(np.float64),
        "large whole numbers": lambda: (values.astype(np.int64) << 40).astype(np.float64),
    }
    name = str(rng.choice(list(kinds)))
    nib.save(nib.Nifti1Image(kinds[name](), np.eye(4)), path)
    return f"{path.parent.name}: {name}"


VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**30, "", "background", "²", "../x.nii.gz", "/etc/passwd", "imagesTr/c1.nii.gz",
    "a\nb", "\0", [], [1, 2], ["imagesTr/c1.nii.gz"], {}, {"0": "x"}, {"image": 3}, "x" * 5000,
)  # fmt: skip


def mutate_manifest(root: Path, rng: Rng) -> str:
    """One to three places of dataset.json, its text, or its bytes."""
    path = root / "dataset.json"
    manifest = json.loads(path.read_text())
    told = []
    for _ in range(int(rng.integers(1, 4))):
        place, key = _somewhere(manifest, rng)
        keys = [*KEYS, key] if isinstance(place, dict) else [key]
        key = keys[int(rng.integers(len(keys)))] if rng.random() < 0.4 else key
        if rng.random() < 0.25 and (isinstance(key, int) or key in place):
            del place[key]
            told.append(f"no {key}")
        else:
            place[key] = VALUES[int(rng.integers(len(VALUES)))]
            told.append(f"{key} = {str(place[key])[:20]!r}")
    text = json.dumps(manifest)
    texts = (
        text,
        text,
        text,
        text[: len(text) // 2],
        text.replace("}", ",}", 1),
        "[" * 3000 + "]" * 3000,
        "9" * 5000,
    )
    path.write_text(texts[int(rng.integers(len(texts)))])
    if rng.random() < 0.1:
        path.write_bytes(b"\xff\xfe" + text.encode())
    return ", ".join(told)


KEYS = ("dataset", "validation", "test", "training", "labels", "file_ending", "channel_names",
        "fold", "numTraining", "²")  # fmt: skip


def _somewhere(value: Any, rng: Rng) -> tuple[Any, Any]:
    """A container inside a JSON value and a key of it."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return value, "new" if isinstance(value, dict) else 0
        key = keys[int(rng.integers(len(keys)))]
        inner = value[key]
        if not isinstance(inner, (dict, list)) or not inner or rng.random() < 0.4:
            return value, key
        value = inner


def write_series(root: Path) -> list[Path]:
    """Four slices of a CT."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    (root / "series").mkdir()
    files = []
    for z in range(4):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"1.2.3.{z + 1}"
        data.SeriesInstanceUID, data.Modality, data.InstanceNumber = "1.2.3", "CT", z + 1
        data.Columns, data.Rows, data.PixelSpacing = 12, 10, [1, 1]
        data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2 * z]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.PixelData = np.random.default_rng(z).integers(0, 2000, (10, 12)).astype("<i2").tobytes()
        files.append(root / "series" / f"{z}.dcm")
        data.save_as(files[-1], enforce_file_format=True)
    return files


def mutate_series(root: Path, rng: Rng) -> str:
    """Bytes of a slice's header, or its end."""
    path = write_series(root)[int(rng.integers(4))]
    raw = bytearray(path.read_bytes())
    if rng.random() < 0.2:
        path.write_bytes(raw[: int(rng.integers(len(raw)))])
        return "cut short"
    places = rng.integers(128, len(raw) - 230, int(rng.integers(1, 6))).tolist()
    for at in places:
        raw[at] = int(rng.choice([0, 32, 45, 57, 255, int(rng.integers(256))]))
    path.write_bytes(bytes(raw))
    return f"bytes {places}"


MUTATORS: dict[str, Callable[[Path, Rng], str]] = {
    "header": mutate_header,
    "file": mutate_file,
    "voxels": mutate_voxels,
    "manifest": mutate_manifest,
    "series": mutate_series,
}
_SHARES = (0.35, 0.15, 0.1, 0.2, 0.2)


class _Heard(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def check_series(root: Path) -> tuple[int, str, BaseException | None]:
    """As ``check``, of the folder of a DICOM series."""
    from sfrbench.components.dataset._checks import Place
    from sfrbench.components.dataset._dicom import read_series
    from sfrbench.errors import SfrbenchError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_series(Place("c", root / "series"))
    except SfrbenchError as error:
        return 1, str(error), None
    except Exception as error:
        return 1, "", error
    return 0, "", None


def check(root: Path) -> tuple[int, str, BaseException | None]:
    """Exit status, output, and what was raised, warnings of other libraries included."""
    said: list[str] = []
    logger = logging.getLogger("nibabel.global")
    handlers, logger.handlers = logger.handlers, [_Heard(said)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            done = CliRunner().invoke(
                command,
                ["data", "check", "decathlon", "--data", f"decathlon={root}", "--set", "test_cases=1"],
            )
    finally:
        logger.handlers = handlers
    raised = done.exception if not isinstance(done.exception, SystemExit) else None
    if raised is None and said:
        raised = RuntimeError(f"nibabel said: {said[0]}")
    return done.exit_code, done.output, raised


def one(number: int, seed: int) -> tuple[str, str, int, float, str]:
    """Kind, what was mutated, exit status, seconds, and what is wrong (empty: nothing)."""
    rng = np.random.default_rng([seed, number])
    kind = str(rng.choice(list(MUTATORS), p=_SHARES))
    root = Path(tempfile.mkdtemp(prefix="broken-volumes-"))
    try:
        (root / "dataset.json").write_text(json.dumps(write(root)))
        told = MUTATORS[kind](root, rng)
        began = time.perf_counter()
        code, output, raised = check_series(root) if kind == "series" else check(root)
        seconds = time.perf_counter() - began
    finally:
        shutil.rmtree(root, ignore_errors=True)
    fault = ""
    if raised is not None:
        fault = "".join(traceback.format_exception(raised))
    elif code not in (0, 1, 2):
        fault = f"exit status {code}: {output}"
    elif seconds > SECONDS:
        fault = f"took {seconds:.1f} s"
    elif code and not any(line.startswith("    ") for line in output.splitlines()):
        fault = f"no remedy: {output}"
    return kind, told, code, seconds, fault


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="print every case")
    options = parser.parse_args(arguments)
    counts: Counter[str] = Counter()
    slowest, faults = 0.0, 0
    for number in range(options.cases):
        kind, told, code, seconds, fault = one(number, options.seed)
        counts[f"{kind}: exit {code}"] += 1
        slowest, faults = max(slowest, seconds), faults + bool(fault)
        if fault or options.verbose:
            print(f"case {number}, {kind}, {told}: exit {code}, {seconds:.2f} s {fault}")
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    print(f"{options.cases} cases, {faults} at fault, slowest {slowest:.2f} s, {megabytes:.0f} MB in all")
    return int(faults > 0 or megabytes > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
