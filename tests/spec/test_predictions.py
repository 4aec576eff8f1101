"""Arms whose results another tool made: how a specification names them, and what it may not ask of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfrbench.stages.external.files import Predictions
from tests.support.specs import faults, plan_of, stages

SPEC = """\
title: A test
dataset: {name: phantom, labeled: 2}
protocol: strict
base: {backbone: vnet, ssl: supervised}
stages: [retrain, predict, evaluate]
arms:
  - {name: sup}
  - {name: nn, label: nnU-Net, predictions: DIR}
seeds: [0, 1]
"""


def with_arm(given: str, more: str = "") -> str:
    return SPEC.replace("predictions: DIR", f"predictions: {given}") + more


def given_of(tmp_path: Path, given: str) -> Predictions:
    found = plan_of(tmp_path, with_arm(given)).spec.arms[1].predictions
    assert found is not None
    return found


def test_a_folder_is_enough(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, with_arm("../nn"))
    assert stages(plan) == {"prepare": 1, "external": 1, "retrain": 2, "predict": 2, "evaluate": 3}
    given = plan.spec.arms[1].predictions
    assert given == Predictions(tmp_path.parent / "nn")
    assert given.where == f"{tmp_path}/spec.yaml:8:32"
    cells = [cell for cell in plan.cells if cell.arm == "nn"]
    assert [cell.seed for cell in cells] == [0, 1]
    assert cells[0].nodes == cells[1].nodes  # one result, whatever the seed
    assert set(cells[0].nodes) == {"prepare", "external", "evaluate"}


def test_places_are_beside_the_specification_absolute_or_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert given_of(tmp_path, "nn").folder == tmp_path / "nn"
    assert given_of(tmp_path, "/data/nn").folder == Path("/data/nn")
    assert given_of(tmp_path, "~/nn").folder == Path("/home/me/nn")


def test_a_mapping_says_more(tmp_path: Path) -> None:
    text = "{folder: nn, files: 'LA_{case}.nii', labels: {61: 1, 3: 2, other: 0}, missing: empty}"
    assert given_of(tmp_path, text) == Predictions(
        tmp_path / "nn", "LA_{case}.nii", ((3, 2), (61, 1)), 0, "empty"
    )


def test_names_of_files_and_folders_are_in_no_key(tmp_path: Path) -> None:
    keys = {
        text: next(link[1] for link in plan_of(tmp_path, with_arm(text)).nodes if link[0] == "external")
        for text in ("nn", "other", "{folder: nn, files: '{case}/x.nii'}", "{folder: nn, labels: {3: 1}}")
    }
    assert len(set(list(keys.values())[:3])) == 1
    assert len(set(keys.values())) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[nn]", 'predictions: a folder is needed, got ["nn"]'),
        ("''", "predictions: a folder is needed, got ''"),
        ("{labels: {1: 1}}", "'arms.1.predictions.folder' is missing"),
        ("{folder: nn, ids: {a: b}}", "no field 'arms.1.predictions.ids'"),
        ("{folder: nn, missing: skip}", "arms.1.predictions.missing"),
        ("{folder: nn, labels: {1: left}}", "labels: 1: the number of a class is needed"),
        ("{folder: nn, labels: {1: -1}}", "labels: 1: the number of a class is needed"),
        ("{folder: nn, labels: {atrium: 1}}", "labels: 'atrium' is no value of a label map"),
        ("{folder: nn, labels: {1: 1, 01: 2}}", "labels: 1 is given twice"),
        ("{folder: nn, labels: {other: 0}}", "labels: no value is named"),
        ("{folder: nn, files: seg.nii.gz}", "so all cases would have one file"),
        ("{folder: nn, files: '../{case}.nii'}", "leads out of the folder"),
    ],
)
def test_faults_of_form(given: str, said: str, tmp_path: Path) -> None:
    text = faults(tmp_path, with_arm(given))
    assert said in text
    assert "spec.yaml:8:" in text


def test_nothing_is_trained_for_it(tmp_path: Path) -> None:
    text = faults(tmp_path, with_arm("nn, ssl: mean_teacher, stages: [evaluate], dataset.max_test: 1"))
    assert "arm 'nn' has its results from a folder: it has no stages of its own" in text
    assert "arm 'nn' has its results from a folder: ssl has no effect there" in text
    assert "max_test" not in text


def test_it_has_one_point_on_axes_that_only_train(tmp_path: Path) -> None:
    axes = "axes: {ssl.steps: [1, 2], dataset.labeled: [1, 2], protocol.spacing: [voxel, mm]}\n"
    plan = plan_of(tmp_path, with_arm("nn", axes))
    assert [cell.axes for cell in plan.cells if cell.arm == "nn" and cell.seed == 0] == [
        {"protocol.spacing": "voxel"},
        {"protocol.spacing": "mm"},
    ]
    assert plan.spec.arms[1].without == ("ssl.steps", "dataset.labeled")
    assert stages(plan)["external"] == 1
    assert plan.no_ops() == []


def test_nothing_can_be_searched_in_it(tmp_path: Path) -> None:
    search = "search: {arm: nn, metric: val.dice, trials: 2, params: {ssl.steps: [1, 2]}}\n"
    assert "has another tool's results: nothing can be searched" in faults(tmp_path, with_arm("nn", search))


def test_a_protocol_of_logits_is_refused(tmp_path: Path) -> None:
    text = faults(tmp_path, with_arm("nn, protocol.dice: slice_mean"))
    assert "scores logits, which stage interact alone keeps" in text


def test_a_specification_of_nothing_else_needs_no_base(tmp_path: Path) -> None:
    text = "title: T\ndataset: phantom\nprotocol: strict\narms: [{name: nn, predictions: nn}]\n"
    assert stages(plan_of(tmp_path, text)) == {"prepare": 1, "external": 1, "evaluate": 1}
