"""Prototypes: weighted means of features over the voxels of a class."""

from __future__ import annotations

import torch
from torch.nn import functional


def wide(maps: torch.Tensor) -> torch.Tensor:
    """The same maps in float32 where a network of lower precision made them."""
    return maps.float() if maps.dtype.itemsize < 4 else maps


def prototypes(
    features: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, K, C) sum w f / (sum w + 1e-5) over the voxels of each class in each case, and which have any.

    ``features`` (B, C, ...) float32, ``labels`` (B, ...) int64, ``weights`` (B, K, ...). The second result is
    (B, K) bool; without voxels a prototype is 0.
    """
    mine = functional.one_hot(labels.flatten(1), weights.shape[1]).mT.to(features.dtype)
    weighted = mine * weights.flatten(2)
    sums = torch.einsum("bkv,bcv->bkc", weighted, features.flatten(2))
    return sums / (weighted.sum(2) + 1e-5)[..., None], mine.any(2)


def similarities(centres: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Cosine of features (B, C, ...) and prototypes (B, K, C): (B, K, ...), -1 to 1; 0 where either is 0."""
    directions = functional.normalize(centres, dim=2, eps=1e-8)
    return torch.einsum("bkc,bc...->bk...", directions, functional.normalize(features, dim=1, eps=1e-8))
