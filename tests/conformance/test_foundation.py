"""Every foundation card that needs no weight file: shapes, types, classes, batches, and the same bits."""

from __future__ import annotations

import pytest
import torch

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.components.base import Foundation
from sfrbench.components.foundation.segmenter import SamSegmenter
from sfrbench.errors import InputError


def foundation(card: Card, **fields: object) -> Foundation:
    made = card.component(fields)
    assert isinstance(made, Foundation)
    return made


ALL = Catalog.read().cards("foundation")
CARDS = [card for card in ALL if foundation(card).weights is None]
every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


def built(card: Card, classes: int = 3, seed: int = 0, **fields: object) -> SamSegmenter:
    torch.manual_seed(seed)
    return foundation(card, **fields).build(classes, None)


def test_there_is_one() -> None:
    assert "sam_toy" in [card.name for card in CARDS]


@pytest.mark.parametrize("card", ALL, ids=lambda card: card.name)
def test_cards_that_need_weights_say_so(card: Card) -> None:
    assert ("weights" in card.needs) == (foundation(card).weights is not None)


@every_card
@pytest.mark.parametrize("classes", [2, 4, 5])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_shapes_and_types(card: Card, classes: int, precision: str) -> None:
    model = built(card, classes, precision=precision)
    side = model.canvas
    with torch.no_grad():
        logits = model.segment(torch.rand(2, 1, side, side))
        low = model(torch.rand(2, 1, side, side))
    assert logits.shape == (2, classes, side, side)
    assert low.shape[:2] == (2, classes)
    assert logits.dtype == low.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in model.parameters())
    assert torch.isfinite(logits).all()


@every_card
def test_a_batch_is_its_images_one_by_one(card: Card) -> None:
    model = built(card)
    images = torch.rand(3, 1, model.canvas, model.canvas)
    with torch.no_grad():
        apart = torch.cat([model(image[None]) for image in images])
        torch.testing.assert_close(model(images), apart, atol=1e-5, rtol=1e-5)


@every_card
def test_only_the_head_depends_on_the_seed(card: Card) -> None:
    one, same, other = built(card).state_dict(), built(card).state_dict(), built(card, seed=1).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    differing = {name.split(".")[1] for name in one if not torch.equal(one[name], other[name])}
    assert differing == {"mask_tokens", "output_hypernetworks_mlps", "iou_prediction_head"}


@every_card
def test_input_of_another_form_is_refused(card: Card) -> None:
    model = built(card)
    for shape in ((1, 2, 64, 64), (1, 64, 64), (1, 1, 64, 32)):
        with pytest.raises(InputError, match=r"I, I\)"):
            model(torch.zeros(shape))


@every_card
@pytest.mark.parametrize("norm", ["zscore", "unit"])
def test_input_scale(card: Card, norm: str) -> None:
    image = torch.tensor([-3.0, -1.0, 0.0, 1.0, 9.0])
    scaled = foundation(card, norm=norm).normalise(image, (-1.0, 3.0))
    expected = image if norm == "zscore" else torch.tensor([0.0, 0.0, 0.25, 0.5, 1.0])
    torch.testing.assert_close(scaled, expected)
