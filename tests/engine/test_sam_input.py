"""A crop in training and a window in inference give SAM the same input."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sfrbench.components.base import Foundation
from sfrbench.engine.inference import slide
from sfrbench.engine.sam_input import crop_input, sam_input
from sfrbench.maths.sampling import Patch, View

RANGE = (-1.5, 2.0)
PATCH = (8, 6, 4)


@pytest.mark.parametrize("norm", ["zscore", "unit"])
def test_a_crop_is_scaled_as_the_window_at_its_place(norm: Any) -> None:
    """The volume is shorter than the patch along y and z: there both are padded, by 0 on the input scale."""
    foundation = Foundation(norm=norm)
    volume = np.random.default_rng(0).standard_normal((8, 4, 2)).astype(np.float32)
    seen: list[torch.Tensor] = []

    def forward(windows: torch.Tensor) -> torch.Tensor:
        seen.extend(windows)
        return torch.zeros((len(windows), 2, *PATCH))

    slide(sam_input(foundation, torch.from_numpy(volume), RANGE), PATCH, PATCH, forward, 2)
    view = View((0, -1, -1), PATCH)
    plain, inside = view.take(volume), view.take(np.ones(volume.shape, dtype=bool))
    volumes: Any = SimpleNamespace(case=lambda case: SimpleNamespace(range=RANGE))
    crop = crop_input(foundation, volumes, Patch("c", view, plain, plain, inside), plain)
    assert torch.equal(crop, seen[0])
    low, high = RANGE
    exact = volume.astype(np.float64)
    exact = np.clip((exact - low) / (high - low), 0, 1) if norm == "unit" else exact
    wanted = np.zeros(PATCH)
    wanted[:, 1:5, 1:3] = exact
    np.testing.assert_allclose(crop.numpy(), wanted, atol=1e-6)
