"""SAM's ViT on volumes: its pretrained blocks in windows of 8 x 8 x 8 tokens, and a decoder without prompts.

Facts from med-air/3DSAM-adapter (``train_auto.py``: ``ImageEncoderViT_3d_v2``, ``VIT_MLAHead_h``). Tokens lie
as (T, h, w, C): T along depth, one for ``slices`` slices. Other than there, any depth will do (no token sees
padding, an axis shorter than a window is one window), and maps are resized with ``align_corners=False``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfrbench.components._autocast import guard
from sfrbench.components.foundation._vit import run
from sfrbench.components.foundation.segmenter import SamSegmenter
from sfrbench.errors import InputError

Sides = tuple[int, ...]  # along T, h, w
#: Side of an attention window, in tokens; every other block shifts its windows by half of it.
WINDOW = 8
#: Interpolated slices that the slice embedding makes into one token of depth.
SLICE_KERNEL = 16
#: Depths of the encoder that the decoder reads: after each quarter of the blocks.
LEVELS = 4


class Adapter3d(nn.Module):
    """x + ReLU(Linear(ReLU(depthwise 3x3x3(ReLU(Linear(x)))))) of tokens (T, h, w, C)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, hidden)
        self.conv = nn.Conv3d(hidden, hidden, 3, padding=1, groups=hidden)
        self.up = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.down(x)).permute(3, 0, 1, 2)[None]
        inner = F.relu(self.conv(inner))[0].permute(1, 2, 3, 0)
        return x + F.relu(self.up(inner))


class Block3d(nn.Module):
    """A pretrained block (``norm1``, ``attn``, ``norm2``, ``mlp``) behind an adapter, on tokens (T, h, w, C).

    ``attn`` lends its parameters only. The table of relative depths begins as the mean of the other two.
    Tables keep the length that they were pretrained with, and each forward makes those of a window of them.
    """

    def __init__(self, block: Any, ratio: float, *, shifted: bool) -> None:
        super().__init__()
        attn = block.attn
        width = attn.proj.out_features
        self.adapter = Adapter3d(width, max(int(width * ratio), 1))
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, attn, block.norm2, block.mlp
        self.rel_pos_d = nn.Parameter((attn.rel_pos_h + attn.rel_pos_w).detach() / 2)
        self.shifted = shifted

    def forward(self, x: Tensor) -> Tensor:
        x = self.adapter(x)
        x = x + self._attend(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        sides: Sides = tuple(x.shape[:3])
        window: Sides = tuple(min(WINDOW, side) for side in sides)
        shifts: Sides = tuple(WINDOW // 2 if self.shifted and side > WINDOW else 0 for side in sides)
        padded: Sides = tuple(-(-side // size) * size for side, size in zip(sides, window, strict=True))
        t, h, w = (total - side for side, total in zip(sides, padded, strict=True))
        x = F.pad(x, (0, 0, 0, w, 0, h, 0, t)).roll(tuple(-shift for shift in shifts), (0, 1, 2))
        x = to_windows(x, window)
        x = self._heads(x, window, together(sides, padded, window, shifts, x.device))
        x = from_windows(self.attn.proj(x), window, padded).roll(shifts, (0, 1, 2))
        return x[: sides[0], : sides[1], : sides[2]]

    def _heads(self, x: Tensor, window: Sides, allowed: Tensor | None) -> Tensor:
        """Attention of windows (n, L, C) over their own tokens.

        The decomposed relative positions are moved into the product, q' = [s q, q R_d, q R_h, q R_w] and
        k' = [k, one-hot places], so that no bias of L x L with a gradient is ever stored.
        """
        count, length, width = x.shape
        heads = self.attn.num_heads
        qkv = self.attn.qkv(x).reshape(count, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        placed = q.reshape(count, heads, *window, -1)
        tables = (self.rel_pos_d, self.attn.rel_pos_h, self.attn.rel_pos_w)
        terms, places = [q * q.shape[-1] ** -0.5], [k]
        for axis, (name, table, size) in enumerate(zip("thw", tables, window, strict=True)):
            term = torch.einsum(f"bnthwc,{name}kc->bnthwk", placed, relative(table, size))
            terms.append(term.flatten(2, 4).to(q.dtype))
            index = torch.arange(length, device=x.device).reshape(window).movedim(axis, 0)
            place = torch.zeros(length, size, dtype=k.dtype, device=x.device)
            place[index.flatten(1), torch.arange(size, device=x.device)[:, None]] = 1
            places.append(place.expand(count, heads, length, size))
        value = F.pad(v, (0, sum(window)))  # as wide as the keys: what fused kernels ask for
        out = F.scaled_dot_product_attention(
            torch.cat(terms, -1), torch.cat(places, -1), value, attn_mask=allowed, scale=1.0
        )
        return out[..., : v.shape[-1]].transpose(1, 2).flatten(2)


def relative(table: Tensor, size: int) -> Tensor:
    """(size, size, C): what a query at i adds for a key at j, from a table of any length (2 n - 1, C).

    A table of another length is interpolated to a window's 15 distances, in global blocks too.
    """
    wanted = 2 * WINDOW - 1
    if table.shape[0] != wanted:
        table = F.interpolate(table.T[None], size=wanted, mode="linear")[0].T
    places = torch.arange(size, device=table.device)
    return table[places[:, None] - places[None, :] + WINDOW - 1]


def to_windows(x: Tensor, window: Sides) -> Tensor:
    """(T, h, w, C), sides multiples of the window's, to (windows, L, C)."""
    counts = [side // size for side, size in zip(x.shape, window, strict=False)]
    split = [length for pair in zip(counts, window, strict=True) for length in pair]
    return x.reshape(*split, -1).permute(0, 2, 4, 1, 3, 5, 6).flatten(3, 5).flatten(0, 2)


def from_windows(windows: Tensor, window: Sides, sides: Sides) -> Tensor:
    """The inverse of ``to_windows``, to (T, h, w, C) of ``sides``."""
    counts = [side // size for side, size in zip(sides, window, strict=True)]
    return windows.reshape(*counts, *window, -1).permute(0, 3, 1, 4, 2, 5, 6).reshape(*sides, -1)


def together(
    sides: Sides, padded: Sides, window: Sides, shifts: Sides, device: torch.device
) -> Tensor | None:
    """(windows, 1, L, L), true where two tokens of a window may see each other; none: all may.

    Rolled tokens are neighbours in a window and not in the volume. Padding sees padding, so that every token
    sees something.
    """
    if padded == sides and not any(shifts):
        return None
    region = torch.zeros(padded, dtype=torch.int64, device=device)
    for axis, (side, total, size, shift) in enumerate(zip(sides, padded, window, shifts, strict=True)):
        place = torch.arange(total, device=device)
        where = (place >= total - size).long() + (place >= total - shift).long() if shift else 0 * place
        where = where + 3 * (place.roll(-shift) >= side).long()
        region = 6 * region + where.reshape([-1 if other == axis else 1 for other in range(3)])
    regions = to_windows(region[..., None], window)[..., 0]
    return (regions[:, :, None] == regions[:, None, :])[:, None]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Encoder3d(nn.Module):
    """Slices (D, 3, I, I) of one volume to features (4, C, T, h, w), T = D / ``slices`` rounded up.

    The patch embeddings of the slices are interpolated along depth to 16 a token (the source interpolates the
    slices, which is the same: the embedding is linear) and joined by a depthwise convolution. The parts of
    the pretrained encoder are moved into this one and keep their names.
    """

    def __init__(self, vit: Any, *, slices: int, ratio: float) -> None:
        super().__init__()
        self.slices = slices
        self.patch_embed, self.pos_embed = vit.patch_embed, vit.pos_embed
        side, width = self.pos_embed.shape[1], self.pos_embed.shape[-1]
        self.slice_embed = nn.Conv1d(width, width, SLICE_KERNEL, stride=SLICE_KERNEL, groups=width)
        self.depth_embed = nn.Parameter(torch.ones(side, width))
        blocks = [Block3d(block, ratio, shifted=index % 2 == 0) for index, block in enumerate(vit.blocks)]
        self.blocks = nn.ModuleList(blocks)
        self.checkpointing, self.compiled = vit.checkpointing, vit.compiled
        out = vit.neck[0].out_channels
        self.necks = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(width, out, 1, bias=False),
                ChannelNorm(out, eps=1e-6),
                nn.Conv3d(out, out, 3, padding=1, bias=False),
                ChannelNorm(out, eps=1e-6),
            )
            for _ in range(LEVELS)
        )

    def forward(self, slices: Tensor) -> Tensor:
        x = self._embed(self.patch_embed.proj(slices))
        states = []
        for block in self.blocks:
            x = run(block, x, again=self.checkpointing, compiled=self.compiled)
            states.append(x.permute(3, 0, 1, 2)[None])
        ends = [-(-(level + 1) * len(states) // LEVELS) - 1 for level in range(LEVELS)]
        return torch.cat([neck(states[end]) for neck, end in zip(self.necks, ends, strict=True)])

    def _embed(self, x: Tensor) -> Tensor:
        """Embedded slices (D, C, h, w) to tokens (T, h, w, C) with their positions."""
        depth, _, height, width = x.shape
        tokens = -(-depth // self.slices)
        x = x.permute(2, 3, 1, 0).flatten(0, 1)
        x = self.slice_embed(F.interpolate(x, size=SLICE_KERNEL * tokens, mode="linear"))
        x = x.reshape(height, width, -1, tokens).permute(3, 0, 1, 2)
        depths = F.interpolate(self.depth_embed.T[None], size=tokens, mode="linear")[0].T
        placed: Tensor = x + self.pos_embed + depths[:, None, None]
        return placed


def convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv3d(inputs, outputs, 3, padding=1, bias=False), nn.InstanceNorm3d(outputs), nn.ReLU()]


class Decoder3d(nn.Module):
    """Four levels of features (4, C, T, h, w) and the slices (D, 1, I, I) to logits (D, K, 2h, 2w)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        hidden = width // 2
        self.heads = nn.ModuleList(
            nn.Sequential(*convolution(width, hidden), *convolution(hidden, hidden)) for _ in range(LEVELS)
        )
        self.classify = nn.Sequential(
            *convolution(LEVELS * hidden + 1, hidden), nn.Conv3d(hidden, classes, 3, padding=1, bias=False)
        )

    def forward(self, features: Tensor, slices: Tensor) -> Tensor:
        depth, height, width = (2 * side for side in features.shape[2:])
        size = (depth, height, width)
        maps = [resized(head(level[None]), size) for head, level in zip(self.heads, features, strict=True)]
        image = F.adaptive_avg_pool3d(slices.transpose(0, 1)[None], size)
        logits = self.classify(torch.cat([*maps, image], 1))
        return resized(logits, (len(slices), height, width))[0].transpose(0, 1)


def resized(maps: Tensor, size: Sides) -> Tensor:
    """(B, C, T, h, w) trilinearly to ``size``."""
    return F.interpolate(maps, size=size, mode="trilinear", align_corners=False)


def attach(model: SamSegmenter, *, slices: int, ratio: float) -> None:
    """Replace the 2D encoder and decoder by 3D ones; new parts are drawn from torch's global RNG.

    The new parts and the norms of the blocks train; the prompt encoder is removed. Raises
    ``InputError`` where the encoder is not segment-anything's ViT.
    """
    vit: Any = model.image_encoder
    block = next(iter(getattr(vit, "blocks", [])), None)
    parts = all(hasattr(vit, name) for name in ("patch_embed", "pos_embed", "neck"))
    if not parts or not hasattr(getattr(block, "attn", None), "rel_pos_h"):
        raise InputError(
            "the image encoder is not segment-anything's ViT, whose blocks 3DSAM-adapter takes over",
            hint="choose a foundation such as sam_vit_b",
        )
    model.requires_grad_(False)
    _pretrained_tables(model)
    encoder = Encoder3d(vit, slices=slices, ratio=ratio)
    for part in encoder.blocks:
        part.norm1.requires_grad_(True)
        part.norm2.requires_grad_(True)
    model.image_encoder = encoder
    model.prompt_encoder = nn.Identity()
    model.mask_decoder = Decoder3d(vit.neck[0].out_channels, model.classes)
    model.volumetric = True
    guard(model)


def _pretrained_tables(model: SamSegmenter) -> None:
    """The checkpoint's own relative tables, frozen, in place of those that were fitted to the canvas.

    The source builds its encoder for 1024 pixels and interpolates once, from there to a window (127 to 15
    distances); by way of a canvas of 512 (63) other values come out.
    """
    for name, table in model.pretrained_positions.items():
        owner, _, leaf = name.rpartition(".")
        if leaf.startswith("rel_pos_"):
            current = model.get_parameter(name)
            fresh = nn.Parameter(table.to(current), requires_grad=False)
            setattr(model.get_submodule(owner), leaf, fresh)
    model.pretrained_positions = {}
