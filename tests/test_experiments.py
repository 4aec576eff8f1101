"""Shipped experiments compare what they say they compare: controls of SFR+, and what a table holds equal."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Ssl
from sfrbench.files.roots import shipped
from sfrbench.plan.build import Cell, Plan, build_plan
from sfrbench.report.items import kinds
from sfrbench.spec.extends import locate
from sfrbench.spec.model import PROFILES
from sfrbench.spec.reader import read_spec

NAMES = sorted(path.stem for path in shipped("experiments").glob("*.yaml"))
#: Experiments on several semi-supervised methods.
TABLES = [name for name in NAMES if re.match(r"table\d\d_", name)] + [
    "fig01_finetune", "fig12_label_counts", "all_methods_smoke", "text_against_code",
    "sfr_for_all", "sfr_choice", "sfr_networks", "sfr_hippocampus",
]  # fmt: skip


def plan_of(name: str, profile: str) -> Plan:
    return build_plan(read_spec(locate(name), profile, items=kinds()), Catalog.read(), lambda dataset: "none")


def chooser(cell: Cell) -> str:
    return cell.components["selector"].card.name if "selector" in cell.components else ""


def controls(plan: Plan, plus: Cell) -> Iterator[Cell]:
    """Cells at the same point that are trained on by the same rounds, with nobody confident."""
    for cell in plan.cells:
        if chooser(cell) == "none" and (cell.axes, cell.seed) == (plus.axes, plus.seed):
            same = [kind for kind in plus.components if kind != "selector"]
            rounds = [
                {name: getattr(one.components["selector"].component, name) for name in ROUNDS}
                for one in (plus, cell)
            ]
            if (
                all(cell.components[kind] == plus.components[kind] for kind in same)
                and rounds[0] == rounds[1]
            ):
                yield cell


ROUNDS = ("rounds", "finetune_steps", "finetune_lr", "retrain_steps", "retrain_lr")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", NAMES)
def test_every_arm_of_sfr_plus_has_its_control(name: str, profile: str) -> None:
    plan = plan_of(name, profile)
    pairs = {pair for item in plan.spec.report for pair in getattr(item, "pairs", ())}
    labels = {arm.name: arm.label for arm in plan.spec.arms}
    for plus in (cell for cell in plan.cells if chooser(cell) in ("tau", "quantile")):
        found = list(controls(plan, plus))
        assert found, f"{plus.title}: nothing is trained on as long without SFR+"
        assert found[0].nodes["retrain_0"] == plus.nodes["retrain_0"]  # both go on from one training
        assert found[0].pseudo == plus.pseudo
        assert (plus.arm, found[0].arm) in pairs
        assert "trained on" in labels[found[0].arm]


@pytest.mark.parametrize("name", TABLES)
def test_batches_of_a_table_are_equal(name: str) -> None:
    for profile, wanted in (("paper", 2), ("released", 2), ("cpu", 1), ("smoke", 1)):
        plan = plan_of(name, profile)
        methods = [cell.components["ssl"].component for cell in plan.cells if "ssl" in cell.components]
        batches = {(one.batch_labeled, one.batch_unlabeled) for one in methods if isinstance(one, Ssl)}
        assert batches in ({(wanted, wanted)}, set()), profile


@pytest.mark.parametrize("name", [name for name in TABLES if name != "all_methods_smoke"])
def test_length_and_optimiser_of_a_table_are_equal(name: str) -> None:
    for profile in PROFILES:
        found: dict[object, set[object]] = {}
        for cell in plan_of(name, profile).cells:
            if "ssl" in cell.components:
                ssl = cell.components["ssl"].component
                assert isinstance(ssl, Ssl)
                dataset = cell.components["dataset"].chosen
                rates = tuple(ssl.optim.lr_at(step, ssl.steps) for step in range(0, ssl.steps, 97))
                other = ssl.optim.model_dump(exclude={"schedule", "step_every", "gamma", "power", "warmup"})
                found.setdefault(dataset, set()).add((ssl.steps, rates, repr(other)))
        assert all(len(recipes) == 1 for recipes in found.values()), profile
