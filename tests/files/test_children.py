"""No process is left behind, and an early Ctrl-C is no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sfrbench.store.store import Store
from tests.support.processes import children, gone, wait_until_gone
from tests.support.runs import cli, environment

CHILD = (
    "import sys, time; from sfrbench.files.children import end_with_parent\n"
    "end_with_parent(int(sys.argv[1]))\n"
    "print('up', flush=True); time.sleep(60)"
)
PARENT = (
    "import os, subprocess, sys, time; command = [sys.executable, '-c', sys.argv[1], str(os.getpid())]\n"
    "child = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
    "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)"
)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux")
def test_a_child_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert not gone(child)
    parent.kill()
    parent.wait()
    wait_until_gone([child])


def test_a_child_whose_parent_is_gone_already_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "1"], env=environment(), capture_output=True, timeout=50
    )
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize("after", [0.1, 0.35, 0.6])
def test_ctrl_c_in_the_first_moments_is_130(tmp_path: Path, after: float) -> None:
    """From where the package is loaded; before that, Python itself has the word."""
    argv = ["sfrbench", "run", "quickstart", "--profile", "smoke", "--tracking-uri", "none"]
    code = f"import sys; print('up', flush=True); sys.argv = {argv}\nfrom sfrbench.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told


SLOW_CARD = "target: tests.support.odd_datasets:Slow\nsummary: Slow.\nlabel: Slow\n"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_processes_that_prepare_end_with_the_command(tmp_path: Path) -> None:
    """kill -9 of 'data prepare'; a second one makes the cases that are left, and those alone."""
    (tmp_path / "own" / "dataset").mkdir(parents=True)
    (tmp_path / "own" / "dataset" / "slow.yaml").write_text(SLOW_CARD)
    command = ["data", "prepare", "slow", "--registry", "own", "--profile", "smoke", "--workers", "2"]
    command += [f"--set={field}" for field in ("shape=[16, 16, 16]", "train_cases=8", "test_cases=2")]
    process = subprocess.Popen(
        [sys.executable, "-m", "sfrbench", *command], cwd=tmp_path, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    partial, deadline = tmp_path / "runs" / "store" / "partial", time.monotonic() + 60
    while len(list(partial.glob("prepare-*/cases/[!.]*.json"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = children(process.pid)
    assert len(workers) >= 2  # and a process of Python's that counts semaphores
    process.kill()
    process.wait()
    wait_until_gone(workers)
    kept = {path.stem: path.stat().st_mtime_ns for path in partial.glob("prepare-*/cases/[!.]*.json")}
    assert 2 <= len(kept) < 10
    assert "prepared: " in cli(*command, cwd=tmp_path).stdout
    (record,) = Store(tmp_path / "runs" / "store").records("prepare")
    images = {Path(name).stem: name for name in record["files"] if name.startswith("images/")}
    assert len(images) == 10
    folder = tmp_path / "runs" / "store" / "prepare" / record["key"]
    assert all((folder / images[case]).stat().st_mtime_ns <= when for case, when in kept.items())
