"""Backbones with as few channels as their classes take."""

from __future__ import annotations

from sfrbench.catalog.cards import Card
from sfrbench.catalog.fields import field_exists
from sfrbench.components.base import Backbone


def narrow(card: Card, filters: int) -> Backbone:
    """A card's backbone with ``filters`` channels at the finest level, or the fewest that there can be."""
    wanted = {"filters": filters, "init_filters": 8, "feature_size": 12, "hidden_size": 64}
    known = {name: value for name, value in wanted.items() if field_exists(card.component_class, name)}
    backbone = card.component(known)
    assert isinstance(backbone, Backbone)
    return backbone
