"""Planning stays light, and dependencies point one way."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "sfrbench"

#: Group: its modules (a package stands for all of its modules, the longest name wins), and the groups that it
#: may import besides itself. A new component, stage, executor or report module is placed by its package; any
#: other new module must be added here.
LAYERS: dict[str, tuple[str, str]] = {
    "errors": ("errors terminal sheets private", ""),
    "names": ("metric_names", ""),
    "files": ("files urls children yamlio yaml_tree limits roots", "errors"),
    "base": ("components.base components.base_data components.core components.split", "errors"),
    "places": ("locations weights", "errors files"),
    "specs": (
        # a specification may name rows of the paper's tables
        "catalog card_code spec spec_reader spec_sections spec_sets spec_checks spec_search paper",
        "errors files base names",
    ),
    "store": ("store fingerprints", "errors files"),
    "selfcheck": ("selfcheck selfcheck_ops", "errors files store"),
    "numerics": ("gaps intervals losses metrics sampling stats volumes", "errors base names"),
    "components": ("components", "errors base numerics"),
    "context": ("stages.context", "errors base store"),
    "stages": ("stages training inference", "errors files base numerics components store context"),
    "plan": (
        "plan graph roles cells cell_names resolve reasons machine datacheck search_space search_view",
        "errors files base places specs store",
    ),
    "executors": ("executors", "errors files base places store selfcheck plan context stages"),
    "track": ("track track_database track_study track_values", "errors files base specs store plan"),
    "run": (
        "run search search_best search_optuna search_score",
        "errors files base names places specs store plan executors track",
    ),
    "results": ("results", "errors files base names specs store numerics plan run"),
    "report": ("report", "errors files base names specs store numerics plan run results"),
    "trace": ("trace", "errors files places store track"),
    "compare": (
        "compare compare_sides compare_work",
        "errors names specs store numerics plan results report trace",
    ),
    "deploy": (
        "deploy",
        "errors files base places specs store numerics components context stages plan executors run "
        "results report",
    ),
    "api": ("api", "files places plan run results report"),
    "cli": (
        "cli console text __main__",
        "errors files base places specs store selfcheck plan executors track run results report trace "
        "compare deploy names",
    ),
}
GROUP = {module: group for group, (modules, _) in LAYERS.items() for module in modules.split()}

#: What planning, listing and showing must not wait for.
HEAVY = ("torch", "peft", "mlflow", "pandas", "matplotlib", "scipy", "sklearn", "optuna", "nibabel", "h5py")
LIGHT_GROUPS = {"errors", "files", "places", "base", "specs", "store", "plan", "run", "trace", "cli"}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below ``sfrbench``; packages have no entry."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in files
        if path.name != "__init__.py"
    }


def group_of(module: str) -> str | None:
    while module and module not in GROUP:
        module = module.rpartition(".")[0]
    return GROUP.get(module)


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below ``node``, except what stands under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        yield child
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from runtime_nodes(other)
        else:
            yield from runtime_nodes(child)


def imports(source: str) -> set[str]:
    """The modules of sfrbench that a source imports, at its top or in a function."""
    names: set[str] = set()
    for node in runtime_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            # "from sfrbench.stages import context" imports the module stages.context
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("sfrbench.") for name in names if name.startswith("sfrbench.")}


def test_layers_have_no_cycle() -> None:
    graph = {group: set(below.split()) for group, (_, below) in LAYERS.items()}
    assert set().union(*graph.values()) <= set(graph)
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert order[0] == "errors"
    assert order[-1] == "cli"


def faults(module: str, source: str) -> list[str]:
    """What is wrong with the direction of a module's imports."""
    group = group_of(module)
    if group is None:
        return [f"sfrbench.{module} has no place in LAYERS of tests/test_imports.py"]
    allowed = {group, *LAYERS[group][1].split()}
    used = {name: group_of(name) for name in sorted(imports(source))}
    return [
        f"sfrbench.{module} ('{group}') must not import sfrbench.{name} ('{to}')"
        for name, to in used.items()
        if to is not None and to not in allowed
    ]


@pytest.mark.parametrize("module", modules())
def test_dependencies_point_down(module: str) -> None:
    assert faults(module, modules()[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from sfrbench import weights", {"weights"}),
        ("import sfrbench.plan", {"plan"}),
        ("def f():\n    from sfrbench.stages import context", {"stages.context"}),
        ("if TYPE_CHECKING:\n    from sfrbench.plan.build import Plan\nimport json", set()),
    ],
)
def test_imports_are_seen(source: str, found: set[str]) -> None:
    assert imports(source) == found


@pytest.mark.parametrize(
    ("module", "source", "count"),
    [
        ("nowhere", "", 1),
        ("plan", "from sfrbench.components.base import Ssl", 0),
        ("plan", "from sfrbench.components.stitch.grid import GridStitch", 1),
        ("components.stitch.grid", "import sfrbench.plan", 1),
        ("stages.retrain", "def f():\n    from sfrbench.executors import node", 1),
        ("executors.inline", "from sfrbench.engine.context import Progress", 0),
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
        f"sfrbench.{name}"
        for name in modules()
        if group_of(name) in LIGHT_GROUPS
        or (group_of(name) == "components" and not name.rpartition(".")[2].startswith("_"))
    ]
    names.append("sfrbench.selfcheck")
    names.remove("sfrbench.components.foundation.segmenter")  # a network with a public name
    assert {"sfrbench.cli.commands", "sfrbench.plan", "sfrbench.components.stitch.grid"} <= set(names)
    assert heavy_after(names, HEAVY) == {}


def test_kinds_of_report_items_are_light() -> None:
    """Reading and planning import them all; what draws and computes comes with ``make``."""
    folder = PACKAGE / "report" / "items"
    names = [f"sfrbench.report.items.{path.stem}" for path in folder.iterdir() if path.stem[0] != "_"]
    assert len(names) > 10
    assert heavy_after(names, HEAVY) == {}


def test_reports_need_no_training_library() -> None:
    names = [f"sfrbench.{name}" for name in modules() if group_of(name) == "report"]
    assert heavy_after(names, ("torch", "peft", "mlflow")) == {}


def test_heavy_imports_are_seen() -> None:
    assert heavy_after(["json", "sfrbench.errors", "scipy"], HEAVY) == {"scipy": ["scipy"]}
