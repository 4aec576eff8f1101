"""Every semi-supervised method in a plan; own cards too, by ``SFRBENCH_TEST_REGISTRY`` as in ``test_ssl``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.components.base import Component
from sfrbench.errors import InputError
from sfrbench.plan.build import build_plan
from sfrbench.report.items import kinds
from sfrbench.spec.reader import read_spec

CATALOG = Catalog.read(
    [Path(name) for name in os.environ.get("SFRBENCH_TEST_REGISTRY", "").split(os.pathsep) if name]
)
#: Methods that refuse 32 x 32 x 32 voxels, which the backbone takes: 3 x 3 x 3 cubes are too small for it.
TOO_SMALL = {"magicnet", "magicnet_mact", "magicnet_source", "magicnet_mact_source"}

SPEC = """
title: One method
dataset: {{name: phantom, labeled: 1, patch: [{patch}]}}
base: {{backbone: vnet, ssl: {name}}}
"""


def plan(card: Card, patch: str, folder: Path) -> dict[str, Component]:
    path = folder / "one.yaml"
    path.write_text(SPEC.format(name=card.name, patch=patch))
    spec = read_spec(path, "paper", items=kinds())
    (cell,) = build_plan(spec, CATALOG, lambda resolved: "").cells
    return {kind: resolved.component for kind, resolved in cell.components.items()}


@pytest.mark.parametrize("card", CATALOG.cards("ssl"), ids=lambda card: card.name)
def test_patches_that_do_not_fit_are_refused_by_the_plan(card: Card, tmp_path: Path) -> None:
    assert plan(card, "96, 96, 96", tmp_path)["ssl"] == card.component({})
    with pytest.raises(InputError, match=r"\[96, 96, 40\][\s\S]*no multiple of 16"):
        plan(card, "96, 96, 40", tmp_path)
    if card.name in TOO_SMALL:
        with pytest.raises(InputError, match=rf"ssl {card.name}: [\s\S]*\[32, 32, 32\]"):
            plan(card, "32, 32, 32", tmp_path)
