"""CPS against its formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sfrbench.components.ssl.cps import Cps
from tests.support.ssl_steps import models_of, numbers, softmax, step_of, trained


@pytest.mark.parametrize(("classes", "counts"), [(2, (2, 2)), (5, (1, 1))])
def test_matches_the_formula_in_float64(classes: int, counts: tuple[int, int]) -> None:
    method = Cps(ramp_length=10, ramp_unit=5)
    models = models_of(method, classes)
    step = step_of(method, models, iteration=27, counts=counts)
    outputs = method.outputs(step)
    loss = method.loss(step).item()

    second: Any = models.networks["second"]
    one, two = (softmax(numbers(network(step.images))) for network in (models.student, second))
    assert np.allclose(softmax(numbers(outputs[0])), one, atol=1e-7)
    assert np.allclose(softmax(numbers(outputs[1])), two, atol=1e-7)
    one, two = one[counts[0] :], two[counts[0] :]

    def cross_entropy(probs: np.ndarray, labels: np.ndarray) -> float:
        return -np.log(np.take_along_axis(probs, labels[:, None], 1)).mean()

    value = cross_entropy(one, two.argmax(1)) + cross_entropy(two, one.argmax(1))
    assert loss == pytest.approx(0.1 * np.exp(-5 * (1 - 5 / 10) ** 2) * value, rel=1e-5)


def test_trains_both_networks_with_one_pass_of_each() -> None:
    method = Cps()
    models = models_of(method, 2, double=False)
    second: Any = models.networks["second"]
    calls: list[int] = []
    second.encoder[0].register_forward_hook(lambda *_: calls.append(1))
    step = step_of(method, models, counts=(1, 1))
    assert len(method.outputs(step)) == 2
    method.loss(step).backward()
    assert len(calls) == 1
    assert trained(models.student)
    assert trained(second)
    assert method.combine == "sum"


def test_second_network_starts_elsewhere_by_the_rule_of_xavier() -> None:
    models = models_of(Cps(), 2, double=False)
    convs = [part for part in models.networks["second"].modules() if isinstance(part, nn.Conv3d)]
    widest = max(convs, key=lambda conv: conv.weight.numel())
    outside, inside = widest.weight.shape[:2]
    assert widest.weight.std().item() == pytest.approx((2 / (27 * (inside + outside))) ** 0.5, rel=0.05)
    assert not torch.equal(convs[0].weight, next(models.student.parameters()))
    plain = models_of(Cps(second_init="backbone"), 2, double=False).networks["second"]
    # torch's own rule: uniform in +-1/sqrt(fan_in)
    convs = [part for part in plain.modules() if isinstance(part, nn.Conv3d)]
    assert max(conv.weight.abs().max() * conv.weight[0].numel() ** 0.5 for conv in convs) <= 1
