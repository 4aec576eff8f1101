"""The network of backbone/newpart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sfrbench.catalog.cards import Catalog
from sfrbench.components.backbone.interface import ALONE, DEEP, PARTS, PLACES, SCALES, in_parts, lacking
from sfrbench.components.base import Backbone
from sfrbench.errors import InputError

CARD = Catalog.read([Path(__file__).parent / "registry"]).card("backbone", "newpart")


def built(classes: int = 3) -> nn.Module:
    backbone = CARD.component({"filters": 4})
    assert isinstance(backbone, Backbone)
    torch.manual_seed(0)
    return backbone.build(classes).eval()


@pytest.mark.parametrize("classes", [2, 5])
def test_logits_have_the_shape_of_the_image(classes: int) -> None:
    logits = built(classes)(torch.randn(2, 1, 12, 8, 4))
    assert logits.shape == (2, classes, 12, 8, 4)
    assert logits.dtype == torch.float32


def test_it_has_all_that_methods_ask_for() -> None:
    assert lacking(built(), (*PARTS, *SCALES, *ALONE, *PLACES)) == []
    assert lacking(built(), DEEP) == [*DEEP]  # no heads at coarser levels
    network, images = in_parts(built()), torch.randn(1, 1, 8, 8, 8)
    maps = network.encode(images)
    assert [tuple(each.shape[1:]) for each in maps] == [(4, 8, 8, 8), (8, 4, 4, 4), (16, 2, 2, 2)]
    assert torch.equal(network.head(network.decode(maps)), built()(images))


def test_a_side_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"\[8, 8, 6\] voxels: a side that is no multiple of 4"):
        built()(torch.randn(1, 1, 8, 8, 6))
