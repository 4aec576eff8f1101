"""interact: a simulated user prompts a foundation, case by case, and corrects it where it errs.

Beside ``evaluate`` the only stage that opens labels of test cases: the user places prompts by them.
``ledger.json`` says of which cases, how often the user looked, and how many prompts that gave.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base import Foundation, Prompter
from sfrbench.components.foundation.prompted import Shown
from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import case_by_case, pretrained_path
from sfrbench.engine.volumes import INTERACT, LabelView, Volumes
from sfrbench.stages.interact import talk
from sfrbench.stages.interact.recipe import InteractSettings

PURPOSE = f"{INTERACT}: prompts"


def run(ctx: StageContext[InteractSettings]) -> None:
    """Inputs ``prepare`` and, where the prompter takes a prediction for the truth, ``guess``, a predict
    artefact; components ``foundation`` and ``prompter``.

    Every foreground class of a case is an object that is prompted on its own. Writes for each case
    ``rounds/<case>.npz``, the label map uint8 (X, Y, Z) after each round, under the round's number, and
    ``said/<case>.json``, by class what was said in each round, the seconds that the model took for it and
    the Dice (percent) after it. ``index.json`` has the cases, the seconds that each took and the number of
    rounds; ``ledger.json`` the labels that were opened and the prompts that they gave. A killed run goes on
    at the case where it stopped.
    """
    volumes, prompter = Volumes(ctx.inputs["prepare"]), ctx.component("prompter", Prompter)
    foundation = ctx.component("foundation", Foundation)
    split = ctx.settings.split.of(volumes)
    cases = {"test": split.test, "val": split.val}[ctx.settings.subset]
    labels = volumes.labels([] if prompter.from_guess else cases, PURPOSE)
    model = foundation.prompted(pretrained_path(foundation, ctx.weights)).to(ctx.device)
    scratch = ctx.scratch / "volume"
    shutil.rmtree(scratch, ignore_errors=True)

    def one(case: str) -> dict[str, Any]:
        scratch.mkdir(parents=True)
        info = volumes.case(case)
        maps, said = talk.held(
            model.open(Shown(volumes.image(case), info.range, info.spacing, scratch)),
            prompter,
            talk.Case(case, _known(ctx, labels, case), volumes.classes, info.spacing, ctx.seed),
            extent=foundation.given_extent,
            overlap=foundation.overlap,
            scratch=scratch,
        )
        shutil.rmtree(scratch)
        return {"rounds": maps, "said": said}

    seconds = case_by_case(ctx, cases, one)
    index = {"cases": list(cases), "seconds_per_case": seconds, "rounds": prompter.rounds}
    (ctx.out / "index.json").write_text(json.dumps(index), encoding="utf-8")
    ledger = _ledger(ctx, list(cases), prompter)
    (ctx.out / "ledger.json").write_text(json.dumps(ledger, indent=1), encoding="utf-8")


def _known(ctx: StageContext[InteractSettings], labels: LabelView, case: str) -> NDArray[np.uint8]:
    """The label map that the user goes by: the truth, or what the cell's segmenter predicts."""
    if "guess" not in ctx.inputs:
        return labels[case]
    path = ctx.inputs["guess"].path(f"labels/{case}.npy")
    known: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    return known


def _ledger(ctx: StageContext[InteractSettings], cases: list[str], prompter: Prompter) -> dict[str, Any]:
    """The labels that were opened, how often the user looked at each, and the prompts of each case."""
    said = {case: json.loads((ctx.out / "said" / f"{case}.json").read_text("utf-8")) for case in cases}
    opened = [] if prompter.from_guess else sorted(cases)
    return {
        "labels_opened": opened,
        "purpose": PURPOSE,
        "looks": dict.fromkeys(opened, prompter.rounds),
        "prompts": {case: talk.prompts(told) for case, told in said.items()},
    }
