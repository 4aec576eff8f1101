"""SAM-Med3D's image encoder: a ViT on cubes, with relative positions as its weights know them.

Names and outputs are those of the released ``ImageEncoderViT3D`` (uni-medical/SAM-Med3D). Two things look
wrong in it and are kept, since the weights were trained with them: zero tokens that fill up a window take
part in attention, and the tables of relative positions meet other axes of the key than they should.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfrbench.components.foundation import _samlib
from sfrbench.components.foundation._vit import relative


class LayerNorm3d(nn.Module):
    """Over the channels of (B, C, X, Y, Z)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        last = F.layer_norm(maps.movedim(1, -1), self.weight.shape, self.weight, self.bias, eps=1e-6)
        return last.movedim(-1, 1).contiguous()


class PatchEmbed(nn.Module):
    """(B, 1, X, Y, Z) to tokens (B, x, y, z, dim), one for each cube of ``patch`` voxels a side."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj: Any = nn.Conv3d(1, dim, patch, stride=patch)

    def forward(self, cubes: Tensor) -> Tensor:
        tokens: Tensor = self.proj(cubes)
        return tokens.movedim(1, -1)


class ImageEncoder(nn.Module):
    """(B, 1, I, I, I) to embeddings (B, out, g, g, g), g = I / ``patch`` tokens a side.

    ``whole`` are the blocks that attend to the g^3 tokens alone; the others do so in one window of ``window``
    tokens a side, ``window`` being at least g.
    """

    def __init__(
        self,
        *,
        side: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        whole: Sequence[int],
        window: int,
        out: int,
    ) -> None:
        super().__init__()
        grid = side // patch
        self.patch_embed = PatchEmbed(patch, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, grid, width))
        self.blocks = nn.ModuleList(
            Block(width, heads, grid if index in whole else window) for index in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv3d(width, out, 1, bias=False),
            LayerNorm3d(out),
            nn.Conv3d(out, out, 3, padding=1, bias=False),
            LayerNorm3d(out),
        )

    def forward(self, cubes: Tensor) -> Tensor:
        tokens: Tensor = self.patch_embed(cubes) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        embedding: Tensor = self.neck(tokens.movedim(-1, 1))
        return embedding


class Block(nn.Module):
    """A transformer block on tokens (B, g, g, g, dim) that attends in a window of ``side`` >= g tokens."""

    def __init__(self, dim: int, heads: int, side: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads, side)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = _samlib.MLPBlock(embedding_dim=dim, mlp_dim=4 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        mixed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return mixed


class Attention(nn.Module):
    """Attention of g^3 tokens (B, g, g, g, dim) to a window of ``side``^3, the rest of which is zero tokens.

    The released code computes the zero tokens' own outputs as well, and drops them; here they are keys and
    values only. With R_a(i, j) the row i - j + side - 1 of table a, and q unscaled, the bias of the query at
    (d, h, w) towards the key at (D, H, W) is

        q[d, h, w] . R_d(d, W)  +  q[d, h, D] . R_h(h, W)  +  q[d, h, H] . R_w(H, W)

    where q[d, h, w] . (R_d(d, D) + R_h(h, H) + R_w(w, W)) is what its authors meant (their issue 101).
    """

    def __init__(self, dim: int, heads: int, side: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.side = side
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_d = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))

    def forward(self, tokens: Tensor) -> Tensor:
        b, g, dim = tokens.shape[0], tokens.shape[1], tokens.shape[-1]
        qkv = self.filled(self.qkv(tokens))
        q, k, v = (
            qkv.reshape(*qkv.shape[:4], 3, self.num_heads, -1).permute(4, 0, 5, 1, 2, 3, 6).flatten(1, 2)
        )
        own = q[:, :g, :g, :g].flatten(1, 3)  # (B * heads, g^3, C): zero tokens ask nothing
        scores = (own * own.shape[-1] ** -0.5) @ k.flatten(1, 3).transpose(1, 2)
        scores = scores.view(-1, g, g, g, self.side, self.side, self.side)
        for bias in self.biases(q[:, :g, :g]):
            scores = scores + bias
        mixed = scores.flatten(1, 3).flatten(2).softmax(-1).to(v.dtype) @ v.flatten(1, 3)
        mixed = mixed.view(b, self.num_heads, g, g, g, -1).permute(0, 2, 3, 4, 1, 5)
        result: Tensor = self.proj(mixed.reshape(b, g, g, g, dim))
        return result

    def filled(self, qkv: Tensor) -> Tensor:
        """q, k and v (B, g, g, g, C) of the tokens, filled up to the window by those of zero tokens, which
        are the biases."""
        b, g, c = qkv.shape[0], qkv.shape[1], qkv.shape[-1]
        if g == self.side:
            return qkv
        window = self.qkv.bias.to(qkv.dtype).expand(b, self.side, self.side, self.side, c).clone()
        window[:, :g, :g, :g] = qkv
        return window

    def biases(self, lines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three terms that add to scores (N, d, h, w, D, H, W), for q (N, g, g, side, C) on whole lines along
        the last axis."""
        g = lines.shape[1]
        on_d, on_h, on_w = (
            relative(table, self.side) for table in (self.rel_pos_d, self.rel_pos_h, self.rel_pos_w)
        )
        of_d = torch.einsum("ndhwc,dkc->ndhwk", lines[:, :, :, :g], on_d[:g])
        of_h = torch.einsum("ndhjc,hkc->ndhjk", lines, on_h[:g])
        of_w = torch.einsum("ndhjc,jkc->ndhjk", lines, on_w)
        return of_d[:, :, :, :, None, None], of_h[:, :, :, None, :, None], of_w[:, :, :, None, None]
