"""Losses against their formulas in float64, and the schedules' constants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sfrbench.components.base import Optim
from sfrbench.maths.losses import IGNORE, cross_entropy, dice, ema_alpha, ramp, segmentation_loss


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def formula(logits: np.ndarray, target: np.ndarray, ce_weight: float, mask: bool, eps: float = 1e-5) -> float:
    """The loss written out in float64, voxel by voxel over classes."""
    probs = softmax(logits.astype(np.float64))
    seen = target != IGNORE
    classes = probs.shape[1]
    picked = np.take_along_axis(probs, np.where(seen, target, 0)[:, None], 1)[:, 0]
    ce = -np.log(picked[seen]).mean()
    terms = []
    for c in range(classes):
        p, y = probs[:, c], (target == c).astype(np.float64)
        if mask:
            p = p * seen
        terms.append(1 - (2 * (p * y).sum() + eps) / ((p**2).sum() + (y**2).sum() + eps))
    return float(ce_weight * ce + (1 - ce_weight) * np.mean(terms))


@pytest.fixture
def sample() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    target = rng.integers(0, 3, (2, 5, 6, 4))
    target[:, 0] = IGNORE
    return torch.from_numpy(rng.normal(size=(2, 3, 5, 6, 4)).astype(np.float32)), torch.from_numpy(target)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("ce_weight", [0.0, 0.2, 0.5, 1.0])
def test_hard_labels_match_the_formula(
    sample: tuple[torch.Tensor, torch.Tensor], ce_weight: float, mask: bool
) -> None:
    logits, target = sample
    expected = formula(logits.numpy(), target.numpy(), ce_weight, mask)
    assert float(segmentation_loss(logits, target, ce_weight, mask)) == pytest.approx(expected, rel=1e-5)


def test_dice_counts_padding_only_when_told(sample: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, target = sample
    probs = logits.softmax(1)
    inner = dice(probs[:, :, 1:], target[:, 1:])
    assert float(dice(probs, target)) == pytest.approx(float(inner), rel=1e-6)
    assert float(dice(probs, target, mask_ignore=False)) > float(inner)


def test_a_wholly_ignored_batch_gives_zero_and_a_finite_gradient() -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    target = torch.full((1, 4, 4), IGNORE)
    assert cross_entropy(logits, target).item() == 0
    loss = segmentation_loss(logits, target)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())


def test_one_hot_probabilities_equal_hard_labels() -> None:
    logits = torch.randn(2, 4, 3, 3, 3)
    target = torch.randint(0, 4, (2, 3, 3, 3))
    soft = torch.nn.functional.one_hot(target, 4).movedim(-1, 1).float()
    assert float(segmentation_loss(logits, soft)) == pytest.approx(float(segmentation_loss(logits, target)))


def test_soft_labels_match_the_formula() -> None:
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(2, 3, 4, 4, 4)), softmax(rng.normal(size=(2, 3, 4, 4, 4)))
    p = softmax(logits)
    ce = -(target * np.log(p)).sum(1).mean()
    sums = [(0, 2, 3, 4), 1e-5]
    both, sizes = (p * target).sum(sums[0]), (p**2).sum(sums[0]) + (target**2).sum(sums[0])
    expected = 0.5 * ce + 0.5 * (1 - (2 * both + 1e-5) / (sizes + 1e-5)).mean()
    found = segmentation_loss(torch.from_numpy(logits), torch.from_numpy(target))
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_ramp_constants() -> None:
    assert ramp(0, 40, 150) == pytest.approx(math.exp(-5))
    assert ramp(149, 40, 150) == ramp(0, 40, 150)
    assert ramp(20 * 150, 40, 150) == pytest.approx(math.exp(-1.25))
    assert ramp(6000, 40, 150) == ramp(9000, 40, 150) == 1
    assert ramp(5999, 40, 150) < 1
    assert ramp(0, 0, 150) == 1


def test_teacher_decay_constants() -> None:
    assert [round(ema_alpha(t, 0.99), 3) for t in range(3)] == [0, 0.5, 0.667]
    assert ema_alpha(98, 0.99) < 0.99
    assert ema_alpha(99, 0.99) == ema_alpha(5000, 0.99) == 0.99


def test_learning_rate_constants() -> None:
    step = Optim()
    assert [step.lr_at(t, 6000) for t in (0, 2499, 2500, 4999, 5000, 5999)] == pytest.approx(
        [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4]
    )
    poly = Optim(lr=1e-3, schedule="poly")
    assert poly.lr_at(3000, 6000) == pytest.approx(0.5359e-3, rel=1e-4)
    warm = Optim(lr=1e-3, schedule="cosine", warmup=20)
    assert [warm.lr_at(t, 100) for t in (0, 19, 20)] == pytest.approx([5e-5, 1e-3, 1e-3])
