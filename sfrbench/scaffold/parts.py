"""The files of a new component or report item, from the templates in this package.

A template is real code: it is checked, typed and tested where it lies, under the name ``newpart``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from sfrbench.catalog.cards import Catalog
from sfrbench.errors import InputError
from sfrbench.files.roots import shipped
from sfrbench.report.items import every
from sfrbench.scaffold.names import check_module, check_name, class_name

#: What can be made anew, and what is said of its files.
KINDS: Mapping[str, str] = {
    "ssl": "the method: its fields and its loss",
    "stitch": "the stitch: its fields, and where slices lie",
    "backbone": "the backbone: its fields, and what builds the network",
    "finetune": "the fine-tuning: its fields, and which layers train",
    "dataset": "the dataset: its files, its lists, and how a case is read",
    "item": "the report item: its fields and its table",
}
NAME, CLASS, WORDS = "newpart", "NewPart", "New part"
ITEMS = "sfrbench/report/items"
_IMPORTS = re.compile(
    r"^(?P<others>(?:[ ]*(?:import|from) .*\n)+)\n(?P<ours>(?:[ ]*from sfrbench\..*\n)+)", re.MULTILINE
)


@dataclass(frozen=True)
class Made:
    """Something new, not yet written: its files below a folder, what each is, and commands to go on with."""

    files: Mapping[str, str]  # path -> text
    told: Mapping[str, str]  # path -> what it is
    commands: Sequence[str]
    notes: Sequence[str] = ()


def part(kind: str, name: str, folder: Path) -> Made:
    """A component of a kind, or a report item, for ``folder``. Raises ``InputError`` for a name that cannot
    be had, and where ``folder`` is not the place for it."""
    return _item(name, folder) if kind == "item" else _component(kind, name, folder)


def _component(kind: str, name: str, folder: Path) -> Made:
    check_name(name, Catalog.read().names(kind), "a card of this kind")
    check_module(name, folder)
    if (folder / "registry").resolve() == shipped("registry"):
        hint = "--into DIR: a folder of your own; CONTRIBUTING.md says how a component comes into the package"
        raise InputError("the registry here ships with sfrbench", where=str(folder), hint=hint)
    card, test = f"registry/{kind}/{name}.yaml", f"test_{name}.py"
    told = {f"{name}.py": KINDS[kind], card: "its card: name, label, preset", test: "its test"}
    made = _filled(kind, name)
    if f"_{name}.py" in made:
        told[f"_{name}.py"] = "the network, which is imported when it is built"
    data = f" --data {name}=DIR" if kind == "dataset" else ""
    try_it = (
        f"PYTHONPATH=. sfrbench data check {name} --registry registry{data}"
        if kind == "dataset"
        else f"PYTHONPATH=. sfrbench run quickstart --profile smoke --registry registry --set {kind}={name}"
    )
    conform = f"PYTHONPATH=. sfrbench conform {kind}/{name} --registry registry{data}"
    lacking = () if find_spec("pytest") else ("pip install pytest",)
    return Made(made, told, [*lacking, f"python -m pytest {test}", conform, try_it])


def _item(name: str, folder: Path) -> Made:
    from sfrbench.report.item import OfArms

    check_name(name, every(), "a report item")
    if hasattr(OfArms, name) or name in OfArms.model_fields:
        raise InputError(
            f"'{name}' means something else in a report item", where="NAME", hint="choose another"
        )
    if not (folder / ITEMS).is_dir():
        what = f"report items are part of the package: there is no {ITEMS} here"
        raise InputError(what, where=str(folder), hint="--into DIR: a checkout of sfrbench")
    places = {f"{name}.py": f"{ITEMS}/{name}.py", f"test_{name}.py": f"tests/report/test_{name}_item.py"}
    made = {places[path]: text for path, text in _filled("item", name).items()}
    item, test = places.values()
    spec = f"as in report: [{{{name}: dice}}]"
    commands = [
        f"python -m pytest -n 0 {test}",
        f"sfrbench new experiment my_report   # and list it there, {spec}",
        "sfrbench schema > experiments/spec.schema.json",
    ]
    return Made(made, {item: KINDS["item"], test: "its test"}, commands)


def _filled(kind: str, name: str) -> dict[str, str]:
    """The template of a kind under another name."""
    root = Path(str(files("sfrbench"))) / "scaffold" / "templates" / kind
    found = sorted(path for path in root.rglob("*newpart*") if path.suffix in (".py", ".yaml"))
    texts = {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in found}
    new = class_name(name)
    if any(re.search(rf"\b{new}\b", text) for text in texts.values()):
        what = f"the class would be called {new}, as something that it uses"
        raise InputError(what, where="NAME", hint=f"choose another one, such as my_{name}")
    if kind != "item":
        texts = {path: _IMPORTS.sub(_merged, text) for path, text in texts.items()}
    return {_named(path, name, kind): _named(text, name, kind) for path, text in texts.items()}


def _merged(found: re.Match[str]) -> str:
    """Imports of other packages and of this one, in one group, as they are sorted outside of the package."""
    lines = [*found["others"].splitlines(), *found["ours"].splitlines()]
    if lines[0].split()[1].partition(".")[0] in sys.stdlib_module_names:
        return found[0]
    return "".join(f"{line}\n" for line in sorted(lines, key=_order))


def _order(line: str) -> tuple[bool, str]:
    word, module = line.split()[:2]
    return word == "from", module


def _named(text: str, name: str, kind: str) -> str:
    words = name.replace("_", " ")
    text = text.replace(f"sfrbench.scaffold.templates.{kind}.", "")
    text = text.replace(CLASS, class_name(name)).replace(NAME, name)
    return text.replace(WORDS, words[:1].upper() + words[1:]).replace(WORDS.lower(), words)
