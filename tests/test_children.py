"""No process is left behind, and an early Ctrl-C is no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_run import environment

CHILD = (
    "import sys, time; from sfrbench.files.children import end_with_parent; end_with_parent(int(sys.argv[1]))\n"
    "print('up', flush=True); time.sleep(60)"
)
PARENT = (
    "import os, subprocess, sys, time; command = [sys.executable, '-c', sys.argv[1], str(os.getpid())]\n"
    "child = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
    "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)"
)


def gone(pid: int) -> bool:
    """Whether a process has ended, waited for by its new parent or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


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
    deadline = time.monotonic() + 20
    while not gone(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(child)


def test_a_child_whose_parent_is_gone_already_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "1"], env=environment(), capture_output=True, timeout=50
    )
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize("after", [0.1, 0.2, 0.35])
def test_ctrl_c_in_the_first_moments_is_130(tmp_path: Path, after: float) -> None:
    """From where the package is loaded; before that, Python itself has the word."""
    code = (
        "import sys; print('up', flush=True); sys.argv = ['sfrbench', 'list']\n"
        "from sfrbench.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode in (0, 130)  # it may have ended before
    assert "Traceback" not in told
