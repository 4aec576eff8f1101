"""pseudolabel: every unlabelled training case is labelled once, offline, by SAM or by a segmenter."""

from __future__ import annotations

import json

import numpy as np

from sfrbench.components.base import Backbone, Foundation, Stitch
from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import (
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
from sfrbench.stages.pseudolabel.recipe import PseudolabelSettings


def run(ctx: StageContext[PseudolabelSettings]) -> None:
    """Inputs ``prepare`` and ``finetune`` (SAM, eq. 3) or ``retrain`` (a segmenter, self-training).

    Writes ``probs/<case>.npy``, float16
    (K - 1, X, Y, Z): the foreground probabilities of the whole volume, averaged over windows (background is
    one minus their sum), and ``index.json``. Labels are never opened. A killed run goes on at the case where
    it stopped.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    cases = ctx.settings.split.of(volumes).unlabelled
    classes, patch, stride = len(volumes.classes), ctx.settings.patch, ctx.settings.window_stride
    batch, foundation = window_batch(ctx.device), None
    if "finetune" in ctx.inputs:
        foundation = ctx.component("foundation", Foundation)
        forward = sam_forward(fine_tuned(ctx, "finetune", classes), ctx.component("stitch", Stitch), batch)
    else:
        backbone, model = ctx.component("backbone", Backbone), ctx.inputs["retrain"]
        forward = backbone_forward(load_backbone(backbone, model, "last", classes=classes, device=ctx.device))

    def label(case: str) -> dict[str, np.ndarray]:
        image = on_device(volumes.image(case), ctx.device)
        if foundation is not None:
            image = foundation.normalise(image, volumes.case(case).range)
        probabilities = slide(image, patch, stride, forward, classes, batch)
        return {"probs": probabilities[1:].half().cpu().numpy()}

    case_by_case(ctx, cases, label)
    (ctx.out / "index.json").write_text(json.dumps({"cases": list(cases)}), encoding="utf-8")
