"""Natural images as tiles: how they are made to look like slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sfrbench.components.stitch._images import Grey
from sfrbench.components.stitch._resize import resize
from sfrbench.maths.labels import IGNORE


def replace(
    image: torch.Tensor,
    label: torch.Tensor,
    which: np.ndarray[Any, Any],
    pool: Sequence[Grey],
    crop: float,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slices (C, X, Y, n) with those in ``which`` replaced by natural images, in labels (X, Y, n) by 255.

    Images repeat on a canvas only where ``pool`` has fewer than are needed.
    """
    low, high = float(image.min()), float(image.max())
    spread, mean = image.std(correction=0), image.mean()
    image, label = image.clone(), label.clone()
    picks = rng.choice(len(pool), size=len(which), replace=len(which) > len(pool))
    for index, pick in zip(which, picks, strict=True):
        tile = cut(pool[int(pick)], image.shape[-2], image.shape[-3], crop, rng).to(image)
        scaled = (tile - tile.mean()) / tile.std(correction=0).clamp(min=1e-6) * spread + mean
        image[..., int(index)] = scaled.clamp(low, high).T
        label[..., int(index)] = IGNORE
    return image, label


def cut(photo: Grey, height: int, width: int, crop: float, rng: np.random.Generator) -> torch.Tensor:
    """A random crop of an image with the proportions of a tile, resized to (height, width); float32.

    Its sides are a share, uniform in [``crop``, 1], of the largest such crop.
    """
    largest = min(photo.shape[0] / height, photo.shape[1] / width)
    share = largest * rng.uniform(crop, 1.0)
    rows, columns = (max(1, round(side * share)) for side in (height, width))
    top = int(rng.integers(0, photo.shape[0] - rows + 1))
    left = int(rng.integers(0, photo.shape[1] - columns + 1))
    piece = np.ascontiguousarray(photo[top : top + rows, left : left + columns])
    return resize(torch.from_numpy(piece)[None, None], height, width)[0, 0]
