"""Layers that the backbones share."""

from __future__ import annotations

import torch
from torch import nn


class Head(nn.Conv3d):
    """A 1x1x1 convolution: maps (B, C, X, Y, Z), float32 or bfloat16, to logits (B, K, X, Y, Z) float32."""

    def __init__(self, channels: int, classes: int, bf16: bool) -> None:
        super().__init__(channels, classes, 1)
        self.bf16 = bf16

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        with torch.autocast(maps.device.type, torch.bfloat16, enabled=self.bf16):
            logits = super().forward(maps)
        return logits.float().contiguous()
