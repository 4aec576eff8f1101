"""A stage is one place: a folder more, and a specification may name it; nothing else knows of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from sfrbench import stages
from sfrbench.cli import main
from sfrbench.stages.finder import default_stages, named_stages, recipe_of, recipes
from sfrbench.store.store import Store
from tests.support.contributing import blocks

#: The worked example.
RECIPE, RUN = (blocks()[f"sfrbench/stages/volumes/{name}.py"] for name in ("recipe", "run"))

SPEC = """\
title: Sizes
dataset: {name: phantom, labeled: 2, train_cases: 4, test_cases: 2, shape: [32, 32, 16]}
protocol: strict
base: {backbone: vnet}
arms:
  - {name: sup, ssl: supervised, stages: [retrain, predict, evaluate, volumes]}
  - {name: mt, ssl: mean_teacher, stages: [retrain, predict, evaluate]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a stage more may stand; it is forgotten afterwards."""
    (tmp_path / "more").mkdir()
    monkeypatch.setattr(stages, "__path__", [*stages.__path__, str(tmp_path / "more")])
    monkeypatch.chdir(tmp_path)
    recipes.cache_clear()
    known = set(sys.modules)
    yield tmp_path / "more"
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
    recipes.cache_clear()


def add(folder: Path, stage: str, recipe: str, run: str = "") -> None:
    (folder / stage).mkdir()
    for name, text in (("__init__", ""), ("recipe", recipe), ("run", run)):
        (folder / stage / f"{name}.py").write_text(text, encoding="utf-8")


def cli(*arguments: str) -> str:
    done = CliRunner().invoke(main, [*arguments, "--profile", "smoke", "--workspace", "runs"])
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    return done.output


def test_a_stage_is_added_by_a_folder(folder: Path, tmp_path: Path) -> None:
    add(folder, "volumes", RECIPE, RUN)
    (tmp_path / "sizes.yaml").write_text(SPEC, encoding="utf-8")
    assert "volumes" in named_stages()
    assert "volumes" not in default_stages()
    planned = json.loads(cli("plan", "sizes.yaml", "--json"))["by_stage"]
    assert planned["volumes"] == {  # its recipe states no cost
        "nodes": 1, "reused": 0, "to_run": 1, "seconds": None, "bytes": None,
        "time_known_by": {"unknown": 1}, "disk_known_by": {"unknown": 1},
    }  # fmt: skip
    first = cli("run", "sizes.yaml", "--tracking-uri", "none")
    assert " done volumes " in first
    assert " 0 failed, 0 blocked" in first

    (record,) = Store(tmp_path / "runs" / "store").records("volumes")
    assert record["stage_version"] == 1
    assert record["settings"] == {"unit": "ml"}
    artefact = Store(tmp_path / "runs" / "store").get("volumes", record["key"])
    source = Store(tmp_path / "runs" / "store").get(*record["inputs"]["labels"])
    sizes = artefact.read_json("volumes.json")
    assert len(sizes) == 2
    for case, of in sizes.items():  # the phantom has voxels of 1 mm
        labels = np.load(source.path(f"labels/{case}.npy"))
        assert list(of.values()) == [(labels == number).sum() / 1000 for number in range(len(of))]

    again = cli("run", "sizes.yaml", "--tracking-uri", "none")
    assert " reuse volumes " in again
    assert "nodes: 0 ran" in again
    assert "volumes" in cli("plan", "sizes.yaml")


def test_a_stage_that_nobody_added_is_no_stage(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sizes.yaml").write_text(SPEC, encoding="utf-8")
    done = CliRunner().invoke(main, ["validate", "sizes.yaml", "--profile", "smoke"])
    assert done.exit_code != 0
    assert "no stage 'volumes'" in done.output


@pytest.mark.parametrize(
    ("wrong", "change", "said"),
    [
        ("volumes", ('("predict",)', '("predcit",)'), "input 'labels' is of no stage 'predcit'"),
        ("sizes", ("", ""), "stages/sizes/recipe.py calls the stage 'volumes'"),
        ("volumes", ('("predict",)', '("volumes",)'), "cycle"),
    ],
)
def test_a_recipe_that_cannot_be_is_named(
    folder: Path, wrong: str, change: tuple[str, str], said: str
) -> None:
    add(folder, wrong, RECIPE.replace(*change))
    with pytest.raises(ValueError, match=said):
        recipes()


def test_an_input_that_the_recipe_does_not_know_is_named(folder: Path, tmp_path: Path) -> None:
    add(
        folder,
        "volumes",
        RECIPE.replace('{"prepare": "prepare", "labels"', '{"prepare": "retrain", "labels"'),
        RUN,
    )
    (tmp_path / "sizes.yaml").write_text(SPEC, encoding="utf-8")
    done = CliRunner().invoke(main, ["plan", "sizes.yaml", "--profile", "smoke"])
    assert "stages/volumes/recipe.py  no input 'prepare' of stage 'retrain'" in done.output


def test_stages_join_after_what_they_take() -> None:
    order = list(recipes())
    for stage, recipe in recipes().items():
        sources = {source for allowed in recipe.inputs.values() for source in allowed}
        assert all(order.index(source) < order.index(stage) for source in sources)
    assert default_stages() == ("finetune", "retrain", "predict", "evaluate")
    assert named_stages() == (
        "prepare",
        "finetune",
        "pseudolabel",
        "retrain",
        "predict",
        "interact",
        "evaluate",
    )


@pytest.mark.parametrize("stage", recipes())
def test_a_stage_says_what_it_is(stage: str) -> None:
    recipe = recipe_of(stage)
    folder = Path(str(stages.__path__[0])) / stage
    assert {path.name for path in folder.glob("*.py")} >= {"__init__.py", "recipe.py", "run.py"}
    assert recipe.settings.model_config.get("frozen")
    assert recipe.needs.accelerator == recipe.needs.network
    assert recipe.version >= 1
