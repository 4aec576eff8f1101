"""What a table's options add: gains, what ± is over, what a model costs, classes never found."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sfrbench.report.item import Shown
from sfrbench.report.items.curve.figure import curve_figure
from sfrbench.report.items.pairs.table import pairs_table
from sfrbench.report.items.table.result import result_tables
from sfrbench.report.render.style import judged
from sfrbench.report.render.tables import (
    MARKS,
    Entry,
    Table,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    unmarked,
)


def made(demo: Any, per_class: bool = False, **item: Any) -> Table:
    tables, _ = result_tables(demo.frame, demo.info, "results", Shown(**item), "results")
    return tables[1 if per_class else 0]


def data(table: Table) -> dict[str, dict[str, str]]:
    return {row["arm"]: row for row in csv.DictReader(io.StringIO(to_csv(table)))}


def said(table: Table) -> str:
    """Caption and rules."""
    return " ".join([table.caption, *table.rules])


def test_a_gain_is_the_paired_difference_and_stands_in_every_rendering(small: Any) -> None:
    table = made(small, gains={"sfr_mt": "mt", "mt": "supervised"}, metrics=["dice", "hd95"])
    frame = small.frame[(small.frame["subset"] == "test") & small.frame["arm"].isin(["mt", "sfr_mt"])]
    means = frame.groupby(["metric", "arm"])["value"].mean()
    up = means["dice", "sfr_mt"] - means["dice", "mt"]
    down = means["hd95", "mt"] - means["hd95", "sfr_mt"]
    assert table.rows[3][1].gain == f"(+{up:.2f} better)"
    assert table.rows[3][2].gain == f"(−{down:.2f} better)"
    assert f"** (+{up:.2f} better)" in to_markdown(table)
    assert f"</b> <span class=gain>(+{up:.2f} better)" in to_html(table, ())
    assert rf"}} ($-${down:.2f} better)" in to_latex(table)
    row = data(table)["sfr_mt"]
    assert (row["dice_difference"], row["hd95_difference"]) == (f"{up:.2f}", f"{-down:.2f}")
    assert row["dice_verdict"] == row["hd95_verdict"] == "better"
    assert row["difference_against"] == "mt"
    none = data(table)["sfr_ft"]
    assert none["dice_difference"] == none["dice_verdict"] == none["difference_against"] == ""
    assert "SFR_MT against MT" in said(table)


def test_a_distance_that_grew_is_worse_and_says_so_in_every_rendering(small: Any) -> None:
    """The head says what is better, the sign of a gain its direction, the word what that means."""
    table = made(small, gains={"mt": "sfr_mt"}, metrics=["dice", "hd95", "nsd"])
    frame = small.frame[(small.frame["subset"] == "test") & small.frame["arm"].isin(["mt", "sfr_mt"])]
    means = frame.groupby(["metric", "arm"])["value"].mean()
    grown = means["hd95", "mt"] - means["hd95", "sfr_mt"]
    assert grown > 0
    told = f"(+{grown:.2f} worse)"
    assert [entry.gain for entry in table.rows[1][1:4]][1:] == [told, ""]
    assert table.rows[1][1].gain.endswith(" worse)")
    for render in (to_markdown, to_latex, lambda table: to_html(table, table.alone)):
        text = render(table)
        assert told in text
        arrows = re.findall(r".[↑↓]|.\$.(?:up|down)arrow", text)
        assert arrows  # at the heads and where they are explained, never before a number
        assert not re.search(r"(?:[↑↓]|arrow\$) ?\d", text)
    assert data(table)["mt"]["hd95_verdict"] == data(table)["mt"]["dice_verdict"] == "worse"
    assert data(table)["mt"]["nsd_verdict"] == ""


@pytest.mark.parametrize(
    ("change", "larger", "shown"),
    [
        (9.9, True, "+9.90 better"),
        (-9.9, True, "−9.90 worse"),
        (1.2, False, "+1.20 worse"),
        (-1.2, False, "−1.20 better"),
        (0.004, False, "0.00"),
        (-0.004, True, "0.00"),
        (None, True, "—"),
        (np.nan, False, "—"),
    ],
)
def test_a_difference_has_its_sign_and_what_it_means(change: float | None, larger: bool, shown: str) -> None:
    assert judged(change, larger) == shown


def test_a_gain_over_a_part_says_so_and_none_says_why(small: Any) -> None:
    table = made(small, gains={"sfr_ft": "mt", "sfr_mt": "sfr_ft"})
    notes = dict(table.notes)
    assert any(
        notes[mark] == "gain over what MT has too: one seed, 12 cases" for mark in table.rows[2][0].marks
    )
    assert any(notes[mark].startswith("gain over what SFR_FT") for mark in table.rows[3][0].marks)
    gone = replace(small, frame=small.frame[small.frame["arm"] != "mt"])
    table = made(gone, gains={"sfr_mt": "mt"})
    assert table.rows[3][1].gain == ""
    assert dict(table.notes)[table.rows[3][0].marks] == "no gain: MT has no result here"


def test_equal_arms_gain_nothing(small: Any) -> None:
    twin = small.frame[small.frame["arm"] == "mt"]
    both = replace(small, frame=pd.concat([twin, twin.assign(arm="sfr_mt")]))
    assert made(both, gains={"sfr_mt": "mt"}).rows[3][1].gain == "(0.00)"


def test_the_standard_deviation_is_over_what_the_caption_says(small: Any) -> None:
    dice = small.frame[(small.frame["subset"] == "test") & (small.frame["metric"] == "dice")]
    own = dice[dice["arm"] == "mt"]
    over_cases = own.groupby(["case", "seed"])["value"].mean().groupby("case").mean().std(ddof=1)
    table = made(small, std="cases")
    assert table.rows[1][1].text.endswith(f"± {over_cases:.2f}")
    assert "standard deviation (n − 1) over cases" in said(table)
    assert table.caption == "Mean ± standard deviation over test cases, 2 seeds."
    assert data(table)["mt"]["std_over"] == "cases"
    assert "± " not in made(small, std="none").rows[1][1].text
    assert "±" not in said(made(small, std="none"))
    one = replace(small, frame=small.frame[small.frame["seed"] == 0], info=replace(small.info, seeds=(0,)))
    assert "±" not in to_markdown(made(one))
    assert "needs two" in said(made(one))
    assert made(one).caption == "Mean over test cases, one seed."


def test_what_a_model_costs_and_why_it_is_not_known(small: Any) -> None:
    table = made(small, columns=["seconds", "params"], metrics=["dice"])
    heads = dict(zip(table.columns, range(len(table.columns)), strict=True))
    texts = [[row[heads[head]].text for row in table.rows] for head in ("Params (M)", "s per case")]
    assert texts == [["9.45", "—", "93.60", "9.45"], ["0.84", "—", "61.25", "0.90"]]
    marked = table.rows[1][heads["s per case"]]
    assert dict(table.notes)[marked.marks] == "s per case: not run yet"
    assert "on cpu" in said(table)
    assert data(table)["sfr_ft"]["params_millions"] == "93.60"
    other = [replace(one, device="cuda:0 H100") if one.arm == "sfr_mt" else one for one in small.info.counted]
    table = made(replace(small, info=replace(small.info, counted=other)), columns=["seconds"])
    told = [dict(table.notes).get(row[5].marks, "") for row in table.rows]
    assert told[0] == "timed on cpu"
    assert told[3] == "timed on cuda:0 H100"
    assert "on cpu" not in said(table)


@pytest.mark.parametrize(
    ("value", "metric", "shown"),
    [(0.0, "dice", "0*"), (np.nan, "dice", "—*"), (74.0, "hd95", "74.00 ± 0.00*")],
)
def test_a_class_that_an_arm_never_finds_has_a_star(
    small: Any, value: float, metric: str, shown: str
) -> None:
    frame = small.frame.copy()
    lost = (frame["arm"] == "mt") & (frame["class"] == "posterior") & (frame["subset"] == "test")
    frame.loc[lost, "value"] = value
    frame.loc[lost, "empty_pred"] = True
    demo = replace(small, frame=frame)
    table = made(demo, per_class=True, metrics=[metric])
    assert [row[3].text.endswith("*") for row in table.rows] == [False, True, False, False]
    assert table.rows[1][3].text == shown
    assert "never found" in said(table)
    assert data(table)["mt"]["never_found"] == "posterior"
    assert "never found" not in said(made(small, per_class=True))
    seen = frame.index[lost & (frame["case"] == "case_002")]
    frame.loc[seen, "empty_pred"] = False
    assert ("never found" in said(made(demo, per_class=True, metrics=[metric]))) == (shown == "0*")
    frame.loc[seen, "value"] = 40.0
    assert "never found" not in said(made(demo, per_class=True, metrics=[metric]))


def test_a_mark_of_every_row_is_said_once_without_a_mark(small: Any) -> None:
    """Twenty daggers in a column tell nothing apart; what remains is marked from the dagger on."""
    several = "".join(MARKS[:2]) + "(19)"
    rows = tuple(
        (Entry(name, marks=marks), Entry("1", marks="(19)")) for name, marks in (("a", several), ("b", "‡†"))
    )
    notes = (("†", "one seed"), ("‡", "two seeds"), ("(19)", "odd"))
    table = unmarked(Table("t", "T.", "C.", ("Name", "n"), rows, notes, ()))
    assert table.notes == (("", "Every row: one seed."), ("", "Every row: two seeds."), ("†", "odd"))
    assert [[entry.marks for entry in row] for row in table.rows] == [["†", "†"], ["", "†"]]
    for render in (to_markdown, to_latex, lambda table: to_html(table, ())):
        assert render(table).count("Every row: one seed.") == 1
    alone = replace(table, rows=rows[:1], notes=notes)
    assert unmarked(alone) is alone
    one = replace(small, frame=small.frame[small.frame["arm"] != "sfr_ft"])
    assert unmarked(made(one)).notes == made(one).notes


def emptied(demo: Any, value: float, metrics: tuple[str, ...] = ("asd", "hd95")) -> Any:
    """Both classes of one case of SFR_MT predicted empty: ``value`` in some metrics, 0 in the others."""
    frame = demo.frame.copy()
    lost = (frame["arm"] == "sfr_mt") & (frame["case"] == "case_003") & (frame["subset"] == "test")
    lost &= frame["seed"] == 0
    frame.loc[lost, "empty_pred"] = True
    frame.loc[lost, "value"] = 0.0
    frame.loc[lost & frame["metric"].isin(metrics), "value"] = value
    return replace(demo, frame=frame)


def test_an_empty_prediction_is_never_best_in_a_distance(small: Any) -> None:
    """Scored 0, SFR_MT has the least distance; it still takes no part, and the two others do."""
    plain = made(small, metrics=["dice", "hd95"])
    assert [row[2].rank for row in plain.rows] == [0, 2, 0, 1]
    table = made(emptied(small, 0.0), metrics=["dice", "hd95"], gains={"sfr_mt": "mt", "mt": "supervised"})
    assert float(data(table)["sfr_mt"]["hd95_mean"]) < float(data(table)["mt"]["hd95_mean"])
    assert [row[2].rank for row in table.rows] == [2, 1, 0, 0]
    assert table.rows[3][1].rank == 1  # in Dice it counts 0, and no harm is done
    notes = dict(table.notes)
    said = "2 empty predictions count as distance 0, the best possible, under this protocol: never"
    assert any(notes[mark].startswith(said) for mark in table.rows[3][0].marks)
    assert (table.rows[3][1].gain != "", table.rows[3][2].gain) == (True, "")
    assert any(notes[mark].startswith("no gain in 95HD: empty") for mark in table.rows[3][0].marks)
    one = made(emptied(small, 0.0), per_class=True, metrics=["hd95"])
    assert [entry.rank for entry in one.rows[3][1:4]] == [0, 0, 0]


def test_left_out_it_is_best_in_no_metric_and_at_its_worst_it_may_be(small: Any) -> None:
    left_out = made(emptied(small, np.nan, ("dice", "asd", "hd95")), metrics=["dice", "hd95"])
    assert [row[1].rank for row in left_out.rows] == [2, 1, 0, 0]
    assert any("2 empty predictions are left out" in text for _, text in left_out.notes)
    worst = made(emptied(small, 20.0), metrics=["dice", "hd95"])
    assert worst.rows[3][2].rank == 1
    assert not any("empty prediction" in text for _, text in worst.notes)


def test_pairs_say_which_side_empty_predictions_flatter(small: Any) -> None:
    pairs, metrics = [("sfr_mt", "mt")], ["dice", "hd95"]
    (table,), _ = pairs_table(emptied(small, 0.0).frame, small.info, pairs, metrics, "pairs")
    told = ["95HD of SFR_MT: 2 empty predictions" in row["note"] for row in table.data]
    assert told == [False, True]


def test_the_best_point_of_a_curve_has_no_empty_prediction(scales: Any, tmp_path: Any) -> None:
    assert (
        "Best: 4 ("
        in curve_figure(scales.frame, scales.info, "stitch.scale", "hd95", "plain", tmp_path).notes[-2]
    )
    frame = scales.frame.copy()
    lost = (frame["stitch.scale"] == 8) & frame["case"].isin([f"case_{index:03d}" for index in range(9)])
    frame.loc[lost, "empty_pred"] = True
    frame.loc[lost & (frame["metric"] != "dice"), "value"] = 0.0
    notes = " ".join(curve_figure(frame, scales.info, "stitch.scale", "hd95", "empty", tmp_path).notes)
    assert "Best: 4 (" in notes
    assert "Not compared for best, flattered by empty predictions: 8." in notes
