"""A result that is the same for every seed is one result: it has no spread, and no trainings to speak of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sfrbench.maths import stats
from sfrbench.report.item import Shown
from sfrbench.report.items.kde.density import _sample
from sfrbench.report.items.pairs.table import pairs_table
from sfrbench.report.items.table.result import result_tables
from sfrbench.results.grid import Grid
from sfrbench.results.lines import Line, lines
from tests.support.demos import demo, rows_of

ARMS = (("nnunet", "nnU-Net"), ("mt", "MT"), ("other", "Other"))
SEEDS = (0, 1, 2)


def fixed(arm: str, level: float) -> list[dict[str, Any]]:
    """The rows of one result, shown for every seed."""
    once = rows_of(arm, 0, level)
    return [{**row, "seed": seed, "cell": f"{arm}-{seed}"} for seed in SEEDS for row in once]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rows = [row for seed in SEEDS for row in rows_of("mt", seed, 70 + seed)]
    return pd.DataFrame([*fixed("nnunet", 75), *rows, *fixed("other", 60)])


@pytest.fixture(scope="module")
def known(frame: pd.DataFrame) -> dict[str, Line]:
    return {line.arm: line for line in lines(frame, Grid(ARMS, SEEDS), "test")}


def test_it_has_a_mean_and_no_spread_over_seeds(known: dict[str, Line], frame: pd.DataFrame) -> None:
    own = frame[(frame["arm"] == "nnunet") & (frame["seed"] == 0) & (frame["metric"] == "dice")]
    stat = known["nnunet"].stat("dice")
    assert stat.mean == pytest.approx(own["value"].mean(), rel=1e-12)
    assert (stat.std, stat.n) == (None, 1)
    assert known["nnunet"].stat("dice", over="cases").n == 12
    assert known["mt"].stat("dice").n == 3
    assert (known["nnunet"].seeds, known["nnunet"].results) == (SEEDS, (0,))
    assert known["nnunet"].is_one
    assert not known["mt"].is_one


def test_its_empty_predictions_and_its_cases_count_once(frame: pd.DataFrame) -> None:
    frame = frame.copy()
    hit = (frame["arm"] == "nnunet") & (frame["case"] == "case_003")
    frame.loc[hit, "empty_pred"] = True
    line = lines(frame, Grid(ARMS, SEEDS), "test")[0]
    assert line.empty() == 2  # two classes of one case
    assert _sample(line, "dice").size == 12


def test_pairs_hold_it_against_every_seed_and_two_of_them_once(known: dict[str, Line]) -> None:
    one, mt, other = known["nnunet"], known["mt"], known["other"]
    assert one.common(mt)[0] == mt.common(one)[0] == list(SEEDS)
    assert one.common(other)[0] == [0]
    seeds, cases = one.common(mt)
    gaps = one.cube("dice", cases, seeds) - mt.cube("dice", cases, seeds)
    assert gaps.shape == (3, 12, 2)
    assert np.ptp(one.cube("dice", cases, seeds), axis=0).max() == 0
    assert stats.grand_mean(gaps) == pytest.approx(one.stat("dice").mean - mt.stat("dice").mean)  # type: ignore[operator]


def test_tables_say_so(frame: pd.DataFrame) -> None:
    from dataclasses import replace

    info = replace(demo().info, arms=ARMS, seeds=SEEDS, missing=(), pseudo_arms=())
    (table, *_), _ = result_tables(frame, info, "results", Shown(metrics=("dice",)), "results")
    rows = {row["arm"]: row for row in table.data}
    assert (rows["nnunet"]["seeds"], rows["nnunet"]["dice_std"]) == ("1", "")
    assert (rows["mt"]["seeds"], rows["mt"]["dice_std"] != "") == ("3", True)
    (pairs,), _ = pairs_table(frame, info, [("nnunet", "mt"), ("nnunet", "other")], ["dice"], "pairs")
    first, second = pairs.data
    assert (first["seeds"], second["seeds"]) == ("3", "1")
    assert "nnU-Net: one result, held against every seed of the other" in first["note"]
    assert "one seed: the interval is over cases only" in second["note"]
