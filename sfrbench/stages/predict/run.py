"""predict: label maps of test or validation cases, by a re-trained 3D segmenter or the fine-tuned SAM."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from sfrbench.components.base import Backbone, Foundation, Stitch
from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import (
    Forward,
    backbone_forward,
    case_by_case,
    fine_tuned,
    load_backbone,
    on_device,
    sam_forward,
    slide,
    window_batch,
)
from sfrbench.engine.volumes import Volumes
from sfrbench.stages.predict.recipe import PredictSettings


def run(ctx: StageContext[PredictSettings]) -> None:
    """Inputs ``prepare`` and ``model``, a retrain or finetune artefact by the settings' ``model_stage``.

    Writes ``labels/<case>.npy``, uint8 (X, Y, Z): the class of the highest mean probability over
    windows; and ``index.json`` with the cases and the seconds that each took. Labels are never opened.
    A killed run goes on at the case where it stopped.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    split = ctx.settings.split.of(volumes)
    cases = {"test": split.test, "val": split.val}[ctx.settings.subset]
    predicted = predictor(ctx, len(volumes.classes))
    seconds = case_by_case(
        ctx, cases, lambda case: {"labels": predicted(volumes.image(case), volumes.case(case).range)}
    )
    index = {"cases": list(cases), "seconds_per_case": seconds}
    (ctx.out / "index.json").write_text(json.dumps(index), encoding="utf-8")


def predictor(ctx: StageContext[PredictSettings], classes: int) -> Predictor:
    """What labels one prepared volume; reads the model, and of the settings all but split and subset."""
    told, batch = ctx.settings, window_batch(ctx.device)
    forward, scale = _sam(ctx, classes, batch) if told.by_sam else _backbone(ctx, classes)

    def predict(volume: NDArray[np.float32], value_range: tuple[float, float]) -> NDArray[np.uint8]:
        image = scale(on_device(volume, ctx.device), value_range)
        probabilities = slide(image, told.patch, told.window_stride, forward, classes, batch)
        labels: NDArray[np.uint8] = probabilities.argmax(0).to(torch.uint8).cpu().numpy()
        return labels

    return predict


#: A z-scored volume float32 (X, Y, Z) and the 0.5 and 99.5 percentiles of it to its labels, uint8.
Predictor = Callable[[NDArray[np.float32], tuple[float, float]], NDArray[np.uint8]]
Scale = Callable[[torch.Tensor, tuple[float, float]], torch.Tensor]


def _sam(ctx: StageContext[PredictSettings], classes: int, max_canvases: int) -> tuple[Forward, Scale]:
    model, stitch = fine_tuned(ctx, "model", classes), ctx.component("stitch", Stitch)
    return sam_forward(model, stitch, max_canvases), ctx.component("foundation", Foundation).normalise


def _backbone(ctx: StageContext[PredictSettings], classes: int) -> tuple[Forward, Scale]:
    network = load_backbone(
        ctx.component("backbone", Backbone),
        ctx.inputs["model"],
        ctx.settings.checkpoint or "last",
        classes=classes,
        device=ctx.device,
    )
    return backbone_forward(network), lambda image, _: image  # prepared volumes are z-scored
