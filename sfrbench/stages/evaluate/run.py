"""evaluate: stored predictions against the truth, per case, class and metric.

Beside ``interact`` the only stage that opens labels of test cases; ``ledger.json`` says which were opened.
"""

from __future__ import annotations

import csv
import json
import math

import scipy.ndimage
import scipy.spatial  # noqa: F401  both are what scoring loads, which is no part of the first node's seconds

from sfrbench.components.base import Protocol
from sfrbench.engine.context import StageContext
from sfrbench.engine.volumes import EVALUATE, Volumes
from sfrbench.errors import DataError, SfrbenchError
from sfrbench.maths.metrics import Score
from sfrbench.stages.evaluate.cases import Scored
from sfrbench.stages.evaluate.recipe import EvaluateSettings

COLUMNS = ("case", "class", "metric", "value", "empty_pred", "empty_gt")


def run(ctx: StageContext[EvaluateSettings]) -> None:
    """Inputs ``prepare`` and ``prediction``, a predict, interact or pseudolabel artefact; component
    ``protocol``.

    Scores exactly the cases of the prediction's index, each on the slices it had before any interpolation
    along z (``dataset.min_depth``). Writes ``scores.csv``, one row per case, foreground
    class and metric (``value`` as ``Score.value``, an empty field where the protocol does not score;
    ``empty_*`` True or False), and ``ledger.json``; with the setting ``best`` also ``best_rounds.json``, the
    round by case and class. Raises ``DataError`` naming the case where a prediction is missing, has another
    shape than the label, or holds values that are no classes. Unlabelled cases that no label is there for are
    left out; ``ledger.json`` names them.
    """
    volumes, prediction = Volumes(ctx.inputs["prepare"]), ctx.inputs["prediction"]
    protocol = ctx.component("protocol", Protocol)
    listed: list[str] = prediction.read_json("index.json")["cases"]
    cases = [case for case in listed if case not in volumes.without_label]
    labels = volumes.labels(cases, EVALUATE)
    classes, best = len(volumes.classes), dict[str, dict[str, int]]()
    with (ctx.out / "scores.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for done, case in enumerate(cases, start=1):
            of_case = Scored(prediction, case, volumes.case(case), labels[case], classes, protocol)
            try:
                scores, rounds = of_case.scores(ctx.settings.after, ctx.settings.best)
            except DataError as error:
                raise _at(case, error) from error
            best[case] = dict(zip(volumes.classes[1:], rounds, strict=False))
            writer.writerows(_row(case, score, volumes.classes) for score in scores)
            ctx.progress(done, len(cases))
    ledger = {"labels_opened": sorted(labels.opened), "purpose": labels.purpose}
    if len(cases) < len(listed):
        ledger["without_label"] = sorted(set(listed) - set(cases))
        ctx.notes["without_label"] = len(listed) - len(cases)
    (ctx.out / "ledger.json").write_text(json.dumps(ledger, indent=1), encoding="utf-8")
    if ctx.settings.best:
        (ctx.out / "best_rounds.json").write_text(json.dumps(best, indent=1), encoding="utf-8")


def _row(case: str, score: Score, classes: tuple[str, ...]) -> tuple[str, str, str, str, bool, bool]:
    value = "" if math.isnan(score.value) else repr(score.value)
    return case, classes[score.label], score.metric, value, score.empty_pred, score.empty_gt


def _at(case: str, error: SfrbenchError) -> DataError:
    """The same fault with the case it was found in."""
    problem = error.problems[0]
    return DataError(problem.what, where=f"case {case}", hint=problem.hint)
