"""The sections of the page behind the results: gaps, flags, reuse, environment, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from sfrbench.report.render.sources import Sources
from sfrbench.report.render.style import DASH
from sfrbench.results.axes import axis_text, point_texts

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo, Reuse

_SHORT = 6  # entries of a mapping that stand in one line


def sections(info: ReportInfo, sources: Sources) -> list[tuple[str, str]]:
    """(heading, HTML) of each section that there is something to say in."""
    made: list[tuple[str, str]] = []
    gaps = _gaps(info)
    if gaps:
        made.append(("Failures and gaps", gaps))
    if info.swaps:
        told = f"<p>Profile {escape(info.profile)} uses:</p>"
        said = "".join(f"<li>{escape(swap)}</li>" for swap in info.swaps)
        made.append(("In the place of others", f"{told}<ul>{said}</ul>"))
    if info.flags:
        made.append(("Flags", f"<ul>{''.join(f'<li>{escape(flag)}</li>' for flag in info.flags)}</ul>"))
    if info.reuse:
        made.append(("Plan and reuse", _reuse(info.reuse)))
    if info.environment:
        rows = [[name, _text(value)] for name, value in info.environment.items()]
        made.append(("Environment", _grid(["", ""], rows)))
    made.append(("Provenance", _provenance(info, sources)))
    return made


def _provenance(info: ReportInfo, sources: Sources) -> str:
    told = (
        "The cells and nodes behind every row of every table and figure; the same for programs, beside the "
    )
    told += 'page: <a href="provenance.json">provenance.json</a>.'
    known = {name: value for name, value in info.provenance.items() if name != "nodes"}
    long = {
        name: value for name, value in known.items() if isinstance(value, Mapping) and len(value) > _SHORT
    }
    flat = [[name, _text(value)] for name, value in known.items() if name not in long]
    facts = _grid(["", ""], flat) if flat else ""
    for name, value in long.items():
        rows = [[key, _text(one)] for key, one in value.items()]
        facts += f"<details><summary>{escape(name)}: {len(rows)}</summary>{_grid(['', ''], rows)}</details>"
    return f"<p>{told}</p>{facts}{sources.section(info)}"


def _gaps(info: ReportInfo) -> str:
    body = ""
    if info.failures:
        rows = [[f.cell, f.stage, f.reason, f.log] for f in info.failures]
        body += _grid(["Cell", "Stage", "Reason", "Log"], rows)
    if info.missing:
        rows = [[m.arm, ", ".join(point_texts(m.axes)), str(m.seed), m.reason] for m in info.missing]
        body += f"<p>Cells without a result:</p>{_grid(['Arm', 'Point', 'Seed', 'Reason'], rows)}"
    if info.excluded:
        left = [[entry.title, entry.reason] for entry in info.excluded]
        body += f"<p>Left out by the specification:</p>{_grid(['Cells', 'Reason'], left)}"
    return body


def _reuse(reuse: Reuse) -> str:
    saved = reuse.naive_nodes - reuse.nodes
    said = (
        f"{reuse.cells} cells share {reuse.nodes} nodes; were nothing shared, there would be "
        f"{reuse.naive_nodes}, so {saved} need never run. In the last run {reuse.ran} ran, {reuse.reused} "
        f"were taken from the store and {reuse.failed} failed."
    )
    body = f"<p>{said}</p>"
    if reuse.by_stage:
        names = list(dict.fromkeys(name for counts in reuse.by_stage.values() for name in counts))
        rows = [
            [stage, *(_text(counts.get(name)) for name in names)] for stage, counts in reuse.by_stage.items()
        ]
        heads = ["stage", *(name.replace("_", " ") for name in names)]
        body += _grid(heads, rows, numbers=True)
    if reuse.lines:
        lines = escape("\n".join(reuse.lines))
        told = "Every run and every reuse, with its reason"
        body += f"<details><summary>{told}</summary><pre>{lines}</pre></details>"
    return body


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """A plain table; the first column names the row."""
    kind = "" if numbers else " class=text"
    head = "".join(
        f"<th{' class=name' if not numbers or index == 0 else ''}>{escape(name)}</th>"
        for index, name in enumerate(heads)
    )
    top = f"<thead><tr>{head}</tr></thead>" if any(heads) else ""
    body = "".join(
        f"<tr><th scope=row>{escape(str(row[0]))}</th>"
        + "".join(f"<td{kind}>{escape(str(text))}</td>" for text in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<div class=wide><table>{top}<tbody>{body}</tbody></table></div>"


def _text(value: Any) -> str:
    if value is None or value == [] or value == {}:
        return DASH
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.1f}"
    return axis_text(value)
