"""UA-MT against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfrbench.components.ssl.ua_mt import UaMt
from tests.support.ssl_steps import models_of, numbers, softmax, step_of, trained


@pytest.mark.parametrize(
    ("classes", "counts", "fields"),
    [
        (2, (2, 2), {}),
        (5, (1, 1), {}),
        (3, (2, 2), {"consistency_on": "all", "passes": 5, "certain_from": 0.9, "certain_to": 0.95}),
    ],
)
def test_matches_the_formula_in_float64(
    classes: int, counts: tuple[int, int], fields: dict[str, object]
) -> None:
    method = UaMt.model_validate({"steps": 100, "ramp_length": 10, "ramp_unit": 5, **fields})
    models = models_of(method, classes)
    # Sharper than at random, so that the mask has both values.
    with torch.no_grad():
        models.teacher.head.weight.mul_(6)
    step = step_of(method, models, iteration=27, counts=counts)
    loss = method.loss(step).item()

    first = 0 if fields.get("consistency_on") == "all" else counts[0]
    images = step.images[first:]
    rng = torch.Generator().manual_seed(5)

    def teacher(copies: int) -> np.ndarray:
        repeated = torch.cat([images] * copies)
        noise = torch.randn(repeated.shape, generator=rng).double() * 0.1
        return softmax(numbers(models.teacher(repeated + noise.clip(-0.2, 0.2))))

    target, passes, single = teacher(1), method.passes, []
    for count in [2] * (passes // 2) + [1] * (passes % 2):
        single += np.split(teacher(count), count)
    mean = np.mean(single, 0)
    entropy = -(mean * np.log(mean + 1e-6)).sum(1, keepdims=True)
    low, high = method.certain_from, method.certain_to
    mask = entropy < (low + (high - low) * np.exp(-5 * (1 - 0.27) ** 2)) * np.log(classes)
    assert 0 < mask.mean() < 1
    ours = softmax(numbers(models.student(images)))
    value = (mask * (ours - target) ** 2).sum() / (classes * mask.sum())
    assert loss == pytest.approx(0.1 * np.exp(-5 * (1 - 5 / 10) ** 2) * value, rel=1e-5)
    assert float(step.values["certain"]) == pytest.approx(mask.mean())


def test_trains_the_student_only() -> None:
    method = UaMt(steps=10)
    models = models_of(method, 2, double=False)
    method.loss(step_of(method, models, counts=(1, 1))).backward()
    assert trained(models.student)
    assert all(part.grad is None for part in models.teacher.parameters())


def test_nothing_certain_is_no_loss() -> None:
    method = UaMt(certain_from=0, certain_to=0)
    loss = method.loss(step_of(method, models_of(method, 2)))
    assert loss.item() == 0
    loss.backward()
