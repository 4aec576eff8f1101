"""Whole experiments in profile smoke: run, reuse, fail, go on, resume after kill -9."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sfrbench.compare.trace import described, find, open_report
from sfrbench.files.atomic import sha256_of
from sfrbench.store.store import Store
from tests.support.data_writers import write_decathlon
from tests.support.loaded import Process
from tests.support.runs import DIVERGES, QUIET, SPEC, cli, environment, here


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.yaml").write_text(SPEC)
    done = cli("run", "small.yaml", "--profile", "smoke", cwd=folder)
    return folder, done.stdout


def test_a_run_ends_with_a_report(finished: tuple[Path, str]) -> None:
    folder, output = finished
    page = folder / "runs" / "reports" / "small" / "smoke" / "index.html"
    assert "report: runs/reports/small/smoke/index.html" in output
    text = page.read_text(encoding="utf-8")
    assert "smoke" in text
    assert (page.parent / "provenance.json").is_file()
    assert "new: the first finetune here" in output


def test_a_number_of_the_report_leads_back_to_the_store(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    report = open_report(folder / "runs" / "reports" / "small" / "smoke")
    told = described(report, find(report, "sfr_mt", "dice", "results"))
    (run,) = told["runs"]
    assert [node["node"].partition("/")[0] for node in run["nodes"]] == [
        "prepare", "finetune", "pseudolabel", "retrain", "predict", "evaluate",
    ]  # fmt: skip
    assert all(node["there"] for node in run["nodes"])
    assert [place["experiment"] for place in run["mlflow"]] == ["small [smoke]"]
    scores = (Path(run["nodes"][-1]["folder"]) / "scores.csv").read_text(encoding="utf-8").splitlines()
    dice = [float(row.split(",")[3]) for row in scores if ",dice," in row]
    assert told["numbers"][0]["dice_mean"] == f"{100 * sum(dice) / len(dice):.2f}"


def test_the_second_run_does_nothing(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    again = here("run", "small.yaml", "--profile", "smoke", cwd=folder)
    assert "nodes: 0 ran, 12 reused, 0 failed, 0 blocked" in again.stdout
    counts = json.loads(here("plan", "small.yaml", "--profile", "smoke", "--json", cwd=folder).stdout)
    assert (counts["to_run"], counts["reused"], counts["cells"]) == (0, counts["nodes"], 3)
    assert counts["naive_nodes"] > counts["nodes"]


def test_a_change_says_why_it_runs(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    changed = here("run", "small.yaml", "--profile", "smoke", "--set", "ssl.w_pl=0.5", cwd=folder)
    assert "index.html is of no --set; this run's takes its place" in changed.stdout
    assert "w_pl 1.0 → 0.5" in changed.stdout
    assert "nodes: 3 ran" in changed.stdout  # retrain, predict, evaluate of sfr_mt


def test_results_are_tidy(finished: tuple[Path, str]) -> None:
    import pandas as pd

    folder, _ = finished
    here("results", "small.yaml", "--profile", "smoke", "--out", "r.csv", cwd=folder)
    here(
        "results", "small.yaml", "--profile", "smoke", "--format", "parquet", "--out", "r.parquet", cwd=folder
    )
    frame = pd.read_csv(folder / "r.csv")
    assert set(frame["arm"]) == {"mt", "sfr_ft", "sfr_mt"}
    assert set(frame["subset"]) == {"test", "unlabelled"}
    assert len(frame[frame["subset"] == "test"]) == 3 * 2 * 7  # arms, cases, metrics
    assert len(pd.read_parquet(folder / "r.parquet")) == len(frame)


def test_mlflow_has_the_experiment(finished: tuple[Path, str]) -> None:
    from mlflow import MlflowClient

    folder, _ = finished
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("small [smoke]")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if run.data.tags["sfrbench.role"] == "experiment"]
    cells = [run for run in runs if run.data.tags["sfrbench.role"] == "cell"]
    assert len(parents) == 1
    assert {run.data.tags["mlflow.parentRunId"] for run in cells} == {parents[0].info.run_id}
    sfr = next(run for run in cells if run.data.params["arm"] == "sfr_mt")
    assert sfr.data.params["ssl"] == "mean_teacher"
    assert any(name.startswith("result/dice") for name in sfr.data.metrics)
    assert client.get_metric_history(sfr.info.run_id, "retrain/loss")
    assert any(item.path == "retrain" for item in client.list_artifacts(sfr.info.run_id))


def test_tracking_is_rebuilt_from_the_store(finished: tuple[Path, str]) -> None:
    from mlflow import MlflowClient

    folder, _ = finished
    here("track", "small.yaml", "--profile", "smoke", cwd=folder)
    again = here("track", "small.yaml", "--profile", "smoke", cwd=folder)
    assert "0 cells logged" in again.stdout
    rebuilt = here("track", "small.yaml", "--profile", "smoke", "--rebuild", cwd=folder)
    assert "3 cells logged" in rebuilt.stdout
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("small [smoke]")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`sfrbench.role` = 'cell'")
    titles = [run.info.run_name for run in runs]
    assert sorted(titles) == sorted(set(titles))


def test_tracking_that_fails_does_not_fail_the_run(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SPEC.split("arms:")[0].replace("mean_teacher", "supervised"))
    done = here(
        "run", "small.yaml", "--profile", "smoke", "--tracking-uri", "sqlite:////proc/none/x.db", cwd=tmp_path
    )
    assert "report:" in done.stdout


def test_one_broken_arm_does_not_stop_the_others(tmp_path: Path) -> None:
    """An arm whose training diverges fails alone; the report says so and the exit status is 1."""
    (tmp_path / "diverging.py").write_text(DIVERGES)
    card = tmp_path / "cards" / "ssl" / "diverging.yaml"
    card.parent.mkdir(parents=True)
    card.write_text("target: diverging:Diverging\nsummary: Its loss is not finite.\nlabel: Diverging\n")
    (tmp_path / "small.yaml").write_text(SPEC.replace("{name: mt}", "{name: mt, ssl: diverging}"))
    options = ["--profile", "smoke", "--registry", "cards", *QUIET]
    done = cli("run", "small.yaml", *options, cwd=tmp_path, check=1)
    assert "FAILED mt seed 0: retrain" in done.stderr
    assert "sfr_mt" not in done.stderr
    log = next(line for line in done.stderr.splitlines() if "log:" in line).split("log: ")[1]
    assert "Traceback" in (tmp_path / log).read_text()
    page = (tmp_path / "runs" / "reports" / "small" / "smoke" / "index.html").read_text()
    assert "not finite" in page
    again = cli("run", "small.yaml", *options, cwd=tmp_path, check=1)
    assert "again: it failed before" in again.stdout


def test_a_damaged_input_fails_its_cells_only(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SPEC.split("report:")[0])
    here("run", "small.yaml", "--profile", "smoke", *QUIET, cwd=tmp_path)
    store = tmp_path / "runs" / "store"
    model = next((store / "retrain").glob("*/model.safetensors"))
    model.write_bytes(model.read_bytes()[:-4] + b"\0\0\0\1")
    for stage in ("predict", "evaluate"):
        for folder in (store / stage).iterdir():
            shutil.rmtree(folder)
    done = here("run", "small.yaml", "--profile", "smoke", *QUIET, cwd=tmp_path, check=1)
    assert "missing or damaged" in done.stderr
    assert "run again" in done.stderr
    assert done.stderr.count("FAILED") == 1
    assert "report:" in done.stdout
    done = here("run", "small.yaml", "--profile", "smoke", *QUIET, cwd=tmp_path)
    assert "again: model.safetensors is damaged" in done.stdout
    assert len(list((store / "damaged").iterdir())) == 1


@pytest.mark.slow
def test_two_runs_at_once_share_the_work_and_say_so(tmp_path: Path) -> None:
    """What the other makes is passed over, and waited for at the end; it is no interrupted run."""
    text = SPEC.split("arms:")[0] + "arms: [{name: mt}, {name: sup, ssl: supervised}]\n"
    (tmp_path / "small.yaml").write_text(text)
    options = ("small.yaml", "--profile", "smoke", "--set", "ssl.steps=60", *QUIET)
    begun = [Process("run", *options, cwd=tmp_path, env=environment()) for _ in range(2)]
    said = [process.communicate(timeout=200)[0] for process in begun]
    assert [process.returncode for process in begun] == [0, 0]
    assert not any("interrupted" in text for text in said)
    counts = [re.search(r"nodes: (\d+) ran, (\d+) reused", text) for text in said]
    assert all(counts)
    ran = [int(count[1]) for count in counts if count]
    assert sum(ran) == 7  # each node once
    store = Store(tmp_path / "runs" / "store")
    stages = ("prepare", "retrain", "predict", "evaluate")
    assert [len(list(store.records(stage))) for stage in stages] == [1, 2, 2, 2]
    assert "wait " in "".join(said) or min(ran) == 0
    for text, mine in zip(said, ran, strict=True):
        assert text.count("] run ") == mine
        assert text.count("] reuse ") + text.count("] elsewhere ") == 7 - mine


def test_dry_run_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SPEC)
    done = here("run", "small.yaml", "--profile", "smoke", "--dry-run", cwd=tmp_path)
    assert "12 to run" in done.stdout
    assert not (tmp_path / "runs" / "store").exists()


def _kill_during(folder: Path, stage: str, profile: list[str]) -> None:
    """Start a run and kill -9 it once ``stage`` has written a checkpoint."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = Process("run", "small.yaml", *profile, cwd=folder, env=environment(), **silent)
    partial = folder / "runs" / "store" / "partial"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.is_file() for path in partial.glob(f"{stage}-*/*")):
            break
        time.sleep(0.01)
    assert process.poll() is None, f"the run ended before a checkpoint of {stage} was seen"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["finetune", "retrain"])
def test_kill_and_resume_gives_the_same_bits(tmp_path: Path, stage: str) -> None:
    text = SPEC.replace("  - {name: mt}\n", "").split("report:")[0]
    steps = {"finetune": 4, "ssl": 4, {"finetune": "finetune", "retrain": "ssl"}[stage]: 40}
    options = ["--profile", "smoke", *(f"--set={kind}.steps={count}" for kind, count in steps.items())]
    options += ["--set", "finetune.checkpoint_every=5", "--set", "ssl.checkpoint_every=5", *QUIET]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        (folder / "small.yaml").write_text(text)
    here("run", "small.yaml", *options, cwd=whole)  # whose hashes have another seed than those of ``cli``
    _kill_during(killed, stage, options)
    done = cli("run", "small.yaml", *options, cwd=killed)
    assert "resumes: it was interrupted before" in done.stdout
    assert _contents(whole) == _contents(killed)


def _contents(folder: Path) -> dict[str, str]:
    """Every artefact's files and hashes, without what tells of time."""
    store = Store(folder / "runs" / "store")
    found = {}
    for stage in ("prepare", "finetune", "pseudolabel", "retrain", "predict", "evaluate"):
        for record in store.records(stage):
            for name in record["files"]:
                if name.endswith((".npy", ".safetensors", "scores.csv", "history.csv", "model.json")):
                    place = store.folder(stage, record["key"]) / name
                    found[f"{stage}/{record['key']}/{name}"] = sha256_of(place)
    assert found
    return found


def test_a_broken_volume_is_a_failed_cell_with_one_message(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path / "own")
    broken = root / "imagesTr" / "c2.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200])
    text = SPEC.split("arms:")[0].replace("mean_teacher", "supervised")
    text = re.sub(
        "{name: phantom.*}", "{name: decathlon, labeled: 1, test_cases: 1, patch: [32, 32, 16]}", text
    )
    (tmp_path / "own.yaml").write_text(text + "seeds: [0, 1]\n")
    options = ["--profile", "cpu", "--data", f"decathlon={root}", "--set", "ssl.steps=2", *QUIET]
    done = here("run", "own.yaml", *options, cwd=tmp_path, check=1)
    assert "FAILED 2 cells: prepare" in done.stderr
    assert "    base seed 0, base seed 1" in done.stderr.splitlines()
    assert done.stderr.count("c2.nii.gz") == 1
    checked = here("data", "check", "decathlon", "--data", f"decathlon={root}", cwd=tmp_path, check=1)
    assert "5 cases, 1 broken" in checked.stdout
    write_decathlon(root)  # mended: the cases that were sound are not read again
    mended = here("run", "own.yaml", *options, cwd=tmp_path)
    assert "report:" in mended.stdout


def test_run_refuses_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SFRBENCH_DATA", raising=False)
    done = here("run", "la_scarce", "--profile", "cpu", cwd=tmp_path, check=2)
    assert "not ready here" in done.stderr
    assert "--data la" in done.stderr
    assert not (tmp_path / "runs" / "store").exists()
    sound = here("validate", "la_scarce", "--profile", "cpu", cwd=tmp_path)
    assert "sound" in sound.stdout
    assert "not ready here" in sound.stdout
