"""Output convolutions at the coarser decoder levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class ScaleHeads(nn.Module):
    """Maps of coarser levels, each (B, channels[s], x, y, z), to logits (B, K, X, Y, Z) at full size.

    A 1x1x1 convolution, then trilinear upsampling; initialised by Kaiming's rule, as in SSL4MIS's
    ``unet_3D_dv_semi``. On a GPU the backward pass of the upsampling adds in no fixed order.
    """

    def __init__(self, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv3d(width, classes, 1) for width in channels)
        for part in self.parameters():
            if part.ndim > 1:
                nn.init.kaiming_normal_(part)

    def forward(self, scales: Sequence[torch.Tensor], sides: torch.Size) -> list[torch.Tensor]:
        """One (B, K, *sides) for each of ``scales``, in the precision of the weights."""
        logits = []
        dtype = next(self.parameters()).dtype
        for head, maps in zip(self.heads, scales, strict=True):
            small = head(maps.to(dtype))
            logits.append(functional.interpolate(small, size=sides, mode="trilinear"))
        return logits
