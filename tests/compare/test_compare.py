"""Two runs of one experiment against each other."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from sfrbench.cli import main
from sfrbench.compare.runs import Comparison, compare, data
from sfrbench.compare.sides import Side, commits, load_sides
from sfrbench.errors import InputError
from sfrbench.plan.resolve import digest
from sfrbench.store.store import Store
from tests.support.demos import rows_of
from tests.support.values import mutants, places

DICE = ("dice",)


def frame(path: Path, rows: list[dict[str, Any]]) -> Path:
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def side(rows: list[dict[str, Any]]) -> Side:
    return Side("here", pd.DataFrame(rows))


def by_arm(found: Comparison) -> dict[str, dict[str, Any]]:
    return {", ".join(part for part in (row["arm"], row["point"]) if part): row for row in data(found)}


def test_the_difference_is_over_what_both_have() -> None:
    a = [row for seed in (0, 1, 2) for row in rows_of("mt", seed, 70, cases=6)]
    b = [row for seed in (1, 2, 3) for row in rows_of("mt", seed, 60, cases=5, point=1)]
    b = [{name: value for name, value in row.items() if name != "point"} for row in b]
    a += rows_of("only_a", 0, 50, cases=2)
    found = compare(side(a), side(b), DICE)
    (row,) = data(found)
    shared = [
        pd.DataFrame(rows).query("metric == 'dice' and arm == 'mt' and seed in (1, 2)") for rows in (a, b)
    ]
    cases = sorted(set(shared[1]["case"]))
    means = [
        part[part["case"].isin(cases)]
        .groupby(["seed", "class"])["value"]
        .mean()
        .groupby("seed")
        .mean()
        .mean()
        for part in shared
    ]
    assert row["a"] == pytest.approx(means[0])
    assert row["difference"] == pytest.approx(means[0] - means[1])
    assert row["low"] < row["difference"] < row["high"]
    assert (row["n"], row["seeds"]) == (5, 2)
    assert row["note"] == "1 case only in A, 1 seed only in A, 1 seed only in B"
    assert found.only == (["mt, seed 0", "only_a, seed 0"], ["mt, seed 3"])


def test_a_class_that_is_never_found_is_named_beside_every_metric() -> None:
    """By its Dice, also where another metric is compared and no prediction is empty."""
    lost = [row | {"value": 0.1} if row["metric"] == "dice" else row for row in rows_of("mt", 0, 70, cases=3)]
    found = data(compare(side(lost), side(lost), ("dice", "hd95")))
    assert len(found) == 2
    assert found[0]["note"] == found[1]["note"]
    assert "A: never found" in found[0]["note"]


def test_a_value_that_one_side_does_not_score_counts_for_neither() -> None:
    a, b = (
        [row for row in rows_of("mt", 0, level, cases=4) if row["metric"] == "dice"] for level in (70, 60)
    )
    b[0] = {**b[0], "value": np.nan}
    (row,) = data(compare(side(a), side(b), DICE))
    assert row["difference"] == pytest.approx(row["a"] - row["b"])
    kept = [{**a[0], "value": np.nan}, *a[1:]]
    assert row["a"] == pytest.approx(data(compare(side(kept), side(kept), DICE))[0]["a"])


def test_equal_keys_are_the_same_work_unless_the_numbers_differ() -> None:
    a = rows_of("mt", 0, 70, cases=3) + rows_of("sup", 0, 50, cases=3)
    b = [{**row, "value": row["value"] + (row["arm"] == "sup")} for row in a]
    b += [{**row, "seed": 1, "key": "b"} for row in rows_of("mt", 0, 60, cases=3)]
    a += [{**row, "seed": 1, "key": "a"} for row in rows_of("mt", 0, 60, cases=3)]
    work = compare(side(a), side(b), DICE).work
    assert work["sup"].startswith("same keys and other numbers")
    assert work["mt"].startswith("seed 0: same work | seed 1: other keys; what differs is only known from")


def test_a_difference_says_whether_it_is_better(tmp_path: Path) -> None:
    """Of two runs the one with the higher Dice has the smaller distances."""
    files = [
        frame(tmp_path / f"{name}.csv", rows_of("mt", 0, level)) for name, level in (("a", 70), ("b", 60))
    ]
    names = ["--metric", "dice", "--metric", "hd95"]
    for one, other, word, signs in ((0, 1, "better", "+−"), (1, 0, "worse", "−+")):
        done = CliRunner().invoke(main, ["compare", str(files[one]), str(files[other]), *names])
        assert done.exit_code == 0, done.output
        lines = [line for line in done.output.splitlines() if line.startswith("mt  ")]
        for line, sign in zip(lines, signs, strict=True):
            assert re.search(rf" [{sign}]\d+\.\d\d {word} ", line), line
        assert done.output.count("whatever the sign") == 1
    rows = {row["metric"]: row for row in data(compare(*load_sides(*files, None, None), ("dice", "hd95")))}
    assert rows["dice"]["difference"] > 0 > rows["hd95"]["difference"]
    assert rows["dice"]["verdict"] == rows["hd95"]["verdict"] == "better"


def test_other_units_have_no_difference() -> None:
    a = rows_of("mt", 0, 70, cases=3)
    b = [{**row, "unit": row["unit"].replace("mm", "voxel")} for row in a]
    rows = {row["metric"]: row for row in data(compare(side(a), side(b), ("dice", "asd")))}
    assert rows["asd"]["note"] == "A in mm, B in voxel: no difference"
    assert rows["asd"]["difference"] is None
    assert rows["asd"]["a"] is not None
    assert rows["dice"]["difference"] == 0


def test_empty_predictions_that_count_as_best_are_named() -> None:
    a = [{**row, "empty_pred": row["case"] == "case_001"} for row in rows_of("mt", 0, 70, cases=4)]
    a = [{**row, "value": 0.0} if row["empty_pred"] else row for row in a]
    b = rows_of("mt", 0, 60, cases=4, point=1)
    b = [{name: value for name, value in row.items() if name != "point"} for row in b]
    notes = {row["metric"]: row["note"] for row in data(compare(side(a), side(b), ("dice", "asd")))}
    assert "A: 2 empty predictions count as distance 0" in notes["asd"]
    assert "empty" not in notes["dice"]


def test_points_and_texts_survive_the_file(tmp_path: Path) -> None:
    """Axis values of every type, and an arm called as pandas calls what is missing."""
    axes = (
        {"x": 4, "y": None, "z": True},
        {"x": 0.5, "y": "b", "z": False},
        {"x": 2, "y": "[1, 2]", "z": True},
    )
    rows = [row for own in axes for row in rows_of("NA", 0, 60, cases=2, classes=("none",), **own)]
    file = frame(tmp_path / "a.csv", rows)
    read, _ = load_sides(file, file)
    found = compare(side(rows), read, DICE)
    assert list(by_arm(found)) == [
        "NA, x 4, y none, z true", "NA, x 0.5, y b, z false", "NA, x 2, y [1, 2], z true",
    ]  # fmt: skip
    assert found.only == ([], [])
    assert set(found.work.values()) == {"same work"}


def workspace(
    folder: Path, *, lam: float = 0.1, version: int = 1, names: tuple[str, ...] = ("demo",)
) -> Path:
    """Arms mt and sup, one seed, retrain → predict → evaluate, as runs leave them; ``lam``: a field of mt."""
    store = Store(folder / "store")
    whole: dict[str, Any] = {"shown": {}, "cells": {}, "nodes": {}, "records": {}, "workspace": "/nowhere"}
    for arm, fields in (("mt", {"lambda_cons": lam}), ("sup", {})):
        links: dict[str, tuple[str, str]] = {}
        cell = f"{arm}-0"
        whole["cells"][cell] = {"arm": arm, "label": arm, "axes": {}, "seed": 0, "score": "test"}
        for stage in ("retrain", "predict", "evaluate"):
            kind = {"retrain": "ssl", "predict": "backbone", "evaluate": "protocol"}[stage]
            own = {"name": kind, "class": kind, "version": 1, "spacing": "mm"} | (
                fields if kind == "ssl" else {}
            )
            inputs = {"prediction": links["predict"]} if stage == "evaluate" else {}
            inputs = {"model": links["retrain"]} if stage == "predict" else inputs
            record: dict[str, Any] = {
                "stage": stage, "stage_version": version if stage == "predict" else 1, "profile": "cpu",
                "components": {kind: own}, "keyed": [kind], "settings": {}, "seed": 0, "inputs": inputs,
                "git": {"commit": f"{version}" * 40, "dirty": False},
            }  # fmt: skip
            links[stage] = (stage, digest({**record, "git": None, "arm": arm}))
            place = store.new_folder()
            if stage == "evaluate":
                scored = pd.DataFrame(rows_of(arm, 0, 60 + 100 * lam, cases=3))
                scored.loc[scored["unit"] == "%", "value"] /= 100
                columns = ["case", "class", "metric", "value", "empty_pred", "empty_gt"]
                scored[columns].to_csv(place / "scores.csv", index=False)
            store.publish(*links[stage], place, record)
            whole["records"]["/".join(links[stage])] = {
                "inputs": ["/".join(link) for link in inputs.values()], "git": record["git"],
            }  # fmt: skip
        whole["nodes"][cell] = {stage: "/".join(link) for stage, link in links.items()}
    for name in names:
        report = folder / "reports" / name / "cpu"
        report.mkdir(parents=True)
        told = {**whole, "experiment": name, "profile": "cpu"}
        (report / "provenance.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def test_reports_tell_in_what_the_work_differs(tmp_path: Path) -> None:
    first = workspace(tmp_path / "a")
    second = workspace(tmp_path / "b", lam=0.2)
    third = workspace(tmp_path / "c", version=2)
    sides = load_sides(first, second)
    found = compare(*sides, DICE)
    assert found.work == {"mt": "retrain: ssl.lambda_cons 0.1 → 0.2", "sup": "same keys and other numbers: "
                          "this machine or code does not repeat itself"}  # fmt: skip
    assert by_arm(found)["mt"]["difference"] == pytest.approx(-10, abs=0.5)
    sides = load_sides(first, third)
    assert compare(*sides, DICE).work["mt"] == "predict: stage_version 1 → 2"
    assert [commits(one) for one in sides] == [["1" * 10], ["2" * 10]]
    same = compare(*load_sides(first, first / "reports" / "demo" / "cpu"), DICE)
    assert set(same.work.values()) == {"same work"}


def test_a_record_that_is_gone_is_said(tmp_path: Path) -> None:
    first, second = workspace(tmp_path / "a"), workspace(tmp_path / "b", lam=0.2)
    for record in (second / "store" / "retrain").glob("*/record.json"):
        record.unlink()
    assert compare(*load_sides(first, second), DICE).work["mt"] == "retrain: its record is gone in B"


def test_which_experiment_is_meant(tmp_path: Path) -> None:
    both = workspace(tmp_path / "a", names=("demo", "other"))
    one = workspace(tmp_path / "b", names=("demo",))
    assert [found.what for found in load_sides(both, one)] == ["demo [cpu]"] * 2
    with pytest.raises(InputError, match=r"2 experiments could be compared.*\n.*demo/cpu, other/cpu"):
        load_sides(both, both)
    assert load_sides(both, both, "other")[0].what == "other [cpu]"
    with pytest.raises(InputError, match=r"no such report here.*\n.*it has: demo/cpu"):
        load_sides(one, both, "otter")
    with pytest.raises(InputError, match=r"no such report here.*\n.*give a workspace"):
        load_sides(tmp_path, one)


@pytest.mark.parametrize(
    ("text", "told"), [("", "not readable"), ("arm,seed\n", "column 'experiment' is missing")]
)
def test_a_file_that_is_no_frame(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "x.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=told):
        load_sides(file, file)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: [*rows, rows[0], rows[5]], "2 rows stand twice, the first: arm mt"),
        (lambda rows: [{**rows[0], "value": "n/a?"}, *rows[1:]], "row 1: 'n/a?' is no score"),
        (lambda rows: [rows[0], {**rows[1], "value": "inf"}, *rows[2:]], "row 2: 'inf' is no score"),
        (lambda rows: [rows[0], {**rows[1], "value": 1e300}, *rows[2:]], "row 2: '1e+300' is no score"),
        (lambda rows: [{**rows[0], "seed": "first"}, *rows[1:]], "row 1: 'first' is no seed"),
    ],
)
def test_a_frame_with_rows_that_cannot_be(tmp_path: Path, change: Any, told: str) -> None:
    """Text or a number beyond any score, and a row that stands twice, which would move the mean."""
    good = frame(tmp_path / "good.csv", rows_of("mt", 0, 70))
    bad = frame(tmp_path / "bad.csv", change(rows_of("mt", 0, 70)))
    load_sides(good, good)
    with pytest.raises(InputError, match=re.escape(told)) as caught:
        load_sides(good, bad)
    assert "bad.csv" in str(caught.value)


def test_a_provenance_of_any_other_shape_is_one_message(tmp_path: Path) -> None:
    """Each value of the file, in turn, is another; what comes of it is an answer or an ``InputError``."""
    folder = workspace(tmp_path / "a")
    (file,) = folder.rglob("provenance.json")
    whole = json.loads(file.read_text())
    refused = 0
    for _, changed in mutants(whole, sorted(places(whole), key=str)):
        file.write_text(json.dumps(changed))
        try:
            compare(*load_sides(folder, folder), DICE)
        except InputError as error:
            refused += "provenance.json" in str(error)
    assert refused > 20
    for text in ("", "[" * 100_000, "null"):
        file.write_text(text)
        with pytest.raises(InputError, match=r"provenance\.json"):
            load_sides(folder, folder)


def test_nothing_in_common(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no arm has scores of subset 'test' on both sides"):
        compare(side(rows_of("a", 0, 60, cases=2)), side(rows_of("b", 0, 60, cases=2)), DICE)


def test_the_command(tmp_path: Path) -> None:
    def run(*args: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["compare", *args])
        assert done.exit_code == code, done.output
        return done.output

    first, second = workspace(tmp_path / "a"), workspace(tmp_path / "b", lam=0.2)
    out = tmp_path / "out.csv"
    text = run(str(first), str(second), "--metric", "dice", "--metric", "asd", "--csv", str(out))
    for part in ("demo [cpu], code 1111111111", "ssl.lambda_cons 0.1 → 0.2", "ASD (mm)", "4 rows"):
        assert part in text
    with out.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["arm"], row["metric"]) for row in rows] == [
        ("mt", "dice"), ("mt", "asd"), ("sup", "dice"), ("sup", "asd"),
    ]  # fmt: skip
    assert "did you mean 'dice'" in run(str(first), str(second), "--metric", "dise", code=2)
