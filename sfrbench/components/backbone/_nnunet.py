"""nnU-Net's U-Nets, with a plain and with a residual encoder.

Source: ``PlainConvUNet`` and ``ResidualEncoderUNet`` of dynamic-network-architectures 0.4.4, as nnU-Net sets
them up (biases, affine instance norm, leaky ReLU). Names of weights are ours; each tensor has one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from sfrbench.components.backbone._layers import Deep, Head, in_turn
from sfrbench.components.backbone._multiples import check_sides
from sfrbench.components.backbone._topology import Topology, Triple, counts

#: Of leaky ReLU; initial weights follow from it.
SLOPE = 0.01


def _conv(
    inside: int,
    outside: int,
    kernel: Triple,
    stride: Triple = (1, 1, 1),
    *,
    bias: bool = True,
    active: bool = True,
) -> nn.Sequential:
    """Convolution, affine instance norm, and where ``active`` leaky ReLU."""
    x, y, z = kernel
    conv = nn.Conv3d(inside, outside, kernel, stride, (x // 2, y // 2, z // 2), bias=bias)
    layers: list[nn.Module] = [conv, nn.InstanceNorm3d(outside, affine=True)]
    return nn.Sequential(*layers, *([nn.LeakyReLU(SLOPE, inplace=True)] if active else []))


class _Residual(nn.Module):
    """Two convolutions beside a shortcut: averages where it shrinks, a 1x1x1 convolution where it widens."""

    def __init__(self, inside: int, outside: int, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.first = _conv(inside, outside, kernel, stride)
        self.second = _conv(outside, outside, kernel, active=False)
        short: list[nn.Module] = [nn.AvgPool3d(stride, stride)] if max(stride) > 1 else []
        if inside != outside:
            short.append(_conv(inside, outside, (1, 1, 1), bias=False, active=False))
        self.short = nn.Sequential(*short)
        self.act = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.act(self.second(self.first(maps)) + self.short(maps))
        return out


def _stage(
    residual: bool, count: int, inside: int, outside: int, kernel: Triple, stride: Triple
) -> nn.Module:
    """A stage of the encoder, whose first part shrinks."""
    make = _Residual if residual else _conv
    ones: Triple = (1, 1, 1)
    rest = [make(outside, outside, kernel, ones) for _ in range(count - 1)]
    return nn.Sequential(make(inside, outside, kernel, stride), *rest)


def _upwards(parts: Sequence[nn.Module], coarser: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    """A level of the decoder: enlarge, put the skip behind it, convolve."""
    up, convs = parts
    maps: torch.Tensor = convs(torch.cat([up(coarser), skip], 1))
    return maps


def _initialise(network: nn.Module) -> None:
    """Convolutions from N(0, 2 / ((1 + SLOPE^2) fan_in)) without bias; a residual block starts as its
    shortcut."""
    for part in network.modules():
        if isinstance(part, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(part.weight, a=SLOPE)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, _Residual):
            nn.init.zeros_(part.second[1].weight)  # type: ignore[arg-type]


class NnUNetModule(Deep):
    """(B, inputs, X, Y, Z) float32 to logits (B, K, X, Y, Z) float32; sides are multiples of the strides.

    The encoder's stages shrink by their first convolution, the decoder enlarges by transposed convolutions
    and puts the skip behind what comes from below; it has two convolutions at each level, or one where the
    encoder is ``residual``. ``deep_supervision`` adds heads at the coarser decoder levels. Is a
    ``SegmentationNetwork``. Raises ``InputError`` where a side is no multiple.
    """

    def __init__(
        self,
        classes: int,
        topology: Topology,
        widths: Sequence[int],
        *,
        residual: bool = False,
        deep_supervision: bool = True,
        bf16: bool = False,
        inputs: int = 1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        strides, kernels = topology
        self.multiples, self.checkpointing, self.bf16 = topology.multiples, checkpointing, bf16
        self.feature_channels, self.bottleneck_channels = widths[0], widths[-1]
        self.scale_channels = tuple(widths[:-1])
        before = [widths[0] if residual else inputs, *widths]
        self.stem = _conv(inputs, widths[0], kernels[0]) if residual else nn.Identity()
        shapes = zip(counts(residual, len(widths)), before, widths, kernels, strides, strict=False)
        self.encoder = nn.ModuleList(_stage(residual, *shape) for shape in shapes)
        levels = range(len(widths) - 2, -1, -1)
        self.ups = nn.ModuleList(
            nn.ConvTranspose3d(widths[i + 1], widths[i], strides[i + 1], strides[i + 1]) for i in levels
        )
        self.decoder = nn.ModuleList(
            _stage(False, 1 if residual else 2, 2 * widths[i], widths[i], kernels[i], (1, 1, 1))
            for i in levels
        )
        self.drop = nn.Identity()
        self.head = Head(widths[0], classes, bf16)
        _initialise(self)
        coarser = widths[1:-1] if deep_supervision else []
        self.auxiliary = nn.ModuleList(Head(width, classes, bf16) for width in coarser)
        _initialise(self.auxiliary)
        self.settle("instance")

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A map of every stage, finest first."""
        check_sides("nnU-Net's U-Net", images.shape[2:], self.multiples)
        with self.autocast(images):
            maps = [self.run(in_turn, [self.stem, self.encoder[0]], images)]
            for stage in list(self.encoder)[1:]:
                maps.append(self.run(in_turn, [stage], maps[-1]))
            return tuple(maps)

    def level(self, index: int, coarser: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.run(_upwards, [self.ups[index], self.decoder[index]], coarser, skip)

    def strip_encoder(self) -> None:
        """Deletes what ``encode`` alone needs."""
        del self.stem, self.encoder
