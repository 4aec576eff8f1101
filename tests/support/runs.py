"""The command line in a process of its own, on a small specification."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
    command = [sys.executable, "-m", "sfrbench", *arguments]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment(package)
    )
    if check is not None:
        assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
    return done


def environment(package: Path = ROOT) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}."}


DIVERGES = """\
from sfrbench.components.ssl.mean_teacher import MeanTeacher


class Diverging(MeanTeacher):
    def loss(self, step):
        return super().loss(step) * float("nan")
"""
