"""Assembles SAM segmenters: skeleton without touching the RNG, pretrained weights, fresh head."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfrbench.components.core import Precision
from sfrbench.components.foundation._vit import ImageEncoder
from sfrbench.components.foundation.segmenter import (
    HEAD,
    SamSegmenter,
    load_pretrained,
    prompt_and_decoder,
    reset_head,
)

#: Mask tokens of SAM's own head.
OWN_TOKENS = 4
#: width, depth, heads, blocks with global attention (segment-anything, build_sam.py)
VIT = {
    "b": (768, 12, 12, (2, 5, 8, 11)),
    "l": (1024, 24, 16, (5, 11, 17, 23)),
    "h": (1280, 32, 16, (7, 15, 23, 31)),
}


def vit(size: str, *, canvas: int, classes: int, precision: Precision) -> SamSegmenter:
    """SAM with a ViT encoder and random weights. ``canvas`` in pixels, a multiple of 16."""
    width, depth, heads, whole = VIT[size]
    encoder = ImageEncoder(
        width=width, depth=depth, heads=heads, whole=whole, canvas=canvas, patch=16, window=14, out=256
    )
    prompt, decoder = prompt_and_decoder(classes=classes, canvas=canvas, stride=16)
    return SamSegmenter(encoder, prompt, decoder, canvas=canvas, classes=classes, precision=precision)


def pretrained(build: Callable[[], SamSegmenter], state: Mapping[str, Tensor], where: str) -> SamSegmenter:
    """A model with the weights of ``state`` and a new head, which alone draws from the global RNG."""
    with torch.random.fork_rng(devices=[]):
        model = build()
    fitted = fit_positions(state, model)
    load_pretrained(model, fitted, where)
    model.pretrained_positions = {
        name: state[name].clone() for name, value in fitted.items() if value is not state[name]
    }
    reset_head(model.mask_decoder)
    if model.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval()


def whole(build: Callable[[int], SamSegmenter], state: Mapping[str, Tensor], where: str) -> SamSegmenter:
    """A model with all of ``state``, SAM's own head too, frozen; draws nothing from the global RNG.

    ``build`` takes the number of mask tokens.
    """
    with torch.random.fork_rng(devices=[]):
        model = build(OWN_TOKENS)
    load_pretrained(model, fit_positions(state, model), where, but=())
    if model.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.requires_grad_(False).eval()


def fit_positions(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Position tables stretched to the model's token grid, everything else as it is.

    The absolute table is resized bilinearly, the relative tables of global blocks linearly, as SAMed
    does (hitachinsk/SAMed, ``load_from``). Tables of windowed blocks have the right length already.
    """
    wanted = model.state_dict()
    fitted = dict(state)
    for name, value in state.items():
        if name not in wanted or value.shape == wanted[name].shape:
            continue
        shape = wanted[name].shape
        if name.endswith("image_encoder.pos_embed"):
            grid = value.permute(0, 3, 1, 2)
            grid = F.interpolate(grid, size=tuple(shape[1:3]), mode="bilinear", align_corners=False)
            fitted[name] = grid.permute(0, 2, 3, 1)
        elif name.rsplit(".", 1)[-1] in ("rel_pos_h", "rel_pos_w"):
            fitted[name] = F.interpolate(value.T[None], size=shape[0], mode="linear")[0].T
    return fitted


def toy(*, canvas: int, classes: int, precision: Precision) -> SamSegmenter:
    """The toy's skeleton: patch 8, width 32, one windowed and one global block."""
    encoder = ImageEncoder(width=32, depth=2, heads=2, whole=(1,), canvas=canvas, patch=8, window=4, out=32)
    prompt, decoder = prompt_and_decoder(
        classes=classes, canvas=canvas, stride=8, dim=32, heads=4, mlp_dim=64
    )
    return SamSegmenter(encoder, prompt, decoder, canvas=canvas, classes=classes, precision=precision)


def toy_whole_state(seed: int = 2026) -> dict[str, Tensor]:
    """The toy's "pretrained" weights with a head of four mask tokens. Leaves the global RNG as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = toy(canvas=64, classes=OWN_TOKENS, precision="fp32").state_dict()
    prefixes = tuple(f"mask_decoder.{name}." for name in HEAD)
    return toy_state() | {name: value for name, value in head.items() if name.startswith(prefixes)}


def toy_state(seed: int = 2025) -> dict[str, Tensor]:
    """The toy's "pretrained" weights, at a canvas of 64. Leaves the global RNG as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = toy(canvas=64, classes=2, precision="fp32")
        for name, value in model.image_encoder.named_parameters():
            if "pos" in name:  # zero in a new model, which would leave positions untested
                nn.init.normal_(value, std=0.02)
    return model.state_dict()
