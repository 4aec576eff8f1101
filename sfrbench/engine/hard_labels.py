"""The most probable class of each voxel, where the probabilities are."""

from __future__ import annotations

import torch


def hardened(foreground: torch.Tensor) -> torch.Tensor:
    """Foreground probabilities (B, K - 1, ...) to the most probable of K classes, uint8 (B, ...).

    Background has one minus their sum, at least 0; of equally probable classes the lowest wins, and nan makes
    background. All in float32 and without K maps at once. Of float16 values the result is exact, in whatever
    order a device adds: each is a multiple of 2^-24, so that sums below 1, and what they leave to 1, need no
    rounding, and a sum of 1 or more leaves nothing.
    """
    best = (1 - foreground.sum(1, dtype=torch.float32)).clamp(min=0)
    labels = torch.zeros_like(best, dtype=torch.uint8)
    for label, channel in enumerate(foreground.unbind(1), start=1):
        values = channel.float()
        labels.masked_fill_(values > best, label)
        best = torch.maximum(best, values)
    return labels
