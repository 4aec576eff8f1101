"""Figure and tables of features, from samples with a known gap."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sfrbench.report.build import build_report
from sfrbench.report.facts.info import Features, ReportInfo
from sfrbench.report.items.features.gaps import Gap, gaps_of
from sfrbench.report.items.features.plot import density, draw
from sfrbench.report.items.features.tables import tables
from tests.support.captions import check_page

CLASSES = ("background", "front", "back")
VOXELS = 60


def group(rng: np.random.Generator, mark: str, cases: int, mean: float, scale: float) -> dict[str, Any]:
    """Case i has i + 1 times as many voxels as case 0; every second voxel is predicted correctly."""
    found = {}
    for index in range(cases):
        samples = np.full((3, VOXELS), np.nan, dtype=np.float32)
        samples[:, : VOXELS - 10] = scale * rng.normal([[0], [mean], [mean + 1]], 1, (3, VOXELS - 10))
        right = (VOXELS - 10) * (index + 1)
        found[f"{mark}{index}"] = (
            samples,
            np.array([[4 * right, right], [2 * right, right], [2 * right, right]]),
        )
    return found


def features(arm: str, labeled: int, seed: int, gap: float, scale: float = 1.0) -> Features:
    rng = np.random.default_rng(100 * labeled + seed)
    labelled, unlabelled = group(rng, "l", labeled, gap, scale), group(rng, "u", 6, 0.0, scale)
    axes = {"dataset.labeled": labeled}
    key = f"{arm}{labeled}{seed}"
    return Features(arm, axes, seed, f"cell{key}", f"key{key}", CLASSES, labelled, unlabelled)


def report_info(**changes: Any) -> ReportInfo:
    gaps = {("mt", 1): 2.0, ("mt", 6): 0.5, ("sfr", 1): 1.0, ("sfr", 6): 0.5}
    info = ReportInfo(
        experiment="e",
        title="T",
        profile="cpu",
        protocol="strict",
        arms=[("mt", "MT"), ("sfr", "SFR_MT")],
        seeds=[0, 1],
        items=[{"features": {"voxels": VOXELS}}],
        axes={"dataset.labeled": [1, 6]},
        features=[
            features(arm, labeled, seed, gap, scale=3.0 if arm == "sfr" else 1.0)
            for (arm, labeled), gap in gaps.items()
            for seed in (0, 1)
        ],
    )
    return replace(info, **changes)


def lines(info: ReportInfo, **item: Any) -> list[Gap]:
    found, why = gaps_of(info, **{"of": "foreground", "voxels": VOXELS, **item})
    assert not why
    return found


def rows(info: ReportInfo, **item: Any) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    first, second = (table for table, _ in tables(info, lines(info, **item), "t"))
    return [dict(row) for row in first.data], [dict(row) for row in second.data]


@pytest.fixture(scope="module")
def made() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    return rows(report_info())


def test_the_distance_is_that_of_the_weighted_voxels(made: Any) -> None:
    row = made[0][0]
    expected = []
    for one in report_info().features[:2]:
        sides = []
        for cases in (one.labelled, one.unlabelled):
            values = np.concatenate([samples[1:, : VOXELS - 10].ravel() for samples, _ in cases.values()])
            weights = np.repeat([counts[1, 1] for _, counts in cases.values()], 2 * (VOXELS - 10))
            sides.append((values.astype(float), weights))
        (a, wa), (b, wb) = sides
        spread = np.sqrt((np.cov(a, aweights=wa, ddof=0) + np.cov(b, aweights=wb, ddof=0)) / 2)
        expected.append(stats.wasserstein_distance(a, b, wa, wb) / spread)
    assert row["w1_sd"] == f"{np.mean(expected):.2f} ± {np.std(expected, ddof=1):.2f}"
    assert (row["arm"], row["dataset.labeled"], row["cases"], row["seeds"]) == ("mt", "1", "1 / 6", "2")
    assert row["correct"] == "50.0 / 50.0"
    low, high = map(float, row["w1_sd_95"].split("–"))
    assert low < np.mean(expected) < high


def test_a_gap_that_shrinks_is_a_number_with_an_interval(made: Any) -> None:
    found = {row["difference"]: row for row in made[1]}
    assert set(found) == {
        "MT, dataset.labeled 6 − MT, dataset.labeled 1",
        "SFR_MT, dataset.labeled 1 − MT, dataset.labeled 1",
        "SFR_MT, dataset.labeled 6 − SFR_MT, dataset.labeled 1",
        "SFR_MT, dataset.labeled 6 − MT, dataset.labeled 6",
    }
    for name in list(found)[:1]:
        low, high = (float(text.replace("−", "-")) for text in found[name]["w1_sd_95"].split(" to "))
        assert low < float(found[name]["w1_sd"].replace("−", "-")) < high < 0
    same = found["SFR_MT, dataset.labeled 6 − MT, dataset.labeled 6"]  # the same numbers times 3
    assert (same["w1_sd"], same["w1_sd_95"]) == ("0.00", "0.00 to 0.00")


def test_chance_is_larger_for_one_case_than_for_six(made: Any) -> None:
    by_point = {(row["arm"], row["dataset.labeled"]): row for row in made[0]}
    assert float(by_point["mt", "1"]["w1_sd_by_chance"]) > float(by_point["mt", "6"]["w1_sd_by_chance"])
    assert by_point["mt", "6"]["p"] != "<0.001"


def test_a_difference_of_group_sizes_stands_beside_what_chance_gives() -> None:
    """No gap anywhere: six cases still lie closer than one, and chance says so."""
    info = report_info()
    alike = [features("mt", labeled, seed, 0.0) for labeled in (1, 6) for seed in (0, 1)]
    row = rows(replace(info, features=alike))[1][0]
    change, chance = (float(row[key].replace("−", "-")) for key in ("w1_sd", "w1_sd_by_chance"))
    assert chance < 0
    assert change == pytest.approx(chance, abs=0.1)
    real = rows(info, arms=["mt"])[1][0]
    assert float(real["w1_sd"].replace("−", "-")) < float(real["w1_sd_by_chance"].replace("−", "-")) - 0.3


def test_one_class_and_unknown_classes() -> None:
    info = report_info()
    assert lines(info, of="back")[0].samples[0][0][0].voxels == VOXELS - 10
    assert lines(info, of="background")[0].observed[0, 0] < 0.5 < lines(info, of="front")[0].observed[0, 0]
    assert len(lines(info, arms=["sfr"])) == 2
    found, why = gaps_of(info, "bakc", VOXELS)
    assert not found
    assert "no class 'bakc'" in why
    assert "'back'" in why
    assert gaps_of(replace(info, features=[]), "foreground", VOXELS)[1] == "No features were sampled yet."


def test_a_seed_without_correct_voxels_takes_no_part() -> None:
    info = report_info()
    first = info.features[0]
    empty = {name: (np.full_like(s, np.nan), c * [1, 0]) for name, (s, c) in first.unlabelled.items()}
    spoilt = replace(info, features=[replace(first, unlabelled=empty), *info.features[1:]])
    distances, differences = rows(spoilt, arms=["mt"])
    assert distances[0]["seeds"] == "1"
    assert "±" not in distances[0]["w1_sd"]
    assert distances[0]["correct"] == "50.0 / 25.0"
    assert [row["seeds"] for row in differences] == ["1"]
    nothing = replace(info, features=[replace(first, unlabelled=empty), *info.features[2:]])
    distances, differences = rows(nothing, arms=["mt"])
    assert (distances[0]["w1_sd"], distances[0]["p"], differences[0]["w1_sd_95"]) == ("", "", "")


def test_a_class_that_is_never_right_is_told_wherever_it_matters() -> None:
    info = report_info()
    dead = []
    for one in info.features[:2]:
        changed = {name: (s.copy(), c.copy()) for name, (s, c) in one.unlabelled.items()}
        for samples, counts in changed.values():
            samples[1], counts[1, 1] = np.nan, 0
        dead.append(replace(one, unlabelled=changed))
    spoilt = replace(info, features=[*dead, *info.features[2:]])
    first, second = (table for table, _ in tables(spoilt, lines(spoilt, arms=["mt"]), "t"))
    assert [bool(row["note"]) for row in first.data] == [True, False]
    assert "front (seed 0, 1)" in first.data[0]["note"]
    assert first.rows[0][0].marks == first.notes[0][0]
    assert "MT, dataset.labeled 1: without a correct voxel" in second.data[0]["note"]
    assert lines(spoilt, arms=["mt"], of="back")[0].unseen == ""  # one class is the same class everywhere
    assert not any(line.unseen for line in lines(info))


def test_the_figure_shows_as_many_voxels_of_each_group() -> None:
    gap = lines(report_info())[0]
    assert gap.size(0) == VOXELS
    drawn = draw(gap, 0)
    assert [sum(values.size for _, values in group) for group in drawn] == [VOXELS, VOXELS]
    stored = np.concatenate([case.values for case in gap.samples[0][1]])
    assert all(np.isin(values, stored).all() for _, values in drawn[1])
    few = replace(gap, voxels=1000)
    assert few.size(0) == 2 * (VOXELS - 10)  # all that the one labelled case has


def test_the_bandwidth_is_seaborns_half_of_scotts() -> None:
    sample, grid = np.random.default_rng(0).gamma(2.0, 1.0, 200), np.linspace(-1, 9, 50)
    curve = density(sample, grid)
    assert curve is not None
    width = 0.5 * sample.std(ddof=1) * 200 ** (-1 / 5)
    expected = stats.norm.pdf(grid[:, None], sample[None], width).mean(1)
    np.testing.assert_allclose(curve, expected, rtol=1e-9, atol=1e-12)
    assert density(np.ones(9), grid) is None


def test_report_with_figure_tables_samples_and_provenance(tmp_path: Path, made: Any) -> None:
    frame = pd.DataFrame(columns=["subset", "metric", "cell", "case", "class", "value"])
    files = build_report(frame, report_info(), tmp_path)
    assert check_page(files[0])
    names = {path.relative_to(tmp_path).as_posix() for path in files}
    assert {"figures/features.png", "figures/features.csv", "tables/features_distances.csv"} <= names
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="figures/features.csv"' in page
    assert "Thin: single seeds" in page
    assert '"keymt10"' in (tmp_path / "provenance.json").read_text(encoding="utf-8")
    with (tmp_path / "figures" / "features.csv").open(encoding="utf-8") as stream:
        samples = list(csv.DictReader(stream))
    assert len(samples) == 8 * 2 * VOXELS
    assert {row["group"] for row in samples} == {"labelled", "unlabelled"}
    with (tmp_path / "tables" / "features_distances.csv").open(encoding="utf-8") as stream:
        assert list(csv.DictReader(stream)) == made[0]  # computed a second time


def test_a_line_whose_unlabelled_cases_have_no_label_says_so() -> None:
    info = report_info()
    unknown = [replace(one, unlabelled={}) for one in info.features]
    distances, _ = rows(replace(info, features=[*unknown[:2], *info.features[2:]]), arms=["mt"])
    assert distances[0]["correct"] == "50.0 / —"
    assert (distances[0]["w1_sd"], distances[0]["cases"]) == ("", "1 / 0")
    assert "no unlabelled case has a label" in distances[0]["note"]
    assert distances[1]["note"] == ""
    found, why = gaps_of(replace(info, features=unknown), "foreground", VOXELS)
    assert found == []
    assert why.startswith("No features: no unlabelled case has a label")
