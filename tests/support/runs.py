"""The command line in a process of its own, or in this one, on a small specification."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from sfrbench.cli import main
from tests.support.loaded import Process
from tests.support.places import ROOT

SPEC = """\
title: Small
dataset: {name: phantom, labeled: 2, train_cases: 4, test_cases: 2, shape: [32, 32, 16]}
protocol: strict
base: {stitch: grid, foundation: sam_toy, finetune: lora, backbone: vnet, ssl: mean_teacher}
arms:
  - {name: mt}
  - {name: sfr_ft, stages: [finetune, predict, evaluate]}
  - {name: sfr_mt, pseudo: offline}
report:
  - {table: results}
  - {pairs: [[sfr_mt, mt]]}
  - {pseudo_labels: true}
  - {montage: 1}
"""


#: Tracking costs seconds for each new database; what it does is tested once, with the run that all share.
QUIET = ("--tracking-uri", "none")


def cli(
    *arguments: str, cwd: Path, check: int | None = 0, package: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, from the package that lies in a folder."""
    if package == ROOT:
        done = ended(Process(*arguments, cwd=cwd, env=environment()))
    else:
        command = [sys.executable, "-m", "sfrbench", *arguments]
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment(package)
        )
    if check is not None:
        assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
    return done


def ended(process: Process) -> subprocess.CompletedProcess[str]:
    """What a process has said and come to, at its end."""
    said = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.wait(), *said)


def here(*arguments: str, cwd: Path, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, which has loaded torch and the rest already: for tests of what a
    command does, not of its process. What no command may raise is raised."""
    before, root = signal.getsignal(signal.SIGTERM), logging.getLogger()
    handlers, root.handlers = root.handlers, []  # of pytest: warnings go to the terminal, as in a process
    try:
        with contextlib.chdir(cwd):
            done = CliRunner().invoke(main, list(arguments))
    finally:
        root.handlers = handlers
        signal.signal(signal.SIGTERM, before)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    if check is not None:
        assert done.exit_code == check, f"exit {done.exit_code}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.output
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def environment(package: Path = ROOT) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}."}


DIVERGES = """\
from sfrbench.components.ssl.mean_teacher import MeanTeacher


class Diverging(MeanTeacher):
    def loss(self, step):
        return super().loss(step) * float("nan")
"""
