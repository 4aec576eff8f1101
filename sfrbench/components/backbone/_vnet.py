"""The V-Net of the semi-supervised segmentation community (UA-MT, ``networks/vnet.py``)."""

from __future__ import annotations

import torch
from torch import nn

from sfrbench.components.backbone._layers import Dropout, Head, Parts, added, in_turn
from sfrbench.components.backbone._multiples import check_sides


def _norm(kind: str, channels: int) -> list[nn.Module]:
    if kind == "batch":
        return [nn.BatchNorm3d(channels)]
    if kind == "group":
        return [nn.GroupNorm(min(16, channels), channels)]
    if kind == "instance":
        return [nn.InstanceNorm3d(channels)]
    return []


def _convs(count: int, inside: int, outside: int, norm: str) -> nn.Sequential:
    """``count`` times 3x3x3 convolution, norm, ReLU."""
    layers: list[nn.Module] = []
    for index in range(count):
        layers.append(nn.Conv3d(inside if index == 0 else outside, outside, 3, padding=1))
        layers += [*_norm(norm, outside), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _down(inside: int, norm: str) -> nn.Sequential:
    conv = nn.Conv3d(inside, 2 * inside, 2, stride=2)
    return nn.Sequential(conv, *_norm(norm, 2 * inside), nn.ReLU(inplace=True))


def _up(inside: int, norm: str) -> nn.Sequential:
    conv = nn.ConvTranspose3d(inside, inside // 2, 2, stride=2)
    return nn.Sequential(conv, *_norm(norm, inside // 2), nn.ReLU(inplace=True))


class VNetModule(Parts):
    """(B, inputs, X, Y, Z) float32 to logits (B, K, X, Y, Z) float32; sides are multiples of 16, in voxels.

    Five levels of 1, 2, 3, 3, 3 convolutions down and 3, 3, 2, 1 up, strided convolutions between them,
    and skips that are added, not concatenated. Dropout of whole channels, 0.5, after the bottleneck and
    before the output convolution. Is a ``SegmentationNetwork``. Raises ``InputError`` where a side is no
    multiple of 16.
    """

    def __init__(
        self,
        classes: int,
        filters: int = 16,
        norm: str = "batch",
        dropout: bool = True,
        bf16: bool = False,
        inputs: int = 1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        widths = [filters * 2**level for level in range(5)]
        self.bf16 = bf16
        self.feature_channels, self.bottleneck_channels = filters, widths[4]
        self.scale_channels = tuple(widths[:4])
        self.encoder = nn.ModuleList(
            _convs(count, inputs if level == 0 else widths[level], widths[level], norm)
            for level, count in enumerate((1, 2, 3, 3, 3))
        )
        self.downs = nn.ModuleList(_down(width, norm) for width in widths[:4])
        self.ups = nn.ModuleList(_up(width, norm) for width in widths[:0:-1])
        levels = zip((3, 3, 2, 1), widths[3::-1], strict=True)
        self.decoder = nn.ModuleList(_convs(count, width, width, norm) for count, width in levels)
        self.drop = Dropout(0.5, channels=True) if dropout else nn.Identity()  # at both places
        self.head = Head(filters, classes, bf16)
        self.settle(norm)

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Five maps, finest first; dropout at the bottleneck is applied."""
        check_sides("V-Net", images.shape[2:])
        with self.autocast(images):
            maps = [self.run(in_turn, [self.encoder[0]], images)]
            for level in zip(self.downs, list(self.encoder)[1:], strict=True):
                maps.append(self.run(in_turn, level, maps[-1]))
            return (*maps[:-1], self.drop(maps[-1]))

    def level(self, index: int, coarser: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.run(added, [self.ups[index], self.decoder[index]], coarser, skip)

    def strip_encoder(self) -> None:
        """Deletes what ``encode`` alone needs."""
        del self.encoder, self.downs
