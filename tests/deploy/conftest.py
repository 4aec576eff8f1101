"""Finished runs that the tests of deployment share: a phantom's in profile smoke, a NIfTI folder's."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sfrbench.cli import main
from sfrbench.machine.needs import Machine
from sfrbench.plan.graph import Node
from sfrbench.report.items import kinds
from sfrbench.run.experiment import Experiment, execute, open_experiment
from sfrbench.run.outcomes import Outcome
from tests.support.data_writers import write_decathlon

SMOKE = """\
title: Small
dataset: {name: phantom, labeled: 1, train_cases: 2, test_cases: 2, shape: [32, 32, 16]}
protocol: strict
base:
  {stitch: grid, foundation: sam_toy, finetune: lora, finetune.steps: 1, backbone: vnet, ssl: mean_teacher}
arms:
  - {name: mt}
  - {name: ft, stages: [finetune, predict, evaluate]}
  - {name: sfr_mt, label: "SFR_MT <b>", pseudo: offline}
axes: {ssl.w_pl: [0.5, 1]}
seeds: [0, 1]
exclude:
  - {when: {arm: [mt, ft], ssl.w_pl: 0.5}, reason: it has no pseudo-labels}
report:
  - {table: results, metrics: [dice, hd95]}
  - {pairs: [[sfr_mt, mt]]}
  - {pseudo_labels: true}
  - {parameters: true}
  - {kde: dice}
  - {curve: {x: ssl.w_pl, y: dice}}
  - {montage: 1}
profiles: {smoke: {backbone.filters: 4, backbone.norm: batch}}
"""
NIFTI = """\
title: Own data
dataset: {name: decathlon, labeled: 1, test_cases: 1, patch: [32, 32, 16], stride: [16, 16, 16]}
protocol: strict
base: {backbone: vnet, ssl: supervised}
profiles: {cpu: {backbone.filters: 4}}
"""
#: Nothing of a RAS grid: axes swapped, one turned round, anisotropic, off the origin.
AFFINE = np.array([[0, 0, 2.0, -30], [-1.5, 0, 0, 12], [0, 3.0, 0, 7], [0, 0, 0, 1]])


class Quiet:
    """A listener that shows nothing."""

    def node_waits(self, node: Node, whom: str, index: int, total: int) -> None: ...
    def node_starts(self, node: Node, reason: str, index: int, total: int) -> None: ...
    def node_progress(self, node: Node, done: int, total: int, values: dict[str, float]) -> None: ...
    def node_again(self, node: Node, reason: str, index: int, total: int) -> None: ...
    def says(self, text: str) -> None: ...
    def node_ended(self, outcome: Outcome, index: int, total: int) -> None: ...


@dataclass(frozen=True)
class Ran:
    """A folder in which a specification has run; ``options`` are those of its commands."""

    spec: Path
    options: tuple[str, ...]

    def invoke(self, *arguments: str) -> Result:
        """A command line in this process, with exceptions that are no message let through."""
        return CliRunner().invoke(main, [*arguments, *self.options], catch_exceptions=False)

    @cached_property
    def experiment(self) -> Experiment:
        named = dict(zip(self.options[::2], self.options[1::2], strict=True))
        data = dict([named["--data"].split("=")]) if "--data" in named else {}
        machine = Machine(Path(named["--workspace"]), {name: Path(place) for name, place in data.items()})
        return open_experiment(
            str(self.spec), named["--profile"], machine, sets=[named["--set"]], items=kinds()
        )


def ran(folder: Path, text: str, *options: str) -> Ran:
    spec = folder / "own.yaml"
    spec.write_text(text)
    made = Ran(spec, (*options, "--workspace", str(folder / "runs")))
    outcomes = execute(made.experiment, Quiet(), "none")
    assert outcomes.count("failed") == 0
    return made


@pytest.fixture(scope="package")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two arms with a 3D segmenter, one with SAM; an axis; two seeds."""
    folder = tmp_path_factory.mktemp("smoke")
    return ran(folder, SMOKE, "--profile", "smoke", "--set", "ssl.steps=2")


@pytest.fixture(scope="package")
def train_on() -> Callable[[Path, Path], Ran]:
    """Trains two steps on a folder in the Decathlon's layout."""

    def train(folder: Path, root: Path) -> Ran:
        return ran(folder, NIFTI, "--profile", "cpu", "--data", f"decathlon={root}", "--set", "ssl.steps=2")

    return train


@pytest.fixture(scope="package")
def nifti(tmp_path_factory: pytest.TempPathFactory, train_on: Callable[[Path, Path], Ran]) -> Ran:
    """A miniature in the Decathlon's layout, on a grid that is not RAS."""
    folder = tmp_path_factory.mktemp("nifti")
    return train_on(folder, write_decathlon(folder / "data", affine=AFFINE))


@pytest.fixture(scope="package")
def hippocampus(tmp_path_factory: pytest.TempPathFactory, train_on: Callable[[Path, Path], Ran]) -> Ran:
    """Five real cases of the Decathlon's hippocampus task."""
    given = os.environ.get("SFRBENCH_DATA")
    shared = Path(given).expanduser() if given else Path(__file__).resolve().parents[3] / "shared" / "data"
    source = shared / "Task04_Hippocampus"
    if not source.is_dir():
        pytest.skip(f"no real data: {source} does not exist; set SFRBENCH_DATA")
    folder = tmp_path_factory.mktemp("hippocampus")
    names = sorted(path.name for path in (source / "labelsTr").glob("hippo*.nii.gz"))[:5]
    root = write_decathlon(folder / "data", [name.removesuffix(".nii.gz") for name in names])
    for part in ("imagesTr", "labelsTr"):
        for name in names:
            (root / part / name).unlink()
            (root / part / name).symlink_to(source / part / name)
    return train_on(folder, root)
