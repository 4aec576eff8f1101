"""What every stitch card promises, whatever it does: run over the whole registry."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Stitch
from sfrbench.components.stitch.grid import IGNORE, TiledStitch

CARDS = {card.name: card for card in Catalog.read().cards("stitch")}
SIDES, CANVAS = (40, 36), 64


@pytest.fixture(params=sorted(CARDS))
def stitch(request: pytest.FixtureRequest) -> Stitch:
    card = CARDS[request.param]
    here = {"source": "photographs"} if "source" in card.component_class.model_fields else {}
    return cast(Stitch, card.component(here))  # no images that a user has to bring


def exact(stitch: Stitch) -> bool:
    """Whether the inverse is exact: where nothing is resized."""
    return not (isinstance(stitch, TiledStitch) and stitch.geometry(SIDES, CANVAS).resized)


def patch(depth: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    image = torch.randn(*SIDES, depth, generator=noise)
    return image, (image > 0.5).byte() + (image > 1).byte()


@pytest.mark.parametrize("depth", [1, 7, 80])
def test_any_depth_goes_in_and_comes_back(stitch: Stitch, depth: int) -> None:
    image, label = patch(depth)
    maps = torch.nn.functional.one_hot(label.long(), 3).permute(3, 0, 1, 2).float()
    canvases = stitch.to_canvases(maps, CANVAS, 0.0)
    assert canvases.shape[1:] == (3, CANVAS, CANVAS)
    assert canvases.dtype == torch.float32
    back = stitch.from_canvases(canvases, (*SIDES, depth))
    assert back.shape == maps.shape
    # enlarged and shrunk again, the class is kept but for pixels at the edge of these specks
    assert torch.equal(back, maps) if exact(stitch) else (back.argmax(0) == label).float().mean() > 0.9
    integers = stitch.to_canvases(label[None], CANVAS, IGNORE)
    assert integers.dtype == torch.uint8
    assert torch.equal(stitch.from_canvases(integers, (*SIDES, depth))[0], label)
    shown = stitch.to_canvases(image[None], CANVAS, 0.0)
    assert shown.shape[0] == canvases.shape[0]
    assert shown.shape[1] in (1, 3)
    assert torch.isfinite(shown).all()


@pytest.mark.parametrize("depth", [1, 7, 80])
@pytest.mark.parametrize("progress", [0.0, 0.3, 0.999])
def test_training_canvas(stitch: Stitch, depth: int, progress: float) -> None:
    image, label = patch(depth)
    before = image.clone(), label.clone()
    pixels, target = stitch.training_canvas(image, label, CANVAS, np.random.default_rng(5), progress)
    channels = stitch.to_canvases(image[None], CANVAS, 0.0).shape[1]
    assert (pixels.shape, pixels.dtype) == ((channels, CANVAS, CANVAS), torch.float32)
    assert (target.shape, target.dtype) == ((CANVAS, CANVAS), torch.int64)
    assert set(target.unique().tolist()) <= {0, 1, 2, IGNORE}
    assert torch.equal(image, before[0])  # nothing is changed in place
    assert torch.equal(label, before[1])
    if progress > 0.9:  # ignored is what no slice covers, and only that
        covered = stitch.to_canvases(torch.ones(1, *SIDES, depth, dtype=torch.uint8), CANVAS, 0)[0, 0] == 1
        assert int((target == IGNORE).sum()) == int((~covered).sum())
        assert (pixels[:, target == IGNORE] == 0).all()


def test_same_seed_same_bits(stitch: Stitch) -> None:
    image, label = patch(80)

    def canvas(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return stitch.training_canvas(image, label, CANVAS, np.random.default_rng(seed), 0.2)

    (one, other), (same, target) = canvas(1), canvas(1)
    assert torch.equal(one, same)
    assert torch.equal(other, target)
    assert any(not torch.equal(one, canvas(seed)[0]) for seed in range(2, 6))


def test_at_test_time_there_is_no_chance(stitch: Stitch) -> None:
    image, _ = patch(7)
    first = stitch.to_canvases(image[None], CANVAS, 0.0)
    assert torch.equal(first, stitch.to_canvases(image[None].clone(), CANVAS, 0.0))


def test_probabilities_stay_probabilities(stitch: Stitch) -> None:
    maps = torch.randn(4, *SIDES, 20, generator=torch.Generator().manual_seed(2)).softmax(0)
    back = stitch.from_canvases(stitch.to_canvases(maps, CANVAS, 0.0), (*SIDES, 20))
    assert torch.allclose(back.sum(0), torch.ones(*SIDES, 20), atol=1e-5)
    assert back.min() >= 0
