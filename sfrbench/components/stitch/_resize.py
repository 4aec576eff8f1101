"""Two ways to resize slices: by pixel centres with antialiasing, and as the released code of SFR does."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate


def resize(slices: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(N, C, h, w) to (N, C, height, width): bilinear, antialiased when shrinking; nearest for integers."""
    if tuple(slices.shape[-2:]) == (height, width):
        return slices
    if slices.is_floating_point():
        shrinks = height < slices.shape[-2] or width < slices.shape[-1]
        return interpolate(
            slices.contiguous(), (height, width), mode="bilinear", align_corners=False, antialias=shrinks
        )
    return _nearest(_nearest(slices, -2, height), -1, width)


def _nearest(slices: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """Nearest neighbour by pixel centres along one axis, for every dtype (interpolate knows few)."""
    old = slices.shape[axis]
    index = (2 * torch.arange(size, device=slices.device) + 1) * old // (2 * size)
    return slices.index_select(axis, index)


def by_index(slices: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """One axis resized as SimpleITK resamples with an unmoved origin: new pixel i lies at x = i * old / size.

    Floating values are linear between the pixels around x, integers take the nearest (the upper of two);
    up to half a pixel beyond the last one its value holds, further on it is 0.
    """
    old = slices.shape[axis]
    if old == size:
        return slices
    place = torch.arange(size, device=slices.device)
    shape = [1] * slices.ndim
    shape[axis] = size
    inside = (2 * place * old < (2 * old - 1) * size).reshape(shape)
    if not slices.is_floating_point():
        nearest = ((2 * place * old + size) // (2 * size)).clamp(max=old - 1)
        return torch.where(inside, slices.index_select(axis, nearest), 0)
    low = place * old // size
    share = ((place * old % size).double() / size).to(slices.dtype).reshape(shape)
    first, second = (slices.index_select(axis, (low + step).clamp(max=old - 1)) for step in (0, 1))
    return torch.where(inside, first + share * (second - first), 0)
