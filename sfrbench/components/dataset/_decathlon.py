"""Reading one case of the Decathlon's or nnU-Net's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base import Case
from sfrbench.components.dataset._checks import Place, checked_image, checked_label
from sfrbench.components.dataset._decathlon_cases import Folder
from sfrbench.components.dataset._finish import finish
from sfrbench.components.dataset._nifti import both_notes, geometry_of, onto_image, read_nifti


def read(root: Path, folder: Folder, case: str, channel: int, downsample: int, min_depth: int | None) -> Case:
    """Read one case; without a label file it is not ``labelled``. Raises ``DataError``."""
    folder.check_image(case)
    manifest, paths = folder.reader.manifest, folder.files(case)
    place = Place(case, paths.image)
    scan = read_nifti(place, as_stored=False)
    array, notes = _flat(scan.values), scan.notes
    image = checked_image(array if paths.alone else _pick(array, manifest.channels, channel, place), place)
    files = {"file": str(paths.image.relative_to(root))}
    label = None
    if paths.label is not None:
        label_place = Place(case, paths.label)
        drawn = read_nifti(label_place, as_stored=True)
        upright, moved = onto_image(drawn._replace(values=_flat(drawn.values)), scan, label_place)
        label = checked_label(upright, image.shape, manifest.classes, label_place)
        notes = (*both_notes(notes, drawn.notes), *moved)
        files["label_file"] = str(paths.label.relative_to(root))
    made = finish(
        image,
        label,
        geometry_of(scan.affine, notes),
        classes=len(manifest.classes),
        downsample=downsample,
        min_depth=min_depth,
        place=place,
        files=files,
    )
    return made if label is not None else made.model_copy(update={"labelled": False})


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """Without axes of one value behind the third."""
    return np.reshape(array, array.shape[:3]) if array.ndim > 3 and set(array.shape[3:]) == {1} else array


def _pick(array: NDArray[Any], channels: int, channel: int, place: Place) -> NDArray[Any]:
    """The channel of a 4D image, where ``dataset.json`` names as many as there are; 3D as it is."""
    if array.ndim == 4 and array.shape[3] == channels and channel < channels:
        picked: NDArray[Any] = array[..., channel]
        return picked
    if array.ndim == 3 and channel > 0:
        hint = "set dataset.channel to 0, or bring the channel's file"
        raise place.error(f"there is no channel {channel} in a 3D image", hint)
    if array.ndim == 4:
        hint = f"{channels} channels are named and dataset.channel is {channel}; make the three agree"
        raise place.error(f"the image has 4 dimensions, shape {array.shape}", hint)
    return array
