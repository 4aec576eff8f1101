"""finetune: adapt the foundation model on stitched patches of the labelled cases (eq. 5)."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from sfrbench.components.base import Finetune, Foundation
from sfrbench.components.foundation.segmenter import SamSegmenter, enlarge, load_trained, trained_state
from sfrbench.engine.context import StageContext, seed_for
from sfrbench.engine.inference import pretrained_path
from sfrbench.engine.training import StepResult, TrainedParts, save_weights, train
from sfrbench.engine.volumes import Volumes
from sfrbench.maths.losses import segmentation_loss
from sfrbench.stages.finetune.data import Canvases, Drawn, confident_batches, make_batches
from sfrbench.stages.finetune.recipe import FinetuneSettings
from sfrbench.stages.select.selection import Selection


def run(ctx: StageContext[FinetuneSettings]) -> None:
    """Input ``prepare``. In a round of SFR+ also ``before``, the finetune artefact to go on from, and
    ``select``, with labels of confident cases.

    Writes ``adapter.safetensors`` (the trained parameters), ``model.json`` and ``history.csv``. Opens the
    labels of the labelled cases only. Each canvas of a batch holds one random crop of a labelled case, new at
    every step, or one of the fixed views where the method has such. A volumetric method sees every canvas of
    each crop. In a round each step adds the loss on a canvas of a confident case, under the
    segmenter's labels; without a confident case the adapter stays as it was.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    model = build_model(ctx, len(volumes.classes))
    if "before" in ctx.inputs:
        load_trained(model, load_file(ctx.inputs["before"].path("adapter.safetensors")))
    selection = Selection.of(ctx)
    if selection is None or selection.candidates:
        adapt(ctx, volumes, model, selection)
    save_weights(ctx.out / "adapter.safetensors", trained_state(model))
    (ctx.out / "model.json").write_text(json.dumps(describe(model, volumes.classes)), encoding="utf-8")


def adapt(
    ctx: StageContext[FinetuneSettings], volumes: Volumes, model: SamSegmenter, selection: Selection | None
) -> None:
    """Train the model in place; writes ``history.csv``."""
    finetune = ctx.component("finetune", Finetune)
    batches, canvases = make_batches(ctx, volumes, model), Canvases(ctx, volumes)
    confident = None if selection is None else confident_batches(ctx, volumes, selection)

    def draw(step: int) -> tuple[Any, Drawn | None]:
        return batches.draw(step), None if confident is None else confident(step)

    def step_fn(step: int, drawn: tuple[Any, Drawn | None]) -> StepResult:
        labelled, more = drawn
        loss = step_loss(finetune, *batches.logits(labelled))
        if more is None:
            return StepResult(loss)
        pseudo = step_loss(finetune, *canvases.logits(model, more))
        return StepResult(loss + pseudo, {"labelled": loss, "confident": pseudo})

    train(
        ctx,
        {"model": TrainedParts(model)},
        [part for part in model.parameters() if part.requires_grad],
        finetune.optim,
        steps=finetune.steps,
        checkpoint_every=finetune.checkpoint_every,
        seed=seed_for("finetune", "dropout", ctx.seed),
        batches=draw,
        step_fn=step_fn,
    )


def step_loss(finetune: Finetune, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of low-resolution logits (B, K, h, w) against labels (B, I, I) with 255 to be ignored."""
    if finetune.loss_on == "full":
        logits = enlarge(logits, targets.shape[-1])
    else:
        targets = shrink(targets, (logits.shape[-2], logits.shape[-1]))
    return segmentation_loss(logits, targets, finetune.ce_weight, finetune.dice_ignores_padding)


def shrink(targets: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Labels (B, I, I) int64 to (B, *size), each the label at the middle of its cell; 255 stays 255."""
    small = nn.functional.interpolate(targets[:, None].float(), size=size, mode="nearest-exact")
    return small[:, 0].long()


def build_model(ctx: StageContext[FinetuneSettings], classes: int) -> SamSegmenter:
    """The pretrained model with its adapters, on the device and in training mode.

    Batch norms, where a pretrained encoder has any, keep their statistics: those are no parameters, so
    they would be missing from the adapter.
    """
    foundation, finetune = ctx.component("foundation", Foundation), ctx.component("finetune", Finetune)
    weights = pretrained_path(foundation, ctx.weights)
    torch.manual_seed(seed_for("finetune", "init", ctx.seed))
    model = foundation.build(classes, weights)
    finetune.attach(model)
    model.to(ctx.device).train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def describe(model: nn.Module, classes: tuple[str, ...]) -> dict[str, object]:
    """Class names and parameter counts."""
    total = sum(part.numel() for part in model.parameters())
    trainable = sum(part.numel() for part in model.parameters() if part.requires_grad)
    return {"classes": list(classes), "trainable": trainable, "total": total}
