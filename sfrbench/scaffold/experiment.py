"""A new specification that goes on from another one, on its dataset or on another.

It extends the other: what it does not say is as there. Only where the other one sets fields of its dataset
that the new dataset does not have is it a copy without them, since what is inherited cannot be taken away.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sfrbench.catalog.cards import Catalog
from sfrbench.scaffold.names import check_name
from sfrbench.scaffold.parts import Made
from sfrbench.spec.extends import load_spec, locate
from sfrbench.spec.overlay import Told, told
from sfrbench.spec.shipped import experiments
from sfrbench.spec.written import flow, one_line, text, written

KIND = "dataset"
_ARM = re.compile(r"[\w.+-]+")  # stands as it is in a comment, and where that is made part of the file
#: What one specification says that another on other data does not repeat.
_OWN = ("title", "description", "paper", "extends")
_HEAD = """\
# What stands here is laid over {base}: mappings key by key, arms by name; any other list is replaced.
# The whole, each value with its place: sfrbench show {file} --resolved
"""
_CHANGES = """\
# To be changed as you like; 'sfrbench list' has the names, 'sfrbench show KIND/NAME' the fields:
#
# base:
#   finetune: {{name: lora, rank: 8}}
# arms:                         # one of the same name is changed, another one is added
#   - {{name: {arm}, ssl.steps: 3000}}
#   - {{name: {arm}_ict, label: "{arm}, ICT", ssl: ict}}
# axes:                         # every arm at each of these
#   dataset.labeled: [1, 2, 4]
# seeds: [0, 1, 2]
# profiles:
#   cpu: {{seeds: [0]}}           # for one profile alone
"""


@dataclass(frozen=True)
class _Said:
    """A field of the dataset that the other specification sets."""

    field: str
    at: str  # the section and the key, as in 'profiles.cpu: dataset.unlabeled 24'


def experiment(name: str, base: str, data: str | None, registry: Collection[Path], folder: Path) -> Made:
    """``NAME.yaml`` after the specification ``base``, a shipped name or a path; ``data``: on this dataset.

    Raises ``InputError`` for names that are not there or cannot be had.
    """
    check_name(name, experiments(), "an experiment")
    path = locate(base)
    whole = told(load_spec(path))
    file = f"{name}.yaml"
    shown = base if path == experiments().get(base) else _from(folder, path)
    title = text(_title(whole) if data is None else f"{path.stem} on {data}")
    lines, notes = [f"title: {title}", f"extends: {text(shown)}"], []
    if data is not None:
        card = Catalog.read(registry).card(KIND, data)
        fields = card.component_class.model_fields
        said = list(_said(whole))
        lost = [one for one in said if one.field not in fields]
        notes = [f"{data}: {card.summary}", *_notes(shown, data, said, lost)]
        if lost:
            body = written(_without(_on(whole, data), fields)).partition("\n")[2]
            head = f"title: {title}\ndescription: {text(_described(shown, data))}\n"
            return _made(file, _comments(notes) + head + body, f"a copy of {shown} on {data}", notes)
        lines.append(f"description: {text(_described(shown, data))}")
        lines += [f"dataset: {{name: {text(data)}}}", *_unpublished(whole)]
    changes = _CHANGES.format(arm=_arm(whole))
    body = f"{_HEAD.format(base=one_line(shown), file=file)}{_comments(notes)}" + "\n".join(
        [*lines, "", changes]
    )
    return _made(file, body, f"goes on from {shown}", notes)


def _made(file: str, body: str, what: str, notes: list[str]) -> Made:
    commands = [
        f"sfrbench show {file}",
        f"sfrbench plan {file} --profile cpu",
        f"sfrbench run {file} --profile smoke",
    ]
    return Made({file: body}, {file: what}, commands, notes)


def _from(folder: Path, path: Path) -> str:
    """The path of a specification of the user's as one in ``folder`` names it."""
    return os.path.relpath(path.resolve(), folder.resolve())


def _title(whole: Told) -> str:
    given = whole.value.get("title")
    title = given.value if given is not None and isinstance(given.value, str) else "An experiment"
    return f"{title}, changed"


def _described(base: str, data: str) -> str:
    return f"As {base}, on {data}."


def _arm(whole: Told) -> str:
    """The name of the last arm."""
    arms = whole.value.get("arms")
    last = arms.value[-1] if arms is not None and isinstance(arms.value, list) and arms.value else None
    name = last.value.get("name") if last is not None and isinstance(last.value, dict) else None
    return str(name.value) if name is not None and _ARM.fullmatch(str(name.value)) else "mt"


def _said(item: Told, at: str = "") -> Iterator[_Said]:
    """What a specification says of fields of its dataset, in whatever section."""
    if isinstance(item.value, list):
        for number, each in enumerate(item.value):
            known = each.value.get("name") if isinstance(each.value, dict) else None
            yield from _said(each, f"{at}[{known.value if known is not None else number}]")
    if not isinstance(item.value, dict):
        return
    for key, inner in item.value.items():
        head, _, field = str(key).partition(".")
        if head == KIND and field:
            yield _Said(field.partition(".")[0], _place(at, str(key), inner))
        elif key == KIND and at != "replace" and isinstance(inner.value, dict):
            for name, value in inner.value.items():
                if name != "name" and not at.endswith("replace"):
                    yield _Said(str(name), _place(at, f"{KIND}.{name}", value))
        else:
            yield from _said(inner, f"{at}.{key}" if at else str(key))


def _place(at: str, path: str, item: Told) -> str:
    return f"{at}: {path} {flow(_plain(item))}" if at else f"{path} {flow(_plain(item))}"


def _plain(item: Told) -> object:
    if isinstance(item.value, dict):
        return {key: _plain(inner) for key, inner in item.value.items()}
    return [_plain(inner) for inner in item.value] if isinstance(item.value, list) else item.value


def _notes(base: str, data: str, said: list[_Said], lost: list[_Said]) -> list[str]:
    """What was chosen for the other dataset, and what the new one cannot have."""
    notes = [f"{data} has no such field, left out: {one.at}" for one in lost]
    notes += [f"chosen in {base} for its own dataset: {one.at}" for one in said if one not in lost]
    return [*notes, f"fields of {data} and what they are: sfrbench show dataset/{data}"]


def _comments(notes: list[str]) -> str:
    return "".join(f"# {one_line(note)}\n" for note in notes)


def _without(item: Told, fields: Mapping[str, object]) -> Told:
    """The same without fields of a dataset that are none of ``fields``."""
    if isinstance(item.value, list):
        return replace(item, value=[_without(each, fields) for each in item.value])
    if not isinstance(item.value, dict):
        return item
    kept = {}
    for key, inner in item.value.items():
        head, _, field = str(key).partition(".")
        if head == KIND and field and field.partition(".")[0] not in fields:
            continue
        if key == KIND and isinstance(inner.value, dict) and "name" in inner.value:
            own = {name: each for name, each in inner.value.items() if name == "name" or name in fields}
            inner = replace(inner, value=own)
        kept[key] = _without(inner, fields)
    return replace(item, value=kept)


def _on(whole: Told, data: str) -> Told:
    """The same on another dataset, and without what is of the paper's: its table, and its numbers beside."""
    value = {key: item for key, item in whole.value.items() if key not in _OWN}
    base = value["base"].value if "base" in value else None
    for name, section in (("", value), ("base", dict(base) if isinstance(base, dict) else {})):
        given = section.get(KIND)
        if given is None:
            continue
        new = replace(given, value=data)
        if isinstance(given.value, dict):
            new = replace(given, value={**given.value, "name": new})
        section[KIND] = new
        if name:
            value[name] = replace(value[name], value=section)
    if "report" in value and isinstance(value["report"].value, list):
        value["report"] = replace(value["report"], value=_own_items(value["report"]))
    return replace(whole, value={"title": replace(whole, value=""), **value})


def _own_items(report: Told) -> list[Told]:
    """Report items but for those that hold the paper's numbers on its own dataset."""
    items = report.value if isinstance(report.value, list) else []
    return [item for item in items if not (isinstance(item.value, dict) and "published" in item.value)]


def _unpublished(whole: Told) -> list[str]:
    """Lines that leave out what an extended specification says of the paper."""
    lines = ['paper: ""'] if "paper" in whole.value else []
    report = whole.value.get("report")
    if report is None or not isinstance(report.value, list) or len(_own_items(report)) == len(report.value):
        return lines
    return [*lines, "report:", *(f"  - {flow(_plain(item))}" for item in _own_items(report))]
