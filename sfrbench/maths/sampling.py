"""Crops, augmentation and the order of cases, all without state.

What step ``t`` draws depends on a seed and ``t`` alone, so a resumed run sees the same patches, and two
methods with the same seed are trained on the same labelled patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sfrbench.errors import InputError

Sides = tuple[int, int, int]
Volume = np.ndarray[Any, Any]
Short = Literal["repeat", "shrink"]
Crops = Literal["all", "released"]
#: Voxels of a class that are kept to draw one of them.
MOST_VOXELS = 100_000


def mix(seed: int, step: int) -> int:
    """A 63-bit seed from a seed and a step; neighbouring steps give unrelated streams."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)


def labelled_at(cases: Sequence[str], batch: int, seed: int, step: int, short: Short = "repeat") -> list[str]:
    """The labelled cases of step ``step``, a pass over the list in each epoch.

    ``short`` says what becomes of an epoch's last group where it has fewer than ``batch`` cases. "repeat":
    it is dropped, and a list with fewer cases than ``batch`` is repeated, so that a single case fills the
    batch with independent crops (the sampler of re-training in ShumengLI/SFR refuses such a list; the paper
    is silent about it). "shrink": it is a batch of its own, as the loader of fine-tuning there has it, and a
    single case always comes alone.
    """
    if not cases:
        raise InputError("there is no labelled case to train on", hint="set dataset.labeled to 1 or more")
    pool = list(cases)
    if short == "repeat" and len(pool) < batch:
        pool *= -(-batch // len(pool))
    groups = -(-len(pool) // batch) if short == "shrink" else len(pool) // batch
    epoch, place = divmod(step, groups)
    order = np.random.default_rng([seed, epoch]).permutation(len(pool))
    return [pool[index] for index in order[place * batch : (place + 1) * batch]]


def unlabelled_at(cases: Sequence[str], batch: int, seed: int, step: int) -> list[str]:
    """The unlabelled cases of step ``step``: an endless stream, reshuffled at each pass over the list."""
    if not cases:
        raise InputError(
            "the method trains on unlabelled cases and there is none",
            hint="lower dataset.labeled or val, raise dataset.unlabeled, or choose ssl 'supervised'",
        )
    chosen = []
    for place in range(step * batch, (step + 1) * batch):
        epoch, index = divmod(place, len(cases))
        chosen.append(cases[np.random.default_rng([seed, epoch]).permutation(len(cases))[index]])
    return chosen


@dataclass(frozen=True)
class View:
    """One random crop and its rotation and flip, to be applied alike to image, labels and probabilities."""

    start: Sides  # voxels; may be negative: the crop then begins in the padding
    patch: Sides
    turns: int = 0  # quarter turns in the x-y plane
    flip: int | None = None  # spatial axis, 0 or 1

    def take(self, array: Volume) -> Volume:
        """(..., X, Y, Z) to a new array (..., *patch), 0 outside the volume.

        Reads only the voxels of the crop, so a memory-mapped volume is never read whole.
        """
        result = np.zeros((*array.shape[:-3], *self.patch), array.dtype)
        spans = []
        for start, side, size in zip(self.start, self.patch, array.shape[-3:], strict=True):
            low, high = max(start, 0), min(start + side, size)
            spans.append((slice(low, high), slice(low - start, high - start)))
        source, target = (tuple(pair) for pair in zip(*spans, strict=True))
        result[(..., *target)] = array[(..., *source)]
        if self.turns:
            result = np.rot90(result, self.turns, axes=(-3, -2))
        if self.flip is not None:
            result = np.flip(result, self.flip - 3)
        return np.ascontiguousarray(result)

    def take_labels(self, labels: Volume) -> Volume:
        """The same of numbers of classes (X, Y, Z)."""
        return self.take(labels)


def draw_view(
    shape: Sequence[int],
    patch: Sides,
    rot_flip: bool,
    rng: np.random.Generator,
    crops: Crops = "all",
    around: Sides | None = None,
) -> View:
    """A random crop of a volume of ``shape`` (methods of UA-MT's RandomCrop and RandomRotFlip).

    A side not longer than the patch is padded with 0 by (patch - side) // 2 + 3 voxels at both ends, and all
    offsets can be drawn. ``rot_flip``: a random number of quarter turns in the x-y plane (half turns where
    the patch is not square there), then always one flip along x or y: four outcomes, the mirrored ones.

    ``crops`` "released" follows the published code (ShumengLI/SFR, after UA-MT) to the letter: where one side
    is not longer than the patch, the others are padded as well if they are at most four voxels longer; the
    volume is turned and flipped first, and the last offset in what results is never drawn.

    ``around``: a voxel that the crop is centred on, in the place of a random offset. As in nnU-Net, a crop
    begins no earlier than random ones do, and may end behind the volume.
    """
    if around is not None:
        begins = [
            max(place - side // 2, -(room_around(size, side)))
            for place, size, side in zip(around, shape, patch, strict=True)
        ]
        offsets = (begins[0], begins[1], begins[2])
        return View(offsets, patch, *_turn(patch, rng)) if rot_flip else View(offsets, patch)
    if crops == "released":
        return _released_view(shape, patch, rot_flip, rng)
    start = []
    for size, side in zip(shape, patch, strict=True):
        pad = room_around(size, side)
        start.append(int(rng.integers(0, size + 2 * pad - side + 1)) - pad)
    offsets = (start[0], start[1], start[2])
    return View(offsets, patch, *_turn(patch, rng)) if rot_flip else View(offsets, patch)


def room_around(size: int, side: int) -> int:
    """Voxels of padding at either end of a side of ``size``, for crops of ``side`` voxels."""
    return (side - size) // 2 + 3 if size <= side else 0


def forced(count: int, share: float) -> int:
    """How many patches of a batch are centred on foreground, its last ones: of two one, at nnU-Net's 0.33."""
    return count - round(count * (1 - share))


def voxels_by_class(labels: Volume) -> list[Volume]:
    """Of each foreground class that is there, flat indices of its voxels: at most ``MOST_VOXELS``, evenly."""
    flat = np.flatnonzero(labels)
    kinds = np.ravel(labels)[flat]
    found = [flat[kinds == kind] for kind in np.unique(kinds)]
    return [own[:: -(-len(own) // MOST_VOXELS)] for own in found]


def draw_voxel(by_class: Sequence[Volume], shape: Sequence[int], rng: np.random.Generator) -> Sides:
    """A voxel of the foreground: a class of those that are there, then one of its voxels."""
    own = by_class[int(rng.integers(len(by_class)))]
    x, y, z = np.unravel_index(int(own[rng.integers(len(own))]), tuple(shape))
    return int(x), int(y), int(z)


def _turn(patch: Sides, rng: np.random.Generator) -> tuple[int, int]:
    """Quarter turns, and the axis of the flip after them."""
    turns = int(rng.integers(0, 4)) if patch[0] == patch[1] else 2 * int(rng.integers(0, 2))
    return turns, int(rng.integers(0, 2))


def _released_view(shape: Sequence[int], patch: Sides, rot_flip: bool, rng: np.random.Generator) -> View:
    """See ``draw_view``. The offset is drawn on the turned volume and told on the volume as it is."""
    turns, flip = _turn(patch, rng) if rot_flip else (0, None)
    sizes = [int(size) for size in shape]
    if turns % 2:
        sizes[:2] = sizes[1::-1]
    padded = any(size <= side for size, side in zip(sizes, patch, strict=True))
    start = []
    for size, side in zip(sizes, patch, strict=True):
        pad = max((side - size) // 2 + 3, 0) if padded else 0
        start.append(int(rng.integers(0, size + 2 * pad - side)) - pad)
    if flip is not None:
        start[flip] = sizes[flip] - patch[flip] - start[flip]
    for _ in range(turns):  # a quarter turn brings the voxel (i, j) to (columns - 1 - j, i)
        start[:2] = start[1], sizes[0] - patch[0] - start[0]
        sizes[:2] = sizes[1::-1]
    return View((start[0], start[1], start[2]), patch, turns, flip)


def vary_intensity(image: Volume, rng: np.random.Generator) -> Volume:
    """Random gamma in [0.7, 1.5], gain in [0.9, 1.1] and offset in [-0.1, 0.1], the latter two in units of
    the patch's range; float32 of the same shape. Ours: mild, monotone, and it keeps background background.
    """
    low, high = float(image.min()), float(image.max())
    span = max(high - low, 1e-6)
    gamma = float(np.exp(rng.uniform(np.log(0.7), np.log(1.5))))
    gain, offset = rng.uniform(0.9, 1.1), rng.uniform(-0.1, 0.1)
    unit = ((image - low) / span).astype(np.float32) ** np.float32(gamma)
    varied: Volume = (unit * gain + offset) * span + low
    return varied.astype(np.float32)


@dataclass(frozen=True)
class Patch:
    """One augmented crop of a case."""

    case: str
    view: View
    image: Volume  # float32 (X, Y, Z); 0 outside the volume, but for nnU-Net's augmentation
    plain: Volume  # the same before the intensity augmentation
    inside: Volume  # bool (X, Y, Z): voxels of the volume


def draw_patch(
    case: str,
    volume: Volume,
    patch: Sides,
    rot_flip: bool,
    intensity: bool,
    rng: np.random.Generator,
    crops: Crops = "all",
    around: Sides | None = None,
) -> Patch:
    """A random crop of ``volume`` (X, Y, Z), z-scored; labels are cut by the same ``view``. ``around``: see
    ``draw_view``.

    The geometry is drawn first, so that it does not depend on ``intensity``.
    """
    view = draw_view(volume.shape, patch, rot_flip, rng, crops, around)
    plain = view.take(volume)
    inside = view.take(np.broadcast_to(np.True_, volume.shape))
    image = np.where(inside, vary_intensity(plain, rng), np.float32(0)) if intensity else plain
    return Patch(case, view, image, plain, inside)
