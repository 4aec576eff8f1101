"""SAMUS's image encoder: SAM's ViT on a finer token grid, fed by a convolutional branch in its global blocks.

The pretrained parameters keep their names. The branch's maps pass from block to block as arguments, so a
forward leaves nothing behind. Source: Lin et al. 2024 (SAMUS) and xianlin7/SAMUS.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfrbench.components.finetune._adapter import Adapter
from sfrbench.components.foundation._build import fit_positions
from sfrbench.components.foundation._samlib import LayerNorm2d
from sfrbench.components.foundation._vit import run
from sfrbench.components.foundation.segmenter import SamSegmenter
from sfrbench.errors import InputError

#: Share of the branch's maps in the encoder's output, and factor of the adapters beside the MLPs.
SHARE = 0.5


def conv(channels: int, out: int) -> nn.Sequential:
    """3 x 3 convolution without bias, norm over channels, GELU; the size stays."""
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1, bias=False), LayerNorm2d(out), nn.GELU())


def cnn_branch(shrink: int, dim: int) -> nn.Sequential:
    """Images (B, 3, I, I) to maps (B, dim, I/shrink, I/shrink); ``shrink`` is a power of two.

    Widths 64, 128, 256, dim for the 8 of SAM: a max-pool before every width but the first.
    """
    pools = shrink.bit_length() - 1
    layers = [conv(3, 64)]
    for channels, out in pairwise([*(64 * 2**i for i in range(pools)), dim]):
        layers.append(nn.Sequential(nn.MaxPool2d(2), conv(channels, out)))
    return nn.Sequential(*layers)


class CrossAttention(nn.Module):
    """Tokens (B, h, w, C) that ask, maps of the same shape that answer; no positions, no skip."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, tokens: Tensor, maps: Tensor) -> Tensor:
        q, k, v = (
            layer(x).flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.q, tokens), (self.k, maps), (self.v, maps))
        )
        out = F.scaled_dot_product_attention(q, k, v)
        result: Tensor = self.proj(out.transpose(1, 2).flatten(2).view(tokens.shape))
        return result


class GlobalBlock(nn.Module):
    """A block of SAM with global attention, its parts under their own names, and SAMUS's three additions."""

    window_size = 0

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp
        dim = block.attn.proj.out_features
        self.cross_adapter = CrossAttention(dim, heads=dim // block.attn.rel_pos_h.shape[1])
        self.refine_adapter = conv(dim, dim)
        self.mlp_adapter = Adapter(dim, dim // 4, "gelu", skip=False, scale=SHARE, zero=False)

    def forward(self, x: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and the branch's maps, both (B, h, w, C), to the same of the next block."""
        y = self.norm1(x)
        x = x + self.attn(y + self.cross_adapter(y, maps))
        y = self.norm2(x)
        x = x + self.mlp(y) + self.mlp_adapter(y)
        return x, self.refine_adapter(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class SamusEncoder(nn.Module):
    """Images (B, 3, I, I) to embeddings (B, out, g, g) with g = 2 I / P, P being the ViT's patch.

    Takes the parts of ``vit`` over and halves the stride of its patch embedding. So that g patches of P
    pixels fit a side, the image is enlarged to I + P / 2 (256 to 264, as in SAMUS). Windowed blocks have no
    adapter. The frozen position table, 2 g a side, passes a max-pool and a trained convolution.
    """

    def __init__(self, vit: Any) -> None:
        super().__init__()
        patch, dim = vit.patch_embed.proj.kernel_size[0], vit.patch_embed.proj.out_channels
        self.step, self.checkpointing, self.compiled = patch // 2, vit.checkpointing, vit.compiled
        self.patch_embed, self.pos_embed, self.neck = vit.patch_embed, vit.pos_embed, vit.neck
        self.patch_embed.proj.stride = (self.step, self.step)
        self.blocks = nn.ModuleList(
            block if block.window_size else GlobalBlock(block) for block in vit.blocks
        )
        self.cnn_embed = cnn_branch(self.step, dim)
        self.post_pos_embed = nn.Sequential(nn.MaxPool2d(2), conv(dim, dim))
        self.input_adapter = Adapter(dim, dim // 4, "gelu", skip=True, scale=1.0, zero=False)

    def forward(self, image: Tensor) -> Tensor:
        maps = image
        for stage in self.cnn_embed:
            maps = run(stage, maps, again=self.checkpointing)
        maps = maps.permute(0, 2, 3, 1)
        side = image.shape[-1] + self.step
        image = F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False)
        positions = self.post_pos_embed(self.pos_embed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = self.input_adapter(self.patch_embed(image)) + positions
        for block in self.blocks:
            how = {"again": self.checkpointing, "compiled": self.compiled}
            if isinstance(block, GlobalBlock):
                x, maps = run(block, x, maps, **how)
            else:
                x = run(block, x, **how)
        embedding: Tensor = self.neck((x + SHARE * maps).permute(0, 3, 1, 2))
        return embedding


def attach(model: SamSegmenter) -> None:
    """Put a ``SamusEncoder`` around the parts of the model's own; of the encoder, its additions and the
    relative tables of global blocks are left trainable.

    New layers are initialised as torch does, from its global RNG. Position tables are stretched from those of
    the checkpoint. Raises ``InputError`` where the encoder is none of segment-anything's ViTs, or SAMUS's.
    """
    vit: Any = model.image_encoder
    if isinstance(vit, SamusEncoder):
        raise InputError("the image encoder is SAMUS's already")
    if not all(hasattr(vit, name) for name in ("patch_embed", "pos_embed", "blocks", "neck")):
        raise InputError("SAMUS is defined for segment-anything's ViT encoders, and this is none")
    patch = vit.patch_embed.proj.kernel_size[0]
    if patch < 4 or patch & (patch - 1):
        raise InputError(f"SAMUS needs a patch whose side is a power of two, from 4 on; got {patch}")
    encoder = SamusEncoder(vit)
    model.image_encoder = encoder
    _stretch(model, grid=2 * model.canvas // patch)
    encoder.requires_grad_(False)
    for name, value in encoder.named_parameters():
        if name.startswith(("cnn_embed.", "post_pos_embed.")) or "_adapter." in name:
            value.requires_grad_(True)
    for block in encoder.blocks:
        if isinstance(block, GlobalBlock):
            block.attn.rel_pos_h.requires_grad_(True)
            block.attn.rel_pos_w.requires_grad_(True)


def _stretch(model: SamSegmenter, grid: int) -> None:
    """The position tables for ``grid`` tokens a side: twice that for the absolute one, which is then pooled.

    At a canvas of 256 pixels SAM's own 64 x 64 have that size, and nothing is lost on the way.
    """
    tables = {
        name: value.detach()
        for name, value in model.image_encoder.named_parameters(prefix="image_encoder")
        if name.endswith("image_encoder.pos_embed") or ".attn.rel_pos_" in name
    }
    for name, value in tables.items():
        owner, _, leaf = name.rpartition(".")
        shape: tuple[int, ...]
        if leaf == "pos_embed":
            shape = (1, 2 * grid, 2 * grid, value.shape[-1])
        elif isinstance(model.get_submodule(owner.removesuffix(".attn")), GlobalBlock):
            shape = (2 * grid - 1, value.shape[-1])
        else:
            continue
        setattr(model.get_submodule(owner), leaf, nn.Parameter(torch.empty(shape, device=value.device)))
    fitted = fit_positions({**tables, **model.pretrained_positions}, model)
    model.load_state_dict(fitted, strict=False)
    model.pretrained_positions = {}
