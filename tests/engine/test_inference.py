"""Sliding windows against a plain re-implementation; SAM on canvases, and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from sfrbench.components.stitch.grid import GridStitch
from sfrbench.components.stitch.upsampled import UpsampledStitch
from sfrbench.engine.inference import sam_forward, slide, windows
from sfrbench.maths.windows import window_count, window_starts
from tests.support.pixel_sam import PixelSam


def plain_sliding_window(
    image: np.ndarray, patch: Any, stride: Any, forward: Any, classes: int
) -> np.ndarray:
    """Written after the description in the literature, window by window, in numpy."""
    pads = []
    for side, window in zip(image.shape, patch, strict=True):
        short = max(0, window - side)
        pads.append((short // 2, short - short // 2))
    padded = np.pad(image, pads)
    total = np.zeros((classes, *padded.shape), np.float32)
    count = np.zeros(padded.shape, np.float32)
    numbers = [
        math.ceil((side - window) / step) + 1
        for side, window, step in zip(padded.shape, patch, stride, strict=True)
    ]
    for i in range(numbers[0]):
        x = min(i * stride[0], padded.shape[0] - patch[0])
        for j in range(numbers[1]):
            y = min(j * stride[1], padded.shape[1] - patch[1])
            for k in range(numbers[2]):
                z = min(k * stride[2], padded.shape[2] - patch[2])
                box = (slice(x, x + patch[0]), slice(y, y + patch[1]), slice(z, z + patch[2]))
                total[(slice(None), *box)] += forward(padded[box])
                count[box] += 1
    mean = total / count
    inner = [slice(first, first + side) for (first, _), side in zip(pads, image.shape, strict=True)]
    return mean[(slice(None), *inner)]


def place_dependent(patches: torch.Tensor) -> torch.Tensor:
    """Probabilities of two classes that depend on the place inside the window, so overlaps disagree."""
    ramp = torch.linspace(-1, 1, patches[0].numel()).reshape(patches.shape[1:])
    foreground = torch.sigmoid(patches * 2 + ramp)
    return torch.stack([1 - foreground, foreground], 1)


@pytest.mark.parametrize(
    ("shape", "patch", "stride"),
    [
        ((20, 17, 12), (8, 8, 8), (3, 5, 4)),
        ((16, 16, 16), (8, 8, 8), (8, 8, 8)),
        ((7, 20, 5), (8, 8, 8), (4, 4, 4)),  # two short sides, one by an odd number
        ((9, 8, 8), (8, 8, 8), (16, 16, 16)),  # a stride beyond the patch
    ],
)
@pytest.mark.parametrize("batch", [1, 5])
def test_slide_equals_the_plain_loop(shape: Any, patch: Any, stride: Any, batch: int) -> None:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = plain_sliding_window(
        image.numpy(), patch, stride, lambda box: place_dependent(torch.from_numpy(box)[None])[0].numpy(), 2
    )
    result = slide(image, patch, stride, place_dependent, 2, batch)
    assert result.dtype == torch.float32
    assert np.allclose(result.numpy(), expected, atol=1e-6)
    assert torch.allclose(result.sum(0), torch.ones(shape), atol=1e-5)


def test_windows_of_the_left_atrium() -> None:
    """Methods section 6: 27 to 108 windows per case at 18 x 18 x 4 over x 148-244, y 132-160, z 88."""
    patch, stride = (112, 112, 80), (18, 18, 4)
    counts = [len(windows((x, y, 88), patch, stride)) for x in range(148, 245) for y in range(132, 161)]
    assert (min(counts), max(counts)) == (27, 108)
    assert len(windows((314, 314, 235), (96, 96, 96), (12, 12, 12))) == 5200
    assert len(windows((314, 314, 235), (96, 96, 96), (16, 16, 16))) == 2250
    assert windows((5, 8, 11), (8, 8, 8), (2, 2, 2)) == [(0, 0, 0), (0, 0, 2), (0, 0, 3)]


@pytest.mark.parametrize("patch", [1, 7, 16])
def test_the_fewest_windows_cover_an_axis_evenly(patch: int) -> None:
    for side in range(patch, 6 * patch + 2):
        starts = window_starts(side, patch, None)
        assert len(starts) == math.ceil(side / patch)
        assert (starts[0], starts[-1]) == (0, side - patch)
        assert {voxel for start in starts for voxel in range(start, start + patch)} == set(range(side))
        gaps = np.diff(starts)
        assert not gaps.size or gaps.max() - gaps.min() <= 1


def test_slide_takes_the_mean_of_the_fewest_windows() -> None:
    image = torch.randn((13, 8, 5), generator=torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(image, (1, 2))
    total, hits = torch.zeros(2, 13, 8, 8), torch.zeros(13, 8, 8)
    for start in (0, 5):
        total[:, start : start + 8] += place_dependent(padded[None, start : start + 8])[0]
        hits[start : start + 8] += 1
    result = slide(image, (8, 8, 8), None, place_dependent, 2)
    assert torch.allclose(result, (total / hits)[..., 1:6], atol=1e-6)


def test_windows_in_which_sam_labels() -> None:
    """At half the patch and at the fewest: LA's widest case, and the usual grids of the organs' CTs."""
    cases = {(244, 160, 88): ((112, 112, 80), 16, 12), (193, 143, 88): ((112, 112, 80), 12, 8),
             (512, 512, 105): ((96, 96, 96), 200, 72), (260, 260, 189): ((96, 96, 96), 75, 18)}  # fmt: skip
    for shape, (patch, overlapping, fewest) in cases.items():
        assert window_count(shape, patch, [side // 2 for side in patch]) == overlapping
        assert window_count(shape, patch, None) == fewest
        assert len(windows(shape, patch, None)) == fewest


def three_classes(patches: torch.Tensor) -> torch.Tensor:
    return torch.stack([patches * 0, patches, 1 - patches * patches], 1).softmax(1)


@pytest.mark.parametrize(
    ("depth", "limit", "batches"),
    [
        (4, 1, [1, 1, 1]),  # one canvas per patch
        (4, 2, [2, 1]),  # patches share a batch
        (6, 1, [1] * 6),  # two canvases per patch
        (6, 4, [4, 2]),
        (6, 8, [6]),
    ],
)
def test_sam_forward_is_exact_on_the_grid(depth: int, limit: int, batches: list[int]) -> None:
    patches = torch.randn(3, 32, 30, depth, generator=torch.Generator().manual_seed(2))
    model = PixelSam()
    result = sam_forward(model, GridStitch(), limit)(patches)  # type: ignore[arg-type]
    assert torch.equal(result, three_classes(patches))
    assert model.batches == batches


def test_sam_forward_with_upsampled_slices() -> None:
    x, y = torch.linspace(-1, 1, 32)[:, None, None], torch.linspace(0, 1, 32)[None, :, None]
    patches = (x * y * torch.tensor([1.0, -1.0, 2.0]))[None]
    result = sam_forward(PixelSam(), UpsampledStitch(), 2)(patches)  # type: ignore[arg-type]
    assert (result - three_classes(patches)).abs().max() < 0.02


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_the_slices_of_a_patch_stay_together_in_a_volumetric_model(limit: int) -> None:
    patches = torch.randn(3, 32, 30, 5, generator=torch.Generator().manual_seed(2))
    model = PixelSam(volumetric=True)
    result = sam_forward(model, UpsampledStitch(), limit)(patches)  # type: ignore[arg-type]
    assert model.batches == [5, 5, 5]
    assert torch.equal(result, sam_forward(PixelSam(), UpsampledStitch(), 15)(patches))  # type: ignore[arg-type]
