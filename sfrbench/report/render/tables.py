"""One table, four renderings: CSV, Markdown, LaTeX (booktabs) and HTML, all with the same texts."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

from sfrbench.files.atomic import write_atomic
from sfrbench.files.sheets import guarded, plain
from sfrbench.report.render.latex import latex
from sfrbench.report.render.style import DASH

MARKS = ("†", "‡", "§", "¶", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n")
_MARK = re.compile(r"\(\d+\)|.")


@dataclass(frozen=True)
class Entry:
    """One entry of a table. ``rank`` 1 is set bold, 2 underlined; ``gain`` follows plain, as
    ``(+9.90 better)``; ``marks`` point to notes."""

    text: str
    rank: Literal[0, 1, 2] = 0
    marks: str = ""
    gain: str = ""


@dataclass(frozen=True)
class Table:
    """A table ready to print.

    ``title`` names it in a few words, ``caption`` is one sentence that says what its numbers are; all else
    that a reader must know are notes below it. ``notes`` are (mark, text), without a mark where every row
    would have it; ``rules`` say how the table is read, and ``tail`` holds for every table of a report: a page
    says it once. ``data`` is what the CSV holds.
    """

    name: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[tuple[str, str], ...]
    data: tuple[Mapping[str, str], ...]
    tail: tuple[str, ...] = ()  # profile and protocol
    leading: int = 1  # columns of names, set flush left
    quoted: tuple[str, ...] = ()  # columns of the paper's numbers, behind which no run of ours stands
    prose: bool = False  # sentences instead of numbers, set flush left and broken into lines
    rules: tuple[str, ...] = ()

    @property
    def alone(self) -> tuple[str, ...]:
        """Every rule that a table needs when it is read on its own."""
        return (*self.rules, *self.tail)

    def numbers(self) -> pd.DataFrame:
        """What the CSV holds, with numbers as numbers and an empty field as NaN."""
        import pandas as pd

        return plain(pd.read_csv(io.StringIO(to_csv(self))))

    def _repr_html_(self) -> str:
        return to_html(self, self.alone)

    def _repr_markdown_(self) -> str:
        return to_markdown(self)


class Notes:
    """Notes under a table; equal texts share a mark."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def mark(self, text: str) -> str:
        if text not in self._marks:
            index = len(self._marks)
            self._marks[text] = MARKS[index] if index < len(MARKS) else f"({index + 1})"
        return self._marks[text]

    @property
    def listed(self) -> tuple[tuple[str, str], ...]:
        return tuple((mark, text) for text, mark in self._marks.items())


def unmarked(table: Table) -> Table:
    """The same without marks that stand at the name of every row and so tell none apart: their notes say
    that they are of every row, and the other marks are given anew."""
    at_names = [set(_MARK.findall(row[0].marks)) for row in table.rows]
    everywhere = set.intersection(*at_names) if len(at_names) > 1 else set()
    if not everywhere:
        return table
    notes = Notes()
    new = {mark: notes.mark(text) for mark, text in table.notes if mark not in everywhere}
    rows = tuple(
        tuple(
            replace(entry, marks="".join(new.get(mark, "") for mark in _MARK.findall(entry.marks)))
            for entry in row
        )
        for row in table.rows
    )
    said = [("", f"Every row: {text}.") for mark, text in table.notes if mark in everywhere]
    return replace(table, rows=rows, notes=(*said, *notes.listed))


def write(table: Table, folder: Path) -> list[Path]:
    """The table as ``<name>.csv``, ``.md`` and ``.tex``; returns the paths."""
    made = []
    for suffix, render in RENDERERS.items():
        path = folder / f"{table.name}.{suffix}"
        write_atomic(path, render(table))
        made.append(path)
    return made


def rank_entries(
    values: Sequence[float | None], larger: bool, shown: Callable[[float], str]
) -> list[Literal[0, 1, 2]]:
    """1 for the best, 2 for the second best; equal as printed is equal. None takes no part, nor does a
    column with fewer than two different values."""
    known = sorted({shown(value): value for value in values if value is not None}.values(), reverse=larger)
    if len(known) < 2:
        return [0] * len(values)
    place: dict[str, Literal[0, 1, 2]] = {shown(known[0]): 1, shown(known[1]): 2}
    return [0 if value is None else place.get(shown(value), 0) for value in values]


def to_csv(table: Table) -> str:
    """Numbers bare and names in full; a missing number is an empty field, with the reason in ``note``.

    A text that begins like a formula has an apostrophe before it (``sheets``).
    """
    stream = io.StringIO()
    columns = list(dict.fromkeys(name for row in table.data for name in row))
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writerow({name: guarded(name) for name in columns})
    writer.writerows({name: guarded(value) for name, value in row.items()} for row in table.data)
    return stream.getvalue()


def to_markdown(table: Table) -> str:
    """GitHub Markdown; names are escaped, so a label is never read as markup."""

    def cell(entry: Entry) -> str:
        text = markdown(entry.text)
        text = {0: text, 1: f"**{text}**", 2: f"<u>{text}</u>"}[entry.rank]
        return " ".join(part for part in (text, markdown(entry.gain), entry.marks) if part)

    rule = ["---" if index < table.leading or table.prose else "---:" for index in range(len(table.columns))]
    rows = [[markdown(name) for name in table.columns], rule]
    rows += [[cell(entry) for entry in row] for row in table.rows]
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    said = [f"{mark} {markdown(text)}".lstrip() for mark, text in table.notes]
    said += map(markdown, table.alone)
    notes = "  \n".join(said)
    head = f"**{markdown(table.title)}** {markdown(table.caption)}\n\n{body}\n"
    return f"{head}\n{notes}\n" if notes else head


def to_latex(table: Table) -> str:
    """A ``table`` float with its notes; needs the packages booktabs and threeparttable."""

    def cell(entry: Entry) -> str:
        text = latex(entry.text)
        text = {0: text, 1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}[entry.rank]
        text += f" {latex(entry.gain)}" if entry.gain else ""
        return text + (rf"\tnote{{{latex(entry.marks)}}}" if entry.marks else "")

    others = len(table.columns) - table.leading
    wide = rf"p{{{0.8 / max(others, 1):.2f}\linewidth}}"
    columns = "l" * table.leading + (wide if table.prose else "r") * others
    notes = [
        rf"\item[{latex(mark)}] {latex(text)}" if mark else rf"\item {latex(text)}"
        for mark, text in table.notes
    ]
    notes += [rf"\item {latex(text)}" for text in table.alone]
    lines = [
        r"% needs \usepackage{booktabs,threeparttable}",
        r"\begin{table}[t]",
        r"\centering",
        r"\begin{threeparttable}",
        rf"\caption{{{latex(table.title)} {latex(table.caption)}}}",
        rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]', '-', table.name)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(latex(name) for name in table.columns) + r" \\",
        r"\midrule",
        *(" & ".join(cell(entry) for entry in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *([r"\begin{tablenotes}[flushleft]\footnotesize", *notes, r"\end{tablenotes}"] if notes else []),
        r"\end{threeparttable}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_html(
    table: Table, rules: Sequence[str], sources: Sequence[tuple[str, str]] = (), foot: str = ""
) -> str:
    """A ``figure`` element with caption and notes; ``rules`` are those that stand nowhere else.

    ``sources`` are an anchor and a tip for each row, both empty where there is none: its numbers link there.
    ``foot`` stands behind the caption in small print.
    """

    def row_of(entries: Sequence[Entry], anchor: str, tip: str) -> str:
        linked = [
            i
            for i, entry in enumerate(entries)
            if anchor and i >= table.leading and table.columns[i] not in table.quoted and entry.text != DASH
        ]
        # one stop of the keyboard for a row: all its links are the same
        links = {
            i: f'<a class=src href="#{anchor}"{"" if i == linked[0] else " tabindex=-1"}>' for i in linked
        }
        cells = (cell(entry, index, links.get(index, "")) for index, entry in enumerate(entries))
        opening = f'<tr title="{html.escape(tip)}">' if tip else "<tr>"
        return f"{opening}{''.join(cells)}</tr>"

    def cell(entry: Entry, index: int, link: str) -> str:
        text = html.escape(entry.text)
        text = {0: text, 1: f"<b>{text}</b>", 2: f"<u>{text}</u>"}[entry.rank]
        text = f"{link}{text}</a>" if link else text
        text += f" <span class=gain>{html.escape(entry.gain)}</span>" if entry.gain else ""
        marks = f"<sup>{html.escape(entry.marks)}</sup>" if entry.marks else ""
        tag, kind = ("th scope=row", "th") if index < table.leading else ("td", "td")
        tag += " class=text" if table.prose and index >= table.leading else ""
        return f"<{tag}>{text}{marks}</{kind}>"

    head = "".join(
        f"<th scope=col{' class=name' if table.prose or index < table.leading else ''}>"
        f"{html.escape(name)}</th>"
        for index, name in enumerate(table.columns)
    )
    known = sources or [("", "")] * len(table.rows)
    body = "\n".join(row_of(row, *source) for row, source in zip(table.rows, known, strict=True))
    return (
        f"<figure class=table>{caption_html(table.title, table.caption, foot)}<div class=wide><table>"
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
        f"{notes_html(table.notes, rules)}</figure>"
    )


def caption_html(title: str, caption: str, foot: str = "") -> str:
    """A ``figcaption``; ``foot`` says to which profile and protocol the numbers belong."""
    small = f" <small>{html.escape(foot)}</small>" if foot else ""
    return f"<figcaption><b>{html.escape(title)}</b> {html.escape(caption)}{small}</figcaption>"


def notes_html(marked: Sequence[tuple[str, str]], rules: Sequence[str]) -> str:
    """The notes below a table or figure, marked ones first; empty where there is none."""
    marks = ((f"<sup>{html.escape(mark)}</sup> " if mark else "", text) for mark, text in marked)
    said = [f"<li>{mark}{html.escape(text)}" for mark, text in marks]
    said += [f"<li>{html.escape(text)}" for text in rules]
    return f"<ul class=notes>{''.join(f'{text}</li>' for text in said)}</ul>" if said else ""


def markdown(text: str) -> str:
    """Plain text for Markdown: escaped, so that it is never read as markup; line breaks become spaces."""
    escaped = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


#: Ending of a file -> what writes a table so.
RENDERERS: Mapping[str, Callable[[Table], str]] = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
