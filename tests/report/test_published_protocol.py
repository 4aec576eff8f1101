"""The table of where protocols differ: what the paper's text and its code say of SFR's training, and ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.errors import InputError
from sfrbench.files.roots import shipped
from sfrbench.paper.form import Told
from sfrbench.paper.tables import published, read_table, recipe
from sfrbench.plan.build import build_plan
from sfrbench.report.facts.info import ReportInfo
from sfrbench.report.facts.setups import setups_of
from sfrbench.report.items import kinds
from sfrbench.report.items.published.rows import Own
from sfrbench.report.items.published.tables import published_part
from sfrbench.spec.extends import locate
from sfrbench.spec.reader import read_spec
from tests.support.demos import rows_of

#: What the released code does (ShumengLI/SFR), and what the paper says or leaves out.
PAPER = {
    "stitching": (
        "9 × 9 slices as they are, zeros after the last (d = 9 for 80 slices) (text); cells of "
        "114 × 114 pixels, 1 pixel cropped at each border (code)"
    ),
    "augmentation of patches": (
        "random cropping and flipping among others (text); random crops, quarter turns and flips in the "
        "plane of slices (code)"
    ),
    "augmentation of canvases": (
        "Bezier map on 50% of the slices; canvases turned by quarter turns and flipped (code)"
    ),
    "Dice of fine-tuning": (
        "half Dice, half cross-entropy (eq. 5) (text); padding pixels counted in Dice (code)"
    ),
    "pseudo-labels": (
        "of the unlabelled volumes, by the fine-tuned SAM (eq. 3) (text); of each training crop as the "
        "network sees it (online), hard, weight 1 (code)"
    ),
    "batch": "2 labelled + 2 unlabelled patches (code); unstated: how one labelled case fills it",
    "batch of fine-tuning": "2 canvases, 1 where one case is labelled (code)",
    "fine-tuning": "LoRA, rank 4 (text); 6000 steps, AdamW 0.001, poly (code)",
}
ON = {
    "augmentation of canvases": (
        "Bezier map on 50% of the slices; canvases turned by quarter turns and flipped"
    ),
    "Dice of fine-tuning": "0.5 Dice, 0.5 cross-entropy; padding pixels counted in Dice",
    "pseudo-labels": "of each training crop as the network sees it (online), hard, weight 1",
}
OFF = {
    "augmentation of canvases": "none",
    "Dice of fine-tuning": "0.5 Dice, 0.5 cross-entropy; padding pixels left out in Dice",
    "pseudo-labels": "of whole volumes, stored once (offline), hard, weight 1",
}


def protocol(experiment: str, profile: str, arm: str, table: str, row: str) -> dict[str, tuple[str, str]]:
    """What -> (paper's, ours) in the protocol table of one arm beside one row of the paper."""
    catalog = Catalog.read()
    plan = build_plan(read_spec(locate(experiment), profile, items=kinds()), catalog, lambda dataset: "none")
    setups = [setup for setup in setups_of(plan, catalog) if setup.arm == arm]
    item = {"published": table, "rows": {arm: row}}
    info = ReportInfo(
        experiment="demo", title="", profile=profile, protocol="paper", arms=((arm, arm),), seeds=(0,),
        items=(item,), setups=setups,
    )  # fmt: skip
    frame = pd.DataFrame(rows_of(arm, 0, 60, cases=20, classes=("left atrium",)))
    made, _ = published_part(frame, replace(info), table, Own({arm: row}, {}), (), table)
    (found,) = [one for one in made if one.name == f"{table}_protocol"]
    return {one[0].text: (one[1].text, one[2].text) for one in found.rows}


def test_the_four_choices_on_and_off_differ_in_their_rows_and_in_no_other() -> None:
    off = protocol("text_against_code", "paper", "text", "table01", "SFR_MT")
    on = protocol("text_against_code", "paper", "code", "table01", "SFR_MT")
    assert on.keys() == off.keys()
    assert {what: ours for what, (_, ours) in off.items() if ours != on[what][1]} == OFF
    assert {what: ours for what, (_, ours) in on.items() if ours != off[what][1]} == ON
    for found in (off, on):
        assert {what: found[what][0] for what in PAPER} == PAPER
        assert found["stitching"][1] == (
            "9 × 9 slices as they are, cells of 114 × 114 pixels, 1 pixel cropped at each border"
        )
        assert found["batch"][1] == "2 labelled + 2 unlabelled patches"
        assert found["batch of fine-tuning"][1] == "2 canvases"
        assert found["augmentation of patches"][1] == (
            "random crops, quarter turns and flips in the plane of slices"
        )


@pytest.mark.parametrize(
    ("arm", "row", "ours"),
    [
        ("bezier", "augmentation of canvases", "Bezier map on 50% of the slices"),
        ("turned", "augmentation of canvases", "canvases turned by quarter turns and flipped"),
        ("padding", "Dice of fine-tuning", ON["Dice of fine-tuning"]),
        ("online", "pseudo-labels", ON["pseudo-labels"]),
    ],
)
def test_each_choice_alone_changes_one_row(arm: str, row: str, ours: str) -> None:
    off = protocol("text_against_code", "paper", "text", "table01", "SFR_MT")
    one = protocol("text_against_code", "paper", arm, "table01", "SFR_MT")
    assert {what: text for what, (_, text) in one.items() if text != off[what][1]} == {row: ours}


def test_profile_released_is_the_code_and_says_what_it_replaces() -> None:
    paper = protocol("table01_la", "paper", "sfr_mt", "table01", "SFR_MT")
    released = protocol("table01_la", "released", "sfr_mt", "table01", "SFR_MT")
    assert {what: paper[what][1] for what in OFF} == OFF
    swapped = ON | {"pseudo-labels": f"{ON['pseudo-labels']}; online in the place of offline"}
    assert {what: released[what][1] for what in ON} == swapped


def test_every_point_is_marked_with_who_tells_it() -> None:
    told = [
        *recipe().values(),
        *(one for number in range(1, 16) for one in published(number).protocol.values()),
    ]
    for one in told:
        assert (one.text == "") == ("(text)" not in one.shown)
        assert (one.code == "") == ("(code)" not in one.shown)
        assert (one.unstated == "") == ("unstated: " not in one.shown)
        assert "\n" not in one.shown


def test_a_point_that_nobody_tells_is_refused(tmp_path: Path) -> None:
    assert Told(text="a  b", code="c", unstated="d").shown == "a b (text); c (code); unstated: d"
    text = (shipped("reports") / "published" / "table01.yaml").read_text(encoding="utf-8")
    path = tmp_path / "table.yaml"
    path.write_text(text.replace("{text: V-Net}", "{}"), encoding="utf-8")
    with pytest.raises(InputError, match="give at least one of text, code, other, unstated"):
        read_table(path)
