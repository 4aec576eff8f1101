"""The loss of ssl/newpart against its formula."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Ssl
from sfrbench.components.ssl.step import Step

CARD = Catalog.read([Path(__file__).parent / "registry"]).card("ssl", "newpart")


def made(**fields: float) -> Ssl:
    method = CARD.component(fields)
    assert isinstance(method, Ssl)
    return method


def a_step(iteration: int) -> Step:
    """One labelled and two unlabelled patches of three classes; the student is one convolution."""
    torch.manual_seed(0)
    student = torch.nn.Conv3d(1, 3, 1)
    images = torch.randn(3, 1, 4, 4, 4)
    logits, labels = student(images), torch.zeros(1, 4, 4, 4, dtype=torch.long)
    rng = torch.Generator().manual_seed(1)
    return Step(student, None, {}, images, labels, logits[:1], logits[1:], None, iteration, 6000, 3, rng)


def softmax(logits: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    exps = np.exp(logits.detach().double().numpy())
    return np.asarray(exps / exps.sum(1, keepdims=True))


def test_the_loss_is_that_of_the_formula() -> None:
    step = a_step(iteration=3000)
    draw = torch.randn(step.images_u.shape, generator=torch.Generator().manual_seed(1))
    noisy = softmax(step.student(step.images_u + (0.1 * draw).clamp(-0.2, 0.2)))
    plain = softmax(step.logits_u)
    weights = plain.max(1) ** 2
    wanted = (weights * ((noisy - plain) ** 2).mean(1)).sum() / weights.sum()
    ramp = math.exp(-5 * (1 - 20 / 40) ** 2)  # 20 of 40 units of 150 steps
    np.testing.assert_allclose(made(lambda_cons=0.5).loss(step).item(), 0.5 * ramp * wanted, rtol=1e-4)


def test_without_noise_there_is_no_loss() -> None:
    assert made(noise=0).loss(a_step(iteration=6000)).item() == 0


def test_its_gradient_reaches_the_student() -> None:
    step = a_step(iteration=6000)
    (gradient,) = torch.autograd.grad(made().loss(step), [step.student.get_parameter("weight")])
    assert gradient.abs().max() > 0
