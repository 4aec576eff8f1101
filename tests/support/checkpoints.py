"""Weight files as people bring them, of the size of the toy SAM."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sfrbench.components.foundation import _build

#: A tensor of the encoder with positions, one without, and one of the head.
TABLE, PLAIN = "image_encoder.blocks.0.attn.rel_pos_h", "image_encoder.neck.0.weight"
TOKENS = "mask_decoder.mask_tokens.weight"


def tuned(seed: int = 7) -> dict[str, Tensor]:
    """The toy's tensors, all a little off: as of a SAM that somebody has trained on."""
    draw = torch.Generator().manual_seed(seed)
    state = _build.toy_whole_state()
    return {name: value + 0.05 * torch.randn(value.shape, generator=draw) for name, value in state.items()}


def saved(folder: Path, content: Any, name: str = "mine.pth") -> Path:
    path = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def changed(name: str, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The tensors, one of which is another."""
    state = tuned()
    return {**state, name: change(state[name].clone())}


def with_nan(value: Tensor) -> Tensor:
    value.view(-1)[3] = float("nan")
    return value


def hq() -> dict[str, Tensor]:
    """SAM-HQ's: SAM's own, and more in the decoder (two of its 25 tensors)."""
    more = {"hf_token.weight": torch.ones(1, 32), "hf_mlp.layers.0.weight": torch.ones(32, 32)}
    return {**tuned(), **{f"mask_decoder.{name}": value for name, value in more.items()}}


def med2d() -> dict[str, Tensor]:
    """SAM-Med2D's: an adapter in each block."""
    return {
        **tuned(),
        **{f"image_encoder.blocks.{i}.Adapter.channel.0.weight": torch.ones(8) for i in (0, 1)},
    }


def wrapped(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """As a training script on several GPUs leaves it."""
    return {"epoch": 3, "model": {f"module.{name}": value for name, value in state.items()}, "optimizer": {}}


def half(folder: Path) -> Path:
    whole = saved(folder, tuned())
    whole.write_bytes(whole.read_bytes()[:100_000])
    return whole


def of_text(folder: Path) -> Path:
    path = folder / "mine.pth"
    path.write_text("a README that somebody renamed\n")
    return path


def safetensors(folder: Path) -> Path:
    path = folder / "mine.safetensors"
    save_file({name: value.contiguous() for name, value in tuned().items()}, path)
    return path


def with_objects(folder: Path) -> Path:
    """A checkpoint with the arguments of its script, which only a pickle that runs code can hold."""
    return saved(folder, {"model": tuned(), "args": argparse.Namespace(lr=0.1)})
