"""The published tables: against the paper's text where it is at hand, and against themselves."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from sfrbench.paper.sizes import sizes
from sfrbench.paper.tables import ROMAN, Erratum, PaperRow, Published, published
from tests.support.places import ROOT

NUMBERS = range(1, 16)
CENT = Decimal("0.01")


@dataclass(frozen=True)
class Printed:
    """One cell of the paper's text. ``row`` is the label as in our files, ``setting`` as ``Setting.text``."""

    setting: str
    row: str
    column: str
    number: str
    gain: str
    bold: bool


@pytest.fixture(scope="session")
def paper() -> str:
    """The paper's text: $SFRBENCH_PAPER, else ../shared/paper/sfr.md."""
    given = os.environ.get("SFRBENCH_PAPER")
    path = Path(given).expanduser() if given else ROOT.parent / "shared" / "paper" / "sfr.md"
    if not path.is_file():
        pytest.skip(f"no text of the paper: {path} does not exist; set SFRBENCH_PAPER")
    return path.read_text(encoding="utf-8")


def plain(text: str) -> str:
    """Without markup, references and arrows of a heading: ``$\\text{SFR}_{\\text{MT}}^+$`` is ``SFR_MT+``."""
    text = text.replace("<sub>", "_")
    text = re.sub(r"</?\w+>|\\uparrow|\\downarrow|\\text|[$^{}↑↓]|\[[^\]]*\]|\(Ours\)", "", text)
    return re.sub(r"\s*([_+])\s*", r"\1", re.sub(r"\s+", " ", text)).strip()


def lines_of(text: str, number: int) -> list[list[str]]:
    """The cells of a table: the first run of lines with tabs after its caption."""
    after = re.split(rf"^TABLE {ROMAN[number - 1]}\s*$", text, maxsplit=1, flags=re.MULTILINE)[1]
    found: list[list[str]] = []
    for line in after.splitlines():
        if "\t" in line:
            found.append(line.split("\t"))
        elif found:
            break
    return found


def printed(text: str, number: int) -> Iterator[Printed]:
    head, *body = lines_of(text, number)
    if number == 12:  # two lines of headings
        head = [*head[:3], *body.pop(0)[3:]]
    first = {12: 2, 13: 1, 14: 3, 15: 3}.get(number, 2)  # the first column with results
    setting = method = ""
    for line in body:
        if number in (14, 15):
            ours = re.fullmatch(r"(SFR) - (scarce|moderate) annotations.*", plain(line[0]))
            prompts = f"{line[1]}, {head[2].lower()} {line[2]}"
            method, setting = ours.groups() if ours else (plain(line[0]) or method, prompts)
        elif number == 13:
            method, setting = plain(line[0]), "16"
        else:
            mark = line[0].replace(" ", "")
            setting = {"M": "moderate", "S": "scarce"}.get(mark, mark) or setting
            method = plain(line[1])
        for title, cell in zip(head[first:], line[first:], strict=True):
            found = re.fullmatch(r"([\d./]+\*?)M?(?:\((↓?)↑?([\d.]+)\))?", plain_cell(cell))
            assert found, cell
            gain = f"{'-' if found[2] else ''}{found[3]}" if found[3] else ""
            yield Printed(setting, method, plain(title), found[1], gain, "<b>" in cell)


def plain_cell(cell: str) -> str:
    return re.sub(r"</?b>|[\s$]", "", cell.replace(r"\uparrow", "↑").replace(r"\downarrow", "↓"))


def ours(table: Published) -> Iterator[Printed]:
    """Our rows as the paper prints them; Table XII has one row for two of ours."""
    rows = list(table.rows)
    while rows:
        group = [rows.pop(0)]
        if table.table == "XII" and group[0].method == "SFR_ACMT":
            group.append(rows.pop(0))
        name = "SFR_ACMT/MagicNet" if len(group) > 1 else group[0].method
        for column, spec in table.columns.items():
            values = [value.text for row in group if (value := row.values[column])]
            gains = [f"{row.gains.by[column]:.2f}" for row in group if row.gains and column in row.gains.by]
            title = spec.printed or column
            yield Printed(group[0].setting.text, name, title, "/".join(values), "".join(gains), False)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_number_of_the_paper_and_no_other(number: int, paper: str) -> None:
    def told(cells: Iterator[Printed]) -> list[tuple[str, ...]]:
        return [(cell.setting, cell.row.lower(), cell.column, cell.number, cell.gain) for cell in cells]

    theirs = told(printed(paper, number))
    assert told(ours(published(number))) == theirs
    assert len(theirs) > 8


@pytest.mark.parametrize("number", NUMBERS)
def test_the_same_numbers_without_a_parser(number: int, paper: str) -> None:
    body = "\n".join("\t".join(line) for line in lines_of(paper, number))
    cells = [
        text for cell in ours(published(number)) for text in (cell.number, cell.gain.lstrip("-")) if text
    ]
    known = Counter(text for text in cells if re.search(r"[.*]", text))
    assert Counter(re.findall(r"\d+\.\d+|0\*", body)) == known


def test_never_found_is_not_zero() -> None:
    stars = [
        (t, r.method)
        for t in NUMBERS
        for r in published(t).rows
        for v in r.values.values()
        if v and not v.found
    ]
    assert Counter(table for table, _ in stars) == {3: 1, 5: 3, 9: 1, 10: 15, 11: 2}
    value = published(3).find("V-Net (LB)", "Pancreas")
    assert value is not None
    assert (value.number, value.found, value.text) == (0.0, False, "0*")


def errata(what: str) -> set[tuple[int, str | None, str | None, str, str]]:
    found: list[tuple[int, Erratum]] = [
        (t, e) for t in NUMBERS for e in published(t).errata if e.what == what
    ]
    return {(t, e.row, e.column, str(e.printed), str(e.recomputed)) for t, e in found}


def exact(row: PaperRow, column: str) -> Decimal:
    value = row.values[column]
    assert value is not None
    return Decimal("0") if not value.found else Decimal(value.text)


def test_averages_differ_only_where_an_erratum_says_so() -> None:
    wrong, seen = set(), 0
    for number in NUMBERS:
        table = published(number)
        organs = [name for name, column in table.columns.items() if column.organ]
        for row in table.rows if organs else ():
            mean = sum((exact(row, name) for name in organs), Decimal(0)) / len(organs)
            seen += 1
            if abs(mean - exact(row, "AVG")) > Decimal("0.005"):
                told = mean.quantize(CENT, ROUND_HALF_UP)
                wrong.add((number, row.method, "AVG", str(exact(row, "AVG")), str(told)))
    assert wrong == errata("value") == {(9, "V-Net (LB)", "AVG", "22.72", "22.32")}
    assert seen == 54


def test_gains_differ_only_where_an_erratum_says_so() -> None:
    wrong, seen = set(), 0
    for number in NUMBERS:
        rows = published(number).rows
        for row in (row for row in rows if row.gains):
            assert row.gains is not None
            (base,) = [r for r in rows if (r.method, r.setting) == (row.gains.over, row.setting)]
            for column, gain in row.gains.by.items():
                seen += 1
                difference = exact(row, column) - exact(base, column)
                if difference != Decimal(f"{gain:.2f}"):
                    wrong.add((number, row.method, column, str(gain), str(difference)))
    assert wrong == errata("gain") == {(5, "SFR_MT+", "AVG", "5.59", "5.95")}
    assert seen == 44


def test_what_is_bold_is_best_except_where_an_erratum_says_so(paper: str) -> None:
    wrong = set()
    for number in NUMBERS:
        cells = [cell for cell in printed(paper, number) if "(UB)" not in cell.row]
        for cell in (cell for cell in cells if cell.bold):
            rivals = [c for c in cells if c.column == cell.column]
            if number == 12:
                rivals = [c for c in rivals if c.setting == cell.setting]
            choose = min if cell.column in ("ASD", "95HD") else max
            if Decimal(cell.number) != choose(Decimal(c.number.rstrip("*")) for c in rivals):
                wrong.add((number, cell.row, cell.column, cell.number, "None"))
    assert wrong == errata("emphasis")
    assert {place[:3] for place in wrong} == {(1, "SFR_ACMT+", "95HD"), (7, "SFR_ACMT", "Jaccard")}


def test_errata_of_the_text_quote_the_paper(paper: str) -> None:
    text = re.sub(r"\s+", " ", paper).casefold()
    quotes = [(t, str(e.printed)) for t in NUMBERS for e in published(t).errata if e.what == "text"]
    assert {number for number, _ in quotes} == {4, 5, 8, 9, 11}
    for _, quote in quotes:
        assert quote.casefold() in text


def pick(number: int, label: str, column: str, labeled: int | None = None) -> float:
    value = published(number).find(label, column, labeled=labeled)
    assert value is not None, (number, label, column)
    return value.number


def test_errata_of_the_text_name_the_right_numbers() -> None:
    def gap(number: int, better: str, base: str, column: str) -> float:
        return round(pick(number, better, column) - pick(number, base, column), 2)

    assert gap(8, "SFR_ACMT", "ACMT", "Dice") == 15.15
    assert gap(9, "SFR_MagicNet", "MagicNet", "AVG") == 10.13
    assert gap(11, "SFR_MT", "MT", "L.Kidney") == 34.53


REPEATS = [
    ("LA", 1, 7, "Dice", (16, 1), ("SFR_MT", "SFR_ACMT")),
    ("BraTS", 2, 8, "Dice", (50, 1), ("SFR_MT", "SFR_ACMT")),
    ("BTCV", 4, 10, "AVG", (7, 1), ("SFR_MT", "SFR_MagicNet")),
    ("MACT", 5, 11, "AVG", (14, 1), ("SFR_MT", "SFR_MagicNet")),
]


@pytest.mark.parametrize(("column", "moderate", "scarce", "own", "counts", "methods"), REPEATS)
def test_tables_that_repeat_others_agree(
    column: str, moderate: int, scarce: int, own: str, counts: tuple[int, int], methods: Sequence[str]
) -> None:
    for number, labeled, setting in ((moderate, counts[0], "moderate"), (scarce, counts[1], "scarce")):
        repeated = [pick(12, method, column, labeled) for method in methods]
        assert repeated == [pick(number, method, own) for method in methods]
        assert pick(15, f"SFR ({setting})", column) == max(repeated)
    for heading in ("Dice", "Jaccard", "ASD", "95HD"):
        assert pick(14, "SFR (scarce)", heading) == pick(7, "SFR_ACMT", heading)
        assert pick(14, "SFR", heading, 16) == pick(1, "SFR_ACMT", heading)
    assert pick(13, "SFR_FT", "Dice") == pick(12, "SFR_FT", "LA", 16)


def test_sizes_are_those_of_parameters_yaml() -> None:
    known = {entry.millions for entry in [*sizes().finetune, *sizes().retrain]}
    rows = [row for number in (12, 13) for row in published(number).rows]
    assert {value.number for row in rows if (value := row.values["Params"])} == known
