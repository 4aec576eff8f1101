"""What stands behind the numbers, on the page: a tip for each row and a section that its numbers lead to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo
    from sfrbench.report.render.tables import Table

Behind = Mapping[str, Sequence[Mapping[str, Any]]]  # table or figure -> what ``behind()`` of its rows says
_NAMES = (
    "row",
    "arm",
    "axes",
    "cells",
    "cases",
    "missing",
    "match",
    "sides",
    "labelled",
    "unlabelled",
)  # the others are lists of nodes and keys


class Sources:
    """The entries of the provenance section. Whatever stands on the same cells and nodes is one entry."""

    def __init__(self, behind: Behind) -> None:
        self._behind = behind
        self._entries: dict[str, tuple[str, list[Mapping[str, Any]]]] = {}  # content -> anchor, facts
        self._shown: dict[str, dict[str, None]] = {}  # anchor -> tables and figures

    def of_table(self, table: Table) -> list[tuple[str, str]]:
        """(anchor, tip) of each row; both empty where nothing is known of it."""
        behind = self._behind.get(table.name, ())
        made = []
        for index in range(len(table.rows)):
            found = [facts for facts in behind if _is_of(facts, table, index)]
            made.append((self._anchor(found, table.name), _tip(found)) if found else ("", ""))
        return made

    def of_figure(self, name: str) -> list[tuple[str, str]]:
        """(anchor, name) of each line of a figure."""
        return [(self._anchor([facts], name), _name(facts)) for facts in self._behind.get(name, ())]

    def _anchor(self, found: list[Mapping[str, Any]], shown: str) -> str:
        content = json.dumps(found, sort_keys=True, default=str)
        anchor, _ = self._entries.setdefault(content, (f"p{len(self._entries)}", found))
        self._shown.setdefault(anchor, {})[shown] = None
        return anchor

    def section(self, info: ReportInfo) -> str:
        """The section of the page that holds every entry linked to, and the nodes of every cell."""
        nodes: Mapping[str, Mapping[str, str]] = info.provenance.get("nodes", {})
        cells = {cell: f"c{index}" for index, cell in enumerate(nodes)}
        rows = [
            (
                f"<tr id={anchor}>",
                _names(entry),
                escape(", ".join(self._shown[anchor])),
                "<br>".join(_cell(*pair, cells) for facts in entry for pair in _cells(facts)),
                "<br>".join(escape(key) for facts in entry for key in _keys(facts)),
            )
            for anchor, entry in self._entries.values()
        ]
        told = "<summary>What stands behind each row of the tables and figures</summary>"
        listed = _table(("Row", "In", "Cells", "Nodes it was read from"), rows)
        body = f"<details>{told}{listed}</details>" if rows else ""
        if nodes:
            whole = [
                (
                    f"<tr id={cells[cell]}>",
                    cell,
                    "<br>".join(escape(f"{role}: {node}") for role, node in of.items()),
                )
                for cell, of in nodes.items()
            ]
            told = f"<summary>All nodes of {len(nodes)} cells, by stage and key</summary>"
            body += f"<details>{told}{_table(('Cell', 'Nodes'), whole)}</details>"
        return body


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows are the opening tag, a name as text, and further cells as HTML."""
    head = "".join(f"<th scope=col class=name>{name}</th>" for name in heads)
    body = "".join(
        f"{opening}<th scope=row>{escape(name)}</th>"
        + "".join(f"<td class=text>{inside}</td>" for inside in rest)
        + "</tr>"
        for opening, name, *rest in rows
    )
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _is_of(facts: Mapping[str, Any], table: Table, index: int) -> bool:
    """Whether these facts belong to this row: its line of the CSV has what their ``match`` says.

    Nothing is known of a table whose CSV has other rows than it shows.
    """
    if len(table.data) != len(table.rows):
        return False
    return all(table.data[index].get(column) == text for column, text in facts["match"].items())


def _names(found: Sequence[Mapping[str, Any]]) -> str:
    return " and ".join(map(_name, found))


def _name(facts: Mapping[str, Any]) -> str:
    return str(facts.get("row") or facts.get("arm") or "row")


def _cells(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(seed, cell id), seed empty where it is not said."""
    cells = facts.get("cells", ())
    pairs = cells.items() if isinstance(cells, Mapping) else (("", cell) for cell in cells)
    own = [(str(seed), str(cell)) for seed, cell in pairs]
    return own + [pair for side in facts.get("sides", ()) for pair in _cells(side)]


def _cell(seed: str, cell: str, anchors: Mapping[str, str]) -> str:
    said = f"seed {escape(seed)}: " if seed else ""
    name = escape(cell)
    return f"{said}<a href=#{anchors[cell]}>{name}</a>" if cell in anchors else f"{said}{name}"


def _keys(facts: Mapping[str, Any]) -> list[str]:
    keys = [
        key if "/" in str(key) else f"{name}/{key}"
        for name, listed in facts.items()
        if name not in _NAMES and isinstance(listed, (list, tuple))
        for key in listed
    ]
    keys += [key for side in facts.get("sides", ()) for key in _keys(side)]
    missing: Mapping[str, str] = facts.get("missing", {})
    return keys + [f"seed {seed} missing: {reason}" for seed, reason in missing.items()]


def _tip(found: Sequence[Mapping[str, Any]]) -> str:
    said = []
    for facts in found:
        cells = ", ".join(f"seed {seed} {cell}" if seed else cell for seed, cell in _cells(facts))
        keys = ", ".join(key if len(key) < 30 else f"{key[:22]}…" for key in _keys(facts)[:6])
        said.append(f"{_name(facts)}: cells {cells or 'none'}; {keys}")
    return " · ".join(said)
