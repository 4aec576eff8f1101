"""What is done to the slices of a training canvas: other order, turns, intensity curves.

Everything works on the slices of one canvas, (C, X, Y, n) with labels (X, Y, n), or on the whole canvas, and
draws from the generator that it is given: same generator, same result. Nothing is changed in place.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

Turns = Literal["all", "released"]
Pair = tuple[torch.Tensor, torch.Tensor]
#: Of the one order in which slices are shuffled at test time.
TEST_SEED = 1337


def fixed_order(count: int) -> torch.Tensor:
    """A permutation of ``count`` slices, always the same; int64."""
    return torch.from_numpy(np.random.default_rng([TEST_SEED, count]).permutation(count))


def shuffle(image: torch.Tensor, label: torch.Tensor, rng: np.random.Generator) -> Pair:
    """One permutation of the slices, image and label alike."""
    order = torch.from_numpy(rng.permutation(image.shape[-1]))
    return image[..., order], label[..., order]


def rotate_slices(
    image: torch.Tensor, label: torch.Tensor, rng: np.random.Generator, which: Turns = "all"
) -> Pair:
    """Each slice gets one of the eight symmetries of the square, all equally likely, and its label the same.

    ``which`` "released": quarter turns and then always one flip, along either axis, as ShumengLI/SFR
    (``flip_2d``) does: the four mirrored ones of the eight, never the identity. Slices that are not square
    get half turns only: four symmetries, and the two flips.
    """
    count, square = image.shape[-1], image.shape[-3] == image.shape[-2]
    turns = rng.integers(0, 4, count) if square else 2 * rng.integers(0, 2, count)
    draws = rng.integers(0, 2, count)

    def flipped(one: torch.Tensor, draw: int) -> torch.Tensor:
        if which == "released":
            return one.flip(draw - 2)
        return one.flip(-1) if draw else one

    def turned(volume: torch.Tensor) -> torch.Tensor:
        slices = [torch.rot90(one, int(k), (-2, -1)) for one, k in zip(volume.unbind(-1), turns, strict=True)]
        return torch.stack([flipped(one, int(d)) for one, d in zip(slices, draws, strict=True)], -1)

    return turned(image), turned(label)


def bezier(image: torch.Tensor, share: float, rng: np.random.Generator) -> torch.Tensor:
    """Each slice, with probability ``share``, through a random rising intensity curve (float32 or float64).

    A cubic Bezier curve from (0, 0) to (1, 1) with two random points between, as in the released code
    (ShumengLI/SFR; after Models Genesis). The curve lives on [0, 1] and what lies outside is clipped: of a
    z-scored image about half the voxels become 0 and the brightest 1. An input in [0, 1] loses nothing. The
    value 0, and so the padding, stays 0.
    """
    count = image.shape[-1]
    chosen, points = rng.random(count) < share, rng.random((count, 2, 2))
    result = image.clone()
    for index in np.flatnonzero(chosen):
        x, y = (_curve(*points[index, axis]) for axis in (0, 1))
        values = np.interp(image[..., index].cpu().numpy(), x, y)
        result[..., index] = torch.from_numpy(values).to(image)
    return result


def _curve(first: float, second: float, steps: int = 1001) -> np.ndarray[Any, np.dtype[np.float64]]:
    """One coordinate of the curve at ``steps`` points; with both arguments in [0, 1] it never falls."""
    t = np.linspace(0.0, 1.0, steps)
    return np.asarray(3 * (1 - t) ** 2 * t * first + 3 * (1 - t) * t**2 * second + t**3)


def rotate_canvas(pixels: torch.Tensor, target: torch.Tensor, rng: np.random.Generator) -> Pair:
    """A square canvas (C, I, I) and its label (I, I): random quarter turns, then always one flip.

    As in the released code: one of the four mirrored symmetries, never the canvas as it is. It changes the
    order in which slices are read.
    """
    turns, axis = int(rng.integers(0, 4)), int(rng.integers(0, 2)) - 2
    pixels, target = (torch.rot90(part, turns, (-2, -1)).flip(axis) for part in (pixels, target))
    return pixels, target
