"""Dependencies point one way, down the list of rooms, and planning stays light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.places import ROOT

PACKAGE = ROOT / "sfrbench"

#: The rooms, from the top of the house to its ground. A module may import what stands in its own room or
#: below, also in a function, for types alone, or by name at run time.
ROOMS = (
    "__main__", "cli", "api", "scaffold", "deploy", "compare", "report", "search", "conformance", "results",
    "run", "machine", "plan", "spec", "stages", "paper", "engine", "catalog", "components", "places", "store",
    "maths", "files", "errors", "version",
)  # fmt: skip

#: What planning, listing and showing must not wait for.
HEAVY = ("torch", "peft", "mlflow", "pandas", "matplotlib", "scipy", "sklearn", "optuna", "nibabel", "h5py")
LIGHT = {"cli", "compare", "search", "run", "machine", "plan", "spec", "catalog", "places", "store", "files"}
#: Modules of light rooms, or public ones of components, that hold heavy work.
HEAVY_MODULES = {
    "machine.selfcheck_ops", "machine.live_bytes", "machine.training_memory",
    "components.foundation.segmenter", "compare.runs", "compare.sides", "compare.work",
}  # fmt: skip
#: Of the stages: all but their behaviour.
LIGHT_STAGES = {"cost", "finder", "recipe", "settings", "roles"}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below ``sfrbench``; packages have no entry."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in files
        if path.name != "__init__.py"
    }


def imports(source: str) -> set[str]:
    """The modules of sfrbench that a source imports: at its top, in a function, for types, by name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            # "from sfrbench.engine import context" imports the module engine.context
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {ast.unparse(part).strip("f'\"") for part in node.args[:1]}
    return {name.removeprefix("sfrbench.") for name in names if name.startswith("sfrbench.")}


def room(module: str) -> str:
    return module.partition(".")[0]


def faults(module: str, source: str) -> list[str]:
    """What is wrong with the direction of a module's imports."""
    if room(module) not in ROOMS:
        return [f"sfrbench.{module} stands in no room of tests/test_imports.py"]
    here = ROOMS.index(room(module))
    above = sorted(name for name in imports(source) if room(name) in ROOMS[:here])
    return [f"sfrbench.{module} must not import sfrbench.{name}, which stands above it" for name in above]


def module_of(name: str, known: Mapping[str, Path]) -> str:
    """The module that an imported name stands in; empty for a package."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def test_the_house_has_few_rooms() -> None:
    top = [path for path in PACKAGE.iterdir() if path.suffix == ".py"]
    rooms = [path for path in PACKAGE.iterdir() if path.is_dir() and list(path.rglob("*.py"))]
    assert len(top) <= 8
    assert len(top) + len(rooms) <= 26
    assert {path.name for path in rooms} | {path.stem for path in top} <= {*ROOMS, "__init__"}


def test_no_circle() -> None:
    """Between modules, imports for types counted."""
    known = modules()
    graph = {
        name: {module_of(to, known) for to in imports(path.read_text(encoding="utf-8"))} - {name, ""}
        for name, path in known.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("module", modules())
def test_dependencies_point_down(module: str) -> None:
    assert faults(module, modules()[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from sfrbench import api", {"api"}),
        ("import sfrbench.plan.build", {"plan.build"}),
        ("def f():\n    from sfrbench.engine import context", {"engine.context"}),
        ("if TYPE_CHECKING:\n    from sfrbench.plan.build import Plan\nimport json", {"plan.build.Plan"}),
        ("importlib.import_module(f'sfrbench.stages.{name}')", {"stages.{name}"}),
    ],
)
def test_imports_are_seen(source: str, found: set[str]) -> None:
    assert imports(source) == found


@pytest.mark.parametrize(
    ("module", "source", "count"),
    [
        ("nowhere", "", 1),
        ("plan.build", "from sfrbench.components.base import Ssl", 0),
        ("components.stitch.grid", "import sfrbench.plan.build", 1),
        ("maths.metrics", "if TYPE_CHECKING:\n    from sfrbench.components.base import Protocol", 1),
        ("stages.retrain.run", "def f():\n    from sfrbench.run.executors import node", 1),
        ("plan.build", "importlib.import_module('sfrbench.report.items')", 1),
        ("run.executors.drive", "from sfrbench.engine.context import Progress", 0),
    ],
)
def test_a_wrong_direction_is_seen(module: str, source: str, count: int) -> None:
    assert len(faults(module, source)) == count


def heavy_after(names: list[str], heavy: tuple[str, ...]) -> dict[str, list[str]]:
    """Which ``heavy`` packages are loaded after each module is imported, in one new interpreter."""
    program = (
        "import importlib, json, sys\n"
        "names, heavy = json.loads(sys.argv[1])\n"
        "found, seen = {}, set()\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        "    found[name] = sorted(set(heavy) & set(sys.modules) - seen)\n"
        "    seen |= set(found[name])\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps([names, heavy])],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return {name: packages for name, packages in found.items() if packages}


def test_planning_is_light() -> None:
    names = [
        name
        for name in modules()
        if room(name) in LIGHT
        or (room(name) == "components" and not name.rpartition(".")[2].startswith("_"))
        or (room(name) == "stages" and name.rpartition(".")[2] in LIGHT_STAGES)
    ]
    assert set(names) >= HEAVY_MODULES | {
        "cli.commands", "plan.build", "components.stitch.grid", "stages.retrain.recipe",
    }  # fmt: skip
    assert heavy_after([f"sfrbench.{name}" for name in names if name not in HEAVY_MODULES], HEAVY) == {}


def test_reports_need_no_training_library() -> None:
    names = [f"sfrbench.{name}" for name in modules() if room(name) == "report"]
    assert heavy_after(names, ("torch", "peft", "mlflow")) == {}


def test_heavy_imports_are_seen() -> None:
    assert heavy_after(["json", "sfrbench.errors", "scipy"], HEAVY) == {"scipy": ["scipy"]}
