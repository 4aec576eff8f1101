"""The files of published tables: complete, looked up by row and column, and strict."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Dataset
from sfrbench.errors import InputError
from sfrbench.files.roots import shipped
from sfrbench.paper.tables import ROMAN, PaperRow, Published, published, read_table
from sfrbench.plan.build import Cell, build_plan
from sfrbench.report.items import kinds
from sfrbench.report.items.published import PublishedItem
from sfrbench.spec.reader import read_spec
from tests.support.places import ROOT

NUMBERS = range(1, 16)
FILES = ROOT / "reports" / "published"
#: Training volumes of each dataset; a setting uses them all, but for the lower bounds.
POOL = {"la": 80, "brats19": 250, "btcv": 18, "mact": 70, "abdomenct1k": 900}


def pick(number: int, label: str, column: str, labeled: int | None = None) -> float:
    value = published(number).find(label, column, labeled=labeled)
    assert value is not None, (number, label, column)
    return value.number


@pytest.mark.parametrize("number", NUMBERS)
def test_columns_rows_and_counts_are_complete(number: int) -> None:
    table = published(number)
    assert table.table == ROMAN[number - 1]
    assert all(list(row.values) == list(table.columns) for row in table.rows)
    assert set(table.test_cases) <= set(POOL)
    for row in table.rows:
        for dataset in table.test_cases:
            unlabeled = row.setting.unlabeled
            rest = unlabeled.get(dataset) if isinstance(unlabeled, dict) else unlabeled
            if rest or "(UB)" in row.method:
                assert row.setting.counts(dataset) == {POOL[dataset] - (rest or 0)}
        dice, jaccard = row.values.get("Dice"), row.values.get("Jaccard")
        if dice and jaccard:  # over any set of cases, by Jensen's inequality
            assert dice.number / (2 - dice.number / 100) - 0.01 <= jaccard.number <= dice.number


def test_files_are_one_per_table() -> None:
    assert sorted(path.name for path in FILES.glob("table*.yaml")) == [f"table{n:02}.yaml" for n in NUMBERS]
    with pytest.raises(InputError, match="no table 16"):
        published(16)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_row_is_an_arm_of_the_experiment_or_said_not_to_be_built(number: int) -> None:
    """In profile paper with the paper's numbers of labelled volumes, on each dataset."""
    table = published(number)
    (path,) = shipped("experiments").glob(f"table{number:02}_*.yaml")
    plan = build_plan(read_spec(path, "paper", items=kinds()), Catalog.read(), lambda resolved: "")
    shown = [item for item in plan.spec.report if isinstance(item, PublishedItem)]
    (item,) = (item for item in shown if item.published == path.stem[:7])
    wanted = {
        (row.label, dataset)
        for row in table.rows
        for dataset in table.test_cases
        if any(row.values[name] for name in table.columns if table.dataset_of(name) == dataset)
    }
    unbuilt = {(row.label, dataset) for row in table.rows for dataset in table.test_cases
               if any(row.named(name) for name in item.unbuilt)}  # fmt: skip
    found = set()
    for cell in plan.cells:
        resolved = cell.components["dataset"]
        if "interact" in cell.nodes:
            found |= {(row.label, resolved.chosen) for row in prompted_rows(cell, table, item)}
            continue
        labeled = cast(Dataset, resolved.component).labeled
        rows = [row for row in table.named(cell.label) if labeled in row.setting.counts(resolved.chosen)]
        if "selector" in cell.components and cell.components["selector"].card.name == "none":
            assert not rows  # a control of SFR+, which the paper does not have
            continue
        assert len(rows) == 1, cell.title
        found.add((rows[0].label, resolved.chosen))
    assert found == wanted - unbuilt
    assert plan.spec.seeds == (0, 1, 2)


def prompted_rows(cell: Cell, table: Published, item: PublishedItem) -> list[PaperRow]:
    """The row of as many prompts, or of that spacing of the prompted slices."""
    number = cell.axes.get("prompter.every", cell.axes.get("prompter.count"))
    named = table.named(item.rows.get(cell.arm, cell.label))
    rows = [row for row in named if row.setting.prompts == number]
    assert len(rows) == 1, cell.title
    return rows


@pytest.mark.parametrize("number", NUMBERS)
def test_organs_are_called_as_the_classes_of_their_dataset(number: int) -> None:
    table, catalog = published(number), Catalog.read()
    for name, column in table.columns.items():
        if column.organ:
            dataset = cast(Dataset, catalog.card("dataset", str(table.dataset_of(name))).component({}))
            assert column.organ in dataset.class_names(None)


def test_looking_up() -> None:
    table = published(6)
    assert pick(6, "SFR_MT (1/79)", "Dice") == pick(6, "SFR_MT", "Dice", 1) == 65.65
    assert table.find("BCP", "Dice") is None
    assert published(12).find("SFR_ACMT", "BTCV", labeled=7) is None
    assert pick(12, "SFR_MagicNet", "Params", 7) == pick(12, "SFR_MagicNet", "Params", 1) == 18
    with pytest.raises(InputError, match=r"several rows 'SFR_MT'.*\n.*SFR_MT \(16/64\), SFR_MT \(1/79\)"):
        table.find("SFR_MT", "Dice")
    with pytest.raises(InputError, match=r"no column 'Dise'.*\n.*did you mean 'Dice'"):
        table.find("SFR_MT", "Dise")
    marked = published(9).find("V-Net (LB)", "AVG")
    assert marked is not None
    assert marked.erratum is published(9).errata[0]
    assert marked.erratum.where == "V-Net (LB), AVG"


FAULTS = [
    ("title:", "titel:", "no field 'titel'"),
    ("unit: voxel}", "unit: mm}", "columns.ASD.unit: input should be"),
    ("asd, unit: voxel", 'asd, unit: "%"', "ASD: asd has unit 'voxel'"),
    ("58.33, 10.42, 33.22]", "58.33, 10.42]", "ACMT: 3 cells for 4 columns"),
    ("[72.64,", "[72.64x,", "not '72.64x'"),
    ("[72.64,", "[-72.64,", "not -72.64"),
    ("[72.64,", "[726.4,", "ACMT: 726.4 in column Dice is above 100 %"),
    ("over: ACMT, by: {Dice: 4.12}", "over: ACMD, by: {Dice: 4.12}", "no row 'ACMD' in this group"),
    ("by: {Dice: 4.12}", "by: {Dise: 4.12}", "no column 'Dise'"),
    ("unlabeled: 79}", "unlabeled: 79, labelled: 1}", "no field 'groups.1.setting.labelled'"),
    ("printed: 64.65", "printed: 64.56", "printed: 64.56 is not the table's 64.65"),
    ("    column: Jaccard", "    column: Jacard", "an erratum names one row and one column"),
    ("what: emphasis", "what: value", "'recomputed' is missing"),
    ("what: emphasis", "what: text", "an erratum of the text has a 'place'"),
]


@pytest.mark.parametrize(("old", "new", "message"), FAULTS)
def test_faults_come_with_their_place(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = (FILES / "table07.yaml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "table07.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_table(path)
    problems = [problem for problem in caught.value.problems if message in problem.what]
    assert len(problems) == 1, caught.value
    line = text[: text.index(old)].count("\n") + 1
    place = re.fullmatch(rf"{re.escape(str(path))}:(\d+):\d+", problems[0].where)
    assert place
    assert abs(int(place[1]) - line) <= 3  # an erratum's place is its first line
