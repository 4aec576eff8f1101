"""Layers that the backbones share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

import torch
from torch import nn

from sfrbench.components._autocast import Conv3d, guard
from sfrbench.components.backbone._again import Block, again
from sfrbench.components.backbone._multiples import MULTIPLES


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


def added(parts: Sequence[nn.Module], coarser: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    """A level of a decoder: enlarge, add the skip, convolve."""
    up, convs = parts
    maps: torch.Tensor = convs(up(coarser) + skip)
    return maps


def in_turn(parts: Sequence[nn.Module], maps: torch.Tensor) -> torch.Tensor:
    """Maps through one part after the other."""
    for part in parts:
        maps = part(maps)
    return maps


class Head(Conv3d):
    """A 1x1x1 convolution: maps (B, C, X, Y, Z), float32 or bfloat16, to logits (B, K, X, Y, Z) float32."""

    def __init__(self, channels: int, classes: int, bf16: bool) -> None:
        super().__init__(channels, classes, 1)
        self.bf16 = bf16

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        with torch.autocast(maps.device.type, torch.bfloat16, enabled=self.bf16):
            logits = super().forward(maps)
        return logits.float().contiguous()


def layout_for(norm: str) -> torch.memory_format:
    """How maps lie best on a GPU between norms of a kind: 'batch', 'group', 'instance' or 'none'.

    Torch's instance norm wants channels first, on a GPU its group norm, too: each copies a map that lies
    otherwise, there and back. A V-Net has 29 of them, a 3D U-Net 18.
    """
    copies = norm in ("instance", "group")
    return torch.contiguous_format if copies else torch.channels_last_3d


class Parts(nn.Module):
    """What every ``SegmentationNetwork`` does with its parts; a subclass brings the parts.

    On a CPU weights, and with them maps, lie in channels last: 1.2 to 1.3 times faster in fp32, no difference
    in bf16. Another layout has other last digits there, so that it stays, copies or not. Elsewhere they lie
    in ``layout``, into which ``to`` brings them unless it is told another.
    """

    drop: nn.Module
    head: nn.Module
    decoder: Any  # an ``nn.ModuleList`` of levels, coarsest first
    bf16: bool
    layout: torch.memory_format
    multiples: tuple[int, int, int] = MULTIPLES
    checkpointing: bool  # levels keep nothing for the backward pass, and run twice

    def settle(self, norm: str) -> None:
        """Once all layers are there: convolutions that are right on small maps, and how maps lie."""
        guard(self)
        self.layout = layout_for(norm)
        self.to(memory_format=torch.channels_last_3d)

    def run(self, block: Block, parts: Sequence[nn.Module], *maps: torch.Tensor) -> torch.Tensor:
        """``block(parts, *maps)``: one level, on the way down or up."""
        if self.checkpointing and torch.is_grad_enabled():
            return again(block, parts, *maps)
        return block(parts, *maps)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Torch's."""
        super().to(*args, **kwargs)
        if "memory_format" not in kwargs and next(self.parameters()).device.type != "cpu":
            super().to(memory_format=self.layout)  # type: ignore[call-overload]
        return self

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Images to the skips, finest first, and the bottleneck."""
        raise NotImplementedError

    def level(self, index: int, coarser: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """The ``index``-th level of the decoder, under autocast."""
        raise NotImplementedError

    def autocast(self, maps: torch.Tensor) -> AbstractContextManager[object]:
        """The precision that layers run in."""
        return torch.autocast(maps.device.type, torch.bfloat16, enabled=self.bf16)

    def decode_scales(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """What ``encode`` gives to the maps of the decoder levels, finest first."""
        scales = [maps[-1]]
        with self.autocast(maps[-1]):
            for index, skip in zip(range(len(self.decoder)), maps[-2::-1], strict=True):
                scales.append(self.level(index, scales[-1], skip))
        return tuple(scales[:0:-1])

    def decode(self, maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """What ``encode`` gives to (B, filters, X, Y, Z)."""
        return self.decode_scales(maps)[0]

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, filters, X, Y, Z) features in front of the output convolution, ``drop`` not yet applied."""
        return self.decode(self.encode(images))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.drop(self.features(images)))
        return logits


class Deep(Parts):
    """A network that may have heads at its coarser levels. They come last, so that the rest starts from the
    same weights, and nothing but ``coarse_logits`` uses them."""

    auxiliary: nn.ModuleList  # finest first

    def coarse_logits(
        self, maps: tuple[torch.Tensor, ...], scales: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...]:
        """Logits (B, K, x, y, z) float32 of the coarser levels, finest first; () without heads."""
        levels = [*scales[1:], maps[-1]]  # the bottleneck too, where there is a head for it
        return tuple(head(level) for head, level in zip(self.auxiliary, levels, strict=False))
