"""From a checked raw volume to a prepared case, for every dataset of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base import Case
from sfrbench.components.dataset._checks import Place, implausible
from sfrbench.components.dataset._intensity import zscore
from sfrbench.components.dataset.geometry import Geometry, Step, deepen, shrink, turn


def finish(
    image: NDArray[np.float32],
    label: NDArray[np.uint8] | None,
    geometry: Geometry,
    *,
    classes: int,
    downsample: int,
    min_depth: int | None,
    place: Place,
    files: dict[str, str],
    steps: Sequence[Step] = (),
    rescale: bool = True,
) -> Case:
    """Turn a checked case, apply the dataset's ``steps``, shrink, deepen, z-score (with ``rescale``), and
    keep what leads back to the raw grid. An image alone gets a label of 0."""
    notes = list(geometry.notes)
    if label is None:
        label = np.zeros(image.shape, dtype=np.uint8)
    elif not label.any():
        notes.append("the label has no foreground voxel")
    notes += implausible(geometry.spacing)
    source = {
        **files,
        "shape": [int(n) for n in image.shape],
        "spacing": [float(step) for step in geometry.spacing],
        "affine": None if geometry.affine is None else geometry.affine.tolist(),
        "axes": None if geometry.axes is None else [list(pair) for pair in geometry.axes],
        "orientation": geometry.orientation,
        "downsample": downsample,
        "intensity": [float(image.min()), float(image.max())],
        "notes": notes,
    }
    volume = turn(image, label, geometry)
    digest = hashlib.sha256(np.ascontiguousarray(volume.image).data).hexdigest()
    for step in steps:
        volume = step(volume)
        if volume.image.size == 0:
            raise place.error("cropping leaves nothing of the image", "is this the right file of the case?")
        if volume.image.min() == volume.image.max():
            hint = "see which intensities the case has; dataset.clip or dataset.tail may cut all of them off"
            raise place.error("the image is constant once cropped and clipped", hint)
    if downsample > 1:
        volume = shrink(volume, downsample, classes)
        if volume.image.min() == volume.image.max():
            what = f"the image is constant once downsampled by {downsample}"
            raise place.error(what, "lower dataset.downsample")
    volume = deepen(volume, min_depth)
    return Case(
        image=zscore(volume.image) if rescale else volume.image,
        label=volume.label,
        spacing=volume.spacing,
        affine=None if volume.affine is None else volume.affine.tolist(),
        source={**source, **volume.source},
        zscored=rescale,
        digest=digest,
    )
