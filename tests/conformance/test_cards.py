"""Every shipped card holds what the suite of its kind asks for, check by check."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.conformance import card as every_card
from sfrbench.conformance.checks import Check, title
from sfrbench.conformance.suites import Examination, checks_of, suite_of

#: ``SFRBENCH_TEST_REGISTRY=my_registry pytest tests/conformance`` takes in another folder's cards.
EXTRA = [Path(name) for name in os.environ.get("SFRBENCH_TEST_REGISTRY", "").split(os.pathsep) if name]
#: Cards whose suite takes minutes, and what to type for it.
LONG = {
    "swin_unetr": "a minute and a half: sfrbench conform backbone/swin_unetr",
    "segresnet_16": "as segresnet, but for its size: sfrbench conform backbone/segresnet_16",
    **{
        name: f"as mednext_s, but for its size: sfrbench conform backbone/{name}"
        for name in ("mednext_b", "mednext_m", "mednext_l")
    },
}


def of_cards() -> Iterator[tuple[Check, Card]]:
    for card in Catalog.read(EXTRA).cards():
        for check in (*every_card.CHECKS, *suite_of(card.kind).OF_CARDS):
            yield check, card


def of_components() -> Iterator[tuple[Check, Card]]:
    for card in Catalog.read(EXTRA).cards():
        for check in (*suite_of(card.kind).FIRST, *checks_of(card)):
            yield check, card


def named(value: object) -> str:
    return f"{value.kind}/{value.name}" if isinstance(value, Card) else title(value)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def examination() -> Examination:
    return Examination()


@pytest.mark.parametrize(("check", "card"), list(of_cards()), ids=named)
def test_card(check: Check, card: Card, examination: Examination) -> None:
    result = examination.result(check, card)
    assert result.status == "holds", str(result)


@pytest.mark.parametrize(("check", "card"), list(of_components()), ids=named)
def test_component(check: Check, card: Card, examination: Examination) -> None:
    if card.name in LONG:
        pytest.skip(LONG[card.name])
    ready = examination.result(suite_of(card.kind).ready, card)
    if ready.status == "not ready here":
        pytest.skip(str(ready))
    result = examination.once(check, card)
    assert result.status == "holds", str(result)
