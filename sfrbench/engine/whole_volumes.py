"""What trained models say of whole prepared volumes, for pseudo-labels, selection and prediction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from sfrbench.components.base import Backbone, Foundation, Settings
from sfrbench.engine.at_once import AtOnce
from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import (
    Size,
    backbone_forward,
    fine_tuned_forward,
    load_backbone,
    on_device,
    slide,
)
from sfrbench.engine.manner import PLAIN, Manner, mirrored
from sfrbench.engine.sam_input import Range, sam_input

#: A z-scored volume float32 (X, Y, Z) and its 0.5 and 99.5 percentiles to the probabilities of the classes,
#: (K, X, Y, Z) float32 on the device: the mean over windows.
Probabilities = Callable[[NDArray[np.float32], Range], torch.Tensor]


def by_sam(
    ctx: StageContext[Settings],
    role: str,
    classes: int,
    patch: Size,
    stride: Size | None,
    manner: Manner = PLAIN,
) -> Probabilities:
    """By the fine-tuned SAM of a stage's input ``role``; without a stride by as few windows as there can
    be. It has no logits of a patch: canvases are put together as probabilities."""
    foundation, batch = ctx.component("foundation", Foundation), AtOnce.on(ctx.device)
    forward = fine_tuned_forward(ctx, role, classes, batch)
    forward = mirrored(forward) if manner.mirror else forward

    def probabilities(volume: NDArray[np.float32], value_range: Range) -> torch.Tensor:
        image = sam_input(foundation, on_device(volume, ctx.device), value_range)
        return slide(image, patch, stride, forward, classes, batch, manner)

    return probabilities


def by_segmenter(
    ctx: StageContext[Settings],
    role: str,
    checkpoint: str,
    classes: int,
    patch: Size,
    stride: Size | None,
    manner: Manner = PLAIN,
) -> Probabilities:
    """By the re-trained 3D segmenter of a stage's input ``role``, after its 'last' step or at its
    'best_val'. It takes volumes as they were prepared. Mean logits, where the ``manner`` says so."""
    backbone, batch = ctx.component("backbone", Backbone), AtOnce.on(ctx.device)
    network = load_backbone(backbone, ctx.inputs[role], checkpoint, classes=classes, device=ctx.device)
    forward = backbone_forward(network, manner.logits)
    forward = mirrored(forward) if manner.mirror else forward

    def probabilities(volume: NDArray[np.float32], value_range: Range) -> torch.Tensor:
        return slide(on_device(volume, ctx.device), patch, stride, forward, classes, batch, manner)

    return probabilities
