"""predict: label maps of test or validation cases, by a re-trained 3D segmenter or the fine-tuned SAM."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import torch

from sfrbench.components.base import Backbone, Foundation, Stitch
from sfrbench.inference import (
    Forward,
    backbone_forward,
    case_by_case,
    fine_tuned,
    load_backbone,
    sam_forward,
    slide,
)
from sfrbench.stages.context import StageContext
from sfrbench.volumes import Volumes, split_cases


def run(ctx: StageContext) -> None:
    """Inputs ``prepare`` and ``model``, a retrain or finetune artefact by ``settings["model_stage"]``.

    Further settings: ``split``, ``subset`` ('test' or 'val'), ``patch``; for a retrain artefact ``stride``
    and ``checkpoint`` ('last' or 'best_val'), for a finetune artefact ``sam_stride``.
    Writes ``labels/<case>.npy``, uint8 (X, Y, Z): the class of the highest mean probability over
    windows; and ``index.json`` with the cases and the seconds that each took. Labels are never opened.
    A killed run goes on at the case where it stopped.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    split = split_cases(volumes.train, volumes.test, **{"labeled": 1, **ctx.settings["split"]})
    cases = {"test": split.test, "val": split.val}[ctx.settings["subset"]]
    classes, patch = len(volumes.classes), tuple(ctx.settings["patch"])
    batch = 4 if ctx.device.startswith("cuda") else 1
    by_sam = {"finetune": True, "retrain": False}[ctx.settings["model_stage"]]
    forward, scale = _sam(ctx, classes, batch) if by_sam else _backbone(ctx, classes)
    stride = tuple(ctx.settings["sam_stride" if by_sam else "stride"])

    def predict(case: str) -> dict[str, np.ndarray]:
        image = torch.from_numpy(np.array(volumes.image(case))).to(ctx.device)
        image = scale(image, volumes.case(case).range)
        probabilities = slide(image, patch, stride, forward, classes, batch)
        return {"labels": probabilities.argmax(0).to(torch.uint8).cpu().numpy()}

    seconds = case_by_case(ctx, cases, predict)
    index = {"cases": list(cases), "seconds_per_case": seconds}
    (ctx.out / "index.json").write_text(json.dumps(index), encoding="utf-8")


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
