"""A SAM that needs no weights."""

from __future__ import annotations

import torch
from torch import nn


class PixelSam(nn.Module):
    """Stands in for a fine-tuned SAM: logits of three classes, pixel by pixel."""

    canvas = 64

    def __init__(self, volumetric: bool = False) -> None:
        super().__init__()
        self.volumetric = volumetric
        self.batches: list[int] = []

    def segment(self, canvases: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(canvases))
        return torch.cat([canvases * 0, canvases, 1 - canvases * canvases], 1)
