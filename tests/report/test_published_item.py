"""Tables of the paper beside our results: golden tables, which result is which row, and what is not said."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.plan.build import build_plan
from sfrbench.report.build import build_report
from sfrbench.report.facts.info import Setup
from sfrbench.report.facts.setups import setups_of
from sfrbench.report.items import kinds
from sfrbench.report.render.tables import Table, to_csv, to_html, to_latex, to_markdown
from sfrbench.results.grid import Missing
from sfrbench.spec.extends import locate
from sfrbench.spec.reader import read_spec
from tests.support.captions import check_page
from tests.support.demos import check_golden, rows_of
from tests.support.published import FACTS, ORGANS, made


def data(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(to_csv(table).splitlines()))


def voxels(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "unit": "voxel" if row["unit"] == "mm" else row["unit"]} for row in rows]


@pytest.fixture(scope="module")
def organs() -> dict[str, Table]:
    """Table IX: one arm complete, one with one seed of two, one without a run, one that the paper lacks."""
    lines = {
        "lb": ("V-Net (LB)", Setup("lb", {}, "abdomenct1k", 1, facts=FACTS)),
        "mt": ("MT", Setup("mt", {}, "abdomenct1k", 1, 60, facts={**FACTS, "window": "stride 8, 8, 8"})),
        "sfr": ("ours", Setup("sfr", {}, "abdomenct1k", 1, facts=FACTS)),
        "new": ("NEW_MT", Setup("new", {}, "abdomenct1k", 1, facts=FACTS)),
    }
    rows = [
        row
        for arm, seed, level in (("lb", 0, 30), ("lb", 1, 32), ("mt", 0, 60), ("new", 0, 70))
        for row in rows_of(arm, seed, level, cases=6, classes=ORGANS)
    ]
    item = {
        "published": "table09",
        "rows": {"sfr": "SFR_MT"},
        "unbuilt": {"MagicNet": "not built: 5 % & <b>"},
    }
    missing = [Missing("mt", {}, 1, "failed: loss is not finite"), Missing("sfr", {}, 0, "not run yet")]
    return made(item, lines, rows, missing=[*missing, Missing("sfr", {}, 1, "not run yet")])


@pytest.mark.parametrize("name", ["table09_dice", "table09_dice_per_organ", "table09_protocol"])
@pytest.mark.parametrize("kind", ["csv", "md", "tex"])
def test_tables_equal_the_golden_files(organs, name, kind):
    render = {"csv": to_csv, "md": to_markdown, "tex": to_latex}[kind]
    check_golden(f"{name}.{kind}", render(organs[name]))


def test_rows_are_the_papers_then_ours(organs):
    rows = data(organs["table09_dice"])
    assert [row["row"].partition(" (1")[0] for row in rows] == [
        "V-Net (LB, 1/0)",
        "MT",
        "SFR_MT",
        "SFR_MT+",
        "MagicNet",
        "SFR_MagicNet",
        "SFR_MagicNet+",
        "",
    ]
    told = {row["row"].partition(" ")[0]: row for row in rows}
    assert told["MagicNet"]["reason"] == "not built: 5 % & <b>"
    assert told["SFR_MT+"]["reason"] == "no arm of this specification"
    assert told["SFR_MT"]["reason"] == "seed 0: not run yet; seed 1: not run yet"
    assert "one seed" in told["MT"]["reason"]
    assert "loss is not finite" in told["MT"]["reason"]
    assert "22.32 recomputed" in told["V-Net"]["reason"]
    assert (told[""]["arm"], told[""]["published"], told[""]["difference"]) == ("new", "", "")


def test_the_numbers_are_those_of_pandas(organs):
    rows = pd.DataFrame(
        [
            row
            for seed, level in ((0, 30), (1, 32))
            for row in rows_of("lb", seed, level, cases=6, classes=ORGANS)
        ]
    )
    dice = rows[rows["metric"] == "dice"].groupby(["seed", "class"])["value"].mean()
    per_seed = dice.groupby("seed").mean()
    ours = data(organs["table09_dice"])[0]
    assert ours["ours_mean"] == f"{per_seed.mean():.2f}"
    assert ours["ours_std"] == f"{per_seed.std(ddof=1):.2f}"
    assert ours["difference"] == f"{per_seed.mean() - 22.72:.2f}"
    assert float(ours["low"]) < per_seed.mean() < float(ours["high"])
    by_organ = {row["organ"]: row for row in data(organs["table09_dice_per_organ"]) if row["arm"] == "lb"}
    assert by_organ["spleen"]["published"] == "0*"
    for organ, theirs in (("liver", 56.04), ("kidneys", 33.20), ("spleen", 0.0), ("pancreas", 0.02)):
        mean = dice.xs(organ, level="class").mean()
        assert by_organ[organ]["ours_mean"] == f"{mean:.2f}"
        assert by_organ[organ]["difference"] == f"{mean - theirs:.2f}"


def test_every_text_is_escaped(organs):
    table = organs["table09_dice"]
    assert "<b>" not in to_html(table, "", [("", "")] * len(table.rows)).replace(f"<b>{table.title}</b>", "")
    assert "5 % &amp; &lt;b&gt;" in to_markdown(table)
    assert r"5 \% \& \textless{}b\textgreater{}" in to_latex(table)


def test_labelled_volumes_tell_rows_of_one_method_apart():
    """Table VI has MT with 16 and with 1; a third count of ours is neither."""
    counts = (16, 1, 4)
    lines = {str(n): ("MT", Setup("mt", {"dataset.labeled": n}, "la", n)) for n in counts}
    rows = [
        row
        for n in counts
        for seed in (0, 1)
        for row in rows_of("mt", seed, 50 + n, cases=4, classes=("atrium",), **{"dataset.labeled": n})
    ]
    tables = made(
        {"published": "table06", "metrics": ["dice"]}, lines, rows, axes={"dataset.labeled": counts}
    )
    assert list(tables) == ["table06_dice", "table06_protocol"]
    found = [(row["row"], row["dataset.labeled"], row["published"]) for row in data(tables["table06_dice"])]
    assert [entry for entry in found if entry[1]] == [
        ("MT (16/64)", "16", "87.47"),
        ("MT (1/79)", "1", "44.89"),
        ("", "4", ""),
    ]
    assert ("SFR_MT (1/79)", "", "65.65") in found
    only = {"16": lines["16"]}
    tables = made({"published": "table06"}, only, [], axes={"dataset.labeled": (16,)})
    reasons = {row["row"]: row["reason"] for row in data(tables["table06_dice"])}
    assert reasons["ACMT (16/64)"] == "no arm of this specification"


def test_an_arm_with_another_count_stands_beside_its_row_with_a_note():
    lines = {"lb": ("V-Net (LB)", Setup("lb", {}, "la", 2)), "ub": ("V-Net (UB)", Setup("ub", {}, "la", 32))}
    rows = voxels([row for arm in lines for row in rows_of(arm, 0, 60, cases=3, classes=("left atrium",))])
    tables = made({"published": "table01"}, lines, rows, seeds=(0,))
    told = {row["row"]: row["reason"] for row in data(tables["table01_asd"]) if row["arm"]}
    assert "ours with 2 labelled volumes, the paper's with 16" in told["V-Net (LB, 16/0)"]
    assert "ours with 32 labelled volumes, the paper's with 80" in told["V-Net (UB, 80/0)"]
    assert all(row["difference"] for row in data(tables["table01_asd"]) if row["arm"])


def test_another_unit_has_no_difference_and_other_volumes_have_none_in_any_metric():
    def differences(grid: str, rows: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
        tables = made({"published": "table07"}, {"mt": ("MT", Setup("mt", {}, "la", 1, grid=grid))}, rows)
        ours = {
            name: next(row for row in data(table) if row.get("arm"))
            for name, table in tables.items()
            if not table.prose
        }
        return {name.partition("_")[2]: (row["difference"], row["reason"]) for name, row in ours.items()}

    rows = [row for seed in (0, 1) for row in rows_of("mt", seed, 60, cases=3, classes=("left atrium",))]
    in_mm = differences("", rows)
    assert in_mm["dice"][0]
    assert in_mm["asd"] == ("", "ours in mm, the paper's in voxel: no difference")
    coarse = differences("la_half in the place of la (downsample 2)", voxels(rows))
    why = "ours on other volumes, la_half in the place of la (downsample 2): no difference"
    assert set(coarse) == {"dice", "jaccard", "asd", "hd95"}
    assert all(difference == "" and reason.startswith(why) for difference, reason in coarse.values())
    assert all(differences("", voxels(rows))[metric][0] for metric in ("dice", "jaccard", "asd", "hd95"))


def test_a_table_of_several_datasets_has_one_of_ours_for_each():
    lines = {
        name: ("SFR_MT", Setup("sfr", {"dataset": name}, name, labeled))
        for name, labeled in (("la", 16), ("btcv", 1))
    }
    rows = [row for name in lines for row in rows_of("sfr", 0, 60, cases=3, classes=("organ",), dataset=name)]
    tables = made({"published": "table12"}, lines, rows, axes={"dataset": ("la", "btcv")}, seeds=(0,))
    assert [name for name in tables if name != "table12_protocol"] == [
        f"table12_dice_{name}" for name in ("la", "brats19", "btcv", "mact")
    ]
    found = {
        name: [(row["row"], row["published"]) for row in data(table) if row.get("arm")]
        for name, table in tables.items()
    }
    assert found["table12_dice_la"] == [("SFR_MT (moderate)", "90.86")]
    assert found["table12_dice_btcv"] == [("SFR_MT (scarce)", "39.59")]
    assert found["table12_dice_mact"] == []
    reasons = {row["row"]: row["reason"] for row in data(tables["table12_dice_la"])}
    assert reasons["SFR_MT (scarce)"] == "arm sfr has no point on la with 1 labelled volumes"
    cells = {row[0].text: row[1].text for row in tables["table12_dice_btcv"].rows}
    assert cells["SFR_FT"] == "scarce, 1/17"


def test_arms_that_are_not_called_as_their_rows_have_a_column():
    lines = {
        "a": ("MT", Setup("a", {}, "la", 1)),
        "b": ("MT, longer", Setup("b", {}, "la", 1)),
    }
    rows = [row for arm in lines for row in rows_of(arm, 0, 60, cases=3, classes=("left atrium",))]
    table = made({"published": "table07", "rows": {"b": "MT"}}, lines, rows, seeds=(0,))["table07_dice"]
    assert table.columns[:3] == ("Method", "Setting", "Arm")
    assert [row[2].text for row in table.rows if row[0].text == "MT"] == ["MT", "MT, longer"]


@pytest.mark.parametrize("profile", ["paper", "cpu", "smoke"])
def test_shipped_setups_say_what_differs(profile: str, small: Any, tmp_path: Path) -> None:
    catalog = Catalog.read()
    plan = build_plan(
        read_spec(locate("table07_la_scarce"), profile, items=kinds()), catalog, lambda dataset: "none"
    )
    setups = {one.arm: one for one in setups_of(plan, catalog)}
    assert {one.dataset for one in setups.values()} == {"la"}
    grids = {
        "paper": "",
        "cpu": "la_half in the place of la (downsample 2)",
        "smoke": "phantom in the place of la",
    }
    assert {one.grid for one in setups.values()} == {grids[profile]}
    arms = [(arm.name, arm.label) for arm in plan.spec.arms]
    items = ({"published": "table07"},)
    own: dict[str, Any] = {"arms": arms, "setups": list(setups.values()), "profile": profile}
    info = replace(small.info, **own, missing=(), seeds=(0,), items=items)
    rows = [row for arm, _ in arms for row in rows_of(arm, 0, 60, cases=20, classes=("left atrium",))]
    page, *_ = build_report(pd.DataFrame(rows), info, tmp_path)
    assert check_page(page)
    with (tmp_path / "tables" / "table07_protocol.csv").open(encoding="utf-8") as stream:
        what = {row["what"]: row for row in csv.DictReader(stream)}
    same = {"backbone", "patch", "window", "checkpoint", "dataset", "foundation", "unlabelled volumes, la"}
    differs = {
        "paper": set(),
        "cpu": same - {"checkpoint"},
        "smoke": same - {"checkpoint", "unlabelled volumes, la"},
    }
    assert same & what.keys() == differs[profile]
    assert {"runs", "training", "distances", "fine-tuning", "SFR+"} <= what.keys()
    assert what["runs"]["ours"] == "one seed"
    if profile == "paper":
        assert what["training"]["ours"] == "6000 steps, SGD 0.01, step"
        assert what["batch"]["ours"].startswith("2 labelled patches [V-Net (LB)]; 2 labelled + 2 unlabelled")
        assert "tau 0.985; 3 rounds" in what["SFR+"]["ours"]
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert ("the difference says nothing about the paper" in text) == (profile != "paper")
