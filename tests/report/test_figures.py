"""Curves, densities and slices: what they show, and what they do with too little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfrbench.plan.build import Excluded
from sfrbench.report.items.curve import figure as curves
from sfrbench.report.items.kde import density as kde
from sfrbench.report.items.montage import figure as montage
from sfrbench.report.items.pairs import table as pairs
from sfrbench.report.render.style import number, p_value, safe_name
from sfrbench.results.axes import axis_text
from tests.support.captions import faults


def test_a_curve_names_its_interval_and_its_gap(scales, tmp_path):
    figure = curves.curve_figure(scales.frame, scales.info, "stitch.scale", "dice", "curve", tmp_path)
    assert "interval over cases and 2 seeds" in " ".join(figure.notes)
    assert "† 12: no result, SFR_FT: not enough memory." in " ".join(figure.notes)
    assert "n = 12" in figure.caption
    assert not faults(figure.caption)
    svg = (tmp_path / "curve.svg").read_text(encoding="utf-8")
    assert "Best: 4 (" in " ".join(figure.notes)
    assert "profile cpu (scaled down)" in svg


def test_a_curve_says_why_a_point_is_left_out(scales, tmp_path):
    gone = Excluded("base", {"stitch.scale": 12}, "too many slices")
    info = replace(scales.info, missing=(), excluded=[gone])
    figure = curves.curve_figure(scales.frame, info, "stitch.scale", "dice", "curve", tmp_path)
    assert "† 12: no result, SFR_FT: left out: too many slices." in " ".join(figure.notes)


def test_with_one_seed_the_band_is_over_cases_only(scales, tmp_path):
    frame = scales.frame[scales.frame["seed"] == 0]
    info = replace(scales.info, seeds=(0,))
    figure = curves.curve_figure(frame, info, "stitch.scale", "dice", "curve", tmp_path)
    assert "cases only: with one seed" in " ".join(figure.notes)


def test_an_axis_of_words_stands_in_a_row(scales, tmp_path):
    frame = scales.frame.rename(columns={"stitch.scale": "ssl"})
    frame["ssl"] = "method-" + frame["ssl"].astype(str)
    info = replace(scales.info, axes={"ssl": [f"method-{n}" for n in (1, 2, 3, 4, 6, 8)]}, missing=())
    figure = curves.curve_figure(frame, info, "ssl", "hd95", "words", tmp_path)
    assert "†" not in " ".join(figure.notes)
    assert "Best: method-4 (" in " ".join(figure.notes)


@pytest.mark.parametrize("sample", [[], [70.0], [70.0, 80.0], [70.0] * 9])
def test_no_density_where_there_is_no_spread(sample):
    assert kde.density(np.array(sample), np.linspace(0, 100, 11)) is None


def test_a_density_integrates_to_one():
    grid = np.linspace(0, 100, 2001)
    curve = kde.density(np.random.default_rng(0).normal(60, 5, 50), grid)
    assert curve is not None
    assert np.trapezoid(curve, grid) == pytest.approx(1, abs=1e-3)


def test_equal_cases_are_drawn_as_ticks_and_said_so(small, tmp_path):
    frame = small.frame.copy()
    frame.loc[(frame["arm"] == "mt") & (frame["metric"] == "dice"), "value"] = 70.0
    kde.kde_figure(frame, small.info, "dice", "kde", tmp_path)
    assert "(no spread: ticks only)" in (tmp_path / "kde.svg").read_text(encoding="utf-8")


def test_slices_show_best_median_and_worst_of_the_last_arm(small, tmp_path):
    seen = []

    def volumes(cell, case, subset):
        seen.append((cell, case, subset))
        return small.info.montage(cell, case, subset)

    figure = montage.montage_figure(
        small.frame, replace(small.info, montage=volumes), 3, "test", "slices", tmp_path
    )
    assert figure is not None
    test = small.frame[(small.frame["subset"] == "test") & (small.frame["cell"] == "sfr_mt-0")]
    dice = test[test["metric"] == "dice"].groupby("case")["value"].mean().sort_values()
    cases = list(dict.fromkeys(case for _, case, _ in seen))
    assert cases[0] == dice.index[-1]
    assert cases[-1] == dice.index[0]
    assert {cell for cell, *_ in seen} == {"supervised-0", "mt-0", "sfr_ft-0", "sfr_mt-0"}
    assert figure.caption.startswith("Best, median and worst of")
    assert "by the Dice of SFR_MT." in figure.caption
    assert "seed 0." in figure.notes[0]


@pytest.mark.parametrize(("count", "said"), [(1, "Best"), (2, "Best and worst")])
def test_the_caption_of_slices_names_those_that_are_there(small, tmp_path, count, said):
    figure = montage.montage_figure(small.frame, small.info, count, "test", "slices", tmp_path)
    assert figure.caption.startswith(f"{said} of the ")


def test_no_slices_without_volumes(small, tmp_path):
    info = replace(small.info, montage=None)
    assert montage.montage_figure(small.frame, info, 3, "test", "slices", tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_pairs_use_common_seeds_and_say_what_is_missing(small):
    (table,), _ = pairs.pairs_table(small.frame, small.info, [["sfr_ft", "mt"]], ["dice"], "pairs")
    assert table.rows[0][-1].text == "1"
    assert "SFR_FT, seed 1: finetune failed" in table.notes[0][1]
    assert any("over cases only" in text for _, text in table.notes)
    assert "Interval and p: over cases, of one training each;" in " ".join(table.rules)


def test_equal_arms_are_flagged_in_pairs(small):
    twin = small.frame[small.frame["arm"] == "mt"].assign(arm="sfr_mt", label="SFR_MT")
    frame = small.frame[small.frame["arm"] == "mt"]
    import pandas as pd

    both = pd.concat([frame, twin])
    (table,), _ = pairs.pairs_table(both, small.info, [["sfr_mt", "mt"]], ["dice"], "pairs")
    assert [entry.text for entry in table.rows[0][2:5]] == ["0.00", "0.00 to 0.00", "1.000"]
    assert "has no effect" in table.notes[0][1]


def test_a_pair_without_results_stays_with_a_dash(small):
    frame = small.frame[small.frame["arm"] != "sfr_mt"]
    (table,), _ = pairs.pairs_table(frame, small.info, [["sfr_mt", "mt"]], ["dice"], "pairs")
    assert [entry.text for entry in table.rows[0][2:6]] == ["—"] * 4
    assert "not run" in table.notes[0][1]


def test_how_values_are_written():
    assert [number(v) for v in (1.005, -0.001, None, float("nan"))] == ["1.00", "0.00", "—", "—"]
    assert [p_value(v) for v in (0.0004, 0.0312, None)] == ["<0.001", "0.031", "—"]
    assert [axis_text(v) for v in (np.int64(3), 3.0, 0.95, True, None)] == ["3", "3", "0.95", "true", "none"]
    assert axis_text({"name": "grid", "scale": 3}) == '{"name": "grid", "scale": 3}'
    assert [safe_name(v) for v in ("../../a b", "..", "stitch.scale")] == ["a_b", "unnamed", "stitch.scale"]
