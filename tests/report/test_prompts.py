"""Pages with prompted models: what is printed of prompts is what the ledgers say; clicks where they lie."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sfrbench.components.base_prompts import Box, Click, Said
from sfrbench.maths.stats import Interval
from sfrbench.report.facts.info import Prompted, ReportInfo
from sfrbench.report.items.curve.levels import Level, reached
from sfrbench.report.items.curve.levels import Path as Curve
from sfrbench.report.render.marks import on_slice
from sfrbench.report.render.prompts import counts_of, rules_of
from tests.support.browser import Browser, needs_browser
from tests.support.captions import check_page
from tests.support.prompted import cards
from tests.support.runs import QUIET, here

SPEC = """\
title: Clicks
dataset: {name: la, labeled: 1}
protocol: paper
base: {foundation: ball, backbone: vnet, ssl: supervised}
arms:
  - {name: med, label: SAM-Med3D, foundation.extent: true, prompter: {name: clicks, number: 10},
     stages: [interact, evaluate], without: [dataset.labeled]}
  - {name: best, label: SAM-Med3D (best so far), foundation.extent: true, without: [dataset.labeled],
     prompter: {name: clicks, number: 10, scored: best}, stages: [interact, evaluate]}
  - {name: box, label: Box, prompter: boxer, stages: [interact, evaluate],
     without: [dataset.labeled, prompter.count]}
  - {name: sfr, label: SFR, stages: [retrain, predict, evaluate], without: [prompter.count]}
axes: {prompter.count: [2, 5, 10], dataset.labeled: [1, 2]}
seeds: [0, 1]
report:
  - {table: results, columns: [seconds, prompts]}
  - {table: trained, arms: [sfr]}
  - {published: table14, rows: {best: SAM-Med3D}, metrics: [dice], notes: {best: as its script of 2024}}
  - {curve: {x: prompter.count, y: dice}}
  - {pairs: [[med, sfr], [med, best]]}
  - {ranks: dice}
  - {parameters: true}
  - {montage: 2}
profiles: {smoke: {dataset.organs: 2}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace and its report, ``runs/reports/spec/smoke``."""
    root = tmp_path_factory.mktemp("prompts")
    (root / "spec.yaml").write_text(SPEC, encoding="utf-8")
    cards(root / "cards")
    done = here("run", "spec.yaml", "--profile", "smoke", "--registry", "cards", *QUIET, cwd=root)
    assert "0 failed" in done.stdout
    assert "no effect" not in done.stdout + done.stderr
    return root


@pytest.fixture(scope="module")
def report(folder: Path) -> Path:
    return folder / "runs" / "reports" / "spec" / "smoke"


def told(folder: Path, name: str) -> list[dict[str, Any]]:
    """One JSON file of each run of the clicks."""
    found = []
    for artefact in sorted((folder / "runs" / "store" / "interact").iterdir()):
        record = json.loads((artefact / "record.json").read_text(encoding="utf-8"))
        if record["components"]["prompter"]["name"] == "clicks":
            found.append(json.loads((artefact / name).read_text(encoding="utf-8")))
    return found


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def viewer(page: Path) -> dict[str, Any]:
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', page.read_text("utf-8"))
    return json.loads(data)


def test_what_stands_under_a_table_is_what_the_ledgers_say(folder: Path, report: Path) -> None:
    ledgers = told(folder, "ledger.json")
    assert len(ledgers) == 2  # a run for each seed; the counts and both ways to score share it
    prompts = sum(sum(one["prompts"].values()) for one in ledgers)
    looks = sum(sum(one["looks"].values()) for one in ledgers)
    text = (report / "tables" / "results.md").read_text(encoding="utf-8")
    found = re.search(
        r"SAM-Med3D and SAM-Med3D \(best so far\): (\d+) prompts in (\d+) runs.*? looked at (\d+) times "
        r"\((\d+) cases × (\d+) rounds × (\d+) runs\); scored after 2, 5, 10 of 10 rounds",
        text,
    )
    assert found is not None
    numbers = [int(number) for number in found.groups()]
    assert numbers == [prompts, 2, looks, 2, 10, 2]
    assert looks == 2 * 10 * 2
    assert "Box: 4 prompts in 1 run, for which the labels of these cases were looked at 2 times" in text
    assert "the other rows saw no label of them" in text
    assert "(SAM-Med3D and SAM-Med3D (best so far)): the model is shown where the box" in text


def test_it_stands_under_whatever_shows_a_prompted_arm_and_nothing_else(report: Path) -> None:
    shown = {path.stem: path.read_text(encoding="utf-8") for path in (report / "tables").glob("*.md")}
    without = {name for name, text in shown.items() if "looked at" not in text}
    assert without == {"trained", "trained_per_class", "table14_protocol"}
    assert shown.keys() - without >= {"results", "table14_dice", "pairs", "ranks_dice", "parameters"}
    assert shown["pairs"].count("Box:") == 0  # only the arms of the table
    page = (report / "index.html").read_text(encoding="utf-8")
    figures = re.findall("<figure class=table>.*?</figure>", page, re.DOTALL)
    prompted = [one for one in figures if "SAM-Med3D" in one.partition("<tbody>")[2]]
    under = ["looked at" in one for one in prompted if "Protocol of Table" not in one]
    assert len(under) >= 6
    assert all(under)
    assert check_page(report / "index.html")


def test_prompts_per_case_are_those_up_to_the_scored_round(folder: Path, report: Path) -> None:
    runs = sorted((folder / "runs" / "store" / "interact").iterdir())
    talks = [
        [json.loads(path.read_text(encoding="utf-8")) for path in sorted((run / "said").iterdir())]
        for run in runs
        if "clicks" in (run / "record.json").read_text(encoding="utf-8")
    ]
    for row in read(report / "tables" / "results.csv"):
        if row["arm"] != "med":
            continue
        count = int(row["prompter.count"])
        own = [organ for run in talks for case in run for organ in case.values()]
        clicks = sum(len(said.get("clicks", ())) for organ in own for said in organ["said"][:count])
        seconds = sum(sum(organ["seconds"][:count]) for organ in own)
        assert row["prompts_per_case"] == f"{clicks / 4:.2f}"
        assert row["seconds_per_prompt"] == f"{seconds / clicks:.3f}"
    trained = [row for row in read(report / "tables" / "results.csv") if row["arm"] == "sfr"]
    assert {row["prompts_per_case"] for row in trained} == {"0"}


def test_an_arm_stands_once_beside_an_axis_that_it_is_without(report: Path) -> None:
    rows = [(row["arm"], row.get("prompter.count"), row.get("dataset.labeled")) for row in
            read(report / "tables" / "results.csv")]  # fmt: skip
    clicks = [(arm, count, "") for arm in ("med", "best") for count in ("2", "5", "10")]
    assert rows == [*clicks, ("box", "", ""), ("sfr", "", "1"), ("sfr", "", "2")]


def test_rows_of_the_paper_have_ours_with_as_many_prompts(report: Path) -> None:
    rows = [(row["row"], row["arm"], row["prompter.count"]) for row in
            read(report / "tables" / "table14_dice.csv")]  # fmt: skip
    paper = [f"SAM-Med3D (click, number {count})" for count in (2, 5, 10)]
    pairs = [(row, arm, row.rpartition(" ")[2][:-1]) for row in paper for arm in ("med", "best")]
    assert rows[:6] == pairs
    assert rows[6:] == [
        ("SFR (scarce)", "sfr", ""),
        ("SFR (moderate)", "", ""),
        ("", "box", ""),
        ("", "sfr", ""),
    ]


def test_a_footnote_stands_at_the_rows_of_its_arm(report: Path) -> None:
    rows = read(report / "tables" / "table14_dice.csv")
    assert {row["arm"] for row in rows if "as its script of 2024" in row["reason"]} == {"best"}
    text = (report / "tables" / "table14_dice.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\S+ as its script of 2024", text, re.MULTILINE)) == 1


def test_the_best_so_far_is_never_below_the_last(report: Path) -> None:
    rows = {(row["arm"], row["prompter.count"]): float(row["dice_mean"]) for row in
            read(report / "tables" / "results.csv") if row["arm"] in ("med", "best")}  # fmt: skip
    assert all(rows["best", count] >= rows["med", count] for count in ("2", "5", "10"))


def test_no_place_of_the_machine_is_told(folder: Path, report: Path) -> None:
    for path in report.rglob("*"):
        if path.suffix in (".html", ".json", ".md", ".csv", ".tex", ".svg"):
            assert str(folder) not in path.read_text(encoding="utf-8"), path.name


# curve and its levels


def interval(mean: float) -> Interval:
    return Interval(mean=mean, low=mean - 1, high=mean + 1, seeds=1, cases=3)


def test_where_a_curve_reaches_a_level() -> None:
    curves = [
        Curve("A", {}, [("1", 60.0), ("5", 70.0), ("10", 80.0)]),
        Curve("B", {}, [("1", 90.0), ("10", 95.0)]),
    ]
    levels = [Level("one case", {}, interval(70.0)), Level("many", {}, interval(99.0))]
    assert reached(curves, levels, "clicks", larger=True) == [
        "A reaches the level of one case (70.00) at clicks 5, by the means.",
        "B reaches the level of one case (70.00) at clicks 1, the first that is scored, by the means.",
        "A does not reach the level of many (99.00) up to clicks 10.",
        "B does not reach the level of many (99.00) up to clicks 10.",
    ]
    falls = [Curve("A", {}, [("1", 9.0), ("5", 4.0)])]
    assert reached(falls, [Level("one case", {}, interval(5.0))], "clicks", larger=False) == [
        "A reaches the level of one case (5.00) at clicks 5, by the means."
    ]


def test_levels_are_compared_on_their_own_dataset_and_unless_flattered() -> None:
    curves = [Curve("A", {"dataset": "la"}, [("1", 60.0)]), Curve("A", {"dataset": "btcv"}, [("1", 60.0)])]
    level = Level("SFR", {"dataset": "btcv", "dataset.labeled": 1}, interval(70.0))
    assert len(reached(curves, [level], "clicks", larger=True)) == 1
    flattered = Level("SFR", {}, interval(70.0), flattered=True)
    assert reached(curves, [flattered], "clicks", larger=True) == []
    assert reached([Curve("A", {}, [])], [Level("SFR", {}, interval(1.0))], "clicks", larger=True) == []


def test_the_curve_says_where_it_reaches_its_levels(report: Path) -> None:
    page = (report / "index.html").read_text(encoding="utf-8")
    rows = {(row["arm"], row["prompter.count"]): float(row["dice_mean"]) for row in
            read(report / "tables" / "results.csv")}  # fmt: skip
    box = rows["box", ""]
    at = next((count for count in ("2", "5", "10") if rows["med", count] >= box), None)
    said = f"SAM-Med3D does not reach the level of Box ({box:.2f}) up to prompter.count 10."
    if at is not None:
        first = ", the first that is scored" if at == "2" else ""
        said = f"SAM-Med3D reaches the level of Box ({box:.2f}) at prompter.count {at}{first}, by the means."
    assert said in page


# notes


def given(arm: str, key: str, **more: Any) -> Prompted:
    facts: dict[str, Any] = {"cases": 4, "count": 1, "rounds": 1, "best": False, "prompts": 4,
                             "prompts_of_run": 4, "looks": 4, "seconds": 1.0}  # fmt: skip
    return Prompted(arm, {}, 0, f"{arm}-{key}", key, **{**facts, **more})


def info_of(*prompted: Prompted) -> ReportInfo:
    arms = list(dict.fromkeys((one.arm, one.arm.upper()) for one in prompted))
    return ReportInfo("x", "x", "smoke", "paper", arms=arms, seeds=(0,), items=(), prompted=prompted)


def test_a_user_who_knows_the_prediction_has_looked_at_no_label() -> None:
    guess = given("a", "k", from_guess=True, looks=0)
    assert counts_of({guess.cell}, info_of(guess)) == [
        "A: 4 prompts in 1 run, taken from the segmenter's own predictions: no label was looked at for them."
    ]
    assert rules_of({guess.cell}, info_of(guess)) == []


def test_a_run_that_several_cells_share_is_counted_once() -> None:
    cells = [given("a", "k", count=2, rounds=5, looks=20), given("a", "l", count=2, rounds=5, looks=20)]
    shared = given("b", "k", count=5, rounds=5, looks=20)
    (said,) = counts_of({one.cell for one in (*cells, shared)}, info_of(*cells, shared))
    assert said == (
        "A and B: 8 prompts in 2 runs, for which the labels of these cases were looked at 40 times (4 cases "
        "× 5 rounds × 2 runs); scored after 2, 5 of 5 rounds."
    )
    assert counts_of(set(), info_of(*cells)) == []


def test_what_prompts_tell_beyond_their_places_is_said_of_whom_it_is_true() -> None:
    one, other = given("a", "k", shows=("It tells where the object ends.",)), given("b", "l")
    rules = rules_of({one.cell, other.cell}, info_of(one, other))
    assert rules[0].endswith("the very cases that are scored.")  # no other rows
    assert rules[1:] == ["Beyond the places of the prompts (A): It tells where the object ends."]


# clicks in pictures


def test_marks_are_those_of_the_slice() -> None:
    said = [
        Said(clicks=(Click((3, 4, 5), True), Click((6, 7, 8), False))),
        Said(boxes=(Box((1, 2, 3), (9, 8, 6)), Box((0, 0, 7), (1, 1, 7)))),
    ]
    assert on_slice(said, 5).clicks == [(3, 4, True)]
    assert on_slice(said, 5).boxes == [(1, 2, 9, 8)]
    assert on_slice(said, 7).boxes == [(0, 0, 1, 1)]
    assert on_slice(said, 9).count == 0
    mask = on_slice(said, 8).mask((10, 10))
    assert mask[6, 7]
    assert mask.sum() == 1


def test_the_viewer_has_every_click_where_it_lies(folder: Path, report: Path) -> None:
    """Back from pixels to voxels by the slice numbers that the viewer prints and the box of the picture."""
    talk = json.loads(next((folder / "runs" / "store" / "interact").glob("*/said/p100000.json")).read_text())
    assert talk
    every = [
        {(x, y, z, inside) for organ in json.loads(path.read_text()).values() for said in organ["said"][:2]
         for x, y, z, inside in said.get("clicks", ())}
        for path in (folder / "runs" / "store" / "interact").glob("*/said/p100000.json")
    ]  # fmt: skip
    (case,) = (one for one in viewer(report / "index.html")["cases"] if one["name"] == "p100000")
    (panel,) = (one for one in case["panels"] if one["label"] == "SAM-Med3D, prompter.count 2")
    low = {(z, inside) for _, _, z, inside in panel["clicks"]}
    assert len(panel["clicks"]) == 4  # two clicks for each of two organs
    heights = {panel["height"] - 1 - row for _, row, _, _ in panel["clicks"]}
    found = [
        places
        for places in every
        if {(z - panel["first"], inside) for _, _, z, inside in places} == low
        and _apart({x for x, _, _, _ in places}) == _apart({column for column, _, _, _ in panel["clicks"]})
        and _apart({y for _, y, _, _ in places}) == _apart(heights)
    ]
    assert len(found) == 1
    (boxed,) = (one for one in case["panels"] if one["label"] == "Box")
    assert len(boxed["boxes"]) == 2
    assert all(0 <= left <= right < boxed["width"] for left, _, right, *_ in boxed["boxes"])
    assert all(0 <= top <= bottom < boxed["height"] for _, top, _, bottom, *_ in boxed["boxes"])


def _apart(places: set[int]) -> list[int]:
    """Distances from the first of some places along an axis."""
    return sorted(place - min(places) for place in places)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    made = Browser(tmp_path / "browser")
    yield made
    made.close()


@needs_browser
def test_keys_switch_prompts_and_lead_to_them(report: Path, browser: Browser) -> None:
    browser.open(report / "index.html", dark=True)
    browser.wait("document.querySelector('.viewer').dataset.ready === '0'")
    browser.run("document.querySelector('.stage').focus()")
    z = "Number(document.querySelector('.viewer canvas').dataset.slice)"
    browser.key("Home", 36)
    slices = set()
    for _ in range(40):
        browser.key("n", 78, "n")
        slices.add(browser.run(z))
    case = viewer(report / "index.html")["cases"][0]
    wanted = {click[2] for panel in case["panels"] for click in panel.get("clicks", ())}
    wanted |= {at for panel in case["panels"] for given in panel.get("boxes", ()) for at in given[4:]}
    assert slices == wanted
    pictures = "[...document.querySelectorAll('.viewer canvas')].map((one) => one.toDataURL()).join()"
    before = browser.run(pictures)
    browser.key("c", 67, "c")
    assert browser.run(pictures) != before
    browser.key("c", 67, "c")
    assert browser.run(pictures) == before
    assert (browser.complaints, browser.fetched()) == ([], [])
