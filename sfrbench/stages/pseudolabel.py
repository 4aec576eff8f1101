"""pseudolabel: every unlabelled training case is labelled once, offline, by SAM or by a segmenter."""

from __future__ import annotations

import json

import numpy as np
import torch

from sfrbench.components.base import Backbone, Foundation, Stitch
from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import (
    backbone_forward,
    case_by_case,
    fine_tuned,
    load_backbone,
    sam_forward,
    slide,
)
from sfrbench.engine.volumes import Volumes


def run(ctx: StageContext) -> None:
    """Inputs ``prepare`` and ``finetune`` (SAM, eq. 3) or ``retrain`` (a segmenter, self-training).

    Settings ``split``, ``patch``, and ``sam_stride`` or ``stride``. Writes ``probs/<case>.npy``, float16
    (K - 1, X, Y, Z): the foreground probabilities of the whole volume, averaged over windows (background is
    one minus their sum), and ``index.json``. Labels are never opened. A killed run goes on at the case where
    it stopped.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    cases = volumes.split(**{"labeled": 1, **ctx.settings["split"]}).unlabelled
    classes, patch = len(volumes.classes), tuple(ctx.settings["patch"])
    batch = 4 if ctx.device.startswith("cuda") else 1
    foundation = None
    if "finetune" in ctx.inputs:
        foundation, stride = ctx.component("foundation", Foundation), tuple(ctx.settings["sam_stride"])
        forward = sam_forward(fine_tuned(ctx, "finetune", classes), ctx.component("stitch", Stitch), batch)
    else:
        backbone, stride = ctx.component("backbone", Backbone), tuple(ctx.settings["stride"])
        model = ctx.inputs["retrain"]
        forward = backbone_forward(load_backbone(backbone, model, "last", classes=classes, device=ctx.device))

    def label(case: str) -> dict[str, np.ndarray]:
        image = torch.from_numpy(np.array(volumes.image(case))).to(ctx.device)
        if foundation is not None:
            image = foundation.normalise(image, volumes.case(case).range)
        probabilities = slide(image, patch, stride, forward, classes, batch)
        return {"probs": probabilities[1:].half().cpu().numpy()}

    case_by_case(ctx, cases, label)
    (ctx.out / "index.json").write_text(json.dumps({"cases": list(cases)}), encoding="utf-8")
