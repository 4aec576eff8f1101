"""SAM's ViT image encoder with attention that never holds a whole attention map.

The parameters and their names are those of segment-anything's ``ImageEncoderViT``; so are the outputs. What
differs is how they are computed: the map of a global block at 1024 pixels has 4096 x 4096 entries for each
head, and segment-anything keeps several copies of it for the backward pass. Here it is made in pieces, and
made again on the way back. Windows are cut after the projection to q, k and v instead of before it, so that
the zeros which fill up the windows at the border are projected once, not by the hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sfrbench.components._autocast import autocasts
from sfrbench.components.foundation import _compiled, _samlib
from sfrbench.components.foundation._attention import attend


class ImageEncoder(nn.Module):
    """(B, 3, I, I) to embeddings (B, out, I / patch, I / patch), like segment-anything's ImageEncoderViT.

    ``whole`` are the indices of the blocks that attend globally; the others attend in windows of ``window``
    tokens. ``checkpointing``: blocks keep nothing for the backward pass but their input, and run twice.
    ``compiled``: they run through ``torch.compile``.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        heads: int,
        whole: Sequence[int],
        canvas: int,
        patch: int,
        window: int,
        out: int,
    ) -> None:
        super().__init__()
        grid = canvas // patch
        self.checkpointing = self.compiled = False
        self.patch_embed = _samlib.PatchEmbed((patch, patch), (patch, patch), in_chans=3, embed_dim=width)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, width))
        self.blocks = nn.ModuleList(
            Block(width, heads, 0 if index in whole else window, grid) for index in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(width, out, 1, bias=False),
            _samlib.LayerNorm2d(out),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            _samlib.LayerNorm2d(out),
        )

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.patch_embed(images) + self.pos_embed
        for block in self.blocks:
            tokens = run(block, tokens, again=self.checkpointing, compiled=self.compiled)
        embedding: Tensor = self.neck(tokens.permute(0, 3, 1, 2))
        return embedding


def run(block: nn.Module, *tokens: Tensor, again: bool, compiled: bool = False) -> Any:
    """What ``block`` gives, ``compiled`` or as it is; with ``again`` it keeps nothing for a backward pass and
    is run anew for it."""
    call = partial(_compiled.through, block) if compiled else block
    if again and torch.is_grad_enabled():
        return checkpoint(call, *tokens, use_reentrant=False)
    return call(*tokens)


class Block(nn.Module):
    """A transformer block on tokens (B, h, w, dim); ``window_size`` 0 means global attention."""

    def __init__(self, dim: int, heads: int, window: int, grid: int) -> None:
        super().__init__()
        self.window_size = window
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads, window, grid)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = _samlib.MLPBlock(embedding_dim=dim, mlp_dim=4 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(as_products_want(self.norm1(tokens)))
        mixed: Tensor = tokens + self.mlp(as_products_want(self.norm2(tokens)))
        return mixed


def as_products_want(tokens: Tensor) -> Tensor:
    """Tokens in the dtype of autocast: cast once here, not again by every layer that reads them."""
    device = tokens.device.type
    if autocasts(device):
        return tokens.to(torch.get_autocast_dtype(device))
    return tokens


class Attention(nn.Module):
    """Multi-head attention with decomposed relative positions, over all tokens or in windows.

    Tokens (B, h, w, dim) in and out. Windows at the border are filled up with zero tokens, which take part as
    keys and values, as in segment-anything; or with the token ``beyond`` (dim,) where a method sets one.
    """

    beyond: Tensor | None

    def __init__(self, dim: int, heads: int, window: int, grid: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.window_size = window
        self.qkv: Any = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        side = window or grid
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))
        self.register_buffer("beyond", None, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        _, h, w, dim = tokens.shape
        qkv = self.qkv(tokens)
        side = self.window_size
        if side:
            beyond = tokens.new_zeros(dim) if self.beyond is None else self.beyond
            qkv = to_windows(qkv, side, self.qkv(beyond))
        n, rows, columns = qkv.shape[:3]
        q, k, v = qkv.reshape(n, rows * columns, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).flatten(1, 2)
        grid = q.reshape(-1, rows, columns, q.shape[-1])
        on_rows = torch.einsum("nhwc,hkc->nhwk", grid, relative(self.rel_pos_h, rows)).flatten(1, 2)
        on_columns = torch.einsum("nhwc,wkc->nhwk", grid, relative(self.rel_pos_w, columns)).flatten(1, 2)
        mixed = attend(q, k, v, on_rows, on_columns)
        mixed = mixed.view(n, self.num_heads, rows, columns, -1).permute(0, 2, 3, 1, 4).flatten(3)
        if side:
            mixed = from_windows(mixed, side, h, w)
        result: Tensor = self.proj(mixed.contiguous())
        return result


def relative(table: Tensor, side: int) -> Tensor:
    """(2 * side - 1, C) table of relative positions to (side, side, C): query position, key position."""
    place = torch.arange(side, device=table.device)
    return table[place[:, None] - place[None, :] + side - 1]


def to_windows(tokens: Tensor, side: int, fill: Tensor) -> Tensor:
    """(B, h, w, C) to windows (B * n, side, side, C), row by row; ``fill`` (C,) beyond the border."""
    b, h, w, c = tokens.shape
    below, right = -h % side, -w % side
    if right:
        tokens = torch.cat([tokens, fill.to(tokens.dtype).expand(b, h, right, c)], 2)
    if below:
        tokens = torch.cat([tokens, fill.to(tokens.dtype).expand(b, below, w + right, c)], 1)
    cut = tokens.reshape(b, (h + below) // side, side, (w + right) // side, side, c)
    return cut.transpose(2, 3).reshape(-1, side, side, c)


def from_windows(windows: Tensor, side: int, h: int, w: int) -> Tensor:
    """The inverse of ``to_windows``, without what lies beyond the border."""
    rows, columns = -(-h // side), -(-w // side)
    cut = windows.view(-1, rows, columns, side, side, windows.shape[-1]).transpose(2, 3)
    return cut.reshape(-1, rows * side, columns * side, windows.shape[-1])[:, :h, :w]
