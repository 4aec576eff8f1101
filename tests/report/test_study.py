"""The section of a search in the report: every figure and the table, from made-up trials."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sfrbench.plan.study import State, Study, Trial
from sfrbench.report.build import build_report
from sfrbench.report.facts.info import ReportInfo
from sfrbench.results.frame import COLUMNS
from sfrbench.spec.model import Range
from tests.support.captions import check_page

SPACE = {
    "ssl.lambda_cons": Range(0.01, 10, log=True),
    "ssl.w_pl": Range(0, 2),
    "ssl.pseudo_labels": Range(choices=("hard", "soft")),
    "finetune.rank": Range(1, 16, whole=True),
}


def made_up(count: int, space: dict[str, Range] = SPACE) -> Study:
    rng = np.random.default_rng(0)
    trials = []
    for number in range(count):
        values = {
            "ssl.lambda_cons": float(10 ** rng.uniform(-2, 1)),
            "ssl.w_pl": float(rng.uniform(0, 2)),
            "ssl.pseudo_labels": ("hard", "soft")[int(rng.integers(2))],
            "finetune.rank": int(rng.integers(1, 17)),
        }
        value = 80 - 6 * (np.log10(values["ssl.lambda_cons"]) + 1) ** 2 - 8 * (values["ssl.w_pl"] - 1.2) ** 2
        state: State = "pruned" if number % 7 == 5 else "failed" if number == 8 else "complete"
        facts = {
            "ran": 3,
            "reused": 4,
            "cases": 8,
            "fault": {"pruned": "pruned: x", "failed": "<b>"}.get(state, ""),
        }
        done = float(value) if state == "complete" else None
        trials.append(Trial(number, state, {path: values[path] for path in space}, done, {}, 12.5, "", facts))
    trials.append(Trial(count, "running", {}, None))
    shares = dict(zip(space, (0.6, 0.3, 0.1, 0.0), strict=False)) if count > 5 else {}
    return Study("study-1", "dice", True, "%", (0,), space, "tpe", "median", trials, shares, "5.0")


def report(folder: Path, study: Study | None) -> str:
    arms, items = [("mt", "MT")], [{"table": "results"}, {"search": True}]
    info = ReportInfo("spec", "A", "smoke", "strict", arms, (0,), items, study=study)
    page = build_report(pd.DataFrame(columns=list(COLUMNS)), info, folder)[0]
    check_page(page)
    return page.read_text(encoding="utf-8")


def test_a_study_is_shown(tmp_path: Path) -> None:
    study = made_up(20)
    text = report(tmp_path, study)
    assert "Nodes shared: 80 of 140." in text
    assert "1 more trials run or wait" in text
    assert "failed: &lt;b&gt;" in text
    names = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert names == {"search_history", "search_importance", "search_slices", "search_contours"}
    with (tmp_path / "tables" / "trials.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 20
    assert study.best is not None
    assert f"<b>{study.best.value:.2f}</b>" in text
    assert float(rows[study.best.number]["dice"]) == study.best.value


@pytest.mark.parametrize(
    ("count", "paths", "wanted"),
    [
        (1, 4, {"search_history"}),
        (2, 2, {"search_history", "search_slices", "search_contours"}),
        (9, 1, {"search_history", "search_importance", "search_slices"}),
    ],
)
def test_few_trials_and_few_fields(tmp_path: Path, count: int, paths: int, wanted: set[str]) -> None:
    space = dict(list(SPACE.items())[:paths])
    report(tmp_path, made_up(count, space))
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == wanted


def test_a_search_without_a_study_says_so(tmp_path: Path) -> None:
    assert "no study of it is known here" in report(tmp_path, None)


def test_a_study_without_a_complete_trial_says_so(tmp_path: Path) -> None:
    study = made_up(0)
    assert "No trial of the study is complete yet" in report(tmp_path, study)


def test_the_best_of_a_distance_is_the_lowest() -> None:
    trials = [Trial(number, "complete", {}, value) for number, value in enumerate((3.0, 1.0, 1.0))]
    study = Study("s", "hd95", False, "voxel", (0,), {}, "tpe", "none", trials)
    assert study.best is not None
    assert study.best.number == 1
    assert study.tie == "2 trials have this hd95; the first of them is named"
    assert replace(study, trials=trials[:2]).tie == ""


def test_a_search_without_a_winner_says_so(tmp_path: Path) -> None:
    study = made_up(3)
    same = [replace(trial, value=80.0) for trial in study.of("complete")]
    tied = replace(study, trials=same)
    assert tied.tie == f"all {len(same)} complete trials have the same dice: none is better than another"
    assert f"All {len(same)} complete trials have the same dice" in report(tmp_path, tied)
