"""How keys, records and exports name a component, and what becomes of a workspace of before."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from sfrbench.catalog.code import BASES, class_known_as, our_classes
from sfrbench.cli import main
from sfrbench.components.base import Backbone, Component
from sfrbench.components.core import KINDS, PACKAGE
from sfrbench.errors import InputError
from sfrbench.plan.build import Plan
from sfrbench.plan.reasons import Reasons, comparable, differences, earlier, flatten
from sfrbench.store.store import Store
from tests.support.places import ROOT
from tests.support.specs import GOOD, plan_of


def ours(base: type[Component]) -> Iterator[type[Component]]:
    for cls in base.__subclasses__():
        if cls.__module__.startswith(f"{PACKAGE}."):
            yield cls
            yield from ours(cls)


def test_every_class_of_ours_has_a_name_of_its_own() -> None:
    assert tuple(BASES) == KINDS
    for kind, base in BASES.items():
        listed = our_classes(kind)
        names = [cls.identity() for cls in dict.fromkeys(ours(base))]
        assert set(listed) <= set(ours(base))
        assert len(names) == len(set(names))
        assert all(class_known_as(cls.identity(), kind) is cls for cls in listed)


def test_the_place_of_a_class_is_in_no_key(tmp_path: Path) -> None:
    for node in plan_of(tmp_path, GOOD).nodes.values():
        assert f"{PACKAGE}." not in json.dumps(node.described())
        for kind, resolved in node.components.items():
            name = type(resolved.component).__name__
            assert node.described()["components"][kind]["class"] == f"{kind}/{name}"


def test_a_class_that_moves_or_is_renamed_keeps_its_name() -> None:
    class Renamed(Backbone):
        known_as: ClassVar[str] = "VNet"

    class Child(Renamed):
        pass

    for cls in (Renamed, Child):
        cls.__module__ = f"{PACKAGE}.elsewhere"
    assert Renamed.identity() == Renamed().key_settings()["class"] == "backbone/VNet"
    assert Child.identity() == "backbone/Child"


def test_a_class_from_outside_is_known_by_its_module() -> None:
    """Also in a module that is called like a kind, and whatever it says of its name."""

    class VNet(Backbone):
        known_as: ClassVar[str] = "VNet"

    VNet.__module__, VNet.__qualname__ = "backbone", "VNet"
    assert VNet.identity() == "backbone:VNet"


@pytest.mark.parametrize(
    "text",
    ["backbone/VNet", "sfrbench.components.backbone.vnet:VNet", "sfrbench.somewhere.gone:VNet"],
)
def test_a_class_of_ours_is_found_by_its_name(text: str) -> None:
    assert class_known_as(text, "backbone").identity() == "backbone/VNet"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("backbone/VNett", "did you mean 'backbone/VNet'"),
        ("ssl/MeanTeacher", "no backbone 'ssl/MeanTeacher'"),
        ("sfrbench.components.ssl.mean_teacher:MeanTeacher", "no backbone"),
        ("nowhere:Net", "PYTHONPATH"),
        ("pathlib:Path", "is no backbone"),
        ("", "is not here"),
    ],
)
def test_a_class_that_is_not_here_is_said(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        class_known_as(text, "backbone")


def write_earlier(plan: Plan, store: Store) -> None:
    """The nodes of a plan as a version left them that knew components by their modules."""
    for node in plan.nodes.values():
        record = node.described()
        for kind, settings in record["components"].items():
            settings["class"] = f"sfrbench.components.{kind}.file:{settings['class'].partition('/')[2]}"
        record |= {"profile": "smoke", "seconds": 1.0, "key": node.key[::-1]}
        store.publish(node.stage, node.key[::-1], store.new_folder(), record)


def test_a_workspace_of_before_is_recognised_until_a_run(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD)
    store = Store(tmp_path / "runs" / "store")
    write_earlier(plan, store)
    spec = str(plan.spec.document.path)
    options = ["--profile", "smoke", "--workspace", str(tmp_path / "runs")]
    line = f"note: {len(plan.nodes)} nodes in {store.root} are of an earlier version and are not reused"
    for command in (["plan", spec], ["plan", spec, spec], ["run", spec, "--dry-run"]):
        done = CliRunner().invoke(main, [*command, *options])
        assert done.exit_code == 0, done.output
        assert done.output.count(line) == done.output.count("note:") == 1
    assert not store.marked
    first = next(iter(plan.nodes.values()))
    assert Reasons(store).why(first) == "new: components known by module → kind and name"
    store.open()
    assert earlier(Store(store.root)) == ""
    assert all(store.has(node.stage, node.key[::-1]) for node in plan.nodes.values())  # nothing is deleted
    for text in ("", "[", '{"keys": 1}', "[2]"):  # a mark that cannot be read is none
        (store.root / "keys.json").write_text(text)
        assert line.removeprefix("note: ") in earlier(Store(store.root))


def test_a_new_workspace_is_marked_and_says_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert earlier(store) == ""
    store.open()
    assert store.marked
    (store.root / "keys.json").unlink()
    node = next(iter(plan_of(tmp_path, GOOD).nodes.values()))
    store.publish(node.stage, node.key, store.new_folder(), node.described())
    assert not store.marked
    assert earlier(Store(store.root)) == ""  # its one record is of this version


def test_components_of_before_are_compared_by_their_names(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD)
    node = next(node for node in plan.nodes.values() if node.stage == "retrain")
    mine, old = node.described(), node.described()
    old["components"]["ssl"]["class"] = "sfrbench.components.ssl.supervised:Supervised"
    old["components"]["ssl"]["steps"] = 5
    told = differences(flatten(comparable(old)), flatten(comparable(mine)))
    steps = mine["components"]["ssl"]["steps"]
    assert told == ["components known by module → kind and name", f"ssl.steps 5 → {steps}"]


def keys(*options: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-X", "importtime", "benchmarks/keys.py", "--profile", "smoke", *options]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)


def test_keys_of_experiments_can_be_compared(tmp_path: Path) -> None:
    before = keys("--json", "--only", "quickstart")
    assert before.returncode == 0, before.stderr
    assert not [line for line in before.stderr.splitlines() if line.rpartition("|")[2].strip() == "torch"]
    found = json.loads(before.stdout)
    nodes = {link for plan in found.values() for link in plan.values()}
    assert f"{len(nodes)} different nodes" in before.stderr
    (tmp_path / "before.json").write_text(before.stdout)
    same = keys("--only", "quickstart", "--compare", str(tmp_path / "before.json"))
    assert (same.returncode, same.stdout) == (0, "0 places differ\n")
    (plan,) = found
    place = next(iter(found[plan]))
    found[plan][place] = "prepare/other"
    (tmp_path / "before.json").write_text(json.dumps(found))
    other = keys("--only", "quickstart", "--compare", str(tmp_path / "before.json"))
    assert other.returncode == 1
    assert f"{place}: prepare/other -> " in other.stdout
    assert other.stdout.endswith("1 places differ\n")
