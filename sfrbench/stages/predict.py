"""predict: label maps of test or validation cases, by a re-trained 3D segmenter or the fine-tuned SAM."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sfrbench.components.base import Backbone, Foundation, Stitch
from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import (
    Forward,
    Size,
    backbone_forward,
    case_by_case,
    fine_tuned,
    load_backbone,
    sam_forward,
    slide,
)
from sfrbench.engine.volumes import Volumes


def run(ctx: StageContext) -> None:
    """Inputs ``prepare`` and ``model``, a retrain or finetune artefact by ``settings["model_stage"]``.

    Further settings: ``split``, ``subset`` ('test' or 'val'), ``patch``; for a retrain artefact ``stride``
    and ``checkpoint`` ('last' or 'best_val'), for a finetune artefact ``sam_stride``.
    Writes ``labels/<case>.npy``, uint8 (X, Y, Z): the class of the highest mean probability over
    windows; and ``index.json`` with the cases and the seconds that each took. Labels are never opened.
    A killed run goes on at the case where it stopped.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    split = volumes.split(**{"labeled": 1, **ctx.settings["split"]})
    cases = {"test": split.test, "val": split.val}[ctx.settings["subset"]]
    predicted = predictor(ctx, len(volumes.classes))
    seconds = case_by_case(
        ctx, cases, lambda case: {"labels": predicted(volumes.image(case), volumes.case(case).range)}
    )
    index = {"cases": list(cases), "seconds_per_case": seconds}
    (ctx.out / "index.json").write_text(json.dumps(index), encoding="utf-8")


def predictor(ctx: StageContext, classes: int) -> Predictor:
    """What labels one prepared volume; reads the model, and of the settings all but split and subset."""
    patch, batch = tuple(ctx.settings["patch"]), 4 if ctx.device.startswith("cuda") else 1
    by_sam = {"finetune": True, "retrain": False}[ctx.settings["model_stage"]]
    forward, scale = _sam(ctx, classes, batch) if by_sam else _backbone(ctx, classes)
    stride = window_stride(ctx.settings)

    def predict(volume: NDArray[np.float32], value_range: tuple[float, float]) -> NDArray[np.uint8]:
        image = scale(torch.from_numpy(np.array(volume)).to(ctx.device), value_range)
        probabilities = slide(image, patch, stride, forward, classes, batch)
        labels: NDArray[np.uint8] = probabilities.argmax(0).to(torch.uint8).cpu().numpy()
        return labels

    return predict


def window_stride(settings: Mapping[str, Any]) -> Size:
    """The stride of the windows, voxels."""
    x, y, z = settings["sam_stride" if settings["model_stage"] == "finetune" else "stride"]
    return x, y, z


#: A z-scored volume float32 (X, Y, Z) and the 0.5 and 99.5 percentiles of it to its labels, uint8.
Predictor = Callable[[NDArray[np.float32], tuple[float, float]], NDArray[np.uint8]]
Scale = Callable[[torch.Tensor, tuple[float, float]], torch.Tensor]


def _sam(ctx: StageContext, classes: int, max_canvases: int) -> tuple[Forward, Scale]:
    model, stitch = fine_tuned(ctx, "model", classes), ctx.component("stitch", Stitch)
    return sam_forward(model, stitch, max_canvases), ctx.component("foundation", Foundation).normalise


def _backbone(ctx: StageContext, classes: int) -> tuple[Forward, Scale]:
    network = load_backbone(
        ctx.component("backbone", Backbone),
        ctx.inputs["model"],
        ctx.settings["checkpoint"],
        classes=classes,
        device=ctx.device,
    )
    return backbone_forward(network), lambda image, _: image  # prepared volumes are z-scored
