"""Kills runs at random moments, lets one end in peace, and compares what is left with an undisturbed run.

    python benchmarks/kills.py --kills 60                    one run with tracking on, killed again and again
    python benchmarks/kills.py --kills 20 --during-database  killed while MLflow's database is made
    python benchmarks/kills.py --processes 3                 several runs in one workspace

Compared are the files of every artefact, the results frame, and MLflow: every cell once. Status 0: equal.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SPEC = """\
title: Kills
dataset: {name: phantom, labeled: 2, train_cases: 4, test_cases: 2, shape: [32, 32, 16]}
protocol: strict
base: {stitch: grid, foundation: sam_toy, finetune: lora, backbone: vnet, ssl: mean_teacher}
arms: [{name: mt}, {name: sup, ssl: supervised}, {name: sfr_mt, pseudo: offline}]
"""


def command(folder: Path, name: str, *more: str) -> list[str]:
    options = ["--profile", "smoke", "--workspace", str(folder / "runs")]
    return [sys.executable, "-m", "sfrbench", name, str(folder / "small.yaml"), *options, *more]


def peaceful(folder: Path, name: str = "run", *more: str) -> str:
    """Run to the end; returns what it said. Raises where it fails or shows a traceback."""
    done = subprocess.run(command(folder, name, *more), capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode or "Traceback" in said:
        raise SystemExit(f"{name}: exit {done.returncode}\n{said}")
    return said


def killed(folder: Path, after: float) -> bool:
    """Start a run and kill it after so many seconds; whether it was still there."""
    process = subprocess.Popen(command(folder, "run"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def killed_in_database(folder: Path, after: float) -> bool:
    """Start logging and kill it ``after`` seconds from when a database is being made."""
    process = subprocess.Popen(command(folder, "track"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((folder / "runs").glob("mlflow.db*[0-9a-f]")):
        time.sleep(0.01)
    time.sleep(after)
    process.kill()
    process.wait()
    return process.returncode < 0


def state(folder: Path) -> dict[str, object]:
    """What is to be equal: artefacts by their files, the frame, the cells of MLflow with their counts."""
    from mlflow import MlflowClient

    from sfrbench.run.experiment import default_tracking_uri
    from sfrbench.store.store import Store

    store, names = Store(folder / "runs" / "store"), (".npy", ".safetensors", "scores.csv", "history.csv")
    files = {
        f"{stage.name}/{record['key']}/{name}": entry["sha256"]
        for stage in sorted(store.root.iterdir())
        if stage.name not in ("tmp", "locks", "partial", "failed", "work")
        for record in store.records(stage.name)
        for name, entry in record["files"].items()
        if name.endswith(names)
    }
    client = MlflowClient(default_tracking_uri(folder / "runs"))
    found = client.get_experiment_by_name("small [smoke]")
    runs = client.search_runs([found.experiment_id]) if found else []
    roles = Counter(run.data.tags["sfrbench.role"] for run in runs)
    cells = Counter(run.data.tags.get("sfrbench.cell", "") for run in runs)
    return {"files": files, "frame": peaceful(folder, "results"), "roles": roles, "cells": cells}


def fresh(place: Path, name: str) -> Path:
    folder = place / name
    folder.mkdir()
    (folder / "small.yaml").write_text(SPEC)
    return folder


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0, help="the longest that a run lives")
    parser.add_argument("--during-database", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        whole, other = fresh(Path(place), "whole"), fresh(Path(place), "other")
        peaceful(whole)
        hit = 0
        if given.processes > 1:
            runs = [subprocess.Popen(command(other, "run")) for _ in range(given.processes)]
            if any(process.wait() for process in runs):
                return 1
        elif given.during_database:
            peaceful(other, "run", "--tracking-uri", "none")
            for _ in range(given.kills):
                for left in (other / "runs").glob("mlflow.db"):
                    left.unlink()
                hit += killed_in_database(other, draw.uniform(0.0, 2.0))
        else:
            for _ in range(given.kills):
                hit += killed(other, draw.uniform(0.5, given.seconds))
        peaceful(other)
        expected, found = state(whole), state(other)
    unequal = [name for name in expected if expected[name] != found[name]]
    twice = [cell for cell, count in found["cells"].items() if cell and count != 1]
    left = "" if not unequal else f": {', '.join(unequal)} differ"
    print(f"{hit} kills, {given.processes} processes, {len(found['files'])} files, {found['roles']}{left}")
    return 1 if unequal or twice else 0


if __name__ == "__main__":
    sys.exit(main())
