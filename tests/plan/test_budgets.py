"""How many patches trainings see: counted by hand, and said where rows differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfrbench.catalog.cards import Catalog
from sfrbench.plan.budgets import difference, seen_of
from sfrbench.plan.build import build_plan
from sfrbench.report.facts.info import ReportInfo
from sfrbench.report.items import kinds
from sfrbench.report.render.budgets import with_patches
from sfrbench.report.render.parts import Part
from sfrbench.report.render.tables import Table
from sfrbench.spec.reader import read_spec

SPEC = """\
title: Budgets
dataset: {name: la, labeled: 1}
protocol: strict
base: {stitch: grid, foundation: sam_vit_b, finetune: lora, backbone: vnet, ssl: mean_teacher, pseudo: none}
arms:
  - {name: mt, label: MT}
  - {name: sfr, label: SFR, pseudo: offline}
  - {name: plus, label: SFR+, pseudo: offline, selector: tau, selector.rounds: 2, selector.retrain_steps: 500}
  - {name: low, label: Lower bound, ssl: supervised}
  - {name: own, label: nnU-Net, ssl: supervised_nnunet}
seeds: [0]
report: [{table: results}]
"""


def test_patches_are_those_of_all_trainings(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    spec = read_spec(tmp_path / "spec.yaml", "paper", items=kinds())
    seen = dict(seen_of(build_plan(spec, Catalog.read(), lambda dataset: "made-up")).values())
    assert seen == {
        "MT": 6000 * 4,
        "SFR": 6000 * 4,
        "SFR+": (6000 + 2 * 500) * 4,
        "Lower bound": 6000 * 2,
        "nnU-Net": 250_000 * 2,
    }
    assert difference(seen.items()) == (
        "Patches that training sees: 24,000 (MT, SFR); 28,000 (SFR+), 1.17 times as many; "
        "12,000 (Lower bound), 0.5 times as many; 500,000 (nnU-Net), 20.8 times as many."
    )


def test_an_arm_whose_points_differ_is_told_point_by_point(tmp_path: Path) -> None:
    lean = SPEC.partition("  - {name: sfr,")[0].replace("ssl: mean_teacher, pseudo: none", "ssl: supervised")
    axes = "axes: {ssl.optim.lr: [0.01, 0.02], pseudo: [none, offline]}\n"
    (tmp_path / "spec.yaml").write_text(
        f"{lean}{axes}seeds: [0]\nreport: [{{table: results}}]\n", encoding="utf-8"
    )
    spec = read_spec(tmp_path / "spec.yaml", "paper", items=kinds())
    seen = seen_of(build_plan(spec, Catalog.read(), lambda dataset: "made-up")).values()
    assert sorted(set(seen)) == [("MT at pseudo none", 6000 * 2), ("MT at pseudo offline", 6000 * 4)]


def test_nothing_is_said_where_all_see_the_same() -> None:
    assert difference([("a", 5), ("b", 5), ("a", 5)]) == difference([]) == ""
    assert difference([*((str(number), 5) for number in range(5)), ("x", 10)]) == (
        "Patches that training sees: 5 (5 arms); 10 (x), 2 times as many."
    )


@dataclass
class Row:
    cell: str

    def behind(self) -> dict[str, Any]:
        return {"cells": [self.cell]}


def test_the_sentence_stands_under_tables_that_show_both() -> None:
    tables = [Table(name, "", "", (), (), (), (), rules=("first",)) for name in ("one", "two")]
    behind = {"one": [Row("a"), Row("b")], "two": [Row("a")]}
    info = ReportInfo("e", "", "smoke", "strict", [], [], [], patches={"a": ("A", 12), "b": ("B", 6)})
    one, two = with_patches(Part(tables=tables, behind=behind), info).tables
    assert one.rules == ("first", "Patches that training sees: 12 (A); 6 (B), 0.5 times as many.")
    assert two.rules == ("first",)
