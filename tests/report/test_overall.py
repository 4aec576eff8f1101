"""The effect of a change over all methods: rows, their mean, harm, gaps, other axes, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sfrbench.maths import stats
from sfrbench.maths.intervals import Bounds
from sfrbench.report.build import build_report
from sfrbench.report.items.overall.contrasts import Group, groups_of
from sfrbench.report.items.overall.results import Results, results_of
from sfrbench.report.items.overall.table import overall_table, rules
from sfrbench.results.grid import Missing
from tests.support.captions import faults
from tests.support.demos import Demo, rows_of

GAINS = (6.0, 4.0, 0.0, -8.0)


def trial(small: Demo, lost: tuple[tuple[int, str, int], ...] = ()) -> Demo:
    """Four methods without and with pseudo-labels, three seeds; the last one loses. ``lost`` cells (method,
    pseudo, seed) have not run."""
    rows = [
        row
        for index, gain in enumerate(GAINS)
        for pseudo in ("none", "offline")
        for seed in range(3)
        if (index, pseudo, seed) not in lost
        for row in rows_of(f"m{index}", seed, 60 + gain * (pseudo == "offline"), cases=8, pseudo=pseudo)
    ]
    arms = [(f"m{index}", f"M{index}") for index in range(len(GAINS))]
    info = replace(
        small.info,
        arms=arms,
        seeds=(0, 1, 2),
        axes={"pseudo": ["none", "offline"]},
        missing=[Missing(f"m{i}", {"pseudo": p}, s, "failed: no memory") for i, p, s in lost],
        counted=(),
        pseudo_arms=(),
        failures=(),
        flags=(),
    )
    return Demo(pd.DataFrame(rows), info)


def only(demo: Demo, of: Any = "pseudo", rows: str = "arm", metric: str = "dice") -> Results:
    groups = groups_of(demo.frame, demo.info, of, rows)
    assert not isinstance(groups, str)
    (group,) = groups
    return results_of(group, metric)


def cubes(demo: Demo, method: int, metric: str = "dice") -> list[np.ndarray]:
    """Scores (S, C, K) without and with, read off the frame."""
    own = demo.frame[(demo.frame["arm"] == f"m{method}") & (demo.frame["metric"] == metric)]
    found = []
    for pseudo in ("none", "offline"):
        part = own[own["pseudo"] == pseudo].sort_values(["seed", "case", "class"])
        found.append(part["value"].to_numpy().reshape(part["seed"].nunique(), 8, 2))
    return found


def test_rows_are_paired_differences_and_their_mean_is_over_methods(small: Demo) -> None:
    demo = trial(small)
    found = only(demo)
    each = [cubes(demo, method) for method in range(4)]
    wanted = [stats.paired(after, before, Bounds(100)) for before, after in each]
    assert [row.result for row in found.rows] == wanted
    assert [row.holm for row in found.rows] == stats.holm([one.p for one in wanted])
    assert found.whole is not None
    assert found.whole.effect.mean == pytest.approx(np.mean([after - before for before, after in each]))
    assert (found.whole.methods, found.whole.effect.cases, found.whole.effect.seeds) == (4, 8, 3)
    assert [row.verdict(larger=True) for row in found.rows] == ["better", "better", "", "worse"]


def test_the_table_marks_harm_and_says_what_its_interval_covers(small: Demo) -> None:
    demo = trial(small)
    table = overall_table(demo.frame, demo.info, only(demo), "overall")
    assert [row[0].text for row in table.rows] == ["M0", "M1", "M2", "M3", "Mean over all 4 methods"]
    (harm,) = [mark for mark, text in table.notes if text.startswith("harms")]
    assert [harm in row[0].marks for row in table.rows] == [False, False, False, True, False]
    said = " ".join(table.rules)
    assert "on the better side: 2 of 4; worse: 1" in said
    assert "Not covered: another choice of labelled cases, another dataset, other settings." in said
    assert not faults(table.caption)
    last = table.data[-1]
    assert sum(float(last[name]) for name in ("share_rows", "share_cases", "share_seeds")) == pytest.approx(
        1, abs=2e-3
    )
    distance = only(demo, metric="hd95")
    assert [row.verdict(larger=False) for row in distance.rows] == ["better", "better", "", "worse"]


@pytest.mark.parametrize(("cases", "seeds", "few"), [(5, 1, True), (5, 3, True), (8, 3, False)])
def test_what_few_cases_and_one_seed_can_say_is_said(small: Demo, cases: int, seeds: int, few: bool) -> None:
    demo = trial(small)
    kept = demo.frame["case"].isin(sorted(demo.frame["case"].unique())[:cases]) & (demo.frame["seed"] < seeds)
    frame = demo.frame[kept]
    table = overall_table(frame, demo.info, only(replace(demo, frame=frame)), "overall")
    said = " ".join(table.rules)
    assert ("Fewer than six cases: interval and p lean on" in said) == few
    assert ("Interval and p of a row: over cases, of one training each." in said) == (seeds == 1)


def test_missing_cells_are_said_and_counted(small: Demo) -> None:
    lost = ((1, "offline", 2), *((2, "none", seed) for seed in range(3)))
    demo = trial(small, lost)
    found = only(demo)
    table = overall_table(demo.frame, demo.info, found, "overall")
    assert [row[-1].text for row in table.rows] == ["3", "2", "0", "3", "3"]
    notes = dict(table.notes)
    first, *_ = (notes[mark] for mark in table.rows[1][0].marks)
    assert first == "M1, pseudo offline, seed 2: failed: no memory"
    (gone,) = (notes[mark] for mark in table.rows[2][0].marks)
    assert gone == "M2, pseudo none, seeds 0, 1, 2: failed: no memory"
    assert table.rows[-1][0].text == "Mean over 3 of 4 methods"
    assert notes[table.rows[-1][0].marks] == "without those that have no number, 1 of 4"
    assert found.whole is not None
    own = [row.result.difference.mean for row in found.rows if row.result]
    assert found.whole.effect.mean == pytest.approx(np.mean(own))


def test_other_axes_have_tables_of_their_own_or_are_the_rows(small: Demo) -> None:
    demo = trial(small)
    names = ["vnet", "unet3d"]
    frame = pd.concat([demo.frame.assign(backbone=name) for name in names], ignore_index=True)
    frame["cell"] += frame["backbone"]
    axes = {"backbone": names, "pseudo": ["none", "offline"]}
    demo = Demo(frame, replace(demo.info, axes=axes))

    def groups(rows: str) -> list[Group]:
        found = groups_of(demo.frame, demo.info, "pseudo", rows)
        assert not isinstance(found, str)
        return found

    by_arm = groups("arm")
    assert [group.point for group in by_arm] == ["backbone vnet", "backbone unet3d"]
    assert [contrast.name for contrast in by_arm[0].contrasts] == ["M0", "M1", "M2", "M3"]
    assert any(
        "'rows: backbone' averages over those" in rule for rule in rules(results_of(by_arm[0], "dice"))
    )
    by_network = groups("backbone")
    assert [group.point for group in by_network] == ["M0", "M1", "M2", "M3"]
    assert [contrast.name for contrast in by_network[0].contrasts] == names
    assert not by_network[0].others
    assert results_of(by_network[0], "dice").name == "Mean over all 2 values of backbone"


def test_pairs_of_arms_are_rows(small: Demo) -> None:
    found = only(small, [("sfr_mt", "mt"), ("mt", "supervised")])
    assert [row.contrast.name for row in found.rows] == ["SFR_MT − MT", "MT − V-Net (LB)"]
    assert found.whole is not None
    assert found.whole.effect.seeds == 2


def test_rows_without_cases_in_common_have_no_mean(small: Demo) -> None:
    demo = trial(small)
    own = demo.frame["arm"] == "m0"
    demo.frame.loc[own, "case"] = "other_" + demo.frame.loc[own, "case"]
    found = only(demo)
    assert found.whole is None
    assert found.why == "they share fewer than two cases"
    table = overall_table(demo.frame, demo.info, found, "overall")
    assert "no mean over them" in dict(table.notes)[table.rows[-1][0].marks]


def test_an_axis_of_one_value_has_a_remark(small: Demo) -> None:
    assert (
        groups_of(small.frame, small.info, "pseudo", "arm") == "No effect of pseudo: it has one value here."
    )


def test_the_page_has_table_plot_and_what_stands_behind_them(small: Demo, tmp_path: Path) -> None:
    demo = trial(small, ((2, "none", 0), (2, "none", 1), (2, "none", 2)))
    build_report(demo.frame, replace(demo.info, items=[{"overall": "pseudo"}]), tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "† M2: M2, pseudo none, seeds 0, 1, 2: failed: no memory." in page
    name = "overall_dice_pseudo_offline"
    assert (tmp_path / "figures" / f"{name}_forest.png").is_file()
    shown = json.loads((tmp_path / "provenance.json").read_text(encoding="utf-8"))["shown"]
    assert [row["row"] for row in shown[name]] == ["M0", "M1", "M2", "M3", "Mean over 3 of 4 methods"]
    assert [len(row["sides"]) for row in shown[name]] == [2, 2, 2, 2, 6]
    table = pd.read_csv(tmp_path / "tables" / f"{name}.csv", keep_default_na=False)
    for row in shown[name]:
        same = [all(line[key] == text for key, text in row["match"].items()) for _, line in table.iterrows()]
        assert sum(same) == 1
