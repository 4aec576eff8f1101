"""Kills runs at random moments, lets one end in peace, and compares what is left with an undisturbed run.

    python benchmarks/kills.py --kills 60                    one run with tracking on, killed again and again
    python benchmarks/kills.py --kills 20 --during-database  killed while MLflow's database is made
    python benchmarks/kills.py --processes 3                 several runs in one workspace
    python benchmarks/kills.py --kills 60 --workers 3        hits the driver of three workers, or one of them

Compared are the files of every artefact, the results frame, and MLflow: every cell once. Status 0: equal.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
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


def killed(folder: Path, after: Callable[[], float], draw: random.Random, workers: int = 1) -> int:
    """Start a run and kill it ``after()`` seconds, or before it one of its workers, as the draw has it; how
    many processes were hit."""
    more = ["--workers", str(workers)] if workers > 1 else []
    process = subprocess.Popen(
        command(folder, "run", *more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    hits = 0
    while True:
        try:
            process.wait(after())
            return hits
        except subprocess.TimeoutExpired:
            victim = draw.choice([process.pid, *(workers_of(process.pid) if workers > 1 else ())])
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(victim, signal.SIGKILL)
                hits += 1
        if victim == process.pid:
            process.wait()
            return hits


def workers_of(process: int) -> list[int]:
    """The processes that a run has started (Linux)."""
    found = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    return [int(each) for each in found]


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


def equal(folder: Path, expected: dict[str, object], what: str) -> bool:
    """Whether a workspace, once a run ended in peace, holds what an undisturbed one holds; prints it."""
    peaceful(folder)
    found = state(folder)
    unequal = [name for name in expected if expected[name] != found[name]]
    twice = [cell for cell, count in found["cells"].items() if cell and count != 1]
    said = f": {', '.join([*unequal, *twice])} differ" if unequal or twice else ""
    print(f"{what}: {len(found['files'])} files, {dict(found['roles'])}{said}", flush=True)
    return not unequal and not twice


def together(place: Path, processes: int, expected: dict[str, object]) -> int:
    folder = fresh(place, "other")
    runs = [subprocess.Popen(command(folder, "run")) for _ in range(processes)]
    ended = [process.wait() for process in runs]
    return 0 if equal(folder, expected, f"{processes} processes") and not any(ended) else 1


def in_database(
    place: Path, given: argparse.Namespace, draw: random.Random, expected: dict[str, object]
) -> int:
    folder, hits = fresh(place, "other"), 0
    peaceful(folder, "run", "--tracking-uri", "none")
    while hits < given.kills:
        (folder / "runs" / "mlflow.db").unlink(missing_ok=True)
        hits += killed_in_database(folder, draw.uniform(0.0, given.seconds / 10))
    return 0 if equal(folder, expected, f"{hits} kills") else 1


def at_random(
    place: Path, given: argparse.Namespace, draw: random.Random, expected: dict[str, object]
) -> int:
    """Kill until so many have hit; a workspace whose run came to its end is compared, and a new one begun."""
    hits, here, number, well = 0, 0, 0, True
    while hits < given.kills:
        folder = place / f"other{number}"
        if not folder.is_dir():
            fresh(place, folder.name)
        hit = killed(folder, lambda: draw.uniform(0.5, given.seconds), draw, given.workers)
        hits, here = hits + hit, here + hit
        if hit and hits < given.kills:
            continue
        well = equal(folder, expected, f"{here} kills") and well
        number, here = number + 1, 0
    print(f"{hits} kills in {number} workspaces: {'equal' if well else 'NOT EQUAL'}")
    return 0 if well else 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0, help="the longest that a run lives")
    parser.add_argument("--during-database", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="of each run; one of them may be hit as well")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        whole = fresh(Path(place), "whole")
        peaceful(whole)
        expected = state(whole)
        if given.processes > 1:
            return together(Path(place), given.processes, expected)
        tally = in_database if given.during_database else at_random
        return tally(Path(place), given, random.Random(given.seed), expected)


if __name__ == "__main__":
    sys.exit(main())
