"""A label map, and what it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelMap:
    """Labels on the grid of the image that they are of."""

    values: NDArray[np.uint8]  # (X, Y, Z) as in the image's file; of a series (columns, rows, slices)
    affine: NDArray[np.float64]  # 4x4, to RAS in mm
    classes: Sequence[str]  # by number; 0 is the background
    image: Path  # NIfTI, or the folder of a DICOM series
    made_by: str  # the cell, for formats that tell it
