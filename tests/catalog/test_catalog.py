"""Cards: found without importing anything, and wrong ones are named with place and remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import KINDS
from sfrbench.errors import InputError
from tests.support.runs import cli

GOOD = """\
target: sfrbench.components.stitch.grid:GridStitch
summary: A test.
label: Test
preset: {scale: 3}
search: {scale: [1, 4]}
"""


def write(tmp_path: Path, text: str, kind: str = "stitch", name: str = "test") -> Path:
    path = tmp_path / "cards" / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return tmp_path / "cards"


def faults(root: Path) -> str:
    """Everything that is wrong with a registry, also what is found only when a card is used."""
    try:
        catalog = Catalog.read([root])
    except InputError as error:
        return str(error)
    return "\n".join(str(problem) for card in catalog.cards() for problem in card.problems())


def test_a_second_registry_is_added(tmp_path: Path) -> None:
    catalog = Catalog.read([write(tmp_path, GOOD)])
    assert catalog.card("stitch", "test").component({}).model_dump()["scale"] == 3
    assert "grid" in catalog.names("stitch")


BROKEN = [
    ("unknown key", (GOOD, GOOD + "lable: x\n"), ["test.yaml:6:1", "no field 'lable'", "'label'"]),
    ("no target", ("target: sfrbench.components.stitch.grid:GridStitch\n", ""), ["'target' is missing"]),
    ("no label", ("label: Test\n", ""), ["'label' is missing"]),
    ("target of no form", (":GridStitch", ".GridStitch"), ["test.yaml:1:1", "target"]),
    ("no such module", ("stitch.grid:", "stitch.gird:"), ["test.yaml:1:1", "gird", "PYTHONPATH"]),
    ("no such class", ("GridStitch", "GirdStitch"), ["test.yaml:1:1", "'GirdStitch'", "'GridStitch'"]),
    ("no component", ("stitch.grid:GridStitch", "stitch.grid:IGNORE"), ["no component class 'IGNORE'"]),
    ("preset of no field", ("{scale: 3}", "{scael: 3}"), ["test.yaml:4", "no field 'scael'", "'scale'"]),
    ("preset out of bounds", ("{scale: 3}", "{scale: 0}"), ["test.yaml:4", "0 is below the bound 1"]),
    ("preset of another type", ("{scale: 3}", "{scale: wide}"), ["test.yaml:4", "integer", "'wide'"]),
    ("search of no field", ("search: {scale", "search: {scael"), ["test.yaml:5", "no field 'scael'"]),
    (
        "the base of all",
        ("stitch.grid:GridStitch", "core:Component"),
        ["test.yaml:1:1", "kind 'stitch' is needed"],
    ),
    ("the base of the kind", ("stitch.grid:GridStitch", "base:Stitch"), ["only what all are made from"]),
    (
        "another kind",
        ("stitch.grid:GridStitch", "backbone.vnet:VNet"),
        ["kind 'stitch' is needed, 'VNet' is none"],
    ),
    (
        "a module of no component",
        ("sfrbench.components.stitch.grid:GridStitch", "json:dumps"),
        ["no component class"],
    ),
    (
        "an odd module",
        ("sfrbench.components.stitch.grid:", "sfrbench..grid:"),
        ["test.yaml:1:1", "sfrbench..grid"],
    ),
    ("control code", ("summary: A test.", 'summary: "\\e[31mA test."'), ["test.yaml:2:10", "U+001B"]),
    ("preset is a list", ("{scale: 3}", "[3]"), ["test.yaml:4:1", "preset: a mapping is needed"]),
    ("summary is a number", ("A test.", "5"), ["test.yaml:2:1", "summary: text is needed, got 5"]),
    ("search is not a number", ("[1, 4]", "[.nan, 4]"), ["test.yaml:5:18", "no finite number"]),
    ("key twice", ("label: Test", "label: Test\nlabel: Again"), ["test.yaml:4:1", "duplicate key"]),
    ("no YAML", ("preset: {scale: 3}", "preset: {scale: 3"), ["test.yaml:"]),
]


@pytest.mark.parametrize(("change", "wanted"), [(b[1], b[2]) for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_cards(tmp_path: Path, change: tuple[str, str], wanted: list[str]) -> None:
    assert change[0] in GOOD
    message = faults(write(tmp_path, GOOD.replace(change[0], change[1], 1)))
    for part in wanted:
        assert part in message


#: What a module does while it is imported, or its class when it is used, and what is said.
MODULES = [
    ("raise RuntimeError('no\\nway')", ["importing it ends in RuntimeError: no way", "my_stitch.py:2"]),
    ("import sys; sys.exit(3)", ["importing it ends in SystemExit: 3", "my_stitch.py:2"]),
    ("raise type('Odd', (BaseException,), {})", ["importing it ends in Odd"]),
    ("class E(Exception):\n    def __str__(self): return 1 / 0\nraise E", ["ZeroDivisionError"]),
    ("def f(: pass", ["SyntaxError", "my_stitch.py:2"]),
    ("from sfrbench.components.stitch.grid import Griid", ["cannot import name 'Griid'", "my_stitch.py:2"]),
    ("import sfrbench.nowhere", ["No module named 'sfrbench.nowhere'", "my_stitch.py:2"]),
    ("f()\ndef f(): f()\n", ["NameError"]),
    ("import no_such_thing", ["no_such_thing", "install it"]),
    ("import sys; sys.modules[__name__] = 5", ["no component class"]),
    ("def __getattr__(name): raise KeyError(name)", ["KeyError"]),
    (
        "class Mine(GridStitch):\n    def model_post_init(self, _): raise OSError('x')",
        ["making it ends in OSError: x"],
    ),
    ("class Mine(GridStitch):\n    must: int", ["'must' is missing"]),
]


@pytest.mark.parametrize(("code", "wanted"), MODULES)
def test_a_module_that_misbehaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, wanted: list[str]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_stitch", raising=False)
    head = "from sfrbench.components.stitch.grid import GridStitch\n"
    (tmp_path / "my_stitch.py").write_text(head + code + "\n")
    message = faults(
        write(tmp_path, GOOD.replace("sfrbench.components.stitch.grid:GridStitch", "my_stitch:Mine"))
    )
    for part in ("test.yaml:", *wanted):
        assert part in message
    monkeypatch.delitem(sys.modules, "my_stitch", raising=False)


def test_a_class_that_fails_in_a_plan(tmp_path: Path) -> None:
    """And what its module prints is no part of the command's output, and does not colour the terminal."""
    (tmp_path / "my_plan_stitch.py").write_text(
        "from sfrbench.components.stitch.grid import GridStitch\nprint('\\x1b[31mhello')\n"
        "class Mine(GridStitch):\n    def conflicts(self, cell): return cell['nothing']\n"
        "class Keys(GridStitch):\n    def key_settings(self): raise ValueError('no key')\n"
    )
    spec = tmp_path / "spec.yaml"
    root = write(tmp_path, GOOD.replace("sfrbench.components.stitch.grid:GridStitch", "my_plan_stitch:Mine"))
    (root / "stitch" / "keys.yaml").write_text(
        (root / "stitch" / "test.yaml").read_text().replace("Mine", "Keys")
    )
    spec.write_text(
        "title: x\ndataset: phantom\n"
        "base: {finetune: lora, foundation: sam_toy, backbone: vnet, ssl: supervised}\n"
        "arms: [{name: a, stitch: test, pseudo: offline}, {name: b, stitch: keys}]\n"
    )
    told = cli("validate", "spec.yaml", "--profile=smoke", f"--registry={root}", cwd=tmp_path, check=2)
    assert told.stdout == ""
    assert "conflicts ends in KeyError: 'nothing'" in told.stderr
    assert "key_settings ends in ValueError: no key" in told.stderr
    assert "\\x1b[31mhello" in told.stderr
    assert "\x1b" not in told.stderr


def test_a_folder_that_is_no_kind(tmp_path: Path) -> None:
    message = faults(write(tmp_path, GOOD, kind="stich"))
    assert "'stich' is no kind" in message
    assert "did you mean 'stitch'" in message


def test_the_same_name_twice_names_both_files(tmp_path: Path) -> None:
    message = faults(write(tmp_path, GOOD, name="grid"))
    assert "stitch/grid is defined twice" in message
    assert message.count("grid.yaml") == 2


def test_a_missing_folder(tmp_path: Path) -> None:
    assert "no such registry folder" in faults(tmp_path / "nowhere")


def test_several_broken_cards_are_named_at_once(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD + "x: 1\n")
    (root / "stitch" / "other.yaml").write_text("label: x\n")
    message = faults(root)
    assert "no field 'x'" in message
    assert "other.yaml" in message


@pytest.mark.parametrize("card", Catalog.read().cards(), ids=lambda card: f"{card.kind}/{card.name}")
def test_every_shipped_card_is_sound(card: object) -> None:
    assert card.problems() == []  # type: ignore[attr-defined]
    assert card.summary.rstrip().endswith(".")  # type: ignore[attr-defined]


def test_a_broken_card_ends_with_exit_2(tmp_path: Path) -> None:
    write(tmp_path, GOOD + "x: 1\n")
    done = cli("list", "--registry", "cards", cwd=tmp_path, check=2)
    assert "no field 'x'" in done.stderr


def test_list_and_show(tmp_path: Path) -> None:
    listed = cli("list", "--json", cwd=tmp_path)
    assert {card["kind"] for card in json.loads(listed.stdout)["cards"]} <= set(KINDS)
    shown = cli("show", "finetune/lora", cwd=tmp_path).stdout
    assert "rank = 4" in shown
    assert "≥ 1, ≤ 256" in shown
    assert "did you mean 'lora'" in cli("show", "finetune/loar", cwd=tmp_path, check=2).stderr
    assert "write KIND/NAME" in cli("show", "lora", cwd=tmp_path, check=2).stderr


def test_show_tells_what_a_group_given_in_part_keeps(tmp_path: Path) -> None:
    card = tmp_path / "cards" / "finetune" / "lora_slow.yaml"
    card.parent.mkdir(parents=True)
    lora = (Catalog.read().card("finetune", "lora").path).read_text(encoding="utf-8")
    card.write_text(lora.split("preset:")[0] + "preset: {optim: {lr: 1.0e-5}}\n", encoding="utf-8")
    shown = cli("show", "finetune/lora_slow", "--registry", "cards", cwd=tmp_path).stdout
    assert "optim.lr = 1e-05" in shown
    assert "optim.optimiser = 'adamw'" in shown  # the class's, not that of an optimiser by itself
    assert "optim.schedule = 'poly'" in shown


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sfrbench.catalog.cards import Catalog; Catalog.read()\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_group_given_in_part_keeps_the_rest_of_the_class_default() -> None:
    card = Catalog.read().card("finetune", "lora")
    plain, changed = card.component({}).model_dump(), card.component({"optim": {"clip": 1.0}}).model_dump()
    assert plain["optim"]["optimiser"] == "adamw"
    assert changed == {**plain, "optim": {**plain["optim"], "clip": 1.0}}
