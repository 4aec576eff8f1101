"""What a workspace takes on the disk: by stage, by experiment, and beside the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sfrbench.run.leftovers import Survey
from sfrbench.stages.finder import recipes
from sfrbench.stages.recipe import Link
from sfrbench.store.contents import Contents, Item, Kind
from sfrbench.store.usage import Usage

#: What is no stage's own, as tables name it.
OTHERS: dict[Kind, str] = {"checkpoint": "checkpoints", "failure": "failures", "damaged": "damaged"}


@dataclass
class Sizes:
    """Sizes of things in a store, each looked up once. Bytes are those on the disk; files that artefacts
    share (hard links of nodes that did the same work) count once."""

    _known: dict[Path, Usage] = field(default_factory=dict)

    def of(self, items: Iterable[Item]) -> Usage:
        paths = dict.fromkeys(item.path for item in items)
        for path in paths.keys() - self._known.keys():
            self._known[path] = Usage.of(path)
        return Usage.together(self._known[path] for path in paths)


@dataclass(frozen=True)
class Row:
    """One line: how many things, their bytes, and the bytes that nothing else has a part in."""

    name: str
    count: int
    bytes: int
    own: int


def by_stage(contents: Contents, sizes: Sizes) -> list[Row]:
    """Stages in the order in which they run, then what is no stage's own."""
    groups: dict[str, list[Item]] = {}
    for item in contents.items:
        name = item.stage if item.kind == "artefact" else OTHERS.get(item.kind)
        if name is not None:
            groups.setdefault(name, []).append(item)
    order = {name: place for place, name in enumerate((*recipes(), *OTHERS.values()))}
    names = sorted(groups, key=lambda name: (order.get(name, len(order)), name))
    return [_row(name, groups[name], sizes) for name in names]


def _row(name: str, items: Sequence[Item], sizes: Sizes) -> Row:
    usage = sizes.of(items)
    return Row(name, len(items), usage.bytes, usage.freed)


def by_experiment(survey: Survey, sizes: Sizes) -> list[Row]:
    """What each experiment needs that is there, and what no other one needs; the largest first."""
    names = sorted({user.name for user in survey.users})
    needs = {
        name: survey.behind(link for user in survey.users if user.name == name for link in user.nodes)
        for name in names
    }
    users: dict[Link, int] = {}
    for links in needs.values():
        for link in links:
            users[link] = users.get(link, 0) + 1
    kinds = ("artefact", "checkpoint")
    items: dict[Link, list[Item]] = {}
    for item in survey.contents.items:
        if item.kind in kinds:
            items.setdefault(item.link, []).append(item)
    rows = []
    for name, links in needs.items():
        mine = [item for link in links for item in items.get(link, ())]
        alone = sizes.of(item for item in mine if users[item.link] == 1)
        count = sum(item.kind == "artefact" for item in mine)
        rows.append(Row(name, count, sizes.of(mine).bytes, alone.freed))
    return sorted(rows, key=lambda row: -row.bytes)


def beside(workspace: Path) -> list[Row]:
    """What else lies in the workspace: reports, MLflow's files, studies."""
    usages = {path.name: Usage.of(path) for path in sorted(workspace.iterdir()) if path.name != "store"}
    return [Row(name, 1, usage.bytes, usage.freed) for name, usage in usages.items()]
