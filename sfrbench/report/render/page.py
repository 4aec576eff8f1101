"""The report as one page that needs nothing else: no network, images inside, every text escaped."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfrbench.files.units import counted
from sfrbench.report.render import about, captions, tables
from sfrbench.report.render.parts import Figure
from sfrbench.report.render.rules import Rules, placed
from sfrbench.report.render.sources import Behind, Sources
from sfrbench.report.render.style import safe_name, scaled, stamp

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo
    from sfrbench.report.render.parts import Part

HEAVY = 600_000  # bytes of a picture
_TYPES = {"csv": "text/csv", "md": "text/markdown", "tex": "application/x-tex"}


def page(info: ReportInfo, parts: Sequence[tuple[str, Part]], behind: Behind, out: Path) -> str:
    """The whole page of parts, each with its heading; figures are read from their PNG files below ``out``."""
    sources = Sources(behind)
    grouped = groupby(parts, key=lambda pair: pair[0])
    sections = [(heading, [part for _, part in own]) for heading, own in grouped]
    rules = placed([own for _, own in sections])
    bodies = [
        (heading, _section(info, own, rules, place, out, sources))
        for place, (heading, own) in enumerate(sections)
    ]
    bodies += about.sections(info, sources)
    links = "".join(
        f"<li><a href=#s{index}>{escape(heading)}</a></li>" for index, (heading, _) in enumerate(bodies)
    )
    text = "".join(
        f"<section id=s{index}><h2>{escape(heading)}</h2>{body}</section>\n"
        for index, (heading, body) in enumerate(bodies)
    )
    head = _head(info, rules.page)
    return (
        f"{_top(info)}<body><a class=skip href=#s0>To the results</a><header>{head}</header>"
        f"<nav aria-label=Contents><b>Contents</b><ol>{links}</ol></nav>\n<main>{text}</main>"
        f"<script>{_script()}</script></body></html>\n"
    )


def _top(info: ReportInfo) -> str:
    """The head of the document. Its policy allows this style and this script, pictures inside, no request."""
    css = _asset("page.css")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_mark(css)}; script-src {_mark(_script())}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(info.title)} · {escape(info.profile)}</title><style>{css}</style></head>\n"
    )


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _script() -> str:
    return _asset("page.js") + _asset("viewer.js")


def _mark(text: str) -> str:
    """The hash of an inline style or script, as a content security policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def embedded(value: Any) -> str:
    """JSON that may stand inside a ``script`` element: no text in it can end the element."""
    text = json.dumps(value, separators=(",", ":"))  # ASCII only
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _head(info: ReportInfo, rules: Sequence[str]) -> str:
    kicker = info.experiment + (f" · repeats {info.paper}" if info.paper else "")
    kind = "" if scaled(info.profile) else " paper"
    lines = [
        f"<p class=kicker>{escape(kicker)}</p><h1>{escape(info.title)}</h1>",
        f"<p>{escape(info.description)}</p>" if info.description else "",
        f'<p class="stamp{kind}"><b>{escape(stamp(info.profile))}</b></p>',
    ]
    if info.overridden:
        told = ", ".join(f"<code>{escape(each)}</code>" for each in info.overridden)
        lines.append(f'<p class="stamp scaled"><b>Not as specified:</b> --set {told}.</p>')
    if info.missing or info.failures:
        count = len(info.missing)
        said = counted(count, "cell has no result", "cells have no result") if count else "Some nodes failed"
        lines.append(f'<p class="stamp bad"><b>{said}.</b> The tables mark where; see Failures and gaps.</p>')
    facts = [(str(len(info.arms)), "arms"), (str(len(info.seeds)), "seeds")]
    facts += [(str(len(values)), path) for path, values in info.axes.items()]
    facts += [(str(info.reuse.cells), "cells")] if info.reuse else []
    items = "".join(f"<li><b>{escape(n)}</b> {escape(_singular(n, what))}</li>" for n, what in facts)
    reading = tables.notes_html((), (captions.protocol_text(info), *rules))
    lines.append(f"<ul class=facts>{items}</ul>")
    lines.append(f"<details open><summary>How to read the tables and figures</summary>{reading}</details>")
    return "".join(lines)


def _singular(count: str, what: str) -> str:
    return what[:-1] if count == "1" and what in ("arms", "seeds", "cells") else what


def _section(
    info: ReportInfo, parts: Sequence[Part], rules: Rules, place: int, out: Path, sources: Sources
) -> str:
    """Parts with one heading, below the rules that they share."""
    shared = tables.notes_html((), rules.sections[place])
    body = f"<p class=note><b>In this section</b></p>{shared}" if shared else ""
    foot = captions.foot(info)
    for part in parts:
        for table in part.tables:
            body += _table(table, rules.own(table.rules, place), foot, sources)
        for figure in part.figures:
            body += _figure(figure, rules.own(figure.notes, place), out, sources)
        body += f"<p>{escape(part.remark)}</p>" if part.remark else ""
    return body


def _table(table: tables.Table, rules: Sequence[str], foot: str, sources: Sources) -> str:
    """A table, and its files inside links, so that they travel with the page."""
    name = safe_name(table.name)
    links = ", ".join(
        f'<a download="{name}.{kind}" href="data:{_TYPES[kind]};charset=utf-8;base64,'
        f'{_base64(render(table).encode())}">{kind}</a>'
        for kind, render in tables.RENDERERS.items()
    )
    shown = tables.to_html(table, rules, sources.of_table(table), foot)
    return f"{shown}<p class='note files'>Save as {links}</p>"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _figure(figure: Figure, rules: Sequence[str], out: Path, sources: Sources) -> str:
    links = ", ".join(
        f'<a href="{escape(path.relative_to(out).as_posix())}">{path.suffix[1:]}</a>' for path in figure.files
    )
    behind = ", ".join(
        f"<a href=#{anchor}>{escape(name)}</a>" for anchor, name in sources.of_figure(figure.name)
    )
    behind = f"; behind it: {behind}" if behind else ""
    return (
        f"<figure>{tables.caption_html(figure.title, figure.caption)}"
        f'<img alt="{escape(figure.title)}" src="{_picture(figure.files[0])}">'
        f"{tables.notes_html((), rules)}</figure>"
        f"<p class='note files'>Beside the page: {links}{behind}</p>{_viewer(figure)}"
    )


def _picture(path: Path) -> str:
    """A PNG as a data URL; a heavy one as JPEG, so that the page can be sent (the file itself stays)."""
    data, kind = path.read_bytes(), "png"
    if len(data) > HEAVY:
        from PIL import Image

        stream = io.BytesIO()
        Image.open(path).convert("RGB").save(stream, "JPEG", quality=88)
        data, kind = stream.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{_base64(data)}"


def _viewer(figure: Figure) -> str:
    if figure.viewer is None:
        return ""
    data = f'<script type="application/json">{embedded(figure.viewer)}</script>'
    told = "<noscript>Where scripts run, all slices of these cases can be scrolled through here.</noscript>"
    return f"<div class=viewer>{data}{told}</div>"
