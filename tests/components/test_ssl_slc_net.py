"""SLC-Net: one step against the formula, and what the second network sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sfrbench.catalog.cards import Catalog
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.ssl.slc_net import SlcNet
from tests.support.ssl_steps import after_reload, gradients, models_of, numbers, softmax, step_of


def chosen(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-ln of the probability of a class, voxel by voxel."""
    return -np.take_along_axis(np.log(softmax(logits)), labels[:, None], 1)[:, 0]


@pytest.mark.parametrize("classes", [2, 5])
def test_step_matches_the_formula(classes: int) -> None:
    method = SlcNet.model_validate({"ramp_length": 10, "ramp_unit": 5, "passes": 4})
    made = models_of(method, classes, VNet(filters=2, norm="group", dropout=False))
    step = step_of(method, made, 27, seed=4)
    outputs = method.outputs(step)
    loss = method.loss(step)

    rng = torch.Generator().manual_seed(4)

    def noisy(images: torch.Tensor) -> torch.Tensor:
        return images + (torch.randn(images.shape, generator=rng) * 0.1).clamp(-0.05, 0.05).double()

    seen = torch.cat([noisy(step.images), torch.from_numpy(softmax(numbers(step.logits)))], 1)
    two = numbers(made.networks["second"](seen))
    assert numbers(outputs[1]) == pytest.approx(two, abs=1e-5)
    assert outputs[0].shape == outputs[1].shape == (4, classes, 32, 16, 16)
    one, two = numbers(step.logits_u), two[2:]
    passes = [numbers(made.student(noisy(step.images_u.repeat(2, 1, 1, 1, 1)))) for _ in range(2)]
    mean = sum(softmax(a[:2]) + softmax(a[2:]) for a in passes) / 4
    trust = np.exp((mean * np.log(mean + 1e-6)).sum(1))
    term = chosen(one, two.argmax(1)).mean() + (trust * chosen(two, one.argmax(1))).mean()
    expected = 0.1 * np.exp(-5 * (1 - 5 / 10) ** 2) * term
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_second_network_runs_once_a_step() -> None:
    method = SlcNet()
    made = models_of(method, double=False)
    step = step_of(method, made)
    calls: list[torch.Size] = []
    first: Any = made.networks["second"].encoder
    first[0].register_forward_hook(lambda _, seen, __: calls.append(seen[0].shape))
    method.outputs(step)
    method.loss(step)
    assert calls == [(4, 4, 32, 16, 16)]


def test_both_networks_are_trained_with_one_patch_of_each() -> None:
    method = SlcNet()
    made = models_of(method, backbone=VNet(filters=2, norm="none", precision="bf16"), double=False)
    loss = method.loss(step_of(method, made, counts=(1, 1)))
    loss.backward()
    assert torch.isfinite(loss)
    assert gradients(made) == {"student": True, "second": True}


def test_losses_of_the_second_network_reach_the_first() -> None:
    method = SlcNet()
    made = models_of(method, double=False)
    method.outputs(step_of(method, made))[1].sum().backward()
    assert gradients(made) == {"student": True, "second": True}


def test_the_second_network_comes_back_from_its_state() -> None:
    one, two = after_reload(SlcNet())
    assert one == two


def test_card_holds_the_numbers_of_the_source() -> None:
    made = Catalog.read().card("ssl", "slc_net").component({})
    assert isinstance(made, SlcNet)
    assert (made.lambda_cons, made.noise, made.noise_clamp, made.passes) == (0.1, 0.1, 0.05, 8)
