"""Nodes with other keys whose work turns out to be the same are not run again, and nothing else is shared."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sfrbench.machine.needs import Machine
from sfrbench.report.items import kinds
from sfrbench.run.experiment import Experiment, open_experiment
from tests.support.runs import QUIET
from tests.support.searches import sfrbench

SPEC = """\
title: Rounds
dataset: {name: phantom, labeled: 1, train_cases: 4, test_cases: 1, shape: [32, 32, 16]}
protocol: strict
base: {stitch: grid, foundation: sam_vit_b, finetune: lora, backbone: vnet, ssl: mean_teacher}
arms:
  - {name: sfr, pseudo: offline}
  - {name: plus, pseudo: offline, selector: {name: tau, rounds: 1, tau: 1.0}}
seeds: [0]
"""
SMOKE = ("rounds.yaml", "--profile", "smoke")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("equal")
    (folder / "rounds.yaml").write_text(SPEC)
    run(folder, "shared", "selector.tau=1.0")
    return folder


def run(folder: Path, workspace: str, *sets: str) -> str:
    """Run the specification in a workspace of ``folder``; returns what was printed."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        chosen = [word for value in sets for word in ("--set", value)]
        return sfrbench("run", *SMOKE, *QUIET, "--workspace", workspace, *chosen)
    finally:
        os.chdir(before)


def opened(folder: Path, workspace: str, *sets: str) -> Experiment:
    return open_experiment(
        str(folder / "rounds.yaml"), "smoke", Machine(folder / workspace), sets=sets, items=kinds()
    )


def record(experiment: Experiment, arm: str, role: str) -> dict[str, object]:
    cell = next(cell for cell in experiment.plan.cells if cell.arm == arm)
    return dict(experiment.store.get(*cell.nodes[role]).record)


def test_labels_of_a_sam_that_nobody_updated_are_not_made_again(folder: Path) -> None:
    experiment = opened(folder, "shared")
    first = record(experiment, "sfr", "pseudolabel")
    again = record(experiment, "plus", "pseudolabel_1")
    assert again["key"] != first["key"]
    assert again["equal_to"] == first["key"]
    assert again["files"] == first["files"]
    assert again["seconds"] == first["seconds"]
    assert "equal_to" not in record(experiment, "plus", "retrain")  # goes on from the first training
    scored = record(experiment, "plus", "evaluate_pseudolabel_1")
    assert scored["equal_to"] == record(experiment, "sfr", "evaluate_pseudo")["key"]
    assert "equal_to" not in record(experiment, "plus", "evaluate")


def test_two_thresholds_that_select_the_same_cases_train_once(folder: Path) -> None:
    printed = run(folder, "shared", "selector.tau=0.999999")
    assert "the same work as retrain" in printed
    run(folder, "alone", "selector.tau=0.999999")
    shared, alone = (opened(folder, name, "selector.tau=0.999999") for name in ("shared", "alone"))
    before = opened(folder, "shared")
    for role in ("finetune_1", "retrain", "predict"):
        taken, made = (record(experiment, "plus", role) for experiment in (shared, alone))
        assert taken["key"] == made["key"] != record(before, "plus", role)["key"]
        assert taken["equal_to"] == record(before, "plus", role)["key"]
        files = [dict(found["files"]) for found in (taken, made)]  # type: ignore[call-overload]
        for found in files:
            found.pop("index.json", None)  # seconds per case
            found.pop("history.csv", None)
        assert files[0] == files[1]
    notes = json.loads(json.dumps(record(shared, "plus", "retrain")["notes"]))
    assert notes["selection"]["threshold"] == 0.999999  # its own, not that of the node that did the work


def test_other_cases_are_other_work(folder: Path) -> None:
    printed = run(folder, "shared", "selector.tau=0.0")
    assert "the same work" not in printed
    experiment = opened(folder, "shared", "selector.tau=0.0")
    assert "equal_to" not in record(experiment, "plus", "retrain")


def test_a_damaged_twin_is_not_taken(folder: Path) -> None:
    run(folder, "damaged", "selector.tau=1.0")
    experiment = opened(folder, "damaged")
    cell = next(cell for cell in experiment.plan.cells if cell.arm == "plus")
    model = experiment.store.folder(*cell.nodes["retrain"]) / "model.safetensors"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    with pytest.raises(AssertionError, match="missing or damaged"):
        run(folder, "damaged", "selector.tau=0.999999")
