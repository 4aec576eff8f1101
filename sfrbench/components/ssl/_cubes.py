"""Volumes cut into a grid of equal cubes, and put together again (MagicNet)."""

from __future__ import annotations

import torch
from torch import nn

Grid = tuple[int, int, int]


def cut(volumes: torch.Tensor, grid: Grid) -> torch.Tensor:
    """(B, C, X, Y, Z) into (B, N, C, X/a, Y/b, Z/c) for a grid of a, b, c cubes, N = abc.

    Cube n = i + a j + a b k was the i-th along x, the j-th along y and the k-th along z.
    """
    batch, channels, *sides = volumes.shape
    a, b, c = grid
    cube = [side // count for side, count in zip(sides, grid, strict=True)]
    split = volumes.reshape(batch, channels, a, cube[0], b, cube[1], c, cube[2])
    return split.permute(0, 6, 4, 2, 1, 3, 5, 7).reshape(batch, a * b * c, channels, *cube)


def join(cubes: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The inverse of ``cut``."""
    batch, _, channels, x, y, z = cubes.shape
    a, b, c = grid
    split = cubes.reshape(batch, c, b, a, channels, x, y, z).permute(0, 4, 3, 5, 2, 6, 1, 7)
    return split.reshape(batch, channels, a * x, b * y, c * z)


def exchange(volumes: torch.Tensor, order: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Cube n of volume b comes from volume ``order[b, n]``; ``order.argsort(0)`` undoes it.

    ``order`` (B, N) int64: each column is a permutation.
    """
    cubes = cut(volumes, grid)
    return join(cubes[order, torch.arange(cubes.shape[1], device=cubes.device)], grid)


class ClassCounts(nn.Module):
    """How many voxels each class had in the pseudo-labels of the last full period of steps."""

    counts: torch.Tensor
    pending: torch.Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.int64))
        self.register_buffer("pending", torch.zeros(classes, dtype=torch.int64))

    def share(self, temperature: float) -> torch.Tensor:
        """(K,) float32 in [0, 1], the most frequent class at 1; all 0 as long as nothing was counted."""
        share: torch.Tensor = self.counts.float() / self.counts.max().clamp(min=1)
        return share ** (1 / temperature)

    def add(self, labels: torch.Tensor, refresh: bool) -> None:
        """Add the voxels of each class in ``labels`` (int64, any shape); ``refresh`` starts a new period."""
        # torch.bincount waits for the device
        self.pending += torch.stack([(labels == k).sum() for k in range(len(self.pending))])
        if refresh:
            self.counts.copy_(self.pending)
            self.pending.zero_()
