"""The second table of a published item: where the paper's protocol differs from ours or is unstated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sfrbench.paper.form import Told
from sfrbench.paper.tables import Published, recipe
from sfrbench.report.facts.info import ReportInfo
from sfrbench.report.items.published.rows import Pairing
from sfrbench.report.render.captions import seeds_text
from sfrbench.report.render.style import DASH
from sfrbench.report.render.tables import Entry, Table
from sfrbench.results.lines import Line

ProtocolRow = tuple[str, str, str]  # what, the paper's, ours


def protocol_table(table: Published, info: ReportInfo, pairings: Sequence[Pairing], name: str) -> Table:
    """What the paper says beside what our arms in the table do, where the two are not plainly the same."""
    rows = list(_rows(table, info, [pairing for pairing in pairings if pairing.line and pairing.row]))
    notes = (" ".join(note.split()) for note in table.notes)
    return Table(
        f"{name}_protocol",
        f"Protocol of Table {table.table} and ours.",
        f"Where the paper and profile {info.profile} differ or the paper leaves open what it did, and how "
        "SFR is trained.",
        ("What", "Paper", "Ours"),
        tuple(tuple(Entry(text or DASH) for text in row) for row in rows),
        (),
        tuple(
            {"table": table.table, "what": what, "paper": theirs, "ours": ours, "profile": info.profile}
            for what, theirs, ours in rows
        ),
        prose=True,
        rules=(
            "(text): the paper; (code): the authors' released code, where the text is silent or says "
            f"otherwise; {DASH}: not said with the table.",
            *(f"On the table: {note}" for note in notes),
        ),
    )


def _rows(table: Published, info: ReportInfo, pairings: Sequence[Pairing]) -> Iterator[ProtocolRow]:
    grids = _grouped(
        [(pairing.setup.grid, pairing) for pairing in pairings if pairing.setup and pairing.setup.grid],
        len(pairings),
    )
    if grids:
        yield "dataset", ", ".join(table.test_cases), grids
    for what, told in table.protocol.items():
        facts = [(fact, pairing) for pairing in pairings if (fact := _fact(pairing, what))]
        if what == "runs":
            yield what, told.shown, seeds_text(len(info.seeds))
        elif told.unstated or not all(_same(what, told, fact) for fact, _ in facts):
            yield what, told.shown, _grouped(facts, len(facts))
    for what, told in recipe().items():  # told even where it is the paper's, so that this can be seen
        facts = [(fact, pairing) for pairing in pairings if (fact := _fact(pairing, what))]
        if facts:
            yield what, told.shown, _grouped(facts, len(facts))
    yield from _cases(table, pairings)


def _cases(table: Published, pairings: Sequence[Pairing]) -> Iterator[ProtocolRow]:
    for dataset, count in table.test_cases.items():
        own = [
            pairing.line
            for pairing in pairings
            if pairing.line and pairing.setup and pairing.setup.dataset == dataset
        ]
        ours = sorted({len(line.cases) for line in own if line.seeds})
        if ours and ours != [count]:
            theirs = "unstated" if count is None else str(count)
            yield f"test cases, {dataset}", theirs, ", ".join(map(str, ours))
        caps = [
            (f"at most {pairing.setup.unlabeled}", pairing)
            for pairing in pairings
            if pairing.setup
            and pairing.setup.dataset == dataset
            and pairing.setup.unlabeled is not None
            and pairing.row
            and _unlabeled(pairing, dataset) > pairing.setup.unlabeled
        ]
        if caps:
            theirs = ", ".join(str(n) for n in sorted({_unlabeled(pairing, dataset) for _, pairing in caps}))
            yield f"unlabelled volumes, {dataset}", theirs, _grouped(caps, len(caps))


def _unlabeled(pairing: Pairing, dataset: str) -> int:
    assert pairing.row is not None
    count = pairing.row.setting.unlabeled
    return (count.get(dataset) if isinstance(count, dict) else count) or 0


def _fact(pairing: Pairing, what: str) -> str:
    return pairing.setup.facts.get(what, "") if pairing.setup else ""


def _same(what: str, told: Told, ours: str) -> bool:
    """Whether all that is told says what ours do; where that cannot be seen, it does not."""
    if what == "window":
        have = re.findall(r"\d+", ours)
        strides = [re.search(r"stride (\d+(?:, \d+)*)", theirs) for theirs in told.said]
        return all(
            one is not None and one[1].split(", ") in (have, list(dict.fromkeys(have))) for one in strides
        )
    if what == "backbone":
        return all(ours == theirs for theirs in told.said)  # "V-Net" is not "V-Net (MagicNet)"
    return all(ours in theirs for theirs in told.said)


def _grouped(facts: Sequence[tuple[str, Pairing]], of: int) -> str:
    """Each different text once; with the arms it is true of, where there are several texts."""
    groups: dict[str, dict[str, None]] = {}
    for text, pairing in facts:
        line = pairing.line
        assert isinstance(line, Line)
        groups.setdefault(text, {})[line.label] = None
    if len(groups) == 1 and len(facts) == of:
        return next(iter(groups))
    return "; ".join(f"{text} [{', '.join(labels)}]" for text, labels in groups.items())
