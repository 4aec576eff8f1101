"""Ranks over datasets and cases: the test behind the bars, the bars, and when there are none."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from sfrbench.maths import stats
from sfrbench.maths.intervals import Bounds
from sfrbench.report.build import build_report
from sfrbench.report.items.ranks.ranking import Ranking, ranking
from sfrbench.report.items.ranks.table import ranks_table
from sfrbench.results.lines import lines
from tests.support.demos import Demo, rows_of

ARMS = tuple((f"m{index}", f"M{index}") for index in range(4))


def datasets(demo: Demo, count: int, arms: int = 3, spread: float = 1.0) -> Demo:
    """Arm m0 is worst, each next one four points better."""
    rng = np.random.default_rng(0)
    names = [f"set_{index}" for index in range(count)]
    rows = [
        row
        for name in names
        for arm in range(arms)
        for row in rows_of(f"m{arm}", 0, 50 + 4 * arm + rng.normal(0, spread), cases=3, dataset=name)
    ]
    info = replace(
        demo.info,
        arms=ARMS[:arms],
        seeds=(0,),
        axes={"dataset": names},
        missing=(),
        counted=(),
        pseudo_arms=(),
    )
    return Demo(pd.DataFrame(rows), info)


def found(demo: Demo, metric: str = "dice") -> Ranking:
    result = ranking(demo.frame, demo.info, metric)
    assert isinstance(result, Ranking)
    return result


def test_over_datasets_the_pairs_are_wilcoxons_with_holm(small: Any) -> None:
    result = found(datasets(small, 10))
    assert (result.over, len(result.blocks)) == ("datasets", 10)
    assert result.names == ("M2", "M1", "M0")
    raw = [
        scipy_stats.wilcoxon(result.scores[one] - result.scores[other]).pvalue
        for one, other in ((0, 1), (0, 2), (1, 2))
    ]
    assert result.p is not None
    assert list(result.p.values()) == pytest.approx(stats.holm(raw))
    known = scipy_stats.friedmanchisquare(*result.scores).pvalue
    assert result.friedman == pytest.approx(known)
    assert result.cliques() == []


def test_of_a_distance_the_least_ranks_first(small: Any) -> None:
    assert found(datasets(small, 10), "hd95").names == ("M2", "M1", "M0")


def test_too_few_datasets_have_ranks_and_no_test(small: Any, tmp_path: Path) -> None:
    demo = datasets(small, 6)
    result = found(demo)
    assert result.p is None
    assert result.friedman is None
    assert "6 datasets are too few" in result.why
    assert "fewer than 7" in result.why
    assert found(datasets(small, 7)).p is not None
    build_report(demo.frame, replace(demo.info, items=[{"ranks": "dice"}]), tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "No diagram: 6 datasets are too few" in page
    assert not list(tmp_path.glob("figures/*"))
    table = ranks_table(demo.frame, demo.info, "dice", result, "ranks")
    assert [row[-1].text for row in table.rows] == ["—"] * 3


def test_over_cases_the_pairs_are_those_of_the_pairs_table(small: Any) -> None:
    """Wilcoxon over cases would take the trainings for given."""
    result = found(small)
    assert (result.over, len(result.blocks)) == ("cases", 12)
    by_label = {line.label: line for line in lines(small.frame, small.info.grid, "test")}
    pairs = [(0, 1), (0, 3), (1, 3)]
    raw = [
        stats.paired(*(by_label[result.names[place]].cube("dice") for place in pair), Bounds(100)).p
        for pair in pairs
    ]
    assert result.p is not None
    assert [result.p[pair] for pair in pairs] == pytest.approx(stats.holm(raw))
    third = result.names.index("SFR_FT")  # one seed: no p of another kind among the others
    assert {p for pair, p in result.p.items() if third in pair} == {None}
    table = ranks_table(small.frame, small.info, "dice", result, "ranks")
    assert "fewer than two seeds in common" in dict(table.notes)[table.rows[third][-1].marks]
    assert "loss is not finite" in dict(table.notes)[table.rows[third][0].marks]


def test_with_one_seed_for_all_the_notes_say_so(small: Any) -> None:
    one = replace(small, frame=small.frame[small.frame["seed"] == 0], info=replace(small.info, seeds=(0,)))
    result = found(one)
    assert result.p is not None
    assert None not in result.p.values()
    table = ranks_table(one.frame, one.info, "dice", result, "ranks")
    assert "one seed, so these trainings only" in " ".join(table.rules)


def test_methods_without_a_result_and_cases_not_scored_are_named(small: Any) -> None:
    frame = small.frame[small.frame["arm"] != "sfr_mt"].copy()
    lost = (frame["arm"] == "mt") & (frame["case"] == "case_001")
    frame.loc[lost, "value"] = np.nan
    result = found(replace(small, frame=frame))
    assert len(result.blocks) == 11
    assert result.gaps == ("SFR_MT: not run", "1 of 12 cases: not scored for every method")
    only = small.frame[small.frame["arm"] == "mt"]
    said = ranking(only, small.info, "dice")
    assert isinstance(said, str)
    assert said.startswith("No ranks: fewer than two methods have a result. V-Net (LB): not run.")


def test_two_methods_or_few_cases_have_no_diagram(small: Any) -> None:
    two = small.frame[small.frame["arm"].isin(["mt", "sfr_mt"])]
    assert found(replace(small, frame=two)).why == "with two methods the paired difference says it all"
    few = small.frame[small.frame["case"] < "case_005"]
    assert found(replace(small, frame=few)).why == "5 cases are too few, at least 6 are needed"


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_empty_prediction_ranks_last_in_its_case(small: Any, value: float) -> None:
    """Scored 0 in a distance, or left out: the case counts against the method, which is not tested."""
    frame = small.frame.copy()
    lost = (frame["arm"] == "sfr_mt") & (frame["case"] == "case_001") & (frame["subset"] == "test")
    frame.loc[lost, "empty_pred"] = True
    frame.loc[lost, "value"] = value
    demo = replace(small, frame=frame)
    plain, result = found(small, "hd95"), found(demo, "hd95")
    place, case = result.names.index("SFR_MT"), result.blocks.index("case_001")
    assert plain.ranks[plain.names.index("SFR_MT"), case] < 4
    assert result.ranks[place, case] == 4
    assert (result.ranks[:, [index for index in range(12) if index != case]].sum(axis=0) == 10).all()
    assert result.p is not None
    assert {p for pair, p in result.p.items() if place in pair} == {None}
    table = ranks_table(frame, small.info, "hd95", result, "ranks")
    assert table.rows[place][1].rank == 0
    assert "methods with such are not tested" in table.rules[-1]
    assert np.isfinite(float(table.data[place]["hd95_mean"]))


def test_equal_scores_share_their_rank(small: Any) -> None:
    frame = pd.concat(
        small.frame[small.frame["arm"] == "mt"].assign(arm=arm) for arm in ("mt", "supervised", "sfr_mt")
    )
    result = found(replace(small, frame=frame))
    assert result.mean_ranks == [2.0, 2.0, 2.0]
    assert result.friedman is None
    assert result.cliques() == [(0, 2)]


def test_bars_are_the_longest_runs_without_a_pair_told_apart() -> None:
    apart = {(0, 2): 0.01, (0, 3): 0.01, (1, 3): 0.04, (0, 1): 0.3, (1, 2): 0.5, (2, 3): None}
    names, empty = tuple("abcd"), np.zeros((4, 1))
    result = Ranking("cases", names, ((),) * 4, ("x",), empty, empty, 0.1, apart)
    assert result.cliques() == [(0, 1), (1, 2), (2, 3)]
    assert result.without_bar() == []
    between = replace(result, p={**apart, (0, 2): 0.9, (1, 2): 0.01})
    assert between.cliques() == [(0, 1), (2, 3)]
    assert between.without_bar() == ["a and c"]
    assert Ranking("cases", names, ((),) * 4, ("x",), empty, empty, 0.1, {}).cliques() == [(0, 3)]


def test_each_rank_leads_to_the_lines_behind_it(small: Any, tmp_path: Path) -> None:
    demo = datasets(small, 7)
    build_report(demo.frame, replace(demo.info, items=[{"ranks": "dice"}]), tmp_path)
    shown = json.loads((tmp_path / "provenance.json").read_text(encoding="utf-8"))["shown"]
    (row,) = [row for row in shown["ranks_dice"] if row["row"] == "M2"]
    assert [side["match"]["dataset"] for side in row["sides"]] == [f"set_{index}" for index in range(7)]
    with (tmp_path / "tables" / "ranks_dice.csv").open(encoding="utf-8", newline="") as stream:
        told = [line for line in csv.DictReader(stream) if row["match"].items() <= line.items()]
    assert [line["mean_rank"] for line in told] == ["1.00"]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    (entry,) = re.findall(r"<tr id=p\d+><th scope=row>M2</th>(.*?)</tr>", page)
    assert all(f"evaluate/{key}" in entry for side in row["sides"] for key in side["evaluate"])
    assert (
        page.count("class=src") == 3 * 10 - 1
    )  # rank, seven datasets, mean, p; none for the dash of the best
