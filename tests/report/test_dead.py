"""A class that is never found is told wherever a mean over classes stands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sfrbench.report.facts.info import Setup
from sfrbench.report.item import Shown
from sfrbench.report.items.curve.figure import curve_figure
from sfrbench.report.items.kde.density import kde_figure
from sfrbench.report.items.pairs.table import pairs_table
from sfrbench.report.items.ranks.ranking import Ranking, ranking
from sfrbench.report.items.ranks.table import ranks_table
from sfrbench.report.items.table.result import result_tables
from sfrbench.report.render.tables import Table, to_csv, to_html, to_latex, to_markdown
from sfrbench.results.dead import find
from tests.support.demos import axis_demo, rows_of
from tests.support.published import FACTS, ORGANS, made

SAID = "never found (Dice below 0.5 % or predicted empty in every case): posterior 0 in 12 of 12 cases"


def rows(values: dict[tuple[int, str, str], tuple[float | None, bool, bool]]) -> pd.DataFrame:
    """(seed, case, class) -> Dice (%), predicted empty, absent from the truth."""
    listed = [
        {"seed": seed, "case": case, "class": cls, "metric": metric, "value": value}
        | {"empty_pred": empty, "empty_gt": absent}
        for (seed, case, cls), (value, empty, absent) in values.items()
        for metric in ("dice", "hd95")
    ]
    return pd.DataFrame(listed)


@pytest.mark.parametrize(
    ("second", "dead"),
    [((0.4, False, False), True), ((0.5, False, False), False), ((None, True, False), True),
     ((100.0, True, True), True), ((60.0, False, True), True), ((3.0, False, False), False)],
)  # fmt: skip
def test_a_class_is_dead_where_every_case_that_has_it_is_missed(second: Any, dead: bool) -> None:
    found = find(rows({(0, "a", "x"): (0.0, False, False), (0, "b", "x"): second}))
    assert bool(found) == dead


def test_seeds_are_told_apart_and_other_classes_are_not_touched() -> None:
    given = {
        (seed, case, cls): (70.0 if cls == "y" or seed == 1 else 0.0, False, False)
        for seed in (0, 1, 2)
        for case in ("a", "b")
        for cls in ("x", "y")
    }
    (found,) = find(rows(given))
    assert (found.cls, found.seeds, found.of, found.cases) == ("x", (0, 2), 3, 2)
    assert found.text == "x 0 in 2 of 2 cases, 2 of 3 seeds"
    assert find(rows(given), seeds=[1]) == ()
    (alone,) = find(rows(given), seeds=[0], cases=["a"])
    assert alone.text == "x 0 in 1 of 1 cases"
    absent = dict.fromkeys(given, (0.0, False, True))
    assert find(rows(absent)) == ()  # nothing to find


def killed(demo: Any, arm: str = "mt", seeds: tuple[int, ...] = (0, 1)) -> Any:
    """``posterior`` has a Dice of 0 in every case of these seeds of an arm."""
    frame = demo.frame.copy()
    lost = (frame["arm"] == arm) & (frame["class"] == "posterior") & frame["seed"].isin(seeds)
    frame.loc[lost & frame["metric"].isin(["dice", "jaccard"]), "value"] = 0.0
    return replace(demo, frame=frame)


def notes_of(table: Table, row: int, column: int) -> list[str]:
    marks = table.rows[row][column].marks
    return [text for mark, text in table.notes if mark in marks]


def test_a_result_table_marks_the_mean_and_names_class_and_seeds(small: Any) -> None:
    table, per_class = result_tables(killed(small).frame, small.info, "results", Shown(), "results")[0]
    assert notes_of(table, 1, 1) == notes_of(table, 1, 4) == [f"{SAID}, 2 of 2 seeds"]
    assert not any(notes_of(table, row, 1) for row in (0, 2, 3))
    assert notes_of(per_class, 1, 1) == [f"{SAID}, 2 of 2 seeds"]
    assert per_class.rows[1][3].text == "0*"
    for render in (to_markdown, to_latex, to_csv, lambda table: to_html(table, "")):
        assert "posterior 0 in 12 of 12 cases" in render(table)
    one = result_tables(killed(small, seeds=(1,)).frame, small.info, "results", Shown(), "results")[0]
    assert notes_of(one[0], 1, 1) == [f"{SAID}, 1 of 2 seeds"]
    assert one[1].rows[1][3].text.endswith("*")
    whole = result_tables(small.frame, small.info, "results", Shown(), "results")[0]
    assert "never found" not in "".join(map(to_csv, whole))


def test_pairs_and_ranks_say_which_arm(small: Any) -> None:
    demo = killed(small)
    pairs = pairs_table(demo.frame, demo.info, [["sfr_mt", "mt"], ["sfr_mt", "supervised"]], ["dice"], "p")
    assert f"MT: {SAID}, 2 of 2 seeds" in " ".join(notes_of(pairs[0][0], 0, 0))
    assert "never found" not in " ".join(notes_of(pairs[0][0], 1, 0))
    assert "never found" in pairs[0][0].data[0]["note"]
    found = ranking(demo.frame, demo.info, "dice")
    assert isinstance(found, Ranking)
    table = ranks_table(demo.frame, demo.info, "dice", found, "ranks")
    place = found.names.index("MT")
    assert notes_of(table, place, 2) == [f"{SAID}, 2 of 2 seeds"]
    assert not any(notes_of(table, row, 2) for row in range(4) if row != place)


def test_captions_of_curves_and_densities_say_it(small: Any, tmp_path: Path) -> None:
    scales = axis_demo()
    frame = scales.frame.copy()
    frame.loc[(frame["stitch.scale"] == 1) & (frame["seed"] == 0), "value"] = 0.0
    said = " ".join(curve_figure(frame, scales.info, "stitch.scale", "dice", "curve", tmp_path).notes)
    assert "SFR_FT, stitch.scale 1: atrium 0 in 12 of 12 cases, 1 of 2 seeds." in said
    plain = curve_figure(scales.frame, scales.info, "stitch.scale", "dice", "curve", tmp_path)
    assert "Never found" not in " ".join(plain.notes)
    said = " ".join(kde_figure(killed(small).frame, small.info, "dice", "kde", tmp_path).notes)
    assert "MT: posterior 0 in 12 of 12 cases, 2 of 2 seeds." in said


def test_beside_the_paper_it_stands_at_our_mean_and_at_the_organ() -> None:
    every = rows_of("lb", 0, 30, cases=6, classes=ORGANS)
    lost = [row | ({"value": 0.0} if row["class"] == "pancreas" else {}) for row in every]
    tables = made(
        {"published": "table09"}, {"lb": ("V-Net (LB)", Setup("lb", {}, "abdomenct1k", 1, facts=FACTS))}, lost
    )
    whole, organs = tables["table09_dice"], tables["table09_dice_per_organ"]
    said = SAID.replace("posterior 0 in 12 of 12", "pancreas 0 in 6 of 6")
    assert [text for _, text in whole.notes if "never" in text] == [said]
    assert notes_of(whole, 0, 2) == [said]
    marked = {
        (organs.columns[column], row[0].text)
        for row in organs.rows
        for column, entry in enumerate(row)
        if any(text == said for mark, text in organs.notes if mark in entry.marks)
    }
    assert marked == {("Pancreas", "V-Net (LB), ours")}
    assert [row["organ"] for row in organs.data if "never found" in row["reason"]] == ["pancreas"]
