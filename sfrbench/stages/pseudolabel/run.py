"""pseudolabel: every unlabelled training case is labelled once, offline, by SAM or by a segmenter."""

from __future__ import annotations

import json

import numpy as np

from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import case_by_case
from sfrbench.engine.volumes import Volumes
from sfrbench.engine.whole_volumes import by_sam, by_segmenter
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
    windows = (len(volumes.classes), ctx.settings.patch, ctx.settings.window_stride)
    if "finetune" in ctx.inputs:
        probabilities = by_sam(ctx, "finetune", *windows)
    else:
        probabilities = by_segmenter(ctx, "retrain", "last", *windows)

    def label(case: str) -> dict[str, np.ndarray]:
        whole = probabilities(volumes.image(case), volumes.case(case).range)
        return {"probs": whole[1:].half().cpu().numpy()}

    case_by_case(ctx, cases, label)
    (ctx.out / "index.json").write_text(json.dumps({"cases": list(cases)}), encoding="utf-8")
