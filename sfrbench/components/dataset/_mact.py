"""MACT's raw form: images in NIfTI or DICOM, labels in NIfTI (Zenodo 1169361)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.dataset._checks import Place, check_two_files, checked_image, checked_label
from sfrbench.components.dataset._lists import first_file
from sfrbench.components.dataset._names import ENDINGS
from sfrbench.components.dataset._nifti import both_notes, geometry_of, onto_image, read_nifti, read_scan
from sfrbench.components.dataset.btcv import Btcv
from sfrbench.components.dataset.geometry import Geometry

#: The numbers of the published labels: BTCV's, and one more.
PUBLISHED = ("background", *Btcv.names, "duodenum")
ORGAN_IDS = (1, 3, 4, 5, 6, 7, 11, 14)
TCIA, BTCV = "PANCREAS_", "img"
_AIR, _MUCH = -300.0, 0.2  # HU; share of organ voxels that no sound label reaches (gas in the stomach)
_LOOK = "look at 'sfrbench data check mact --contact-sheet FILE.png', and see dataset.tcia_flip"
_PARTS = ("Training", "Testing")
_LABELS = {
    TCIA: ("label_tciapancreasct_multiorgan/label_tcia_multiorgan", "label_tcia_multiorgan"),
    BTCV: ("label_btcv_multiorgan/label_btcv_multiorgan", "label_btcv_multiorgan"),
}
_IMAGES = {
    TCIA: ("Pancreas-CT", "image_tcia_multiorgan", "manifest-*/Pancreas-CT"),
    BTCV: (
        *(f"{folder}{part}/img" for folder in ("RawData/", "Abdomen/RawData/", "") for part in _PARTS),
        "image_btcv_multiorgan",
    ),
}


def labelled_cases(root: Path, source: str) -> list[str]:
    """Ids of the cases of a source with a label here, rising, such as ``PANCREAS_0002`` or ``img0001``."""
    for folder in _LABELS[source]:
        numbers = [re.fullmatch(r"label(\d{4})\.nii(\.gz)?", path.name) for path in (root / folder).glob("*")]
        found = sorted({match[1] for match in numbers if match})
        if found:
            return [source + number for number in found]
    return []


def raw_files(root: Path, case: str) -> tuple[Path, Path]:
    """Image (a file, or the folder of a series) and label of a case; what is not there by its first name."""
    source = TCIA if case.startswith(TCIA) else BTCV
    name = f"label{case.removeprefix(source)}"
    label = first_file(root, [f"{folder}/{name}{end}" for folder in _LABELS[source] for end in ENDINGS])
    folders = [folder for pattern in _IMAGES[source] for folder in sorted(root.glob(pattern))]
    folders.append(root)
    for folder in folders:
        for name in (f"{case}.nii.gz", f"{case}.nii", *([case] if source == TCIA else [])):
            if (folder / name).exists():
                return folder / name, label
    return root / _IMAGES[source][0] / (case if source == TCIA else f"{case}.nii.gz"), label


def read_raw(
    image_place: Place, label_place: Place, kept: Sequence[int], flip: str | None
) -> tuple[NDArray[np.float32], NDArray[np.uint8], Geometry]:
    """Image in HU, label with the ``kept`` numbers as 1, 2, … and all others as background, and the grid.

    The label is turned to the image's axes by the two headers, or by ``flip`` (axes such as "y") whatever its
    header says. Raises ``DataError``.
    """
    check_two_files(image_place, label_place)
    scan = read_scan(image_place)
    image = checked_image(scan.values, image_place)
    drawn = read_nifti(label_place, as_stored=True)
    stored, notes = drawn.values, both_notes(scan.notes, drawn.notes)
    if flip is None:
        stored, moved = onto_image(drawn, scan, label_place, _LOOK)
        notes = (*notes, *moved)
    else:
        stored = np.flip(stored, tuple("xyz".index(axis) for axis in flip))
    label = renumbered(checked_label(stored, image.shape, PUBLISHED, label_place), kept)
    air = float(np.mean(image[label > 0] < _AIR)) if label.any() else 0.0
    if air > _MUCH:
        what = f"{air:.0%} of the organ voxels are air (below {_AIR:g} HU): does the label lie on the image?"
        notes = (*notes, what)
    return image, label, replace(geometry_of(scan.affine, ()), notes=notes)


def renumbered(label: NDArray[Any], kept: Sequence[int]) -> NDArray[np.uint8]:
    """The values of ``kept`` as 1, 2, … in this order, all others as 0."""
    ours = np.zeros(label.shape, dtype=np.uint8)
    for number, stored in enumerate(kept, 1):
        ours[label == stored] = number
    return ours
