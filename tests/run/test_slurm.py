"""Jobs of a real SLURM, where there is one; ``tests/support/slurm_up.sh`` makes this machine one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfrbench.cli.common import FAILED, WRONG
from sfrbench.run.executors.local import THREADS
from sfrbench.run.executors.slurm import notes
from tests.support.runs import DIVERGES, QUIET, cli
from tests.support.slurm import SITE, live, needs_slurm
from tests.support.stores import contents

pytestmark = needs_slurm

SPEC = """\
title: Small
dataset: {name: phantom, labeled: 2, train_cases: 4, test_cases: 2, shape: [32, 32, 16]}
protocol: strict
base: {backbone: vnet, ssl: mean_teacher}
arms:
  - {name: mt}
  - {name: bad, ssl: diverging}
report: [{table: results}]
"""
ON_SLURM = ("--profile", "smoke", "--registry", "cards", *QUIET, "--executor", "slurm")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a specification and a component of the user's own, and what the site says of SLURM."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in THREADS:
        monkeypatch.setenv(name, "1")
    (tmp_path / "config" / "sfrbench").mkdir(parents=True)
    (tmp_path / "config" / "sfrbench" / "config.yaml").write_text(SITE)
    (tmp_path / "diverging.py").write_text(DIVERGES)
    card = tmp_path / "cards" / "ssl" / "diverging.yaml"
    card.parent.mkdir(parents=True)
    card.write_text("target: diverging:Diverging\nsummary: Its loss is not finite.\nlabel: Diverging\n")
    (tmp_path / "small.yaml").write_text(SPEC)
    return tmp_path


def test_jobs_make_what_one_process_makes_and_a_fault_is_one_hop_from_its_log(site: Path) -> None:
    """Own components reach the jobs, as a path that is relative to the driver's folder."""
    done = cli("run", "small.yaml", *ON_SLURM, cwd=site, check=FAILED)
    assert "submitted for" in done.stdout
    assert "FAILED bad seed 0: retrain: the loss is not finite" in done.stderr
    log = next(line for line in done.stderr.splitlines() if "log:" in line).split("log: ")[1]
    assert "Traceback" in Path(log).read_text()
    assert "4 ran" in done.stdout
    again = cli("run", "small.yaml", *ON_SLURM[:-2], "--workspace", "one", cwd=site, check=FAILED)
    assert "4 ran" in again.stdout
    trained = [contents(next((site / space / "store" / "retrain").iterdir())) for space in ("runs", "one")]
    assert trained[0].keys() == trained[1].keys()
    for name, content in trained[0].items():
        assert name == "record.json" or content == trained[1][name]


def test_a_refusal_is_one_message_and_nothing_stays_submitted(site: Path) -> None:
    config = site / "config" / "sfrbench" / "config.yaml"
    config.write_text(SITE.replace("cpus: 1", "stages: {retrain: {partition: nowhere}}, cpus: 1"))
    done = cli("run", "small.yaml", *ON_SLURM, cwd=site, check=WRONG)
    assert "sbatch: invalid partition specified: nowhere" in done.stderr
    assert str(config) in done.stderr
    assert live(site / "runs") == []
    assert notes.submissions(site / "runs") == []


def test_a_run_that_is_left_goes_on_until_it_is_cancelled(site: Path) -> None:
    done = cli("run", "small.yaml", *ON_SLURM, "--detach", cwd=site)
    assert "the jobs go on" in done.stdout
    jobs = live(site / "runs")
    assert len(jobs) == 3
    again = cli("run", "small.yaml", *ON_SLURM, "--detach", cwd=site)
    assert f"{len(jobs)} jobs" in again.stdout
    assert "submitted" not in again.stdout
    assert sorted(live(site / "runs")) == sorted(jobs)
    ended = cli("cancel", "small.yaml", cwd=site)
    assert all(job in ended.stdout for job in jobs)
    assert live(site / "runs") == []
    assert "no jobs" in cli("cancel", "runs", cwd=site).stdout
