"""The recipe of every method: one for all, and that of its source in a card of its own."""

from __future__ import annotations

from typing import Any

import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Ssl
from sfrbench.components.ssl.causal import Causal
from sfrbench.components.ssl.consistency import Consistency
from sfrbench.components.ssl.cpcl import Cpcl

CATALOG = Catalog.read()
SUFFIX = "_source"
#: nnU-Net's own recipe stands in a card, too: see test_nnunet_recipe.
PLAIN = [name for name in CATALOG.names("ssl") if not name.endswith((SUFFIX, "_nnunet"))]
#: Of the released scripts: steps, labelled and unlabelled patches, schedule, units and steps of the ramp.
#: Batches of 2D scripts (CCT, SLC-Net) are slices and have no counterpart.
SCRIPTS: dict[str, tuple[Any, ...]] = {
    "acmt_source": (8000, 2, 2, "poly", 40, 150),
    "bcp_source": (17000, 4, 4, "step", None, None),
    "causal_source": (5000, 2, 2, "step", 40, 150),
    "causal_cps_source": (5000, 2, 2, "step", 40, 150),
    "cct_source": (30000, 2, 2, "poly", 200, 150),
    "cpcl_source": (10000, 2, 2, "poly", 40, 150),
    "cps_source": (30000, 2, 2, "poly", 200, 150),
    "ict_source": (30000, 2, 2, "poly", 200, 150),
    "magicnet_source": (70000, 2, 2, "poly", 200, 350),
    "magicnet_mact_source": (30000, 2, 2, "step", 40, 300),
    "slc_net_source": (30000, 2, 2, "poly", 200, 150),
    "ss_net_source": (15000, 2, 2, "step", 40, 150),
    "supervised_source": (6000, 4, None, "step", None, None),
    "urpc_source": (60000, 2, 2, "poly", 400, 150),
    # whose scripts have the recipe that all methods have here
    "dtc": (6000, 2, 2, "step", 40, 150),
    "mean_teacher": (6000, 2, 2, "step", 40, 150),
    "ua_mt": (6000, 2, 2, "step", 40, 150),
}
#: Learning rates by step, where the script's is not 0.01 that falls by a tenth every 2500 or as poly.
RATES: dict[str, dict[int, float]] = {
    "bcp_source": {0: 0.01, 4499: 0.01, 4500: 1e-3, 6999: 1e-3, 7000: 1e-4, 14499: 1e-6, 14500: 1e-7},
    "magicnet_mact_source": {11999: 0.01, 12000: 1e-3, 24000: 1e-4},
    "urpc_source": {0: 0.1, 30000: 0.1 * 0.5**0.9},
    "cps_source": {15000: 0.01 * 0.5**0.9},
    "ss_net_source": {2499: 0.01, 2500: 1e-3, 12500: 1e-7},
}


def method(name: str) -> Ssl:
    made = CATALOG.card("ssl", name).component({})
    assert isinstance(made, Ssl)
    return made


@pytest.mark.parametrize("name", PLAIN)
def test_batch_length_optimiser_and_schedule_are_the_same_for_all(name: str) -> None:
    made, common = method(name), Ssl()
    for field in ("steps", "batch_labeled", "batch_unlabeled", "optim", "ema"):
        assert getattr(made, field) == getattr(common, field), field


def test_every_card_of_a_source_is_in_the_list() -> None:
    assert {name for name in CATALOG.names("ssl") if name.endswith(SUFFIX)} < set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_source_has_its_scripts_numbers(name: str) -> None:
    made = method(name)
    steps, labelled, unlabelled, schedule, units, unit = SCRIPTS[name]
    assert (made.steps, made.batch_labeled, made.optim.schedule) == (steps, labelled, schedule)
    assert unlabelled is None or made.batch_unlabeled == unlabelled
    if isinstance(made, Consistency):
        assert (made.ramp_length, made.ramp_unit) == (units, unit)
    assert (made.optim.optimiser, made.optim.momentum, made.optim.weight_decay) == ("sgd", 0.9, 1e-4)
    for step, rate in RATES.get(name, {0: 0.01}).items():
        assert made.optim.lr_at(step, made.steps) == pytest.approx(rate), step


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name.endswith(SUFFIX)])
def test_a_source_is_the_plain_card_and_what_differs(name: str) -> None:
    own, plain = CATALOG.card("ssl", name), CATALOG.card("ssl", name.removesuffix(SUFFIX))
    assert own.target == plain.target
    assert plain.cite in ("", None, own.cite)
    mine, theirs = own.component({}), plain.component({})
    changed = {field for field, value in mine if value != getattr(theirs, field)}
    recipe = {"steps", "batch_labeled", "batch_unlabeled", "optim", "ramp_length", "ramp_unit"}
    released = {
        "causal_source": {"independence_into"},
        "cpcl_source": {"layer", "detached"},
        "supervised_source": {"sup_dice"},
    }
    assert changed
    assert changed - recipe == released.get(name, set())


def test_released_codes_that_do_other_than_their_paper_are_the_sources_alone() -> None:
    plain, source = method("causal"), method("causal_source")
    assert isinstance(plain, Causal)
    assert isinstance(source, Causal)
    assert (plain.independence_into, source.independence_into) == ("own", "first")
    plain, source = method("cpcl"), method("cpcl_source")
    assert isinstance(plain, Cpcl)
    assert isinstance(source, Cpcl)
    assert (plain.detached, source.detached, source.layer) == (False, True, "bottleneck")
