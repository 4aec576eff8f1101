"""Searches in profile smoke: trials, sharing, resuming, failures, tracking, the best values."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sfrbench.machine.needs import Machine
from sfrbench.plan.build import Cell
from sfrbench.plan.study import Study
from sfrbench.report.items import kinds
from sfrbench.run.executors.node import Worker
from sfrbench.run.experiment import Experiment, open_experiment
from sfrbench.search.score import flattering
from sfrbench.search.studies import study_name
from sfrbench.spec.model import Search
from sfrbench.store.store import Store
from tests.support.runs import DIVERGES, QUIET, environment
from tests.support.searches import SMOKE, SPEC, opened, search, sfrbench, study_of


def test_trials_share_nodes_and_go_on(folder: Path) -> None:
    sfrbench(
        "run", *SMOKE, *QUIET
    )  # makes one of the trials' trainings, with lambda 0.2 and the default rate
    output = search("--trials", "2", "--worker")
    assert "the first prepare here" not in output
    first = study_of()
    again = search("--trials", "4")  # the grid has four points
    whole = study_of()
    assert "4 complete" in again
    assert whole.trials[:2] == first.trials
    assert len({tuple(trial.values.items()) for trial in whole.trials}) == 4
    by_values = {tuple(trial.values.values()): trial.facts for trial in whole.trials}
    assert by_values[0.2, 0.01]["reused"] == 2  # prepared data, and the training that the run had made
    assert by_values[0.2, 0.01]["ran"] == 2
    assert by_values[0.1, 0.02]["reused"] == 1
    assert "nodes shared: 5 of 16" in again
    for trial in whole.trials:
        assert trial.facts["cases"] == 1
        assert trial.facts["seeds"] == {"0": trial.value}
    ended = search("--trials", "4", "--worker")
    assert "trial 4" not in ended
    assert study_of().trials == whole.trials


def test_the_value_is_that_of_the_table(folder: Path) -> None:
    from sfrbench.results.frame import load_frame
    from sfrbench.search.studies import trial_plan

    (folder / "small.yaml").write_text(SPEC.replace("trials: 3", "trials: 1\n  seeds: [0, 1]"))
    search("--worker")
    experiment = opened()
    (trial,) = study_of().trials
    assert set(trial.facts["seeds"]) == {"0", "1"}
    plan = trial_plan(experiment, dict(trial.values))
    frame = load_frame(Experiment(plan, experiment.catalog, experiment.machine, experiment.store))
    assert set(frame["subset"]) == {"val"}
    scores = frame[frame["metric"] == "dice"]["value"]
    assert trial.value == pytest.approx(scores.mean())


def test_another_search_is_another_study_and_another_budget_is_not(folder: Path) -> None:
    name = study_name(opened())
    assert name.startswith("small-smoke-")
    text = SPEC.replace("trials: 3", "trials: 5")
    assert _name(folder, text) == name
    changes = {"0.2]": "0.5]", "arm: mt": "arm: mt\n  seeds: [1]", "grid": "random", "val: 1": "val: 2"}
    for old, new in changes.items():
        assert _name(folder, SPEC.replace(old, new)) != name, old
    (folder / "small.yaml").write_text(SPEC)
    assert study_name(opened(("ssl.steps=3",))) != name


def _name(folder: Path, text: str) -> str:
    (folder / "small.yaml").write_text(text)
    return study_name(opened())


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--set", "ssl.lambda_cons=1"], "--set ssl.lambda_cons  this field is searched"),
        (["--set", "score=test"], "--set score  a search scores validation cases"),
        (["--storage", "nonsense://x:secret@y"], "--storage nonsense://x:***@y  cannot be opened"),
    ],
)
def test_options_that_spoil_a_search(folder: Path, arguments: list[str], wanted: str) -> None:
    output = search(*arguments, status=2)
    assert wanted in output
    assert "secret" not in output


def test_a_specification_without_a_search(folder: Path) -> None:
    (folder / "small.yaml").write_text(SPEC[: SPEC.index("search:")])
    assert "has no section 'search'" in search(status=2)


def test_a_failed_trial_does_not_stop_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "diverging.py").write_text(DIVERGES)
    monkeypatch.syspath_prepend(str(folder))
    card = folder / "cards" / "ssl" / "diverging.yaml"
    card.parent.mkdir(parents=True)
    card.write_text("target: diverging:Diverging\nsummary: Its loss is not finite.\nlabel: Diverging\n")
    params = re.search(r"    ssl.lambda_cons.*\n    ssl.optim.*\n", SPEC)
    assert params is not None
    both = "    ssl: {choices: [diverging, mean_teacher]}\n"
    (folder / "small.yaml").write_text(SPEC.replace(params.group(0), both))
    output = search("--registry", "cards")
    assert "1 complete, 0 pruned, 1 failed" in output
    assert "FAILED trial" in output
    assert "retrain: the loss is not finite" in output
    page = Path("runs/reports/small/smoke/index.html").read_text(encoding="utf-8")
    assert "failed: retrain: the loss is not finite" in page


def test_a_full_disk_stops_the_search_and_costs_no_trial(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "_run", full)
        said = search("--trials", "1", "--worker", status=2)
    assert said.count("trial 0, prepare  No space left on device\n    free some space") == 1
    assert "trial 1" not in said
    said = search("--trials", "1", "--worker")
    assert [trial.state for trial in study_of().trials] == ["retried", "complete"]


def test_a_trial_whose_value_empty_predictions_flatter_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []

    def two(store: Store, cell: Cell, search: Search) -> int:
        counted.append(flattering(store, cell, search))
        return 2

    monkeypatch.setattr("sfrbench.search.trials.flattering", two)
    search("--worker", "--trials", "1")
    (trial,) = study_of().trials
    assert (trial.state, trial.value, study_of().best) == ("failed", None, None)
    assert trial.note == "2 empty predictions, which the protocol counts as best or leaves out"
    assert counted == [0]  # an empty prediction counts 0 in Dice: nothing to gain


def test_the_best_values_round_trip(folder: Path) -> None:
    output = search("--trials", "3", "--write-best", "best.yaml", "--set", "ssl.steps=3")
    best = study_of(("ssl.steps=3",)).best
    assert best is not None
    assert f"best trial {best.number}: dice" in output
    text = (folder / "best.yaml").read_text(encoding="utf-8")
    for part in (
        f"trial {best.number} of",
        "small-smoke-",
        "1 validation case, seeds 0",
        "--set ssl.steps=3",
    ):
        assert part in text
    assert "search:" not in text
    sfrbench("validate", "best.yaml", "--profile", "smoke")
    plan = open_experiment(
        "best.yaml", "smoke", Machine(Path("runs")), sets=("ssl.steps=3",), items=kinds()
    ).plan
    mt = next(cell for cell in plan.cells if cell.arm == "mt")
    found = mt.components["ssl"].component.model_dump()
    assert found["lambda_cons"] == best.values["ssl.lambda_cons"]
    assert found["optim"]["lr"] == best.values["ssl.optim.lr"]
    assert mt.score == "test"
    assert list(mt.nodes["retrain"]) == best.facts["nodes"]["0"]["retrain"]  # nothing is trained again


@pytest.mark.parametrize(
    ("arms", "more"),
    [
        ("", ""),
        ("  - {name: mt, ssl: {name: mean_teacher, lambda_cons: 1}}\n", ""),
        ("  - {name: mt, ssl: {optim: {lr: 0.5}}}\n", ""),
        (
            "  - {name: mt}\n",
            "profiles: {smoke: {ssl.lambda_cons: 9, arms: {mt: {ssl: {lambda_cons: 8}}}}}\n",
        ),
    ],
    ids=["no arms", "fields in the arm", "groups in the arm", "a profile's arm"],
)
def test_best_values_win_over_every_other_layer(folder: Path, arms: str, more: str) -> None:
    from sfrbench.plan.study import Trial
    from sfrbench.search.best import write_best_spec

    text = re.sub(r"arms:\n(  - .*\n)+", f"arms:\n{arms}" if arms else "", SPEC).replace("  arm: mt\n", "")
    (folder / "small.yaml").write_text(text + more)
    experiment = opened()
    trial = Trial(7, "complete", {"ssl.lambda_cons": 0.4, "ssl.optim.lr": 0.02}, 50.0)
    study = Study("s", "dice", True, "%", (0,), experiment.plan.space, "grid", "none", [trial])
    write_best_spec(experiment, study, Path("best.yaml"))
    (cell,) = open_experiment("best.yaml", "smoke", Machine(Path("runs")), items=kinds()).plan.cells
    found = cell.components["ssl"].component.model_dump()
    assert (found["lambda_cons"], found["optim"]["lr"]) == (0.4, 0.02)


def test_the_shipped_search_runs_and_is_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    output = sfrbench("search", "search_tau_lambda", "--profile", "smoke", "--trials", "2")
    assert "2 complete" in output
    # data, fine-tuning, pseudo-labels and their score; a SAM that no case updates, its labels and their score
    assert "nodes shared: 14 of 38" in output
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("search_tau_lambda [smoke]")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags["sfrbench.role"] == "study"]
    trials = [run for run in runs if run.data.tags["sfrbench.role"] == "trial"]
    assert sorted(run.data.tags["sfrbench.trial"] for run in trials) == ["0", "1"]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert all({"ssl.lambda_cons", "selector.tau"} <= run.data.params.keys() for run in trials)
    assert parent.data.metrics["best/dice"] == max(run.data.metrics["val/dice"] for run in trials)
    provenance = json.loads(Path("runs/reports/search_tau_lambda/smoke/provenance.json").read_text())
    assert len(provenance["study"]["trials"]) == 2


def test_nothing_but_a_search_imports_optuna(folder: Path) -> None:
    code = (
        "import atexit, sys; from sfrbench.cli import main; "
        "atexit.register(lambda: print('optuna' in sys.modules)); main(sys.argv[1:])"
    )
    for command in (["--help"], ["validate", *SMOKE], ["report", *SMOKE]):
        done = subprocess.run(
            [sys.executable, "-c", code, *command],
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.rstrip().endswith("False")
    page = (folder / "runs" / "reports" / "small" / "smoke" / "index.html").read_text(encoding="utf-8")
    assert "no study of it is known here" in page
