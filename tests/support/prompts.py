"""Scenes for simulated users, and their rules by brute force."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base_prompts import Click, Said, Scene

Mask = NDArray[np.bool_]
Voxel = tuple[int, int, int]


def scene(
    truth: Mask,
    prediction: Mask | None = None,
    seed: int = 0,
    said: Sequence[Said] = (),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Scene:
    """One object, which is the only one of its case."""
    slices = np.flatnonzero(truth.any(axis=(0, 1)))
    labelled = (int(slices[0]), int(slices[-1])) if slices.size else (0, truth.shape[2] - 1)
    nothing = np.zeros_like(truth)
    guess = nothing if prediction is None else prediction
    return Scene(truth, guess, labelled, np.random.default_rng(seed), tuple(said), spacing)


def mask(shape: Voxel, *voxels: Any) -> Mask:
    """A mask with some voxels, each of which may be an index of several."""
    made = np.zeros(shape, bool)
    for voxel in voxels:
        made[voxel] = True
    return made


def voxels(found: Mask) -> list[Voxel]:
    """Those of a mask in scan order."""
    return [(int(x), int(y), int(z)) for x, y, z in np.argwhere(found)]


def squared_depths(found: Mask, spacing: Sequence[float], axes: Sequence[int]) -> NDArray[np.float64]:
    """The squared distance of each voxel to the nearest one outside of the mask, every pair looked at; one
    voxel of padding along ``axes``, and no way along others."""
    margin = [1 if axis in axes else 0 for axis in range(3)]
    padded = np.pad(found, [(one, one) for one in margin])
    out, others = np.argwhere(~padded), [axis for axis in range(3) if axis not in axes]
    made = np.zeros(found.shape)
    for place in np.argwhere(found):
        steps = out - place - margin
        reached = (steps[:, others] == 0).all(axis=1)
        away = steps[reached] * np.asarray(spacing, np.float64)
        made[tuple(place)] = (away**2).sum(axis=1).min()
    return made


def slice_of(found: Mask, clicked: Sequence[Voxel] = ()) -> int | None:
    """The slice of the largest area, the first of several, of those with a voxel that was not clicked."""
    left = {at[2] for at in voxels(found) if at not in clicked}
    return max(left, key=lambda z: (int(found[:, :, z].sum()), -z), default=None)


def allowed(
    rule: str, truth: Mask, guess: Mask, spacing: Sequence[float] = (1, 1, 1), clicked: Sequence[Voxel] = ()
) -> set[Click]:
    """Every click that a rule may make where something is missed or wrong, by the formulas of its authors."""
    missed, wrong = truth & ~guess, guess & ~truth
    if rule in ("random", "random_balanced"):
        return _labelled(voxels(missed), voxels(wrong))
    if rule == "ritm3d":
        return _core(squared_depths(missed, spacing, (0, 1, 2)), squared_depths(wrong, spacing, (0, 1, 2)))
    z = slice_of(truth if rule == "first_random" else missed | wrong, clicked)
    if z is None:
        return set()
    here = np.zeros_like(truth)
    here[:, :, z] = True
    if rule == "first_random":
        return _labelled(voxels(truth & here), [])
    if rule == "uniform":
        return _labelled(voxels(missed & here), voxels(wrong & here))
    inside, outside = (squared_depths(one & here, spacing, (0, 1)) for one in (missed, wrong))
    for at in clicked:
        inside[at] = outside[at] = 0
    return _deepest(inside, outside, z)


def _labelled(inside: Sequence[Voxel], outside: Sequence[Voxel]) -> set[Click]:
    return {Click(at, True) for at in inside} | {Click(at, False) for at in outside}


def _core(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> set[Click]:
    positive = bool(inside.max() > outside.max())
    depths = inside if positive else outside
    return {Click(at, positive) for at in voxels(4 * depths > depths.max())}


def _deepest(inside: NDArray[np.float64], outside: NDArray[np.float64], z: int) -> set[Click]:
    positive = bool(inside.max() > outside.max())
    depths = (inside if positive else outside)[:, :, z]
    for x, y in product(*map(range, depths.shape)):
        if depths[x, y] == depths.max():
            return {Click((x, y, z), positive)}
    return set()
