"""interact: a simulated user prompts a foundation, case by case, and corrects it where it errs.

Beside ``evaluate`` the only stage that opens labels of test cases: the user places prompts by them.
``ledger.json`` says of which cases, how often the user looked, and how many prompts that gave.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base import Foundation, Prompter
from sfrbench.components.foundation.prompted import Shown
from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import Kept, case_by_case, pretrained_path
from sfrbench.engine.predictions import label_map
from sfrbench.engine.volumes import INTERACT, LabelView, Volumes
from sfrbench.errors import DataError
from sfrbench.stages.interact import talk
from sfrbench.stages.interact.maps import Maps
from sfrbench.stages.interact.recipe import InteractSettings

PURPOSE = f"{INTERACT}: prompts"


def run(ctx: StageContext[InteractSettings]) -> None:
    """Inputs ``prepare`` and, where the prompter takes a prediction for the truth, ``guess``, a predict
    artefact; components ``foundation`` and ``prompter``.

    Every foreground class of a case is an object that is prompted on its own. Writes for each case

    - ``rounds/<case>.npz``: the label map uint8 (X, Y, Z) after each round, under the round's number;
    - ``said/<case>.json``: by class what was said in each round, the seconds that the model took for it, and
      the Dice (percent) after it, which a user who goes by a prediction does not know;
    - ``passed/<case>.npz``, where ``thresholds`` are asked for: see ``Maps``.

    ``index.json`` has the cases, the seconds that each took, the number of rounds, and the mean seconds that
    the model took for an object in each round; ``ledger.json`` the labels that were opened, in how many
    rounds the user may have looked at them, and the number of prompts. A killed run goes on at the case where
    it stopped.
    """
    volumes, prompter = Volumes(ctx.inputs["prepare"]), ctx.component("prompter", Prompter)
    foundation = ctx.component("foundation", Foundation)
    split = ctx.settings.split.of(volumes)
    cases = {"test": split.test, "val": split.val}[ctx.settings.subset]
    labels = volumes.labels([] if prompter.from_guess else cases, PURPOSE)
    model = foundation.prompted(pretrained_path(foundation, ctx.weights)).to(ctx.device)
    scratch = ctx.scratch / ".volume"

    def one(case: str) -> dict[str, Kept]:
        maps_folder, model_folder = _emptied(scratch / "maps"), _emptied(scratch / "model")
        info, image = volumes.case(case), volumes.image(case)
        known = _known(ctx, volumes, labels, case)
        told_of = talk.Case(case, known, volumes.classes, info.spacing, ctx.seed)
        thresholds = ctx.settings.thresholds or ()
        maps = Maps(prompter.rounds, image.shape, foundation.overlap, maps_folder, thresholds)
        shown = Shown(image, info.range, info.spacing, model_folder)
        opened = cache(lambda: model.open(shown))
        extent, scored = foundation.given_extent, not prompter.from_guess
        said = talk.held(opened, prompter, told_of, maps, extent=extent, scored=scored)
        return {"rounds": maps.rounds, "said": said, **({"passed": maps.passed} if thresholds else {})}

    seconds = case_by_case(ctx, cases, one)
    shutil.rmtree(scratch, ignore_errors=True)  # what a case needs is there until it is saved
    said = {case: json.loads((ctx.out / "said" / f"{case}.json").read_text("utf-8")) for case in cases}
    index = {
        "cases": list(cases),
        "seconds_per_case": seconds,
        "rounds": prompter.rounds,
        "seconds_per_round": talk.seconds_per_round(said.values(), prompter.rounds),
    }
    (ctx.out / "index.json").write_text(json.dumps(index), encoding="utf-8")
    opened = sorted(labels.ids)  # of a run that goes on, too: those that it opened before
    ledger = {
        "labels_opened": opened,
        "purpose": PURPOSE,
        "looks": dict.fromkeys(opened, prompter.rounds),
        "prompts": {case: talk.prompts(told) for case, told in said.items()},
    }
    (ctx.out / "ledger.json").write_text(json.dumps(ledger, indent=1), encoding="utf-8")


def _emptied(folder: Path) -> Path:
    """A folder without what a case before left in it, or a run that was killed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _known(
    ctx: StageContext[InteractSettings], volumes: Volumes, labels: LabelView, case: str
) -> NDArray[np.uint8]:
    """The label map that the user goes by: the truth, or what the cell's segmenter predicts."""
    if "guess" not in ctx.inputs:
        return labels[case]
    known = label_map(ctx.inputs["guess"], case, len(volumes.classes))
    shape = volumes.case(case).shape
    if known.shape != shape:
        what = f"the prediction that the user goes by has shape {list(known.shape)}, the volume {list(shape)}"
        raise DataError(what, where=f"case {case}")
    return known
