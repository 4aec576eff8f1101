"""What is said on single slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sfrbench.components.base_prompts import Box, Click
from sfrbench.components.prompter._boxes import slice_box

if TYPE_CHECKING:
    from sfrbench.components.base_prompts import Mask


def clicks(truth: Mask, slices: Sequence[int], rng: np.random.Generator) -> tuple[Click, ...]:
    """Any voxel of the object on each of some slices that have it. One number is drawn for every slice of the
    volume, so that a slice has the same click whatever others are asked for."""
    draws = [rng.random() for _ in range(truth.shape[2])]
    made = []
    for z in slices:
        places = np.flatnonzero(truth[:, :, z])
        x, y = divmod(int(places[int(draws[z] * places.size)]), truth.shape[1])
        made.append(Click((x, y, z), True))
    return tuple(made)


def boxes(truth: Mask, slices: Sequence[int]) -> tuple[Box, ...]:
    """The tight box around the object on each of some slices that have it."""
    return tuple(slice_box(truth, z) for z in slices)
