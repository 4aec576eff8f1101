"""Perturbations of feature maps (B, C, X, Y, Z), as CCT has them; draws come from the generator."""

from __future__ import annotations

import torch


def _uniform(shape: tuple[int, ...], rng: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    """Float32 in [0, 1), so that the draws do not depend on the precision of the maps."""
    return torch.rand(shape, generator=rng, device=like.device)


def multiply_noise(maps: torch.Tensor, rng: torch.Generator, spread: float) -> torch.Tensor:
    """``maps`` times 1 + U(-spread, spread): a factor for each channel and voxel, shared by all patches."""
    factors = 1 + spread * (2 * _uniform((1, *maps.shape[1:]), rng, maps) - 1)
    return maps * factors.to(maps.dtype)


def drop_values(maps: torch.Tensor, rng: torch.Generator, share: float) -> torch.Tensor:
    """Dropout: ``share`` of the values become 0, the others are divided by 1 - ``share``."""
    kept = _uniform(tuple(maps.shape), rng, maps) >= share
    return maps * (kept / (1 - share)).to(maps.dtype)


def drop_strongest(maps: torch.Tensor, rng: torch.Generator, low: float, high: float) -> torch.Tensor:
    """Set all channels to 0 where their mean reaches a share of its largest value in the patch.

    The share is drawn from U(low, high), once for all patches.
    """
    strength = maps.detach().float().mean(1, keepdim=True)
    share = low + (high - low) * _uniform((), rng, maps)
    kept = strength < share * strength.amax((2, 3, 4), keepdim=True)
    return maps * kept.to(maps.dtype)
