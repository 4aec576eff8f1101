"""Which parameters finetune/newpart trains, on the toy SAM."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Finetune, Foundation
from sfrbench.components.foundation.segmenter import SamSegmenter
from sfrbench.errors import InputError

CATALOG = Catalog.read([Path(__file__).parent / "registry"])


def attached(**fields: tuple[str, ...]) -> SamSegmenter:
    """The toy, with two classes and the method attached to it."""
    tuned = CATALOG.card("finetune", "newpart").component(fields)
    toy = CATALOG.card("foundation", "sam_toy").component({"canvas": 64})
    assert isinstance(tuned, Finetune)
    assert isinstance(toy, Foundation)
    model = toy.build(2, None)
    tuned.attach(model)
    return model


def trained(model: SamSegmenter) -> set[str]:
    return {name for name, value in model.named_parameters() if value.requires_grad}


def test_norms_and_decoder_train() -> None:
    names = trained(attached())
    inside = {name for name in names if not name.startswith("mask_decoder.")}
    assert inside
    assert all(name.startswith("image_encoder.") and "norm" in name for name in inside)
    assert {name for name, _ in attached().named_parameters() if name.startswith("mask_decoder.")} <= names


def test_what_trains_has_a_gradient_and_the_rest_has_none() -> None:
    model = attached(layers=("image_encoder.blocks.0.norm1.*",))
    loss: torch.Tensor = model(torch.randn(1, 1, 64, 64)).square().mean()
    torch.autograd.backward([loss])
    assert {name for name, value in model.named_parameters() if value.grad is not None} == trained(model)


def test_layers_that_are_not_there_are_named() -> None:
    with pytest.raises(InputError, match=r"no parameter of this SAM is called image_encoder\.bloks"):
        attached(layers=("image_encoder.bloks.*", "mask_decoder.*"))
