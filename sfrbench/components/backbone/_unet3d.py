"""The 3D U-Net of SSL4MIS (``networks/unet_3D.py``, and ``unet_3D_dv_semi.py`` with its extra heads)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from sfrbench.components.backbone._layers import Dropout, Head, Parts, in_turn
from sfrbench.components.backbone._multiples import check_sides
from sfrbench.errors import InputError


def _kaiming(conv: nn.Conv3d) -> nn.Conv3d:
    """Weights from N(0, 2 / fan_in), as SSL4MIS draws them; the bias stays as PyTorch draws it."""
    nn.init.kaiming_normal_(conv.weight)
    return conv


def _double(inside: int, outside: int) -> nn.Sequential:
    """Twice 3x3x3 convolution, instance norm without affine, ReLU."""
    layers: list[nn.Module] = []
    for channels in (inside, outside):
        conv = _kaiming(nn.Conv3d(channels, outside, 3, padding=1))
        layers += [conv, nn.InstanceNorm3d(outside), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _drop(values: float, channels: float) -> nn.Module:
    """Dropout of single values, then of whole channels; identity where both are 0."""
    parts: list[nn.Module] = [Dropout(values, channels=False)] if values else []
    parts += [Dropout(channels, channels=True)] if channels else []
    return nn.Sequential(*parts) if parts else nn.Identity()


def _downwards(parts: Sequence[nn.Module], finer: torch.Tensor) -> torch.Tensor:
    """A level of the encoder: pool, convolve."""
    return in_turn(parts, functional.max_pool3d(finer, 2))


def _upwards(parts: Sequence[nn.Module], coarser: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    """A level of the decoder: enlarge, put the skip beside it, convolve."""
    enlarged = functional.interpolate(coarser, scale_factor=2, mode="trilinear")
    return in_turn(parts, torch.cat([skip, enlarged], 1))


class UNet3dModule(Parts):
    """(B, inputs, X, Y, Z) float32 to logits (B, K, X, Y, Z) float32; sides are multiples of 16, in voxels.

    Five levels of two convolutions, max pooling down, trilinear upsampling and concatenated skips up.
    ``dropout`` drops values after the bottleneck and before the head, ``level_dropout`` channels after each
    decoder level, coarsest first (the last one before the head). ``deep_supervision`` adds heads at the
    three coarser decoder levels: they come last, so that the rest starts from the same weights, and
    nothing but ``scales`` uses them. Is a ``SegmentationNetwork``. On a GPU the backward passes of pooling
    and of upsampling add in no fixed order. Raises ``InputError`` where a side is no multiple of 16.
    """

    def __init__(
        self,
        classes: int,
        filters: int = 16,
        dropout: float = 0.3,
        level_dropout: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        deep_supervision: bool = False,
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
        self.encoder = nn.ModuleList(_double(*pair) for pair in zip([inputs, *widths], widths, strict=False))
        self.bottleneck_drop = _drop(dropout, 0)
        pairs = zip(widths[:0:-1], widths[3::-1], strict=True)
        self.decoder = nn.ModuleList(_double(below + width, width) for below, width in pairs)
        self.level_drops = nn.ModuleList(_drop(0, share) for share in level_dropout[:3])
        self.drop = _drop(dropout, level_dropout[3])
        self.head = _kaiming(Head(filters, classes, bf16))
        coarser = widths[1:4] if deep_supervision else []
        self.auxiliary = nn.ModuleList(_kaiming(Head(width, classes, bf16)) for width in coarser)
        self.settle("instance")

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Five maps, finest first; dropout at the bottleneck is applied."""
        check_sides("3D U-Net", images.shape[2:])
        with self.autocast(images):
            maps = [self.run(in_turn, [self.encoder[0]], images)]
            for convs in list(self.encoder)[1:]:
                maps.append(self.run(_downwards, [convs], maps[-1]))
            return (*maps[:-1], self.bottleneck_drop(maps[-1]))

    def level(self, index: int, coarser: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """``level_dropout`` is applied to all levels but the finest, ``drop`` to none."""
        maps = self.run(_upwards, [self.decoder[index]], coarser, skip)
        return self.level_drops[index](maps) if index < len(self.level_drops) else maps

    def strip_encoder(self) -> None:
        """Deletes what ``encode`` alone needs."""
        del self.encoder

    def scales(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Logits of the four decoder levels, finest first, each (B, K, X, Y, Z) float32.

        The first is what ``forward`` gives; the others are upsampled trilinearly, as in URPC. Raises
        ``InputError`` for a network without the extra heads.
        """
        if not self.auxiliary:
            raise InputError(
                "this 3D U-Net has no heads at its coarser levels",
                where="backbone.deep_supervision",
                hint="choose backbone unet3d_ds, or set backbone.deep_supervision to true",
            )
        finest, *coarser = self.decode_scales(self.encode(images))
        logits: list[torch.Tensor] = [self.head(self.drop(finest))]
        for head, maps in zip(self.auxiliary, coarser, strict=True):
            logits.append(functional.interpolate(head(maps), size=images.shape[2:], mode="trilinear"))
        return logits
