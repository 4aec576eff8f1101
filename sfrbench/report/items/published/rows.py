"""Which result of ours belongs beside which row of a table of the paper, and why where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sfrbench.paper.tables import PaperRow, Published
from sfrbench.results.axes import axis_text
from sfrbench.results.lines import Line

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo, Setup


@dataclass(frozen=True)
class Pairing:
    """A row of the paper and a line of ours side by side; one of the two may be missing.

    ``reason`` says why there is no line, ``note`` what is special about the two together.
    """

    row: PaperRow | None
    line: Line | None
    setup: Setup | None = None
    reason: str = ""
    note: str = ""

    def behind(self) -> dict[str, Any]:
        """What the row stands on, for provenance.json."""
        name = self.row.label if self.row else ""
        if self.line is None:
            return {"row": name, "paper": name, "match": {"row": name}, "reason": self.reason}
        behind = self.line.behind()
        return {**behind, "paper": name, "match": {"row": name, **behind["match"]}}


@dataclass(frozen=True)
class Own:
    """What an item says: arm -> its row of the paper, row of the paper -> why no arm has it, and arm -> a
    footnote."""

    rows: Mapping[str, str]
    unbuilt: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)


def setting_text(row: PaperRow, dataset: str | None) -> str:
    """The setting with its counts on one dataset, as ``16/64``, ``scarce, 1/79`` or ``click, number 2``."""
    setting = row.setting
    if setting.prompt:
        return setting.text
    counts = "/".join(
        str(count)
        for part in (setting.labeled, setting.unlabeled)
        if (count := part.get(str(dataset)) if isinstance(part, Mapping) else part) is not None
    )
    return ", ".join(part for part in (setting.annotations, counts) if part)


def pairings_of(
    table: Published, dataset: str, lines: Sequence[Line], info: ReportInfo, own: Own
) -> list[Pairing]:
    """The rows of the paper in its order, each with every line of ours that is that row, then our others.

    A line is a row by the arm's entry in ``rows`` of the item, or by its label. Of several rows of a method
    it is that with its number of labelled volumes, or of prompts; where no row has that number, and both
    method and arm stand there once, they are put together with a note.
    """
    named = own.rows
    setups = {(setup.arm, _point(setup, info)): setup for setup in info.setups}
    by_row: dict[int, list[Pairing]] = {}
    others: list[Pairing] = []
    for line in lines:
        setup = setups.get((line.arm, line.point))
        if setup is not None and setup.dataset != dataset:
            continue
        rows = table.named(named.get(line.arm, line.label))
        alone = sum(other.arm == line.arm and _on(setups, other, dataset) for other in lines) == 1
        those = list(_rows(rows, setup, dataset, alone))
        for row, note in those:
            said = "; ".join(text for text in (own.notes.get(line.arm, ""), note) if text)
            by_row.setdefault(id(row), []).append(Pairing(row, line, setup, note=said))
        if not those:
            others.append(Pairing(None, line, setup, note=own.notes.get(line.arm, "")))
    pairings = []
    for row in table.rows:
        arms = [line for line in lines if row.named(named.get(line.arm, line.label))]
        pairings += by_row.get(id(row)) or [
            Pairing(row, None, reason=_why_none(row, dataset, arms, own.unbuilt))
        ]
    return pairings + others


def _point(setup: Setup, info: ReportInfo) -> tuple[str, ...]:
    return tuple(axis_text(setup.axes[path]) for path in info.axes if path in setup.axes)


def _on(setups: Mapping[tuple[str, tuple[str, ...]], Setup], line: Line, dataset: str) -> bool:
    setup = setups.get((line.arm, line.point))
    return setup is None or setup.dataset == dataset


def _rows(
    rows: Sequence[PaperRow], setup: Setup | None, dataset: str, alone: bool
) -> Iterator[tuple[PaperRow, str]]:
    """The rows that a line is, of those with its name; with a note where the settings differ."""
    if setup is None:  # an arm that is left out: it stands, with its reason, wherever it would
        yield from ((row, "") for row in rows)
        return
    exact = [row for row in rows if _fits(row, setup, dataset)]
    if exact:
        yield from ((row, "") for row in exact)
    elif len(rows) == 1 and alone:
        theirs = rows[0].setting.counts(dataset)
        note = f"ours with {setup.labeled} labelled volumes, the paper's with {min(theirs)}" if theirs else ""
        yield rows[0], note


def _fits(row: PaperRow, setup: Setup, dataset: str) -> bool:
    """Whether a row has our number of labelled volumes, or of prompts."""
    if row.setting.prompt:
        return row.setting.prompts == setup.prompts
    return setup.labeled in row.setting.counts(dataset)


def _why_none(row: PaperRow, dataset: str, arms: Sequence[Line], unbuilt: Mapping[str, str]) -> str:
    for name, reason in unbuilt.items():
        if row.named(name):
            return reason
    if arms:
        counts = row.setting.counts(dataset)
        wanted = f" with {min(counts)} labelled volumes" if counts else ""
        wanted = f" with {row.setting.text}" if row.setting.prompt else wanted
        return f"arm {arms[0].arm} has no point on {dataset}{wanted}"
    return "no arm of this specification"
