"""Pseudo-labels of rounds are scored: what a report says is what the stored maps and the truth give."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from sfrbench.api import load_results
from sfrbench.cli.commands import main
from sfrbench.compare.runs import compare
from sfrbench.compare.sides import load_sides
from sfrbench.compare.trace import described, find, open_report
from sfrbench.engine.volumes import EVALUATE, Volumes
from sfrbench.machine.needs import Machine
from sfrbench.report.items import kinds
from sfrbench.run.experiment import Experiment, open_experiment
from sfrbench.run.tracking.values import metrics

SPEC = """\
title: Rounds
dataset: {name: phantom, labeled: 1, train_cases: 6, test_cases: 1, shape: [32, 32, 16], organs: 2}
protocol: strict
base: {stitch: grid, foundation: sam_vit_b, finetune: lora, backbone: vnet, ssl: mean_teacher}
arms:
  - {name: half, pseudo: offline, selector: {name: quantile, rounds: 2, finetune_lr: 0.05}}
  - {name: whole, pseudo: offline, selector: {name: quantile, rounds: 2, finetune_lr: 0.05, labels: all}}
  - {name: online, pseudo: online, selector: {name: quantile, rounds: 1}}
  - {name: again, ssl: {name: self_training, rounds: 1}}
seeds: [0]
report:
  - {rounds: true}
  - {pseudo_labels: true, metrics: [dice]}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("rounds")
    (folder / "rounds.yaml").write_text(SPEC)
    before = Path.cwd()
    os.chdir(folder)
    try:
        options = ["--profile", "smoke", "--tracking-uri", "none", "--workspace", "ws"]
        sets = ["--set", "dataset.train_cases=6", "--set", "dataset.test_cases=1"]
        done = CliRunner().invoke(main, ["run", "rounds.yaml", *options, *sets])
    finally:
        os.chdir(before)
    assert done.exit_code == 0, done.output
    return opened(folder)


def opened(folder: Path) -> Experiment:
    sets = ["dataset.train_cases=6", "dataset.test_cases=1"]
    return open_experiment(
        str(folder / "rounds.yaml"), "smoke", Machine(folder / "ws"), sets=sets, items=kinds()
    )


def report_of(experiment: Experiment) -> Path:
    return experiment.machine.workspace / "reports" / "rounds" / "smoke"


def dice(experiment: Experiment, arm: str, role: str) -> dict[tuple[str, str], float]:
    """Dice (%) by case and class from the stored maps, by its formula; strict: 0 where one map is empty."""
    cell = next(cell for cell in experiment.plan.cells if cell.arm == arm)
    volumes = Volumes(experiment.store.get(*cell.nodes["prepare"]))
    made = experiment.store.get(*cell.nodes[role])
    found = {}
    for case in made.read_json("index.json")["cases"]:
        truth = np.asarray(volumes.labels([case], EVALUATE)[case])
        guess = np.load(made.path(f"labels/{case}.npy"))
        for label, name in enumerate(volumes.classes[1:], start=1):
            overlap = float(((guess == label) & (truth == label)).sum())
            found[case, name] = 200 * overlap / float((guess == label).sum() + (truth == label).sum())
    return found


def confident(experiment: Experiment, number: int) -> set[str]:
    """The half with the higher C of its round."""
    cell = next(cell for cell in experiment.plan.cells if cell.arm == "half")
    with experiment.store.get(*cell.nodes[f"select_{number}"]).path("confidence.csv").open() as stream:
        c = {row["case"]: float(row["all"]) for row in csv.DictReader(stream)}
    return set(sorted(c, key=lambda case: -c[case])[: round(len(c) / 2)])


def rows(experiment: Experiment, table: str) -> dict[tuple[str, str], dict[str, str]]:
    with (report_of(experiment) / "tables" / f"{table}.csv").open(encoding="utf-8", newline="") as stream:
        return {(row["arm"], row["round"]): row for row in csv.DictReader(stream)}


def mean(values: dict[tuple[str, str], float], cases: set[str]) -> Any:
    own = [value for (case, _), value in values.items() if case in cases]
    return pytest.approx(float(np.mean(own)), abs=0.00501)  # as printed


def test_the_frame_holds_the_dice_of_every_rounds_labels(finished: Experiment) -> None:
    sets = ["dataset.train_cases=6", "dataset.test_cases=1"]
    spec, workspace = str(finished.plan.spec.document.path), finished.machine.workspace
    frame = load_results(spec, profile="smoke", workspace=workspace, sets=sets)
    for arm, role, subset in (
        ("half", "pseudolabel", "unlabelled"),
        ("half", "pseudolabel_1", "unlabelled round 1"),
        ("half", "pseudolabel_2", "unlabelled round 2"),
        ("half", "select_2", "round 2"),
        ("again", "pseudolabel_1", "unlabelled round 1"),
    ):
        part = frame[(frame["arm"] == arm) & (frame["subset"] == subset) & (frame["metric"] == "dice")]
        scored = dict(zip(zip(part["case"], part["class"], strict=True), part["value"], strict=True))
        assert scored == pytest.approx(dice(finished, arm, role), abs=1e-9)
        left_out = (
            len(confident(finished, int(role[-1]))) if (arm, role[:-1]) == ("half", "pseudolabel_") else 0
        )
        assert len(scored) == 2 * (5 - left_out)
    known = set(frame.loc[frame["arm"] == "online", "subset"])
    assert known == {"test", "round 1"}


@pytest.mark.parametrize("arm", ["half", "whole"])
def test_the_tables_compare_the_cases_that_they_say(finished: Experiment, arm: str) -> None:
    labels = [dice(finished, arm, role) for role in ("pseudolabel", "pseudolabel_1", "pseudolabel_2")]
    every = {case for case, _ in labels[0]}
    first, second = confident(finished, 1), confident(finished, 2)
    assert first
    assert first < every
    assert labels[0] != labels[1]  # SAM was updated
    compared = [every - first, every - first - second]
    groups = {"rounds_labels": compared, "rounds_labels_confident": [first, second],
              "rounds_labels_all": [every, every]}  # fmt: skip
    if arm == "half":
        groups |= {"rounds_labels_confident": [set(), set()], "rounds_labels_all": compared}
    for name, wanted in groups.items():
        table = rows(finished, name)
        for number, cases in enumerate(wanted, start=1):
            row = table[arm, str(number)]
            assert (row["n"] or "0") == str(len(cases))
            told = arm == "half" and name != "rounds_labels"
            assert ("without confident cases: SAM does not label them" in row["note"]) == told
            if cases:
                net = dice(finished, arm, f"select_{number}")
                assert float(row["dice_before"]) == mean(labels[number - 1], cases)
                assert float(row["dice_after"]) == mean(labels[number], cases)
                assert float(row["dice_segmenter"]) == mean(net, cases)
    again = rows(finished, "rounds_labels_all")["again", "1"]
    assert float(again["dice_after"]) == mean(dice(finished, "again", "pseudolabel_1"), every)
    assert again["dice_before"] == ""


def test_cases_that_no_one_reads_are_not_labelled_and_nothing_else_changes(finished: Experiment) -> None:
    """``labels: all`` and the default end in the same models and predictions, to the bit."""
    half, whole = (next(c for c in finished.plan.cells if c.arm == arm) for arm in ("half", "whole"))
    for role in ("retrain_1", "retrain", "finetune_2", "predict"):
        found = [dict(finished.store.get(*cell.nodes[role]).record["files"]) for cell in (half, whole)]
        for files in found:
            files.pop("index.json", None)  # seconds per case
            files.pop("history.csv", None)
        assert found[0] == found[1]
    for number in (1, 2):
        few, all_ = (finished.store.get(*cell.nodes[f"pseudolabel_{number}"]) for cell in (half, whole))
        every = all_.read_json("index.json")["cases"]
        assert few.read_json("index.json")["cases"] == [
            c for c in every if c not in confident(finished, number)
        ]
        for case in few.read_json("index.json")["cases"]:
            assert few.path(f"labels/{case}.npy").read_bytes() == all_.path(f"labels/{case}.npy").read_bytes()


def test_labels_made_online_are_said_to_be_unscored(finished: Experiment) -> None:
    row = rows(finished, "rounds_labels")["online", "1"]
    assert (row["dice_before"], row["dice_after"]) == ("", "")
    assert row["note"].startswith("pseudo: online")
    markdown = (report_of(finished) / "tables" / "pseudo_labels.md").read_text(encoding="utf-8")
    assert "no seed has a result: pseudo: online" in markdown
    assert "again" not in markdown  # self-training has no first labels


def test_trace_and_compare_read_rounds(finished: Experiment) -> None:
    report = open_report(report_of(finished))
    found = find(report, "half, round 1, labels of cases that SAM labels in both", column="dice_after")
    (run,) = described(report, found)["runs"]
    last = {node["role"] for node in run["nodes"] if node["gave_the_number"]}
    assert last == {"evaluate_pseudo", "evaluate_pseudolabel_1", "evaluate_select_1"}
    assert {"finetune_1", "select_1", "pseudolabel_1"} <= {node["role"] for node in run["nodes"]}
    workspace = finished.machine.workspace
    same = compare(*load_sides(workspace, workspace), ["dice"], "unlabelled round 1")
    assert [row.arm for row in same.rows] == ["half", "whole", "again"]
    assert all(row.difference is not None and row.difference.mean == 0 for row in same.rows)


def test_each_round_is_logged_under_its_own_name(finished: Experiment) -> None:
    cell = next(cell for cell in finished.plan.cells if cell.arm == "half")
    logged = {metric.key: metric.value for metric in metrics(finished.store, cell)}
    for name, role in (("pseudo_labels", "pseudolabel"), ("pseudo_labels_round_2", "pseudolabel_2")):
        own = [value / 100 for (_, cls), value in dice(finished, "half", role).items() if cls == "organ 1"]
        assert logged[f"{name}/dice/organ_1"] == pytest.approx(np.mean(own))
