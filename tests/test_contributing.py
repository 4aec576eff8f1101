"""The worked examples of CONTRIBUTING.md are run as they stand there, all of them together."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfrbench.components.dataset.phantom import Phantom
from sfrbench.store.store import Artefact, Store
from tests.support.contributing import blocks, copy_of_package, write_blocks
from tests.support.data_writers import write_nifti
from tests.support.places import ROOT
from tests.support.runs import QUIET, cli, here

OURS = ("--registry", "own", "--data", "my_dataset=cohort")
KINDS = ("ssl", "stitch", "backbone", "finetune", "dataset")
SPACING = (1.0, 0.5, 4.0)  # mm: a voxel has 2 cubic millimetres


def write_cohort(root: Path) -> None:
    """Generated volumes in the format of the template: four that train, two that test."""
    for number in range(6):
        case = Phantom(shape=(32, 32, 16)).read_case(None, f"p{number:06d}")
        for folder, values in (("images", case.image), ("labels", case.label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            affine = np.diag([*SPACING, 1.0])
            write_nifti(root / folder / f"case{number}.nii.gz", values, affine)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the stage and the report item; cards, classes and data beside it."""
    folder = copy_of_package(tmp_path_factory.mktemp("copy"))
    write_blocks(folder)
    parts = tmp_path_factory.mktemp("parts")  # the registry of a copy is the one that ships
    for kind in KINDS:
        here("new", kind, f"my_{kind}", cwd=parts)
    for module in parts.glob("*my_*.py"):
        module.rename(folder / module.name)
    (parts / "registry").rename(folder / "own")
    write_cohort(folder / "cohort")
    return folder


@pytest.fixture(scope="module")
def page(home: Path) -> str:
    """The page of the specification that names all of them."""
    said = cli("run", "mine.yaml", "--profile", "smoke", *OURS, *QUIET, cwd=home, package=home).stdout
    assert " 0 failed, 0 blocked" in said
    return (home / "runs/reports/mine/smoke/index.html").read_text(encoding="utf-8")


def artefacts(home: Path, stage: str) -> list[Artefact]:
    store = Store(home / "runs" / "store")
    return [store.get(stage, record["key"]) for record in store.records(stage)]


def test_each_command_of_the_page_is_run_here() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^sfrbench new (\w+) my_\1", text, re.MULTILINE)) == KINDS


def test_the_page_shows_the_volumes_of_each_arm(home: Path, page: str) -> None:
    item = page.partition("<h2>Predicted volumes</h2>")[2].partition("</table>")[0]
    rows = re.findall(r"<th scope=row>([^<]+)</th><td>(?:<a [^>]*>)?([^<]+)<", item)
    provenance = json.loads((home / "runs/reports/mine/smoke/provenance.json").read_text(encoding="utf-8"))
    expected = {"MT": "—"}  # without the stage
    for cell, nodes in provenance["nodes"].items():
        predicted = Store(home / "runs" / "store").get(*nodes["predict"].split("/"))
        maps = np.stack([np.load(file) for file in sorted(predicted.folder.glob("labels/*.npy"))])
        assert maps.shape == (2, 32, 32, 16)
        if "volumes" in nodes:  # the mean over two cases of voxels of 0.002 ml
            expected[provenance["cells"][cell]["label"]] = f"{(maps == 1).sum() / 2 * 0.002:.2f}"
    assert list(expected) == ["MT", "Own", "SFR_Own"]
    assert rows == list(expected.items())


def test_the_run_took_the_parts_that_were_added(home: Path, page: str) -> None:
    def names(stage: str) -> set[Any]:
        return {part["class"] for one in artefacts(home, stage) for part in one.record["components"].values()}

    parts = {"prepare": ("dataset",), "finetune": ("stitch", "finetune"), "retrain": ("backbone", "ssl")}
    for stage, kinds in parts.items():
        assert {f"my_{kind}:My{kind.capitalize()}" for kind in kinds} <= names(stage)
    assert "<th scope=row>volumes" in page  # the stage among those that ran
    made = artefacts(home, "volumes")
    assert len(made) == 2
    assert all(f"volumes/{one.key}" in page for one in made)  # behind the numbers of its cell


def test_examples_are_in_the_style_of_the_house(home: Path) -> None:
    files = [name for name in blocks() if name.endswith(".py")]
    settings = ("--no-cache", "--config", ROOT / "pyproject.toml")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *settings, *files],
            cwd=home, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
