"""nnU-Net's own recipe: constants of its trainer, its loss in float64, and what stands in keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Optim, Ssl
from sfrbench.components.ssl._supervised import supervised_loss
from sfrbench.engine.training import make_optimiser
from sfrbench.maths.losses import DiceForm, dice
from tests.support.ssl_steps import softmax


def recipe(**fields: Any) -> Ssl:
    made = Catalog.read().card("ssl", "supervised_nnunet").component(fields)
    assert isinstance(made, Ssl)
    return made


def test_the_trainers_constants() -> None:
    made = recipe()
    assert (made.steps, made.batch_labeled, made.foreground) == (1000 * 250, 2, 0.33)
    assert made.steps * made.batch_labeled / (6000 * 4) == pytest.approx(20.8, abs=0.05)
    assert made.optim == Optim(
        lr=1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5, schedule="poly", hold=250, clip=12
    )


@pytest.mark.parametrize(("epoch", "rate"), [(0, 1e-2), (500, 0.0053589), (999, 1.99526e-5)])
def test_the_rate_is_held_for_an_epoch(epoch: int, rate: float) -> None:
    made = recipe()
    (found,) = {made.optim.lr_at(250 * epoch + step, made.steps) for step in (0, 99, 249)}
    assert found == pytest.approx(rate, rel=1e-5)
    assert found == pytest.approx(0.01 * (1 - epoch / 1000) ** 0.9, rel=1e-12)


def test_a_rate_is_held_behind_the_warm_up() -> None:
    held = Optim(lr=1.0, schedule="cosine", warmup=10, hold=20)
    assert [held.lr_at(step, 110) for step in (4, 9, 10, 29)] == [0.5, 1, 1, 1]
    assert held.lr_at(30, 110) == held.lr_at(49, 110) == pytest.approx(0.5 * (1 + np.cos(0.2 * np.pi)))


def test_nesterov_is_that_of_sutskever() -> None:
    """Two steps on f(w) = w^2 / 2 with momentum m: v = m v + g, w = w - lr (g + m v)."""
    optim = Optim(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0)
    weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimiser = make_optimiser(optim, [weight])
    at, speed = 1.0, 0.0
    for _ in range(3):
        optimiser.zero_grad()
        (weight.square().sum() / 2).backward()
        optimiser.step()
        speed = 0.9 * speed + at
        at -= 0.1 * (at + 0.9 * speed)
    assert weight.item() == pytest.approx(at, rel=1e-12)


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a momentum above 0"):
        Optim(nesterov=True, momentum=0)
    assert Optim(nesterov=True, momentum=0, optimiser="adamw").nesterov  # as a profile may make of a card


@pytest.mark.parametrize("classes", [2, 4])
def test_the_loss_is_nnunets_but_for_a_constant(classes: int) -> None:
    """CE - mean over samples and foreground classes of (2 sum p y + 1e-5) / (sum p + sum y + 1e-5)."""
    rng = np.random.default_rng(classes)
    logits, labels = 2 * rng.normal(size=(3, classes, 6, 5, 4)), rng.integers(0, classes, (3, 6, 5, 4))
    labels[1] = 0  # a sample without foreground
    probs = softmax(logits)
    shares = []
    for sample in range(3):
        for label in range(1, classes):
            p, y = probs[sample, label], (labels[sample] == label).astype(float)
            shares.append((2 * (p * y).sum() + 1e-5) / (p.sum() + y.sum() + 1e-5))
    ce = -np.log(np.take_along_axis(probs, labels[:, None], 1)).mean()
    found = supervised_loss(recipe(), torch.from_numpy(logits), torch.from_numpy(labels))
    assert found.item() == pytest.approx(ce - np.mean(shares) + 1, rel=1e-12)


def test_dice_per_sample_differs_from_that_of_the_batch() -> None:
    probs = torch.tensor([[[0.1], [0.9]], [[0.6], [0.4]]], dtype=torch.float64)
    labels = torch.tensor([[1], [0]])
    own = DiceForm(foreground=True, square=False, eps=0)
    assert dice(probs, labels, own).item() == pytest.approx(1 - 1.8 / 2.3)
    apart = own._replace(per_sample=True)
    assert dice(probs, labels, apart).item() == pytest.approx(1 - (1.8 / 1.9 + 0) / 2)


def test_keys_hold_what_has_an_effect() -> None:
    key = recipe().key_settings()
    assert {"sup_dice_per", "sup_dice_weight", "foreground", "augment"} < key.keys()
    assert {"nesterov", "hold"} < key["optim"].keys()
    assert recipe(intensity_augment=True).key_settings() == key  # nnU-Net's augmentation has its own
