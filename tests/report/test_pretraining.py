"""Which tables say that the weights behind them may have seen scored cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sfrbench.report.facts.info import Pretrained, ReportInfo
from sfrbench.report.facts.pretraining import pretrained_of
from sfrbench.report.render.parts import Part
from sfrbench.report.render.pretraining import with_pretraining
from sfrbench.report.render.tables import Table
from tests.support.specs import GOOD, plan_of

PUBLIC = "a large collection of public medical images"


@dataclass(frozen=True)
class Row:
    cells: tuple[str, ...]

    def behind(self) -> dict[str, Any]:
        return {"cells": list(self.cells)}


def table(name: str) -> Table:
    return Table(name, name, "Numbers.", ("a",), (), (), (), rules=("A rule.",))


def told(pretrained: Sequence[Pretrained], *cells: str) -> tuple[str, ...]:
    """The rules of a table that stands on these cells."""
    info = ReportInfo("e", "E", "cpu", "strict", [], [0], [], pretrained=pretrained)
    part = Part(tables=[table("t")], behind={"t": [Row(cells)]})
    return tuple(with_pretraining(part, info).tables[0].rules)


def test_only_tables_that_stand_on_such_weights_say_it() -> None:
    known = [Pretrained("a", "1", "MedSAM", PUBLIC), Pretrained("b", "2", "LiteMedSAM", PUBLIC)]
    known.append(Pretrained("c", "3", "SAM ViT-B from 'mine'", "data that are not known here"))
    unknown = "whether cases that are scored here were among them is unknown."
    assert told(known, "0") == ("A rule.",)
    assert told(known, "0", "1") == ("A rule.", f"The weights of MedSAM were trained on {PUBLIC}; {unknown}")
    assert told(known, "1", "2", "3") == (
        "A rule.",
        f"The weights of MedSAM and LiteMedSAM were trained on {PUBLIC}; {unknown}",
        f"The weights of SAM ViT-B from 'mine' were trained on data that are not known here; {unknown}",
    )


@pytest.mark.parametrize(
    ("foundation", "profile", "wanted"),
    [
        ("medsam", "paper", {("sfr", "MedSAM", PUBLIC)}),
        ("sam_vit_b", "paper", set()),
        ("sam_vit_b", "cpu", {("sfr", "LiteMedSAM", PUBLIC)}),
        ("medsam", "smoke", set()),
        ("{name: sam_vit_b, checkpoint: medsam}", "paper", {("sfr", "SAM ViT-B from 'medsam'", PUBLIC)}),
        (
            "{name: sam_vit_b, checkpoint: mine}",
            "paper",
            {("sfr", "SAM ViT-B from 'mine'", "data that are not known here")},
        ),
    ],
)
def test_of_a_plan(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    foundation: str,
    profile: str,
    wanted: set[tuple[str, str, str]],
) -> None:
    """Of arms that use a SAM, by the weights that the profile gives them; the file need not be here."""
    monkeypatch.setenv("SFRBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    plan = plan_of(tmp_path, GOOD.replace("foundation: sam_toy", f"foundation: {foundation}"), profile)
    assert {(one.arm, one.label, one.trained_on) for one in pretrained_of(plan)} == wanted
