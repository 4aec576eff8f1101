"""The report as one page that needs nothing else: no network, images inside, every text escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfrbench.report import captions, tables
from sfrbench.report.curves import Figure
from sfrbench.report.style import DASH, axis_text, safe_name, stamp

if TYPE_CHECKING:
    from sfrbench.report.info import Part, ReportInfo, Reuse

_CSS = """
:root{--ink:#1d2329;--soft:#5b6570;--line:#d9dee3;--wash:#f5f7f9;--link:#0a5a9c}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1.1rem 4rem;max-width:62rem;color:var(--ink);background:#fff;
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 .4rem}
h2{font-size:1.2rem;margin:2.4rem 0 .6rem;padding-bottom:.25rem;border-bottom:1px solid var(--line)}
p{margin:.4rem 0;max-width:48rem}
a{color:var(--link)}
.kicker,.note,figcaption,small{color:var(--soft)}
.kicker{font-size:.9rem;margin:0}
.stamp{display:block;padding:.5rem .8rem;margin:.9rem 0;border-left:4px solid #b86e00;background:#fff5e5;
 max-width:none}
.stamp.paper{border-color:#2c7a4b;background:#ecf7f0}
.bad{border-color:#b3261e;background:#fdecea}
nav{margin:.8rem 0;font-size:.92rem}
nav a{margin-right:1rem;white-space:nowrap}
.facts{display:flex;flex-wrap:wrap;gap:.3rem 1.6rem;margin:.8rem 0;padding:0;list-style:none}
.facts b{font-size:1.1rem;font-variant-numeric:tabular-nums}
figure{margin:1.2rem 0 .3rem}
figcaption{font-size:.86rem;line-height:1.42;margin-bottom:.5rem;max-width:54rem}
figcaption b{color:var(--ink)}
figure img{display:block;max-width:100%;height:auto;margin:0 auto}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums;
 border-top:2px solid var(--ink);border-bottom:2px solid var(--ink)}
th,td{padding:.32rem .7rem;text-align:right;white-space:nowrap}
thead th{border-bottom:1px solid var(--ink);font-weight:600}
th.name,tbody th{text-align:left}
tbody th{font-weight:400}
td.text{text-align:left;white-space:normal;overflow-wrap:anywhere}
tbody tr:nth-child(even){background:var(--wash)}
u{text-underline-offset:3px}
sup{color:#a02020;margin-left:.15em}
.note{font-size:.84rem;margin:.25rem 0}
.files{margin-bottom:1.8rem}
pre,code{font:.82rem/1.45 ui-monospace,"SF Mono",Menlo,Consolas,monospace}
pre{overflow-x:auto;padding:.7rem .9rem;background:var(--wash);border:1px solid var(--line);max-height:26rem}
summary{cursor:pointer;margin:.6rem 0}
@media(max-width:34rem){body{padding:1rem .8rem 3rem;font-size:15px}h1{font-size:1.4rem}
 th,td{padding:.28rem .5rem}}
@media print{body{max-width:none;padding:0;font-size:10pt}nav{display:none}a{color:inherit}
 figure,tr{break-inside:avoid}h2{break-after:avoid}.wide,pre{overflow:visible;max-height:none}
 th,td{padding:.2rem .4rem}pre{white-space:pre-wrap}}
"""


def page(info: ReportInfo, parts: Sequence[Part], out: Path) -> str:
    """The whole page; figures are read from their PNG files below ``out``."""
    bodies: list[tuple[str, str]] = []
    tail = captions.short_tail(info)
    for part in parts:
        body = "".join(_table(table, tail) for table in part.tables)
        body += "".join(_figure(figure, tail, out) for figure in part.figures)
        body += f"<p>{escape(part.remark)}</p>" if part.remark else ""
        if bodies and bodies[-1][0] == part.heading:
            bodies[-1] = (part.heading, bodies[-1][1] + body)
        else:
            bodies.append((part.heading, body))
    bodies += _about(info)
    anchors = [f"s{index}" for index in range(len(bodies))]
    links = " ".join(
        f'<a href="#{anchor}">{escape(heading)}</a>'
        for anchor, (heading, _) in zip(anchors, bodies, strict=True)
    )
    text = "".join(
        f'<section id="{anchor}"><h2>{escape(heading)}</h2>{body}</section>\n'
        for anchor, (heading, body) in zip(anchors, bodies, strict=True)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(info.title)} · {escape(info.profile)}</title><style>{_CSS}</style></head>\n"
        f"<body><header>{_head(info)}</header><nav>{links}</nav>\n<main>{text}</main></body></html>\n"
    )


def _head(info: ReportInfo) -> str:
    kicker = info.experiment + (f" · repeats {info.paper}" if info.paper else "")
    kind = " paper" if info.profile == "paper" else ""
    lines = [
        f"<p class=kicker>{escape(kicker)}</p><h1>{escape(info.title)}</h1>",
        f"<p>{escape(info.description)}</p>" if info.description else "",
        f'<p class="stamp{kind}"><b>{escape(stamp(info.profile))}</b></p>',
    ]
    if info.missing or info.failures:
        count = len(info.missing)
        said = f"{count} cell{'s have' if count != 1 else ' has'} no result" if count else "Some nodes failed"
        lines.append(f'<p class="stamp bad"><b>{said}.</b> The tables mark where; see Failures and gaps.</p>')
    lines.append(f"<p><small>{escape(captions.protocol_text(info))}</small></p>")
    facts = [(str(len(info.arms)), "arms"), (str(len(info.seeds)), "seeds")]
    facts += [(str(len(values)), path) for path, values in info.axes.items()]
    facts += [(str(info.reuse.cells), "cells")] if info.reuse else []
    items = "".join(f"<li><b>{escape(n)}</b> {escape(_singular(n, what))}</li>" for n, what in facts)
    return "".join(lines) + f"<ul class=facts>{items}</ul>"


def _singular(count: str, what: str) -> str:
    return what[:-1] if count == "1" and what in ("arms", "seeds", "cells") else what


def _table(table: tables.Table, tail: str) -> str:
    name = safe_name(table.name)
    links = ", ".join(f'<a href="tables/{name}.{kind}">{kind}</a>' for kind in ("csv", "md", "tex"))
    return f"{tables.to_html(table, tail)}<p class='note files'>{links}</p>"


def _figure(figure: Figure, tail: str, out: Path) -> str:
    data = base64.b64encode(figure.files[0].read_bytes()).decode("ascii")
    links = ", ".join(
        f'<a href="{escape(path.relative_to(out).as_posix())}">{path.suffix[1:]}</a>' for path in figure.files
    )
    return (
        f"<figure><figcaption><b>{escape(figure.title)}</b> {escape(figure.caption)} "
        f"{escape(tail)}</figcaption>"
        f'<img alt="{escape(figure.title)}" src="data:image/png;base64,{data}"></figure>'
        f"<p class='note files'>{links}</p>"
    )


def _about(info: ReportInfo) -> list[tuple[str, str]]:
    """The sections behind the results: gaps, flags, reuse, environment, provenance."""
    made: list[tuple[str, str]] = []
    gaps = _gaps(info)
    if gaps:
        made.append(("Failures and gaps", gaps))
    if info.flags:
        made.append(("Flags", f"<ul>{''.join(f'<li>{escape(flag)}</li>' for flag in info.flags)}</ul>"))
    if info.reuse:
        made.append(("Plan and reuse", _reuse(info.reuse)))
    if info.environment:
        rows = [[name, _text(value)] for name, value in info.environment.items()]
        made.append(("Environment", _grid(["", ""], rows)))
    told = "The cells, seeds and evaluate nodes behind every row of every table and figure: "
    told += '<a href="provenance.json">provenance.json</a>.'
    flat = {name: v for name, v in info.provenance.items() if not isinstance(v, (Mapping, list, tuple))}
    facts = _grid(["", ""], [[name, _text(value)] for name, value in flat.items()]) if flat else ""
    made.append(("Provenance", f"<p>{told}</p>{facts}"))
    return made


def _gaps(info: ReportInfo) -> str:
    body = ""
    if info.failures:
        rows = [[f.cell, f.stage, f.reason, f.log] for f in info.failures]
        body += _grid(["Cell", "Stage", "Reason", "Log"], rows)
    if info.missing:
        rows = [
            [m.arm, ", ".join(f"{path} {axis_text(v)}" for path, v in m.axes.items()), str(m.seed), m.reason]
            for m in info.missing
        ]
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
    if value is None:
        return DASH
    if isinstance(value, float):
        return f"{value:.1f}"
    return axis_text(value)
