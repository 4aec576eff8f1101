"""predict: label maps of test or validation cases, by a re-trained 3D segmenter or the fine-tuned SAM."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import case_by_case
from sfrbench.engine.manner import Manner
from sfrbench.engine.sam_input import Range
from sfrbench.engine.volumes import Volumes
from sfrbench.engine.whole_volumes import by_sam, by_segmenter
from sfrbench.maths.labels import highest
from sfrbench.stages.predict.recipe import PredictSettings


def run(ctx: StageContext[PredictSettings]) -> None:
    """Inputs ``prepare`` and ``model``, a retrain or finetune artefact by the settings' ``model_stage``.

    Writes ``labels/<case>.npy``, uint8 (X, Y, Z): the class of the highest mean probability over
    windows, or of the highest mean logit; and ``index.json`` with the cases and the seconds that each took.
    Labels are never opened. A killed run goes on at the case where it stopped.
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
    told = ctx.settings
    manner = Manner(
        spread=told.windows == "half",
        gaussian=told.window_weights == "gaussian",
        mirror=told.mirror == "all",
        logits=told.window_mean == "logits",
    )
    windows = (classes, told.patch, told.window_stride, manner)
    if told.by_sam:
        means = by_sam(ctx, "model", *windows)
    else:
        means = by_segmenter(ctx, "model", told.checkpoint or "last", *windows)

    def predict(volume: NDArray[np.float32], value_range: Range) -> NDArray[np.uint8]:
        labels = highest(means(volume, value_range), 0).to(torch.uint8)
        return labels.cpu().numpy()

    return predict


#: A z-scored volume float32 (X, Y, Z) and the 0.5 and 99.5 percentiles of it to its labels, uint8.
Predictor = Callable[[NDArray[np.float32], Range], NDArray[np.uint8]]
