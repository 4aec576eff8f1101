"""Searches on a small specification, and their studies."""

from __future__ import annotations

import signal
from pathlib import Path

from click.testing import CliRunner

from sfrbench.cli import main
from sfrbench.machine.needs import Machine
from sfrbench.plan.study import Study
from sfrbench.report.items import kinds
from sfrbench.run.experiment import Experiment, open_experiment
from sfrbench.search.studies import read_study
from tests.support.runs import QUIET

SPEC = """\
title: Small
dataset: {name: phantom, labeled: 2, train_cases: 4, test_cases: 2, shape: [32, 32, 16], val: 1}
protocol: strict
base: {backbone: vnet, ssl: mean_teacher}  # nothing of SAM
stages: [retrain, predict, evaluate]
arms:
  - {name: sup, ssl: supervised}
  - {name: mt, ssl.lambda_cons: 0.2}
search:
  arm: mt
  params:
    ssl.lambda_cons: {choices: [0.1, 0.2]}
    ssl.optim.lr: {choices: [0.01, 0.02]}
  sampler: grid
  trials: 3
"""


SMOKE = ("small.yaml", "--profile", "smoke")


def sfrbench(*arguments: str, status: int = 0) -> str:
    """Run the command line in this process, with a SIGTERM handler for the tests' own life."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        done = CliRunner().invoke(main, list(arguments))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done.exit_code == status, f"{done.output}\n{done.exception!r}"
    return done.output


def search(*arguments: str, status: int = 0) -> str:
    return sfrbench("search", *SMOKE, *QUIET, *arguments, status=status)


def opened(sets: tuple[str, ...] = ()) -> Experiment:
    return open_experiment("small.yaml", "smoke", Machine(Path("runs")), sets=sets, items=kinds())


def study_of(sets: tuple[str, ...] = ()) -> Study:
    found = read_study(opened(sets))
    assert found is not None
    return found
