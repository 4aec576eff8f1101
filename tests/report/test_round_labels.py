"""Pseudo-labels before and after each round: which cases, paired, and what is said where there is nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sfrbench.compare.trace import find, open_report
from sfrbench.maths import stats
from sfrbench.report.build import build_report
from sfrbench.report.facts.info import ReportInfo, Round
from sfrbench.report.facts.rounds import ONLINE
from sfrbench.report.item import Shown
from sfrbench.report.items.rounds.label_tables import label_tables
from sfrbench.report.items.table.result import pseudo_table
from sfrbench.report.render.tables import Table, to_csv, to_html, to_latex, to_markdown
from sfrbench.results.measures import bounds_of

CASES = ("a", "b", "c", "d", "e")
#: Dice of each case (both classes) in the first labels, after round 1, after round 2, and the segmenter's.
DICE = {
    "unlabelled": (60.0, 50.0, 40.0, 30.0, 20.0),
    "unlabelled round 1": (70.0, 53.0, 44.0, 35.0, 26.0),
    "unlabelled round 2": (71.0, 60.0, 43.0, 36.0, 29.0),
    "round 1": (90.0, 80.0, 70.0, 60.0, 50.0),
    "round 2": (91.0, 81.0, 71.0, 61.0, 51.0),
}


def scores(arm: str, seed: int, subsets: Any = DICE, shift: float = 0.0) -> list[dict[str, Any]]:
    return [
        {
            "experiment": "e",
            "profile": "smoke",
            "arm": arm,
            "label": arm,
            "seed": seed,
            "cell": f"{arm}{seed}",
        }
        | {"subset": subset, "case": case, "class": cls, "metric": "dice", "value": value + sign + shift}
        | {"unit": "%", "empty_pred": False, "empty_gt": False, "key": f"{subset}/{arm}{seed}"}
        for subset in subsets
        for case, value in zip(CASES, DICE[subset], strict=True)
        for cls, sign in (("one", 2.0), ("two", -2.0))
    ]


def a_round(number: int, confident: str, seed: int = 0, arm: str = "plus", **more: Any) -> Round:
    confidence = dict.fromkeys(CASES, 0.9)
    return Round(arm, {}, seed, f"{arm}{seed}", number, 0.95, confidence, frozenset(confident), "k", **more)


def info(rounds: list[Round], *arms: str, **more: Any) -> ReportInfo:
    names = [(arm, arm) for arm in arms or ("plus",)]
    seeds = sorted({one.seed for one in rounds}) or [0]
    return ReportInfo("e", "T", "smoke", "strict", names, seeds, [{"rounds": True}], rounds=rounds, **more)


def tables(frame: list[dict[str, Any]], given: ReportInfo) -> dict[str, Table]:
    return {table.name: table for table, _ in label_tables(pd.DataFrame(frame), given, "rounds")}


def texts(table: Table, row: int) -> dict[str, str]:
    return dict(zip(table.columns, (entry.text for entry in table.rows[row]), strict=True))


def notes(table: Table, row: int) -> list[str]:
    return [text for mark, text in table.notes if mark in table.rows[row][0].marks]


def interval(before: list[float], after: list[float]) -> str:
    """That of the paired difference over cases of both classes, as printed."""
    cubes = [np.array([[[value + 2, value - 2] for value in values]]) for values in (after, before)]
    gap = stats.difference(cubes[0], cubes[1], bounds_of("dice"))[0]
    assert gap.low is not None
    return f"{gap.low:+.2f} to {gap.high:+.2f}".replace("-", "−")


def test_rounds_are_compared_on_the_cases_that_both_label() -> None:
    made = tables(scores("plus", 0), info([a_round(1, "a"), a_round(2, "abc")]))
    assert list(made) == ["rounds_labels", "rounds_labels_confident", "rounds_labels_all"]
    first, second = (texts(made["rounds_labels"], row) for row in (0, 1))
    assert (first["n"], first["Before"], first["After"]) == ("4", "35.00", "39.50")  # b, c, d, e
    assert (first["After − before"], first["Segmenter"]) == ("+4.50 better", "65.00")
    assert first["95 % interval"] == interval([50, 40, 30, 20], [53, 44, 35, 26])
    assert (second["n"], second["Before"], second["After"]) == ("2", "30.50", "32.50")  # d, e
    confident = texts(made["rounds_labels_confident"], 1)
    assert (confident["n"], confident["Before"], confident["After"]) == ("3", "55.67", "58.00")
    assert confident["Segmenter"] == "81.00"
    every = texts(made["rounds_labels_all"], 0)
    assert (every["n"], every["Before"], every["After"], every["Segmenter"]) == (
        "5",
        "40.00",
        "45.60",
        "70.00",
    )
    assert every["95 % interval"] == interval([60, 50, 40, 30, 20], [70, 53, 44, 35, 26])
    assert "one seed" in notes(made["rounds_labels"], 0)[0]


def test_a_case_that_comes_back_was_not_labelled_before() -> None:
    made = tables(scores("plus", 0), info([a_round(1, "abc"), a_round(2, "ae")]))
    assert texts(made["rounds_labels"], 1)["n"] == "1"  # d: b and c were confident in round 1, e now is
    assert "no interval: fewer than two cases" in notes(made["rounds_labels"], 1)


def test_each_seed_has_its_own_cases_and_counts_once() -> None:
    rounds = [a_round(1, "a"), a_round(1, "abcd", seed=1), a_round(1, "abcde", seed=2)]
    subsets = ("unlabelled", "unlabelled round 1", "round 1")
    frame = [row for seed in (0, 1, 2) for row in scores("plus", seed, subsets, shift=seed)]
    row = texts(tables(frame, info(rounds))["rounds_labels"], 0)
    assert (row["n"], row["seeds"]) == ("0–4", "2")
    assert row["Before"] == "28.00"  # (35 + 21) / 2
    assert row["After − before"] == "+5.25 better"  # (4.5 + 6) / 2


def test_all_ways_to_label_no_case_or_every_case_are_said() -> None:
    made = tables(scores("plus", 0), info([a_round(1, "abcde"), a_round(2, "abcde")]))
    assert texts(made["rounds_labels"], 0)["Before"] == "—"
    assert notes(made["rounds_labels"], 0) == [
        "Every row: SAM labels no case both before and after the round."
    ]
    assert texts(made["rounds_labels_all"], 0)["n"] == "5"
    both = tables(scores("plus", 0), info([a_round(1, "abcde", both=True)]))
    assert texts(both["rounds_labels"], 0) == texts(both["rounds_labels_all"], 0)
    nobody = tables(scores("plus", 0), info([a_round(1, "")]))
    assert texts(nobody["rounds_labels"], 0)["n"] == "5"
    assert "no case was confident: SAM and its labels stay as they were" in notes(nobody["rounds_labels"], 0)
    assert texts(nobody["rounds_labels_confident"], 0)["Segmenter"] == "—"
    crops = tables(scores("plus", 0), info([a_round(1, "ab", by_crop=True)]))
    assert texts(crops["rounds_labels"], 0)["n"] == "5"
    assert any("crops are judged one by one" in text for text in notes(crops["rounds_labels_confident"], 0))


def test_cases_that_a_round_does_not_label_are_left_out_and_said() -> None:
    """Round 1 labels b to e, round 2 e alone; scores of others, were there any, would not count."""
    rounds = [a_round(1, "a", labels_all=False), a_round(2, "bcd", labels_all=False)]
    made = tables(scores("plus", 0), info(rounds))
    for row, n in ((0, "4"), (1, "1")):
        seen = [texts(made[name], row) for name in ("rounds_labels", "rounds_labels_all")]
        assert seen[0] == seen[1]
        assert seen[0]["n"] == n
        assert texts(made["rounds_labels_confident"], row)["n"] == "—"
        for name in ("rounds_labels_confident", "rounds_labels_all"):
            assert any("SAM does not label them" in text for text in notes(made[name], row))
    nobody = tables(
        scores("plus", 0, ("unlabelled", "round 1")), info([a_round(1, "abcde", labels_all=False)])
    )
    for table in nobody.values():
        assert texts(table, 0)["n"] == "—"
        assert not any("not scored yet" in text for text in notes(table, 0))


def test_labels_made_online_are_a_dash_with_its_reason() -> None:
    given = info([a_round(1, "a", online=True)])
    frame = scores("plus", 0, ("round 1",))
    for table in tables(frame, given).values():
        assert {text for head, text in texts(table, 0).items() if head in ("n", "Before", "After")} == {"—"}
        assert notes(table, 0) == [ONLINE]
        for render in (to_markdown, to_latex, to_csv, lambda table: to_html(table, ())):
            assert "nothing is stored to score" in render(table)


def test_first_labels_made_online_stand_in_their_table() -> None:
    from sfrbench.results.grid import Missing

    given = info([], "on", "off", "none", unscored=[Missing("on", {}, 0, ONLINE)], pseudo_arms=["off"])
    frame = pd.DataFrame(scores("off", 0, ("unlabelled",)))
    (table,), _ = pseudo_table(frame, given, Shown(["dice"]), "pseudo_labels")
    assert [row[0].text for row in table.rows] == ["on", "off"]
    assert table.rows[0][1].text == "—"
    assert notes(table, 0) == [f"no seed has a result: {ONLINE}"]
    (table,), _ = pseudo_table(frame.iloc[:0], given, Shown(["dice"]), "pseudo_labels")
    assert [row[0].text for row in table.rows] == ["on", "off"]


def test_what_is_not_scored_yet_says_so() -> None:
    given = info([a_round(1, "a"), a_round(1, "a", seed=1)])
    frame = scores("plus", 0) + scores("plus", 1, ("unlabelled", "round 1"))
    table = tables(frame, given)["rounds_labels"]
    assert texts(table, 0)["seeds"] == "1"
    assert "without seed 1: these labels are not scored yet; run the experiment again" in notes(table, 0)
    table = tables(scores("plus", 0, ("round 1",)), info([a_round(1, "a")]))["rounds_labels"]
    assert texts(table, 0)["After"] == "—"
    assert "without seed 0" in notes(table, 0)[0]


def test_self_training_stands_among_all_cases() -> None:
    subsets = ("unlabelled round 1", "unlabelled round 2")
    made = tables(scores("st", 0, subsets), info([], "st"))
    assert list(made) == ["rounds_labels_all"]
    first, second = (texts(made["rounds_labels_all"], row) for row in (0, 1))
    assert (first["Before"], first["After"], first["After − before"]) == ("—", "45.60", "—")
    assert any("no labels before" in text for text in notes(made["rounds_labels_all"], 0))
    assert any("the labels are the segmenter's" in text for text in notes(made["rounds_labels_all"], 1))
    assert (second["Before"], second["After"], second["After − before"]) == ("45.60", "47.80", "+2.20 better")


def test_rows_stand_in_the_order_of_arms_points_and_rounds() -> None:
    frame = [
        {**row, "cell": f"{row['cell']}-{value}", "dataset.labeled": value}
        for value in (4, 1)
        for row in scores("st", 0, ("unlabelled round 1", "unlabelled round 2"))
    ]
    given = info([], "st", axes={"dataset.labeled": [1, 4]})
    rows = tables(frame, given)["rounds_labels_all"].rows
    assert [(row[1].text, row[2].text) for row in rows] == [("1", "1"), ("1", "2"), ("4", "1"), ("4", "2")]


def test_a_dead_class_is_told_of_the_cases_of_the_row() -> None:
    frame = scores("plus", 0)
    for row in frame:
        if row["class"] == "two" and row["subset"] == "unlabelled round 1" and row["case"] in "bcde":
            row["value"] = 0.0
    made = tables(frame, info([a_round(1, "a")]))
    after = made["rounds_labels"].columns.index("After")
    marks = made["rounds_labels"].rows[0][after].marks
    assert "two 0 in 4 of 4 cases" in dict(made["rounds_labels"].notes)[marks]
    assert made["rounds_labels"].rows[0][after - 1].marks == ""
    assert made["rounds_labels_all"].rows[0][after].marks == ""  # case a finds it


@pytest.fixture
def report(tmp_path: Path) -> Path:
    rounds = [a_round(1, "a"), a_round(2, "abc")]
    more = {"provenance": {"nodes": {"plus0": {}}, "cells": {}, "records": {}, "workspace": "."}}
    build_report(pd.DataFrame(scores("plus", 0)), replace(info(rounds), **more), tmp_path)
    return tmp_path


def test_the_page_and_a_trace_know_every_row(report: Path) -> None:
    page = (report / "index.html").read_text(encoding="utf-8")
    assert page.count("<b>Pseudo-labels before and after each round: ") == 3
    found = find(open_report(report), "plus, round 2, labels of cases that SAM labels in both")
    assert found.table == "rounds_labels"
    assert [row["dice_after"] for row in found.numbers] == ["32.50"]
    assert found.row["evaluate"] == ["round 2/plus0", "unlabelled round 1/plus0", "unlabelled round 2/plus0"]
    assert find(open_report(report), "plus, round 2").table == "rounds"  # as before there were such tables
