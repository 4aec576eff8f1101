"""ICT against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfrbench.components.ssl.ict import Ict
from tests.support.ssl_steps import models_of, numbers, softmax, step_of, trained


@pytest.mark.parametrize(
    ("classes", "counts", "pairs"),
    [
        (2, (2, 2), [(2, 3)]),
        (5, (1, 1), [(1, 0)]),
        (2, (1, 3), [(1, 3), (2, 0)]),
        (3, (1, 4), [(1, 3), (2, 4)]),
    ],
)
def test_matches_the_formula_in_float64(
    classes: int, counts: tuple[int, int], pairs: list[tuple[int, int]]
) -> None:
    method = Ict(ramp_length=10, ramp_unit=5, alpha=0.7)
    models = models_of(method, classes)
    step = step_of(method, models, iteration=27, counts=counts)
    assert len(step.logits_l) == counts[0]
    assert len(step.logits_u) == 0  # no forward pass of what is not trained on
    loss = method.loss(step).item()

    shares = numbers(method.factors(torch.Generator().manual_seed(5), len(pairs), torch.device("cpu")))
    errors = []
    for (one, other), share in zip(pairs, shares, strict=True):
        a, b = step.images[one : one + 1], step.images[other : other + 1]
        target = (1 - share) * softmax(numbers(models.teacher(a))) + share * softmax(
            numbers(models.teacher(b))
        )
        mixed = torch.from_numpy((1 - share) * numbers(a) + share * numbers(b))
        errors.append((softmax(numbers(models.student(mixed))) - target) ** 2)
    weight = 0.1 * np.exp(-5 * (1 - 5 / 10) ** 2)
    assert loss == pytest.approx(weight * np.mean(errors), rel=1e-5)


def test_trains_the_student_only_and_from_the_images_of_its_partner_too() -> None:
    method = Ict()
    models = models_of(method, 2, double=False)
    step = step_of(method, models, counts=(1, 1))
    method.loss(step).backward()
    assert trained(models.student)
    assert all(part.grad is None for part in models.teacher.parameters())


def test_factors_are_of_the_beta_distribution_and_come_from_the_step() -> None:
    method, device = Ict(), torch.device("cpu")
    draws = method.factors(torch.Generator().manual_seed(1), 4000, device)
    assert draws.shape == (4000, 1, 1, 1, 1)
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)).
    assert draws.mean().item() == pytest.approx(0.5, abs=0.03)
    assert draws.var().item() == pytest.approx(1 / (4 * 1.4), rel=0.05)
    again = method.factors(torch.Generator().manual_seed(1), 4000, device)
    assert torch.equal(draws, again)
