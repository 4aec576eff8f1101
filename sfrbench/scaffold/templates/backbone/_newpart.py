"""The network of backbone/newpart."""

from __future__ import annotations

import torch
from torch import nn

from sfrbench.components.backbone._layers import Dropout, Head, Parts, added, in_turn
from sfrbench.components.backbone._multiples import check_sides

LEVELS = 3


def _convs(inside: int, outside: int) -> nn.Sequential:
    norm = nn.GroupNorm(min(8, outside), outside)
    return nn.Sequential(nn.Conv3d(inside, outside, 3, padding=1), norm, nn.ReLU(inplace=True))


class NewPartNetwork(Parts):
    """(B, inputs, X, Y, Z) float32 to logits (B, K, X, Y, Z) float32; sides are multiples of 4.

    A ``SegmentationNetwork`` (``sfrbench/components/backbone/interface.py``): encode, decode, drop, head.
    ``Parts`` makes ``decode``, ``features`` and ``forward`` of ``encode`` and ``level``.
    """

    def __init__(self, classes: int, filters: int, bf16: bool, inputs: int = 1) -> None:
        super().__init__()
        widths = [filters * 2**level for level in range(LEVELS)]
        self.bf16, self.checkpointing = bf16, False
        self.multiples = (2 ** (LEVELS - 1),) * 3
        self.feature_channels, self.bottleneck_channels = widths[0], widths[-1]
        self.scale_channels = tuple(widths[:-1])
        self.encoder = nn.ModuleList(
            _convs(inputs if not level else widths[level], widths[level]) for level in range(LEVELS)
        )
        self.downs = nn.ModuleList(nn.Conv3d(width, 2 * width, 2, stride=2) for width in widths[:-1])
        self.ups = nn.ModuleList(
            nn.ConvTranspose3d(width, width // 2, 2, stride=2) for width in widths[:0:-1]
        )
        self.decoder = nn.ModuleList(_convs(width, width) for width in widths[-2::-1])  # coarsest first
        self.drop = Dropout(0.5, channels=True)
        self.head = Head(filters, classes, bf16)
        self.settle("group")

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A map of each level, finest first."""
        check_sides("NewPart", images.shape[2:], self.multiples)
        with self.autocast(images):
            maps = [self.run(in_turn, [self.encoder[0]], images)]
            for level in zip(self.downs, list(self.encoder)[1:], strict=True):
                maps.append(self.run(in_turn, level, maps[-1]))
        return tuple(maps)

    def level(self, index: int, coarser: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Enlarge, add the skip, convolve."""
        return self.run(added, [self.ups[index], self.decoder[index]], coarser, skip)

    def strip_encoder(self) -> None:
        """Deletes what ``encode`` alone needs."""
        del self.encoder, self.downs
