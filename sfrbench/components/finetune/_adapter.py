"""Bottleneck adapters in the transformer blocks of an image encoder, after attention and beside the MLP.

They are children of the attention and the MLP, and run as hooks of these: the block's own code and the
names of the pretrained parameters stay as they are.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from sfrbench.errors import InputError

Activation = Literal["gelu", "relu"]


class Adapter(nn.Module):
    """``scale`` times Linear, activation, Linear of (..., dim); with ``skip`` the input is added."""

    def __init__(
        self, dim: int, hidden: int, activation: Activation, *, skip: bool, scale: float, zero: bool
    ) -> None:
        super().__init__()
        self.skip, self.scale = skip, scale
        self.down = nn.Linear(dim, hidden)
        self.act = nn.GELU() if activation == "gelu" else nn.ReLU()
        self.up = nn.Linear(hidden, dim)
        if zero:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.scale * self.up(self.act(self.down(x)))
        return x + out if self.skip else out


def attach(encoder: nn.Module, *, ratio: float, activation: Activation, mlp_scale: float, zero: bool) -> int:
    """Two adapters for each block that has ``attn`` and ``mlp``; returns the number of blocks.

    Segment-anything's ViT has such blocks, and TinyViT from its second stage on. Initialised as torch does,
    from its global RNG; ``zero``: see ``Adapter``. Raises ``InputError`` where there is no such block, or
    where there are adapters already.
    """
    blocks = [
        module
        for module in encoder.modules()
        if isinstance(getattr(module, "attn", None), nn.Module)
        and isinstance(getattr(module, "mlp", None), nn.Module)
    ]
    if not blocks:
        raise InputError("the image encoder has no transformer block with 'attn' and 'mlp' to adapt")
    for block in blocks:
        attn: Any = block.attn
        mlp: Any = block.mlp
        if hasattr(attn, "space_adapter"):
            raise InputError("the image encoder has adapters in it already")
        dim = attn.proj.out_features
        hidden = max(int(dim * ratio), 1)
        attn.space_adapter = Adapter(dim, hidden, activation, skip=True, scale=1.0, zero=zero)
        attn.register_forward_hook(_after_attention)
        mlp.mlp_adapter = Adapter(dim, hidden, activation, skip=False, scale=mlp_scale, zero=zero)
        mlp.register_forward_hook(_beside_mlp)
    return len(blocks)


def pad_before_norm(encoder: nn.Module) -> None:
    """Windows of segment-anything's ViT are filled up with zeros before the norm, not after it.

    Of zeros the norm makes its bias, so that is what the tokens beyond the border become. The norms must not
    train. TinyViT has it so by itself.
    """
    for block in encoder.modules():
        if getattr(block, "window_size", 0) and isinstance(getattr(block, "norm1", None), nn.LayerNorm):
            part: Any = block
            part.attn.beyond = part.norm1.bias.detach().clone()


def _after_attention(attn: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    adapted: Tensor = attn.space_adapter(output)
    return adapted


def _beside_mlp(mlp: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    # TinyViT's MLP begins with the norm that in segment-anything stands before it.
    x = mlp.norm(inputs[0]) if hasattr(mlp, "norm") else inputs[0]
    both: Tensor = output + mlp.mlp_adapter(x)
    return both
