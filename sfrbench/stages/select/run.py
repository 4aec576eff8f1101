"""select: how confident the 3D segmenter is of each unlabelled case (eq. 8), for the rounds of SFR+."""

from __future__ import annotations

import csv
import json

import numpy as np
import torch

from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import case_by_case
from sfrbench.engine.volumes import Volumes
from sfrbench.engine.whole_volumes import by_segmenter
from sfrbench.stages.select.recipe import SelectSettings

#: Certainty is stored as a whole number of 1 / SCALE.
SCALE = 65535


def run(ctx: StageContext[SelectSettings]) -> None:
    """Inputs ``prepare`` and ``retrain``.

    Writes ``labels/<case>.npy``, uint8 (X, Y, Z): the most probable class; ``certainty/<case>.npy``, uint16:
    its probability times 65535, averaged over windows; ``confidence.csv`` with C over all voxels and over
    those predicted as foreground (0 where there are none); and ``index.json``. It is the student's, in
    evaluation mode, after the last step. Thresholds come later, so that they share this node. Labels are
    never opened.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    cases = ctx.settings.split.of(volumes).unlabelled
    windows = (len(volumes.classes), ctx.settings.patch, ctx.settings.stride)
    probabilities = by_segmenter(ctx, "retrain", "last", *windows)

    def look(case: str) -> dict[str, np.ndarray]:
        whole = probabilities(volumes.image(case), volumes.case(case).range)
        certainty, labels = whole.max(0)
        return {
            "labels": labels.to(torch.uint8).cpu().numpy(),
            "certainty": np.rint(certainty.cpu().numpy() * SCALE).astype(np.uint16),
        }

    case_by_case(ctx, cases, look)
    with (ctx.out / "confidence.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", "all", "foreground"])
        for case in cases:
            certainty = np.load(ctx.out / "certainty" / f"{case}.npy")
            inside = certainty[np.load(ctx.out / "labels" / f"{case}.npy") > 0]
            over = certainty.mean() / SCALE, inside.mean() / SCALE if inside.size else 0.0
            writer.writerow([case, *(repr(float(value)) for value in over)])
    (ctx.out / "index.json").write_text(json.dumps({"cases": list(cases)}), encoding="utf-8")
