"""A tiny turn of ``benchmarks/kills.py`` and ``benchmarks/short_of.py``: nothing disturbs a run."""

from __future__ import annotations

import importlib
import random
from pathlib import Path

import pytest

from tests.support.places import BENCHMARKS
from tests.support.runs import cli

TINY = """\
title: Kills
dataset: {name: phantom, labeled: 2, train_cases: 4, test_cases: 2, shape: [32, 32, 16]}
protocol: strict
base: {backbone: vnet, ssl: supervised}
stages: [retrain, predict, evaluate]
arms: [{name: sup}]
"""


def in_peace(folder: Path, name: str = "run", *more: str) -> str:
    """As the script's, which starts Python anew for what is not disturbed, too."""
    done = cli(name, "small.yaml", "--profile", "smoke", *more, cwd=folder)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_workspace_survives_shortages_and_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill of a run, one while the database is made, few files, small files; then a run in peace: the
    files, the frame and MLflow are those of a run that nothing disturbed."""
    resource = pytest.importorskip("resource", reason="this system has no limits on files")
    monkeypatch.syspath_prepend(BENCHMARKS)
    kills, short_of = (importlib.import_module(name) for name in ("kills", "short_of"))
    monkeypatch.setattr(kills, "SPEC", TINY)
    monkeypatch.setattr(kills, "peaceful", in_peace)
    folder = kills.fresh(tmp_path, "other")
    for kind, value in ((resource.RLIMIT_NOFILE, 12), (resource.RLIMIT_FSIZE, 20_000)):
        assert short_of.tried(f"{value}", folder, *short_of.QUIET, limit=short_of.limited(kind, value))
    assert kills.killed(folder, lambda: 0.3, random.Random(0))  # while Python itself is loaded
    (folder / "runs" / "mlflow.db").unlink(missing_ok=True)
    assert kills.killed_in_database(folder, 0.0)
    whole = kills.fresh(tmp_path, "whole")
    kills.peaceful(whole)
    assert kills.equal(folder, kills.state(whole), "all of it")
