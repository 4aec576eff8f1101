"""Where stitch/newpart puts slices, and whether they come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Stitch

CARD = Catalog.read([Path(__file__).parent / "registry"]).card("stitch", "newpart")


def made(**fields: int) -> Stitch:
    stitch = CARD.component(fields)
    assert isinstance(stitch, Stitch)
    return stitch


def volume(depth: int) -> torch.Tensor:
    """(1, 32, 32, depth), where slice z holds z + 1."""
    return torch.arange(1.0, depth + 1).expand(1, 32, 32, depth)


def cells(canvas: torch.Tensor) -> list[int]:
    """The slice in each cell of a canvas of 96 pixels, row by row; 0 where there is none."""
    return [int(value) for value in canvas.reshape(3, 32, 3, 32).amax((1, 3)).flatten()]


def test_neighbours_lie_apart() -> None:
    canvas = made(step=3).to_canvases(volume(9), 96, 0.0)[0, 0]
    assert cells(canvas) == [1, 4, 7, 2, 5, 8, 3, 6, 9]


@pytest.mark.parametrize("depth", [1, 4, 9, 20])
def test_slices_come_back(depth: int) -> None:
    stitch = made()
    canvases = stitch.to_canvases(volume(depth), 96, 0.0)
    assert torch.equal(stitch.from_canvases(canvases, (32, 32, depth)), volume(depth))


def test_training_shows_the_same_order() -> None:
    image = volume(9)[0]
    pixels, target = made(step=3).training_canvas(image, image.long(), 96, np.random.default_rng(0), 0.5)
    assert cells(pixels[0]) == cells(target) == [1, 4, 7, 2, 5, 8, 3, 6, 9]
