"""LiteMedSAM's image encoder: a TinyViT whose last merging keeps the grid, so 256^2 gives 64^2 tokens.

Facts: Wu et al. 2022 (TinyViT, arXiv 2207.10666) for the blocks, bowang-lab/MedSAM (LiteMedSAM branch)
for sizes and key names. The token grid follows the input; every side must be a multiple of 4.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfrbench.components.foundation._samlib import LayerNorm2d
from sfrbench.components.foundation._vit import run


class ConvBn(nn.Module):
    """Convolution without bias, and batch norm with the stored statistics.

    The statistics are never updated (fine-tuning sees one or two canvases a step), so the norm is an
    affine map that is folded into the convolution: one pass over the feature map instead of two.
    """

    def __init__(self, inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        norm, conv = self.bn, self.c
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = norm.bias - norm.running_mean * scale
        weight = conv.weight * scale[:, None, None, None]
        return F.conv2d(x, weight, bias, conv.stride, conv.kernel_size[0] // 2, groups=conv.groups)


class MbConv(nn.Module):
    """Inverted bottleneck with a residual (first stage)."""

    def __init__(self, dim: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = dim * expansion
        self.conv1 = ConvBn(dim, hidden)
        self.conv2 = ConvBn(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvBn(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class Merging(nn.Module):
    """Changes the width between stages, and halves the grid where ``stride`` is 2."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBn(inside, outside)
        self.conv2 = ConvBn(outside, outside, 3, stride, groups=outside)
        self.conv3 = ConvBn(outside, outside)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return out


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Scaled dot-product attention of (N, heads, T, d) with a bias (heads, T, T) on the scores."""
    # Four dimensions, or the CPU refuses its fused kernel.
    mask = bias.to(q.dtype).unsqueeze(0)
    if q.device.type != "cpu" or not (torch.is_grad_enabled() and q.requires_grad):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # The backward of the CPU's fused kernel took half of a training step; three plain steps do not.
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-2, -1)) + mask
    return torch.matmul(scores.softmax(-1), v)


class Attention(nn.Module):
    """Attention inside windows of ``side`` x ``side`` tokens, with one bias per head and offset."""

    offset: Tensor

    def __init__(self, dim: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        #: Rows of ``qkv`` come in this many groups, each (q, k, v): see ``finetune._lora``.
        self.qkv_groups = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv: Any = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, side * side))
        at = torch.cartesian_prod(torch.arange(side), torch.arange(side))
        offset = (at[:, None] - at[None]).abs()
        self.register_buffer("offset", offset[..., 0] * side + offset[..., 1], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Windows (N, side * side, dim) to the same shape."""
        windows, tokens, dim = x.shape
        shape = (windows, tokens, self.heads, dim // self.heads)
        x = self.norm(x)
        if isinstance(self.qkv, nn.Linear):
            rows = self.qkv(x).view(windows, tokens, self.heads, 3, -1)
            q, k, v = (part.transpose(1, 2) for part in rows.unbind(3))
        else:  # three layers, while adapters are in: no need to join and cut again
            q, k, v = (part.view(shape).transpose(1, 2) for part in self.qkv.parts(x))
        out = attention(q, k, v, self.attention_biases[:, self.offset])
        result: Tensor = self.proj(out.transpose(1, 2).reshape(windows, tokens, dim))
        return result


class Mlp(nn.Module):
    """Layer norm and two linear layers."""

    def __init__(self, dim: int, expansion: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, dim * expansion)
        self.fc2 = nn.Linear(dim * expansion, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return out


class Block(nn.Module):
    """Window attention, local convolution, MLP. Feature maps are (B, C, H, W), channels-last inside."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = Attention(dim, heads, window)
        self.local_conv = ConvBn(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = x.permute(0, 2, 3, 1)
        tokens = tokens + self._attend(tokens)
        tokens = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        result: Tensor = (tokens + self.mlp(tokens)).permute(0, 3, 1, 2)
        return result

    def _attend(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) cut into windows, attended, put together again; padding with zeros takes part."""
        batch, height, width, dim = tokens.shape
        side = self.window
        if (height, width) == (side, side):
            whole: Tensor = self.attn(tokens.reshape(batch, side * side, dim)).view_as(tokens)
            return whole
        padded = F.pad(tokens, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = padded.shape[1] // side, padded.shape[2] // side
        cut = padded.view(batch, rows, side, columns, side, dim).transpose(2, 3)
        out = self.attn(cut.reshape(-1, side * side, dim))
        out = out.view(batch, rows, columns, side, side, dim).transpose(2, 3)
        joined: Tensor = out.reshape(batch, rows * side, columns * side, dim)[:, :height, :width]
        return joined


class PatchEmbed(nn.Module):
    """Two 1x1 convolutions at full resolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvBn(3, dim // 2), nn.GELU(), ConvBn(dim // 2, dim))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.seq(x)
        return out


class Stage(nn.Module):
    """Blocks, ``compiled`` one by one or not, then the merging into the next width (none after the last)."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None, compiled: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample
        self.compiled = compiled

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = run(block, x, again=False, compiled=self.compiled)
        out: Tensor = x if self.downsample is None else self.downsample(x)
        return out


class TinyVit(nn.Module):
    """(B, 3, I, I) to embeddings (B, 256, I/4, I/4)."""

    def __init__(
        self,
        dims: tuple[int, ...] = (64, 128, 160, 320),
        depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: tuple[int, ...] = (2, 4, 5, 10),
        windows: tuple[int, ...] = (7, 7, 14, 7),
        strides: tuple[int, ...] = (2, 2, 1),
        out: int = 256,
        *,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(dims[0])
        stages = []
        for index, dim in enumerate(dims):
            blocks: list[nn.Module] = [
                MbConv(dim) if index == 0 else Block(dim, heads[index], windows[index])
                for _ in range(depths[index])
            ]
            last = index == len(dims) - 1
            merging = None if last else Merging(dim, dims[index + 1], strides[index])
            stages.append(Stage(blocks, merging, compiled))
        self.layers = nn.ModuleList(stages)
        self.neck = nn.Sequential(
            nn.Conv2d(dims[-1], out, 1, bias=False),
            LayerNorm2d(out),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            LayerNorm2d(out),
        )

    def forward(self, x: Any) -> Tensor:
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x)
        embedding: Tensor = self.neck(x)
        return embedding
