"""A sound specification, what is wrong with others, and what is in their plans."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.errors import InputError
from sfrbench.plan.build import Plan, build_plan
from sfrbench.report.items import kinds
from sfrbench.spec.reader import read_spec

GOOD = """\
title: A test
dataset: {name: phantom, labeled: 2}
protocol: strict
base: {stitch: grid, foundation: sam_toy, finetune: lora, backbone: vnet, ssl: mean_teacher}
arms:
  - {name: sup, label: Supervised, ssl: supervised}
  - {name: mt, ssl.lambda_cons: 0.2}
  - {name: sfr, pseudo: offline}
seeds: [0, 1]
"""


def plan_of(tmp_path: Path, text: str, profile: str = "smoke", sets: tuple[str, ...] = ()) -> Plan:
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return build_plan(read_spec(path, profile, sets, items=kinds()), Catalog.read(), lambda dataset: "none")


def faults(tmp_path: Path, text: str, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        plan_of(tmp_path, text, **options)  # type: ignore[arg-type]
    return str(caught.value).replace(f"{tmp_path}/", "")


def stages(plan: Plan) -> Counter[str]:
    return Counter(stage for stage, _ in plan.nodes)


def keys(plan: Plan, role: str) -> dict[str, str]:
    return {cell.title: cell.nodes[role][1] for cell in plan.cells if role in cell.nodes}
