"""Trials that end early: pruned, interrupted, killed; and several workers on one study."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sfrbench.files.atomic import sha256_of
from sfrbench.search.storage import default_storage, open_storage
from sfrbench.search.studies import study_name
from sfrbench.store.store import Store
from tests.support.loaded import Process
from tests.support.runs import QUIET, cli, environment
from tests.support.searches import SMOKE, SPEC, opened, search, sfrbench, study_of


def test_a_pruned_training_leaves_a_checkpoint_and_no_artefact(folder: Path) -> None:
    """Five made-up trials are so good that the sixth, a real one, is stopped at its first validation."""
    import optuna

    text = SPEC.replace("sampler: grid", "sampler: random\n  pruner: median")
    (folder / "small.yaml").write_text(text)
    sets = ("ssl.steps=4", "ssl.val_every=2")
    options = [f"--set={choice}" for choice in sets]
    search("--trials", "1", "--worker", *options)
    experiment = opened(sets)
    before = list(experiment.store.records("retrain"))
    storage = open_storage(default_storage(Path("runs")))
    study = optuna.load_study(study_name=study_name(experiment), storage=storage)
    good = study.trials[0]
    for _ in range(5):
        study.add_trial(
            optuna.create_trial(
                params={"ssl.lambda_cons": 0.2, "ssl.optim.lr": 0.02},
                distributions=good.distributions,
                value=99.0,
                intermediate_values={2: 99.0, 4: 99.0},
                user_attrs={"cases": 1},
            )
        )
    output = search("--trials", "7", *options)
    assert "6 complete, 1 pruned, 0 failed" in output
    assert "pruned retrain" in output
    (pruned,) = study_of(sets).of("pruned")
    assert set(pruned.curve) == {2}
    link = pruned.facts["nodes"]["0"]["retrain"]
    store = Store(Path("runs/store"))
    assert not store.has(*link)
    assert store.failure(*link) is None
    assert (store.scratch(*link) / "checkpoint.pt").is_file()
    assert len(list(store.records("retrain"))) == len(before)
    _goes_on_to_the_same_bits(folder, dict(pruned.values), options, link)


def _goes_on_to_the_same_bits(
    folder: Path, values: dict[str, float], options: list[str], link: list[str]
) -> None:
    text = SPEC[: SPEC.index("search:")].replace("  - {name: sup, ssl: supervised}\n", "")
    text = text.replace(
        "ssl.lambda_cons: 0.2", ", ".join(f"{path}: {value}" for path, value in values.items())
    )
    (folder / "plain.yaml").write_text(text)
    resumed = sfrbench("run", "plain.yaml", "--profile", "smoke", *QUIET, *options)
    assert "resumes: it was interrupted before" in resumed
    sfrbench("run", "plain.yaml", "--profile", "smoke", *QUIET, *options, "--workspace", "other")
    models = [Path(place) / "store" / link[0] / link[1] / "model.safetensors" for place in ("runs", "other")]
    assert sha256_of(models[0]) == sha256_of(models[1])


def test_an_interrupted_trial_is_put_in_line_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sfrbench.search import trials as module

    with monkeypatch.context() as patch:

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(module, "drive", interrupted)
        assert "the same command goes on" in search(status=130)
    first, second = study_of().trials
    assert (first.state, second.state) == ("retried", "waiting")
    output = search("--trials", "1")
    assert "1 complete, 0 pruned, 0 failed, 1 run again" in output
    assert study_of().trials[1].values == first.values


@pytest.mark.slow
def test_two_workers_keep_the_budget(folder: Path) -> None:
    done = cli("search", *SMOKE, *QUIET, "--workers", "2", "--trials", "4", cwd=folder)
    assert "4 complete, 0 pruned, 0 failed, 0 run again" in done.stdout
    trials = study_of().trials
    assert len({tuple(trial.values.items()) for trial in trials}) == 4
    assert len({trial.facts["worker"] for trial in trials}) == 2
    store = Store(Path("runs/store"))
    assert len(list(store.records("retrain"))) == 4
    assert len(list(store.records("prepare"))) == 1


@pytest.mark.slow
def test_a_killed_worker_is_replaced(folder: Path) -> None:
    """kill -9 in the middle of a trial; another worker goes on from its checkpoint."""
    options = ["--heartbeat", "1", "--trials", "2", "--set=ssl.steps=25", "--set=ssl.checkpoint_every=5"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = Process("search", *SMOKE, *QUIET, *options, cwd=folder, env=environment(), **silent)
    partial = folder / "runs" / "store" / "partial"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if list(partial.glob("retrain-*/checkpoint.pt")):
            break
        time.sleep(0.01)
    assert process.poll() is None, "the search ended before a checkpoint was seen"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    output = search(*options, "--worker")
    assert "resumes: it was interrupted before" in output
    study = study_of(("ssl.steps=25", "ssl.checkpoint_every=5"))
    (killed,) = study.of("retried")
    assert len(study.of("complete")) == len(study.finished) == 2
    again = next(trial for trial in study.of("complete") if trial.facts.get("after") == killed.number)
    assert again.values == killed.values
    assert again.facts["worker"] != killed.facts["worker"]
    store = Store(folder / "runs" / "store")
    for stage in ("retrain", "predict", "evaluate"):
        records = list(store.records(stage))
        assert len(records) == 2
        for record in records:
            artefact = store.get(stage, record["key"])
            assert all(artefact.path(name).is_file() for name in record["files"])  # path() checks the hash
    assert not list(partial.glob("*"))
