"""pseudolabel: the fine-tuned SAM labels every unlabelled training case once (eq. 3, offline)."""

from __future__ import annotations

import json

import numpy as np
import torch

from sfrbench.components.base import Foundation, Stitch
from sfrbench.inference import case_by_case, fine_tuned, sam_forward, slide
from sfrbench.stages.context import StageContext
from sfrbench.volumes import Volumes, split_cases


def run(ctx: StageContext) -> None:
    """Inputs ``prepare`` and ``finetune``; settings ``split``, ``patch``, ``sam_stride``.

    Writes ``probs/<case>.npy``, float16 (K - 1, X, Y, Z): the foreground probabilities of the whole
    volume, averaged over windows (background is one minus their sum), and ``index.json``. Labels are
    never opened. A killed run goes on at the case where it stopped.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    cases = split_cases(volumes.train, volumes.test, **{"labeled": 1, **ctx.settings["split"]}).unlabelled
    foundation = ctx.component("foundation", Foundation)
    model = fine_tuned(ctx, "finetune", len(volumes.classes))
    batch = 4 if ctx.device.startswith("cuda") else 1
    forward = sam_forward(model, ctx.component("stitch", Stitch), batch)
    patch, stride = tuple(ctx.settings["patch"]), tuple(ctx.settings["sam_stride"])

    def label(case: str) -> np.ndarray:
        image = torch.from_numpy(np.array(volumes.image(case))).to(ctx.device)
        image = foundation.normalise(image, volumes.case(case).range)
        probabilities = slide(image, patch, stride, forward, len(volumes.classes), batch)
        return probabilities[1:].half().cpu().numpy()

    case_by_case(ctx, cases, "probs", label)
    (ctx.out / "index.json").write_text(json.dumps({"cases": list(cases)}), encoding="utf-8")
