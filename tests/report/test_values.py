"""What a table's options add: gains, what ± is over, what a model costs, classes never found."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sfrbench.report.sections import result_tables
from sfrbench.report.tables import Table, to_csv, to_html, to_latex, to_markdown


def made(demo: Any, per_class: bool = False, **item: Any) -> Table:
    tables, _ = result_tables(demo.frame, demo.info, {"table": "results", **item}, "results")
    return tables[1 if per_class else 0]


def data(table: Table) -> dict[str, dict[str, str]]:
    return {row["arm"]: row for row in csv.DictReader(io.StringIO(to_csv(table)))}


def test_a_gain_is_the_paired_difference_and_stands_in_every_rendering(small: Any) -> None:
    table = made(small, gains={"sfr_mt": "mt", "mt": "supervised"}, metrics=["dice", "hd95"])
    frame = small.frame[(small.frame["subset"] == "test") & small.frame["arm"].isin(["mt", "sfr_mt"])]
    means = frame.groupby(["metric", "arm"])["value"].mean()
    up = means["dice", "sfr_mt"] - means["dice", "mt"]
    down = means["hd95", "mt"] - means["hd95", "sfr_mt"]
    assert table.rows[3][1].gain == f"(↑{up:.2f})"
    assert table.rows[3][2].gain == f"(↓{down:.2f})"
    assert f"** (↑{up:.2f})" in to_markdown(table)
    assert f"</b> (↑{up:.2f})" in to_html(table, "")
    assert rf"}} ($\uparrow${up:.2f})" in to_latex(table)
    row = data(table)["sfr_mt"]
    assert (row["dice_gain"], row["hd95_gain"]) == (f"{up:.2f}", f"{-down:.2f}")
    assert row["gain_against"] == "mt"
    assert data(table)["sfr_ft"]["dice_gain"] == data(table)["sfr_ft"]["gain_against"] == ""
    assert "SFR_MT against MT" in table.caption


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
    assert "standard deviation (n − 1) over cases" in table.caption
    assert data(table)["mt"]["std_over"] == "cases"
    assert "± " not in made(small, std="none").rows[1][1].text
    assert "±" not in made(small, std="none").caption
    one = replace(small, frame=small.frame[small.frame["seed"] == 0], info=replace(small.info, seeds=(0,)))
    assert made(one).rows[1][1].text.endswith("± —")
    assert "needs two" in made(one).caption


def test_what_a_model_costs_and_why_it_is_not_known(small: Any) -> None:
    table = made(small, columns=["seconds", "params"], metrics=["dice"])
    heads = dict(zip(table.columns, range(len(table.columns)), strict=True))
    texts = [[row[heads[head]].text for row in table.rows] for head in ("Params (M)", "s per case")]
    assert texts == [["9.45", "—", "93.60", "9.45"], ["0.84", "—", "61.25", "0.90"]]
    marked = table.rows[1][heads["s per case"]]
    assert dict(table.notes)[marked.marks] == "s per case: not run yet"
    assert "on cpu" in table.caption
    assert data(table)["sfr_ft"]["params_millions"] == "93.60"
    other = [replace(one, device="cuda:0 H100") if one.arm == "sfr_mt" else one for one in small.info.counted]
    table = made(replace(small, info=replace(small.info, counted=other)), columns=["seconds"])
    told = [dict(table.notes).get(row[5].marks, "") for row in table.rows]
    assert told[0] == "timed on cpu"
    assert told[3] == "timed on cuda:0 H100"
    assert "on cpu" not in table.caption


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
    assert "never found" in table.caption
    assert data(table)["mt"]["never_found"] == "posterior"
    assert "never found" not in made(small, per_class=True).caption
    seen = frame.index[lost & (frame["case"] == "case_002")]
    frame.loc[seen, "empty_pred"] = False
    assert ("never found" in made(demo, per_class=True, metrics=[metric]).caption) == (shown == "0*")
    frame.loc[seen, "value"] = 40.0
    assert "never found" not in made(demo, per_class=True, metrics=[metric]).caption
