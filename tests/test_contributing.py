"""The worked examples of docs/how-to/add-*.md are run as they stand there, all of them together."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sfrbench.components.dataset.phantom import Phantom
from sfrbench.components.ssl.step import Step
from sfrbench.errors import DataError
from sfrbench.maths.losses import ramp
from sfrbench.store.store import Artefact, Store
from tests.support.contributing import blocks, copy_of_package, write_blocks
from tests.support.places import ROOT
from tests.support.runs import QUIET, cli

OURS = ("--registry", "my_registry", "--data", "npz=cohort")
SPACING = (1.0, 0.5, 4.0)  # mm: a voxel has 2 cubic millimetres


def write_cohort(root: Path, train: int = 4, test: int = 2) -> None:
    """Generated volumes in the format of the example."""
    phantom = Phantom(shape=(32, 32, 16))
    for number in range(train + test):
        case = phantom.read_case(None, f"p{number:06d}")
        file = root / ("train" if number < train else "test") / f"case{number}.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, image=40 + 10 * case.image, label=case.label.astype(np.int16), spacing=SPACING)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the stage and the report item; cards, classes and data beside it."""
    folder = copy_of_package(tmp_path_factory.mktemp("copy"))
    write_blocks(folder)
    write_cohort(folder / "cohort")
    return folder


@pytest.fixture(scope="module")
def page(home: Path) -> str:
    """The page of the specification that names all of them."""
    said = cli("run", "mine.yaml", "--profile", "smoke", *OURS, *QUIET, cwd=home, package=home).stdout
    assert " 0 failed, 0 blocked" in said
    return (home / "runs/reports/mine/smoke/index.html").read_text(encoding="utf-8")


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapping[str, ModuleType]]:
    """The modules of the components; they are forgotten afterwards."""
    names = [path.stem for path in write_blocks(tmp_path, "my_") if path.suffix == ".py"]
    monkeypatch.syspath_prepend(tmp_path)
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


def artefacts(home: Path, stage: str) -> list[Artefact]:
    store = Store(home / "runs" / "store")
    return [store.get(stage, record["key"]) for record in store.records(stage)]


def test_components_hold_what_their_kinds_promise(home: Path) -> None:
    cards = [name.removeprefix("my_registry/").removesuffix(".yaml") for name in blocks() if "_reg" in name]
    assert sorted(card.partition("/")[0] for card in cards) == ["dataset", "ssl", "stitch", "stitch"]
    said = cli("conform", *cards, *OURS, cwd=home, package=home).stdout
    assert re.search(r"^4 cards: \d\d checks hold, 0 do not$", said, re.MULTILINE), said


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
    assert list(expected) == ["MT", "Entropy", "SFR_Entropy"]
    assert rows == list(expected.items())


def test_the_run_took_the_parts_that_were_added(home: Path, page: str) -> None:
    def names(stage: str) -> set[Any]:
        return {part["class"] for one in artefacts(home, stage) for part in one.record["components"].values()}

    assert "my_npz:NpzFolder" in names("prepare")
    assert "my_interleaved:Interleaved" in names("finetune")
    assert "my_entropy:EntropyMinimisation" in names("retrain")
    assert "<th scope=row>volumes" in page  # the stage among those that ran
    made = artefacts(home, "volumes")
    assert len(made) == 2
    assert all(f"volumes/{one.key}" in page for one in made)  # behind the numbers of its cell


def test_entropy_is_that_of_the_formula(modules: Mapping[str, ModuleType]) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3, 3, 4, 4, 4, generator=draw)
    empty = torch.zeros(0)
    step = Step(
        torch.nn.Identity(), None, {}, empty, empty, logits[:1], logits[1:], None, 3000, 6000, 3, draw
    )
    found = modules["my_entropy"].EntropyMinimisation(lambda_cons=0.5).loss(step)
    probs = np.exp(logits[1:].double().numpy())
    probs /= probs.sum(1, keepdims=True)
    entropy = -(probs * np.log(probs) / np.log(3)).sum(1).mean()
    assert found.item() == pytest.approx(0.5 * ramp(3000, 40, 150) * entropy, rel=1e-5)


def test_neighbours_lie_apart_on_the_canvas(modules: Mapping[str, ModuleType]) -> None:
    stitch = modules["my_interleaved"].Interleaved(step=3)
    slices = torch.arange(1.0, 10.0).expand(1, 32, 32, 9)  # slice z holds z + 1
    (canvas,) = stitch.to_canvases(slices, 96, 0.0)[0]
    cells = canvas.reshape(3, 32, 3, 32).amax((1, 3)).flatten()
    assert cells.tolist() == [1, 4, 7, 2, 5, 8, 3, 6, 9]


def test_a_case_that_cannot_be_used_is_named(modules: Mapping[str, ModuleType], tmp_path: Path) -> None:
    write_cohort(tmp_path)
    dataset, file = modules["my_npz"].NpzFolder(), tmp_path / "train" / "case1.npz"
    assert dataset.case_lists(tmp_path) == (["case0", "case1", "case2", "case3"], ["case4", "case5"])
    with np.load(file) as arrays:
        np.savez(file, **{**arrays, "label": arrays["label"] * 2})
    with pytest.raises(DataError, match="case case1, "):
        dataset.read_case(tmp_path, "case1")


def test_examples_are_in_the_style_of_the_house(home: Path) -> None:
    files = [name for name in blocks() if name.endswith(".py")]
    settings = ("--no-cache", "--config", ROOT / "pyproject.toml")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *settings, *files],
            cwd=home, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
