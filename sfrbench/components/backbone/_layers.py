"""Layers that the backbones share."""

from __future__ import annotations

import torch
from torch import nn

from sfrbench.components._autocast import Conv3d


class Dropout(nn.Module):
    """Dropout of values or, with ``channels``, of whole channels, drawn sample by sample.

    Torch's own draws for a whole batch at once, so a patch loses other channels when another patch joins
    its batch: arms that differ in nothing but a term on unlabelled patches would train under unrelated
    noise. Here the mask of sample i depends on torch's seed, on which dropout of the step it is, and on i.
    """

    def __init__(self, share: float, *, channels: bool) -> None:
        super().__init__()
        self.share, self.channels = share, channels

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        if not self.training or self.share == 0:
            return maps
        seed = int(torch.randint(2**62, ()))  # one number from the global generator, whatever the batch
        rng = torch.Generator(maps.device).manual_seed(seed)
        shape = (maps.shape[1], *(1 if self.channels else side for side in maps.shape[2:]))
        draws = [torch.rand(shape, generator=rng, device=maps.device) for _ in maps]
        kept = torch.stack(draws) >= self.share
        return maps * (kept.to(maps.dtype) / (1 - self.share))


class Head(Conv3d):
    """A 1x1x1 convolution: maps (B, C, X, Y, Z), float32 or bfloat16, to logits (B, K, X, Y, Z) float32."""

    def __init__(self, channels: int, classes: int, bf16: bool) -> None:
        super().__init__(channels, classes, 1)
        self.bf16 = bf16

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        with torch.autocast(maps.device.type, torch.bfloat16, enabled=self.bf16):
            logits = super().forward(maps)
        return logits.float().contiguous()


class Parts(nn.Module):
    """What every ``SegmentationNetwork`` does with its parts; a subclass brings the parts."""

    drop: nn.Module
    head: nn.Module

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Images to the skips, finest first, and the bottleneck."""
        raise NotImplementedError

    def decode_scales(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """What ``encode`` gives to the maps of the decoder levels, finest first."""
        raise NotImplementedError

    def decode(self, maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """What ``encode`` gives to (B, filters, X, Y, Z)."""
        return self.decode_scales(maps)[0]

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, filters, X, Y, Z) features in front of the output convolution, ``drop`` not yet applied."""
        return self.decode(self.encode(images))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.drop(self.features(images)))
        return logits
