"""pseudolabel: unlabelled training cases are labelled once, offline, by SAM or by a segmenter."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch

from sfrbench.engine.context import StageContext
from sfrbench.engine.hard_labels import hardened
from sfrbench.engine.inference import case_by_case
from sfrbench.engine.volumes import Volumes
from sfrbench.engine.whole_volumes import Probabilities, by_sam, by_segmenter
from sfrbench.errors import DataError
from sfrbench.stages.pseudolabel.recipe import PseudolabelSettings
from sfrbench.stages.select.selection import Selection


def _labels(foreground: torch.Tensor) -> dict[str, np.ndarray]:
    return {"labels": hardened(foreground[None])[0].cpu().numpy()}


def _probabilities(foreground: torch.Tensor) -> dict[str, np.ndarray]:
    return {"probs": foreground.cpu().numpy()}


def run(ctx: StageContext[PseudolabelSettings]) -> None:
    """Inputs ``prepare`` and ``finetune`` (SAM, eq. 3) or ``retrain`` (a segmenter, self-training); with
    ``select``, in a round of SFR+, those cases alone are labelled that its re-training reads the labels of.

    Writes ``index.json`` and, by ``keep``, ``probs/<case>.npy``, float16 (K - 1, X, Y, Z): the foreground
    probabilities of the whole volume, averaged over windows (background is one minus their sum); or
    ``labels/<case>.npy``, uint8 (X, Y, Z): the most probable class by these. True labels are never opened. A
    killed run goes on at the case where it stopped. Raises ``DataError`` where a model gives no numbers.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    selection = Selection.of(ctx)
    cases = ctx.settings.split.of(volumes).unlabelled if selection is None else selection.labelled_by_sam
    if cases:
        label(ctx, volumes, cases)
    (ctx.out / "index.json").write_text(json.dumps({"cases": list(cases)}), encoding="utf-8")


def label(ctx: StageContext[PseudolabelSettings], volumes: Volumes, cases: Sequence[str]) -> None:
    """Write what is kept of each case."""
    model = _model(ctx, len(volumes.classes))
    # a run that was killed when probabilities were kept for all ends as it began
    as_once = ctx.settings.keep == "probabilities" or (ctx.scratch / "probs").is_dir()
    kept = _probabilities if as_once else _labels

    def one(case: str) -> dict[str, np.ndarray]:
        whole = model(volumes.image(case), volumes.case(case).range)
        if not whole.sum().isfinite():
            raise DataError("the model gives probabilities that are not finite", where=f"case {case}")
        return kept(whole[1:].half())

    case_by_case(ctx, cases, one)


def _model(ctx: StageContext[PseudolabelSettings], classes: int) -> Probabilities:
    """What labels whole volumes."""
    told = ctx.settings
    if "finetune" in ctx.inputs:
        return by_sam(ctx, "finetune", classes, told.patch, told.window_stride)
    return by_segmenter(ctx, "retrain", "last", classes, told.patch, told.window_stride)
