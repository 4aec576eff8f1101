"""URPC against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from sfrbench.components.backbone.unet3d import UNet3d
from sfrbench.components.base import Backbone
from sfrbench.components.ssl.urpc import Urpc
from sfrbench.errors import InputError
from sfrbench.stages.retrain.models import Maker
from tests.support.ssl_steps import TINY, models_of, numbers, softmax, step_of, trained

UNET = UNet3d(filters=2, dropout=0)


@pytest.mark.parametrize(
    ("classes", "counts", "backbone"), [(2, (2, 2), TINY), (5, (1, 1), TINY), (3, (1, 2), UNET)]
)
def test_matches_the_formula_in_float64(classes: int, counts: tuple[int, int], backbone: Backbone) -> None:
    method = Urpc(ramp_length=10, ramp_unit=5)
    models = models_of(method, classes, backbone)
    with torch.no_grad():  # stronger than at random, so that the levels differ
        for head in models.networks["heads"].heads:
            head.weight.mul_(4)
    step = step_of(method, models, iteration=27, counts=counts)
    outputs = [softmax(numbers(output)) for output in method.outputs(step)]
    loss = method.loss(step).item()

    assert np.allclose(outputs[0], softmax(numbers(models.student(step.images))), atol=1e-7)
    scales = models.student.decode_scales(models.student.encode(step.images))
    probs = [outputs[0]]
    for index, head in enumerate(models.networks["heads"].heads):
        maps, weight, bias = (numbers(part) for part in (scales[index + 1], head.weight, head.bias))
        logits = np.einsum("bcxyz,kc->bkxyz", maps, weight[:, :, 0, 0, 0]) + bias.reshape(-1, 1, 1, 1)
        enlarged = functional.interpolate(
            torch.from_numpy(logits), scale_factor=2 ** (index + 1), mode="trilinear", align_corners=False
        )
        probs.append(softmax(enlarged.numpy()))
        assert np.allclose(outputs[index + 1], probs[-1], atol=1e-6)
    probs = [part[counts[0] :] for part in probs]
    mean, total = np.mean(probs, 0), 0.0
    for part in probs:
        kl = (mean * (np.log(mean) - np.log(part))).sum(1, keepdims=True)
        total += ((mean - part) ** 2 * np.exp(-kl)).mean() / (np.exp(-kl).mean() + 1e-8) + kl.mean()
    assert loss == pytest.approx(0.1 * np.exp(-5 * (1 - 5 / 10) ** 2) * total / 4, rel=1e-5)


def test_trains_student_and_heads_in_one_pass() -> None:
    method = Urpc()
    models = models_of(method, 2, double=False)
    step = step_of(method, models, counts=(1, 1))
    assert [output.shape for output in method.outputs(step)] == [(2, 2, 32, 16, 16)] * 4
    assert method.outputs(step)[1] is method.outputs(step)[1]
    method.loss(step).backward()
    assert method.combine == "mean"
    assert trained(models.networks["heads"])
    assert [name for name, part in models.student.named_parameters() if part.grad is None] == []


def test_finite_where_levels_are_sure_of_different_classes() -> None:
    method = Urpc(ramp_length=0)
    models = models_of(method, 2, double=False)
    with torch.no_grad():
        models.student.head.bias.copy_(torch.tensor([500.0, -500.0]))
        models.networks["heads"].heads[0].bias.copy_(torch.tensor([-500.0, 500.0]))
    loss = method.loss(step_of(method, models, counts=(1, 1)))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(part.grad).all() for part in models.networks["heads"].parameters())


def test_a_network_without_scales_is_named() -> None:
    with pytest.raises(InputError, match="decode_scales of Conv3d"):
        Urpc().networks(Maker(TINY, torch.nn.Conv3d(1, 2, 1), 2, (32, 16, 16)))


def test_weights_of_the_heads_survive_a_checkpoint() -> None:
    method = Urpc()
    one, other = (models_of(method, 3, double=False).networks["heads"] for _ in range(2))
    with torch.no_grad():
        one.heads[1].weight.fill_(0.5)
    other.load_state_dict(one.state_dict())
    assert (other.heads[1].weight == 0.5).all()
