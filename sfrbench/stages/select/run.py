"""select: how confident the 3D segmenter is of each unlabelled case (eq. 8), for the rounds of SFR+."""

from __future__ import annotations

import csv
import json

import numpy as np
import torch
from numpy.typing import NDArray

from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import Kept, case_by_case
from sfrbench.engine.volumes import Volumes
from sfrbench.engine.whole_volumes import by_segmenter
from sfrbench.stages.select.recipe import SelectSettings

#: Certainty is stored as a whole number of 1 / SCALE.
SCALE = 65535


def run(ctx: StageContext[SelectSettings]) -> None:
    """Inputs ``prepare`` and ``retrain``.

    Writes ``labels/<case>.npy``, uint8 (X, Y, Z): the most probable class; where the settings ask for it
    ``certainty/<case>.npy``, uint16: its probability times 65535, averaged over windows; ``confidence.csv``
    with C over all voxels and over those predicted as foreground (0 where there are none); and
    ``index.json``. It is the student's, in evaluation mode, after the last step. Thresholds come later, so
    that they share this node. Labels are never opened.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    cases = ctx.settings.split.of(volumes).unlabelled
    windows = (len(volumes.classes), ctx.settings.patch, ctx.settings.stride)
    probabilities = by_segmenter(ctx, "retrain", "last", *windows)

    def look(case: str) -> dict[str, Kept]:
        whole = probabilities(volumes.image(case), volumes.case(case).range)
        best, classes = whole.max(0)
        labels = classes.to(torch.uint8).cpu().numpy()
        certainty = np.rint(best.cpu().numpy() * SCALE).astype(np.uint16)
        kept = {"certainty": certainty} if ctx.settings.keep == "certainty" else {}
        return {"labels": labels, **kept, "confidence": _confidence(certainty, labels)}

    if not (ctx.scratch / "confidence").is_dir():  # a run of an older version, which kept C elsewhere: anew
        (ctx.scratch / "finished.json").unlink(missing_ok=True)
    case_by_case(ctx, cases, look)
    with (ctx.out / "confidence.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", "all", "foreground"])
        for case in cases:
            over = json.loads((ctx.out / "confidence" / f"{case}.json").read_text(encoding="utf-8"))
            writer.writerow([case, repr(over["all"]), repr(over["foreground"])])
    (ctx.out / "index.json").write_text(json.dumps({"cases": list(cases)}), encoding="utf-8")


def _confidence(certainty: NDArray[np.uint16], labels: NDArray[np.uint8]) -> dict[str, float]:
    """C over all voxels, and over those predicted as foreground."""
    inside = certainty[labels > 0]
    foreground = float(inside.mean() / SCALE) if inside.size else 0.0
    return {"all": float(certainty.mean() / SCALE), "foreground": foreground}
