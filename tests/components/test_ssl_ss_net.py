"""SS-Net: adversarial noise and contrast with the memory, each against a plain formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sfrbench.catalog.cards import Catalog
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.ssl._ss_net import Contrast
from sfrbench.components.ssl.ss_net import SsNet
from tests.components.ssl_steps import after_reload, gradients, models_of, numbers, softmax, step_of


def batch_mlp(layers: Any, x: Any, running: bool = False) -> Any:
    """Linear, batch norm, (leaky) ReLU, linear."""
    first, norm, leaky, last = layers
    x = x @ numbers(first.weight).T + numbers(first.bias)
    mean, var = (numbers(norm.running_mean), numbers(norm.running_var)) if running else (x.mean(0), x.var(0))
    x = (x - mean) / np.sqrt(var + norm.eps) * numbers(norm.weight) + numbers(norm.bias)
    return np.where(x > 0, x, leaky.negative_slope * x) @ numbers(last.weight).T + numbers(last.bias)


def contrasted(module: Contrast, memory: dict[int, Any], rows: Any, labels: Any) -> float:
    """Every feature with every prototype, one class after the other."""
    predicted = batch_mlp(module.predict, batch_mlp(module.project, rows))
    total = 0.0
    for k, known in memory.items():
        mine = predicted[labels == k]
        if len(mine) < 2 or len(known) < 2:
            continue
        weights = 1 / (1 + np.exp(-batch_mlp(module.select[k - 1], mine)))
        weights *= len(weights) / weights.sum()
        near = (mine / np.linalg.norm(mine, axis=1)[:, None]) @ (
            known / np.linalg.norm(known, axis=1)[:, None]
        ).T
        total += (weights * (1 - near)).mean()
    return total / (len(module.select) + 1)


def remembered(module: Contrast, rows: Any, labels: Any, size: int) -> dict[int, Any]:
    out = {}
    projected = batch_mlp(module.project, rows, running=True)
    for k in range(1, len(module.select) + 1):
        mine = projected[labels == k]
        if len(mine) > size:
            mine = mine[np.argsort(batch_mlp(module.select[k - 1], mine)[:, 0], kind="stable")[:size]]
        out[k] = mine
    return out


def dice(p: Any, q: Any) -> float:
    return float(1 - (2 * (p * q).sum() + 1e-8) / (p.sum() + q.sum() + 1e-8))


@pytest.mark.parametrize("classes", [2, 5])
def test_contrast_matches_a_plain_loop(classes: int) -> None:
    torch.manual_seed(0)
    module = Contrast(4, classes, 6, 8, False).double()
    rows = torch.randn(200, 4).double()
    labels = torch.randint(0, classes, (200,))
    labels[:3] = classes - 1
    labels[(labels == classes - 1) & (torch.arange(200) > 3)] = 0  # three voxels: fewer than the memory holds
    memory = remembered(module, numbers(rows), labels.numpy(), 8)
    module.remember(rows, labels)
    for k, known in memory.items():
        assert int(module.filled[k - 1]) == len(known) == min(8, int((labels == k).sum()))
        assert numbers(module.memory[k - 1, : len(known)]) == pytest.approx(known, rel=1e-9)
    other = torch.randn(150, 4).double()
    theirs = torch.randint(0, classes, (150,))
    expected = contrasted(module, memory, numbers(other), theirs.numpy())
    assert expected > 0.1
    assert module.distance(other, theirs).item() == pytest.approx(expected, rel=1e-9)


def test_memory_keeps_the_highest_on_request() -> None:
    torch.manual_seed(0)
    lowest, highest = (Contrast(4, 2, 6, 8, flag).double() for flag in (False, True))
    highest.load_state_dict(lowest.state_dict())
    rows, labels = torch.randn(16, 4).double(), torch.ones(16, dtype=torch.long)
    for module in (lowest, highest):
        module.remember(rows, labels)
    both = torch.cat([lowest.memory[0], highest.memory[0]])
    assert len(both.unique(dim=0)) == 16


def test_without_memory_the_contrast_is_zero() -> None:
    module = Contrast(4, 3, 6, 8, False)
    rows = torch.randn(20, 4)
    module.remember(rows[:0], torch.zeros(0, dtype=torch.long))
    assert module.distance(rows, torch.ones(20, dtype=torch.long)).item() == 0


@pytest.mark.parametrize("classes", [2, 5])
def test_step_matches_the_formula(classes: int) -> None:
    method = SsNet.model_validate(
        {"lambda_cons": 1, "ramp_length": 10, "ramp_unit": 5, "radius": 3, "memory": 8}
    )
    made = models_of(method, classes, VNet(filters=4, norm="instance", dropout=False))
    step = step_of(method, made, 27, seed=4)
    module: Any = made.networks["contrast"]
    assert step.features is not None
    rows = numbers(step.features).transpose(0, 2, 3, 4, 1).reshape(-1, 4)
    p = softmax(numbers(step.logits))
    seen, labels = p.argmax(1).ravel(), step.labels.numpy().ravel()
    right = (seen[: len(labels)] == labels) & (labels > 0)
    memory = remembered(module, rows[: len(labels)][right], labels[right], 8)
    near = contrasted(module, memory, rows[: len(labels)], labels)
    near += contrasted(module, memory, rows[len(labels) :], seen[len(labels) :])
    assert near > 0
    loss = method.loss(step)

    # the adversarial direction, by a backward pass in place of torch.autograd.grad
    d = torch.rand(step.images.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64) - 0.5
    d = (d / d.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1, 1)).requires_grad_()
    q = made.student(step.images + 10 * d).softmax(1)
    given = torch.from_numpy(p)
    (1 - 2 * (q * given).sum() / (q.sum() + given.sum())).backward()
    assert d.grad is not None
    worst = numbers(d.grad)
    worst /= np.sqrt((worst**2).sum((1, 2, 3, 4), keepdims=True)) + 1e-8
    moved = softmax(numbers(made.student(step.images + 3 * torch.from_numpy(worst))))
    expected = np.exp(-5 * (1 - 5 / 10) ** 2) * (dice(moved, p) + 0.1 * near)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_adversarial_noise_hurts_more_than_random_noise() -> None:
    method = SsNet(radius=10)
    made = models_of(method, double=False)
    step = step_of(method, made)
    method.loss(step)
    vat = torch.as_tensor(step.values["vat"])
    noise = torch.randn(step.images.shape, generator=torch.Generator().manual_seed(0))
    noise *= 10 / noise.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1, 1)
    p = softmax(numbers(step.logits))
    assert numbers(vat) > dice(softmax(numbers(made.student(step.images + noise))), p)


def test_running_statistics_stay_and_gradients_arrive() -> None:
    method = SsNet()
    made = models_of(method, backbone=VNet(filters=2, norm="batch", precision="bf16"), double=False)
    step = step_of(method, made, counts=(1, 1))
    student: Any = made.student
    before = {name: value.clone() for name, value in student.state_dict().items()}
    loss = method.loss(step)
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    loss.backward()
    assert torch.isfinite(loss)
    assert gradients(made) == {"student": True, "contrast": True}
    assert all(layer.track_running_stats for layer in student.modules() if isinstance(layer, nn.BatchNorm3d))


def test_memory_is_part_of_the_state() -> None:
    method = SsNet()
    made = models_of(method, double=False)
    method.loss(step_of(method, made))
    state = made.networks["contrast"].state_dict()
    assert int(state["filled"].sum()) > 0
    one, two = after_reload(method)
    assert one == two


def test_card_holds_the_numbers_of_the_source() -> None:
    made = Catalog.read().card("ssl", "ss_net").component({})
    assert isinstance(made, SsNet)
    assert (made.lambda_cons, made.ramp_length, made.ramp_unit) == (1, 40, 150)
    assert (made.radius, made.probe, made.contrast_weight, made.width, made.memory) == (10, 10, 0.1, 32, 32)
    assert (made.sup_ce, made.sup_dice, made.sup_dice_square, made.sup_dice_eps) == (
        0,
        "foreground",
        False,
        1e-8,
    )
