"""Windows as nnU-Net lays and weighs them, and mirrored ones: against its formulas and means by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Component, Protocol
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.engine.inference import backbone_forward, slide, windows
from sfrbench.engine.manner import Manner, gaussian_weights, mirrored
from sfrbench.maths.windows import window_starts
from sfrbench.stages.predict.recipe import asked
from sfrbench.stages.recipe import Chosen


def compute_gaussian(tile: tuple[int, int, int]) -> Any:
    """What ``compute_gaussian`` of nnunetv2 gives with the predictor's arguments, read off its code: sigma an
    eighth, the largest weight 10, torch's half precision, zeros lifted."""
    point = np.zeros(tile)
    point[tuple(side // 2 for side in tile)] = 1
    found = gaussian_filter(point, [side / 8 for side in tile], 0, mode="constant", cval=0)
    found /= found.max() / 10
    half = torch.from_numpy(found).to(torch.float16)
    half[half == 0] = half[half != 0].min()
    return half.double()


@pytest.mark.parametrize("patch", [(16, 16, 16), (32, 24, 8), (5, 7, 9), (1, 1, 3), (56, 56, 40)])
def test_weights_are_nnunets(patch: tuple[int, int, int]) -> None:
    weights = gaussian_weights(patch)
    assert weights.dtype == torch.float32
    assert weights.max() == weights[tuple(side // 2 for side in patch)] == 10
    assert np.allclose(weights.numpy(), compute_gaussian(patch).numpy(), rtol=2e-3)  # a step of half


def test_weights_far_from_the_middle_are_lifted() -> None:
    """At a corner of a cube exp(-3 * 4^2 / 2) of 10 is no number of half precision."""
    weights = gaussian_weights((16, 16, 16))
    assert 10 * math.exp(-24) < 2**-25
    assert weights[0, 0, 0] == weights.min() == 2**-24
    assert weights[8, 8, 4] == pytest.approx(10 * math.exp(-(2**2) / 2), rel=1e-3)


@pytest.mark.parametrize(
    ("side", "patch", "stride", "starts"),
    [(110, 64, 32, [0, 23, 46]), (64, 64, 32, [0]), (65, 64, 32, [0, 1]), (88, 80, 40, [0, 8])],
)
def test_windows_spread_evenly_are_nnunets(side: int, patch: int, stride: int, starts: list[int]) -> None:
    assert window_starts(side, patch, stride, spread=True) == starts


def test_as_many_windows_however_they_lie() -> None:
    for side in range(16, 90):
        plain, spread = (window_starts(side, 16, 8, spread) for spread in (False, True))
        count = math.ceil((side - 16) / 8) + 1
        assert len(plain) == len(spread) == count
        step = (side - 16) / (count - 1) if count > 1 else 0.0
        assert spread == [int(np.round(step * index)) for index in range(count)]  # as nnU-Net rounds


def uneven(patches: torch.Tensor) -> torch.Tensor:
    """Of two classes, dependent on the place in the window and not symmetrical."""
    ramp = torch.linspace(-1, 2, patches[0].numel()).reshape(patches.shape[1:])
    foreground = torch.sigmoid(patches * 2 + ramp)
    return torch.stack([1 - foreground, foreground], 1)


def test_a_weighted_mean_of_spread_windows_by_hand() -> None:
    image, patch = torch.randn((19, 8, 13), generator=torch.Generator().manual_seed(2)), (8, 8, 8)
    weights = compute_gaussian(patch)
    total, hits = torch.zeros(2, *image.shape, dtype=torch.float64), torch.zeros(image.shape).double()
    for x in (0, 4, 7, 11):  # 11 / 3 and 22 / 3, rounded
        for z in (0, 2, 5):  # 5 / 2, rounded to the even one
            box = (slice(x, x + 8), slice(0, 8), slice(z, z + 8))
            total[(slice(None), *box)] += weights * uneven(image[box][None])[0].double()
            hits[box] += weights
    found = slide(image, patch, (4, 4, 4), uneven, 2, 3, Manner(spread=True, gaussian=True))
    assert windows((19, 8, 13), patch, (4, 4, 4), spread=True)[:4] == [
        (0, 0, 0),
        (0, 0, 2),
        (0, 0, 5),
        (4, 0, 0),
    ]
    assert torch.allclose(found.double(), total / hits, atol=1e-6)
    assert torch.allclose(found.sum(0), torch.ones(19, 8, 13), atol=1e-5)


def test_mirroring_is_the_mean_of_eight_passes() -> None:
    patches = torch.randn((2, 4, 5, 6), generator=torch.Generator().manual_seed(3))
    expected = torch.zeros(2, 2, 4, 5, 6, dtype=torch.float64)
    for x in (1, -1):
        for y in (1, -1):
            for z in (1, -1):
                turned = np.ascontiguousarray(patches.numpy()[:, ::x, ::y, ::z])
                made = uneven(torch.from_numpy(turned)).numpy()[:, :, ::x, ::y, ::z]
                expected += torch.from_numpy(np.ascontiguousarray(made)).double() / 8
    passes = []
    found = mirrored(lambda given: (passes.append(1), uneven(given))[1])(patches)
    assert len(passes) == 8
    assert torch.allclose(found.double(), expected, atol=1e-6)
    assert not torch.allclose(found, uneven(patches), atol=1e-2)


def test_logits_stay_logits() -> None:
    network = torch.nn.Conv3d(1, 3, 1)
    patches = torch.randn(2, 4, 4, 4)
    logits = backbone_forward(network, logits=True)(patches)
    assert torch.equal(logits, network(patches[:, None]).detach())
    assert torch.equal(backbone_forward(network)(patches), logits.softmax(1))


def protocol(name: str, **fields: Any) -> Protocol:
    made = Catalog.read().card("protocol", name).component(fields)
    assert isinstance(made, Protocol)
    return made


def settings(own: Protocol, *stages: str) -> dict[str, Any]:
    parts: dict[str, Component] = {"dataset": Phantom(patch=(32, 32, 16)), "protocol": own}
    return asked(Chosen(parts, stages, "none", "test", "")).told


def test_the_card_sets_what_predict_is_told_and_no_other_key_moves() -> None:
    plain = settings(protocol("strict"), "retrain", "predict")
    assert not {"windows", "window_weights", "window_mean", "mirror"} & plain.keys()
    own = {"windows": "half", "window_weights": "gaussian", "window_mean": "logits", "mirror": "all"}
    assert settings(protocol("nnunet"), "retrain", "predict") == {**plain, **own, "stride": [16, 16, 8]}
    sam = settings(protocol("nnunet"), "finetune", "predict")
    assert sam == {
        **settings(protocol("strict"), "finetune", "predict"),
        **{name: value for name, value in own.items() if name != "window_mean"},
    }
    left = protocol("nnunet").key_settings()
    for name in Protocol.predict_fields:
        left.pop(name, None)
    assert left == {k: v for k, v in protocol("strict").key_settings().items() if k in left}


def test_anatomy_that_must_not_be_mirrored_is_refused() -> None:
    (fault,) = protocol("nnunet").conflicts({"dataset": Phantom(rot_flip=False)})
    assert "set it to none" in fault
    assert not protocol("nnunet", mirror="none").conflicts({"dataset": Phantom(rot_flip=False)})
    assert not protocol("nnunet").conflicts({"dataset": Phantom()})


def test_half_and_a_stride_of_its_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave out stride"):
        protocol("nnunet", stride=(8, 8, 8))
