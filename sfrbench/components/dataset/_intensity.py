"""Steps that change the intensities of a volume and leave its grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.dataset.geometry import Volume


def clip(volume: Volume, low: float, high: float) -> Volume:
    """The image cut off below ``low`` and above ``high``."""
    return replace(volume, image=np.clip(volume.image, np.float32(low), np.float32(high)))


def tail(image: NDArray[np.float32], share: float) -> float:
    """The intensity at which the cumulative histogram reaches ``share``, as in SSL4MIS (scikit-image's).

    Whole numbers have one bin each, so that it is the least of them with that share at or below it; others
    have 256 bins, of which it is the centre.
    """
    if np.array_equal(image, np.rint(image)):
        values, counts = np.unique(image, return_counts=True)
    else:
        counts, edges = np.histogram(image, bins=256)
        values = (edges[:-1] + edges[1:]) / 2
    reached = np.cumsum(counts) / image.size >= share
    return float(values[int(np.argmax(reached)) if reached.any() else -1])


def standardise(volume: Volume, mean: float, std: float) -> Volume:
    """(image - mean) / std."""
    return replace(volume, image=(volume.image - np.float32(mean)) / np.float32(std))


def zscore(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(image - mean) / std over the whole volume, as SFR does at load (methods: LA, train and test)."""
    scaled: NDArray[np.float32] = (image - np.mean(image)) / np.std(image)
    return scaled
