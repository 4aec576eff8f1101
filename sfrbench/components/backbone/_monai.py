"""MONAI's 3D networks in their parts: every layer is MONAI's, the order in which they run is theirs as well.

Layers are drawn by MONAI's own constructors and then held as encoder, decoder and head, each tensor under one
name. Logits equal those of MONAI's ``forward`` to the bit, on the same weights. A level may run twice in the
backward pass (``Parts.run``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks import nets
from torch import nn

from sfrbench.components.backbone._layers import Deep, Parts, added, in_turn
from sfrbench.components.backbone._multiples import check_sides


@dataclass(frozen=True)
class Told:
    """What every network is told. ``divisor``: voxels along each axis that make one of the bottleneck."""

    title: str
    divisor: int
    classes: int
    inputs: int
    bf16: bool
    checkpointing: bool


def _joined(parts: Sequence[nn.Module], coarser: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    """A level of the decoder whose one part enlarges, puts the skip beside it, and convolves."""
    (up,) = parts
    maps: torch.Tensor = up(coarser, skip)
    return maps


class Out(nn.Module):
    """MONAI's last layer: maps (B, C, X, Y, Z), float32 or bfloat16, to logits (B, K, X, Y, Z) float32."""

    def __init__(self, layer: nn.Module, bf16: bool) -> None:
        super().__init__()
        self.layer, self.bf16 = layer, bf16

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        with torch.autocast(maps.device.type, torch.bfloat16, enabled=self.bf16):
            logits: torch.Tensor = self.layer(maps)
        return logits.float().contiguous()


class MonaiModule(Parts):
    """(B, inputs, X, Y, Z) float32 to logits (B, K, X, Y, Z) float32. Is a ``SegmentationNetwork``.

    A subclass holds what ``encode`` alone needs in ``encoder``, the levels of the decoder, coarsest first, in
    ``decoder``, and heads of coarser levels, where it has them, in ``auxiliary``, finest first. Raises
    ``InputError`` where a side is no multiple of the divisor.
    """

    encoder: Any  # an ``nn.ModuleDict`` of MONAI's modules, whose parts have no types

    def __init__(self, told: Told) -> None:
        super().__init__()
        self.title, self.bf16, self.checkpointing = told.title, told.bf16, told.checkpointing
        self.multiples = (told.divisor,) * 3
        self.drop = nn.Identity()

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps whose sides halve from one to the next, finest first."""
        check_sides(self.title, images.shape[2:], self.multiples)
        with self.autocast(images):
            return self.encoded(images)

    def encoded(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As ``encode``, under autocast."""
        raise NotImplementedError

    def level(self, index: int, coarser: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """A level of the decoder."""
        return self.run(_joined, [self.decoder[index]], coarser, skip)

    def strip_encoder(self) -> None:
        """Deletes what ``encode`` alone needs."""
        del self.encoder


class SegResNetModule(MonaiModule):
    """MONAI's SegResNet of four levels. The maps of its coarser decoder levels are those in front of a norm;
    the finest, like ``features``, are behind the last norm and its ReLU."""

    def __init__(self, told: Told, init_filters: int) -> None:
        super().__init__(told)
        net = nets.SegResNet(3, init_filters, told.inputs, told.classes)
        widths = [init_filters * 2**level for level in range(4)]
        self.feature_channels, self.bottleneck_channels = init_filters, widths[-1]
        self.scale_channels = tuple(widths[:-1])
        self.encoder = nn.ModuleDict({"first": net.convInit, "levels": net.down_layers})
        levels = zip(net.up_samples, net.up_layers, strict=True)
        self.decoder = nn.ModuleList(nn.ModuleList(level) for level in levels)
        norm, act, last = net.conv_final
        self.last = nn.Sequential(norm, act)
        self.head = Out(last, told.bf16)
        self.settle("group")

    def encoded(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        finest, *coarser = self.encoder["levels"]
        maps = [self.run(in_turn, [self.encoder["first"], finest], images)]
        for level in coarser:
            maps.append(self.run(in_turn, [level], maps[-1]))
        return tuple(maps)

    def level(self, index: int, coarser: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.run(added, list(self.decoder[index]), coarser, skip)

    def decode_scales(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """What ``encode`` gives to the maps of the decoder levels, finest first."""
        finest, *coarser = super().decode_scales(maps)
        with self.autocast(finest):
            return self.last(finest), *coarser


class DynUNetModule(Deep, MonaiModule):
    """MONAI's DynUNet with kernels of 3 and strides of 2 in all but the first stage; heads at all decoder
    levels but the finest, where ``deep_supervision`` asks for them."""

    def __init__(self, told: Told, widths: Sequence[int], residual: bool, deep_supervision: bool) -> None:
        super().__init__(told)
        stages = len(widths)
        net = nets.DynUNet(
            *(3, told.inputs, told.classes),
            kernel_size=[3] * stages,
            strides=[1] + [2] * (stages - 1),
            upsample_kernel_size=[2] * (stages - 1),
            filters=list(widths),
            res_block=residual,
        )
        self.feature_channels, self.bottleneck_channels = widths[0], widths[-1]
        self.scale_channels = tuple(widths[:-1])
        levels = nn.ModuleList([net.input_block, *net.downsamples, net.bottleneck])
        self.encoder, self.decoder = nn.ModuleDict({"levels": levels}), net.upsamples
        self.head = Out(net.output_block, told.bf16)
        coarser = range(1, stages - 1) if deep_supervision else ()
        heads = [net.get_output_block(level).apply(net.initialize_weights) for level in coarser]
        self.auxiliary = nn.ModuleList(Out(head, told.bf16) for head in heads)
        self.settle("instance")

    def encoded(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = [images]
        for level in self.encoder["levels"]:
            maps.append(self.run(in_turn, [level], maps[-1]))
        return tuple(maps[1:])


class MedNeXtModule(Deep, MonaiModule):
    """MONAI's MedNeXt; heads at all coarser levels, the bottleneck among them, where ``deep_supervision``
    asks for them. ``blocks`` and ``ratios``, how much wider a block is inside, have an entry for each of nine
    stages, first to last."""

    def __init__(
        self,
        told: Told,
        blocks: Sequence[int],
        ratios: Sequence[int],
        kernel_size: int,
        filters: int,
        deep_supervision: bool,
    ) -> None:
        super().__init__(told)
        net = nets.MedNeXt(
            init_filters=filters,
            in_channels=told.inputs,
            out_channels=told.classes,
            encoder_expansion_ratio=ratios[:4],
            bottleneck_expansion_ratio=ratios[4],
            decoder_expansion_ratio=ratios[5:],
            blocks_down=blocks[:4],
            blocks_bottleneck=blocks[4],
            blocks_up=blocks[5:],
            kernel_size=kernel_size,
            deep_supervision=deep_supervision,
            use_residual_connection=True,
        )
        widths = [filters * 2**level for level in range(5)]
        self.feature_channels, self.bottleneck_channels = filters, widths[-1]
        self.scale_channels = tuple(widths[:-1])
        shrinking = [net.stem, *net.down_blocks]
        stages = zip(shrinking, [*net.enc_stages, net.bottleneck], strict=True)
        levels = nn.ModuleList(nn.ModuleList(stage) for stage in stages)
        self.encoder = nn.ModuleDict({"levels": levels})
        growing = zip(net.up_blocks, net.dec_stages, strict=True)
        self.decoder = nn.ModuleList(nn.ModuleList(level) for level in growing)
        self.head = Out(net.out_0, told.bf16)
        heads = reversed(net.out_blocks) if deep_supervision else ()
        self.auxiliary = nn.ModuleList(Out(head, told.bf16) for head in heads)
        self.settle("group")

    def encoded(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = [images]
        for level in self.encoder["levels"]:
            maps.append(self.run(in_turn, list(level), maps[-1]))
        return tuple(maps[1:])

    def level(self, index: int, coarser: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.run(added, list(self.decoder[index]), coarser, skip)
