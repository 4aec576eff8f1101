"""What the shipped cards of semi-supervised methods have beside what every card holds."""

from __future__ import annotations

import pytest

from sfrbench.catalog.cards import Card, Catalog

CARDS = Catalog.read().cards("ssl")
#: Cards without a paper to cite.
NO_SOURCE = {"supervised", "self_training"}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_methods_name_their_paper(card: Card) -> None:
    assert card.label
    assert card.cite or card.name in NO_SOURCE
