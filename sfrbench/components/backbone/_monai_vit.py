"""MONAI's networks whose encoder is a transformer, in their parts (see ``_monai.py``)."""

from __future__ import annotations

import torch
from monai.networks import nets
from torch import nn

from sfrbench.components.backbone._layers import in_turn
from sfrbench.components.backbone._monai import MonaiModule, Out, Told
from sfrbench.components.backbone._multiples import check_sides
from sfrbench.errors import InputError


class SwinUnetrModule(MonaiModule):
    """MONAI's SwinUNETR: a Swin transformer on 2 x 2 x 2 voxels, of whose five maps the last is the
    bottleneck, and convolutions on the image."""

    def __init__(self, told: Told, feature_size: int, v2: bool) -> None:
        super().__init__(told)
        place = torch.get_default_device()
        with torch.device("cpu"):  # it reads numbers, which "meta", where parameters are counted, has none of
            net = nets.SwinUNETR(told.inputs, told.classes, feature_size=feature_size, use_v2=v2)
        net.to(place)
        self.feature_channels, self.bottleneck_channels = feature_size, 16 * feature_size
        self.scale_channels = tuple(feature_size * by for by in (1, 1, 2, 4, 8))
        blocks = [net.encoder1, net.encoder2, net.encoder3, net.encoder4, net.encoder10]
        self.encoder = nn.ModuleDict({"swin": net.swinViT, "blocks": nn.ModuleList(blocks)})
        self.decoder = nn.ModuleList([net.decoder5, net.decoder4, net.decoder3, net.decoder2, net.decoder1])
        self.head = Out(net.out, told.bf16)
        self.settle("instance")

    def encoded(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first, *others, last = self.encoder["blocks"]
        *finer, below, bottom = self.transformed(images)
        maps = [self.run(in_turn, [first], images)]
        maps += [self.run(in_turn, [block], part) for block, part in zip(others, finer, strict=True)]
        return (*maps, below, self.run(in_turn, [last], bottom))

    def transformed(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The transformer's five maps, normed, of half the image's sides down to a 32nd."""
        swin = self.encoder["swin"]
        maps: list[torch.Tensor] = [swin.patch_embed(images)]
        for stage in ("layers1", "layers2", "layers3", "layers4"):
            convs = list(getattr(swin, f"{stage}c", ()))  # of version 2
            maps.append(self.run(in_turn, [*convs, *getattr(swin, stage)], maps[-1].contiguous()))
        return [swin.proj_out(part, True) for part in maps]


class UnetrModule(MonaiModule):
    """MONAI's UNETR for images of one size, ``patch``: a vision transformer on 16 x 16 x 16 voxels, whose
    states after blocks 4, 7 and 10 are enlarged to skips. Raises ``InputError`` for another size."""

    def __init__(self, told: Told, patch: tuple[int, int, int], feature_size: int, hidden_size: int) -> None:
        super().__init__(told)
        net = nets.UNETR(
            *(told.inputs, told.classes, patch),
            feature_size=feature_size,
            hidden_size=hidden_size,
            mlp_dim=4 * hidden_size,
            num_heads=hidden_size // 64,
        )
        self.patch, self.hidden_size = patch, hidden_size
        self.feature_channels, self.bottleneck_channels = feature_size, hidden_size
        self.scale_channels = tuple(feature_size * 2**level for level in range(4))
        enlarging = nn.ModuleList([net.encoder2, net.encoder3, net.encoder4])
        self.encoder = nn.ModuleDict({"vit": net.vit, "first": net.encoder1, "enlarging": enlarging})
        self.decoder = nn.ModuleList([net.decoder5, net.decoder4, net.decoder3, net.decoder2])
        self.head = Out(net.out, told.bf16)
        self.settle("instance")

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps whose sides halve from one to the next, finest first."""
        check_sides(self.title, images.shape[2:], self.multiples)
        if tuple(images.shape[2:]) != self.patch:
            raise InputError(
                f"{self.title} was built for {list(self.patch)} voxels, not {list(images.shape[2:])}",
                where="backbone.patch",
                hint="its position embeddings fit one size: predict by windows of the training patch",
            )
        return super().encode(images)

    def encoded(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        vit = self.encoder["vit"]
        tokens = vit.patch_embedding(images)
        states = []
        for block in vit.blocks:
            tokens = self.run(in_turn, [block], tokens)
            states.append(tokens)
        maps = [self.run(in_turn, [self.encoder["first"]], images)]
        kept = [self.unfolded(states[index]) for index in (3, 6, 9)]
        blocks = zip(self.encoder["enlarging"], kept, strict=True)
        maps += [self.run(in_turn, [block], part) for block, part in blocks]
        return (*maps, self.unfolded(vit.norm(tokens)))

    def unfolded(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, tokens, hidden_size) to (B, hidden_size, X/16, Y/16, Z/16)."""
        sides = [side // by for side, by in zip(self.patch, self.multiples, strict=True)]
        return tokens.reshape(tokens.shape[0], *sides, self.hidden_size).permute(0, 4, 1, 2, 3).contiguous()
