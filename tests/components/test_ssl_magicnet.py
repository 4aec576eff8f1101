"""MagicNet against its formula."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sfrbench.catalog.cards import Catalog
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.backbone.vnet_magic import VNetMagic
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.components.ssl._cubes import ClassCounts, cut, exchange, join
from sfrbench.components.ssl.magicnet import MagicNet
from sfrbench.components.ssl.step import Step
from sfrbench.stages.retrain.data import Batch
from sfrbench.stages.retrain.models import Models
from sfrbench.stages.retrain.run import training_step
from tests.support.ssl_steps import models_of, numbers, softmax, step_of, trained

SIDES = (32, 32, 16)
GRID = {"cubes_per_side": (2, 1, 1), "ramp_length": 10, "ramp_unit": 5}


def dice(logits: Any, labels: Any) -> float:
    probs = softmax(logits)
    truth = np.stack([labels == c for c in range(probs.shape[1])], 1).astype(float)
    axes = (0, 2, 3, 4)
    both, sizes = (probs * truth).sum(axes), (probs**2).sum(axes) + (truth**2).sum(axes)
    return float(np.mean(1 - (2 * both + 1e-5) / (sizes + 1e-5)))


def expected(step: Step, models: Models, blend: bool, local: bool) -> tuple[float, Any]:
    """L_method in float64 for a grid of 2, 1, 1 cubes, weights 0.1, and the pseudo-labels."""
    student, count, labelled = models.student, len(step.images), len(step.labels)
    rng = torch.Generator().manual_seed(5)
    order = torch.rand((count, 2), generator=rng).argsort(0)
    noise = torch.randn(step.images_u.shape, generator=rng)
    noisy = step.images_u + (noise * 0.1).clamp(-0.2, 0.2)
    halves = [step.images[:, :, :16], step.images[:, :, 16:]]

    mixed = student.features(torch.cat([half[order[:, n]] for n, half in enumerate(halves)], 2))
    back = torch.empty_like(mixed)
    for n, place in enumerate((slice(0, 16), slice(16, 32))):
        back[order[:, n], :, place] = mixed[:, :, place]
    cross = numbers(student.head(back))

    encoded = [student.encode(half) for half in halves]
    local_logits = numbers(student.head(torch.cat([student.decode(maps) for maps in encoded], 2)))
    location = 0.0
    for image in range(count):
        vectors = torch.stack([maps[-1][image] for maps in encoded])
        scores = numbers(copy.deepcopy(models.networks["location"])(vectors))
        location -= float(np.log(softmax(scores))[[0, 1], [0, 1]].mean()) / count

    teacher = numbers(models.teacher(noisy))
    own = local_logits[labelled:]
    if blend:
        share = np.array([8, 4, 2, 1, 0])[: step.classes] / 8
        omega = share[teacher.argmax(1)][:, None]
        teacher = (1 - omega) * teacher + omega * own
    labels = numbers(step.labels)
    supervised = dice(cross[:labelled], labels)
    parts = 4 if local else 3
    if local:
        supervised += dice(local_logits[:labelled], labels)
    weight = 0.1 * np.exp(-5 * (1 - 5 / 10) ** 2)
    total = supervised / parts + 0.1 * location + weight * dice(cross[labelled:], teacher.argmax(1))
    return total, teacher.argmax(1)


@pytest.mark.parametrize(
    ("classes", "counts", "settings", "iteration"),
    [
        (2, (2, 2), {"blend": False}, 27),
        (5, (1, 1), {"blend_after": 20}, 27),
        (5, (2, 1), {"blend_after": 27}, 27),  # not yet after
        (2, (1, 2), {"blend_after": 20, "local_from": "full_weight"}, 27),
    ],
)
def test_matches_the_formula_in_float64(
    classes: int, counts: tuple[int, int], settings: dict[str, Any], iteration: int
) -> None:
    method = MagicNet.model_validate({**GRID, **settings})
    models = models_of(method, classes, sides=SIDES)
    counter = models.networks.get("counts")
    assert (counter is not None) == method.blend
    if isinstance(counter, ClassCounts):
        counter.counts.copy_(torch.tensor([8, 4, 2, 1, 0])[:classes])
    step = step_of(method, models, iteration, counts, SIDES)
    local, blend = method.local_from == "start", method.blend and iteration > method.blend_after
    value, labels = expected(step, models, blend, local)
    assert method.loss(step).item() == pytest.approx(value, rel=1e-5)
    assert method.supervised_weight(step) == pytest.approx(2 / 4 if local else 2 / 3)
    if isinstance(counter, ClassCounts):
        assert counter.pending.tolist() == np.bincount(labels.ravel(), minlength=classes).tolist()


def test_the_loop_takes_the_mean_of_four_supervised_terms() -> None:
    method = MagicNet.model_validate({**GRID, "blend": False, "w_location": 0, "lambda_cons": 0})
    models = models_of(method, 3, sides=SIDES)
    step = step_of(method, models, 0, (1, 1), SIDES)
    batch = Batch(step.images, step.labels, None)
    ctx: Any = SimpleNamespace(
        device=torch.device("cpu"), seed=0, settings=SimpleNamespace(first_iteration=0)
    )
    result = training_step(ctx, method, models, batch, 0)
    logits = numbers(models.student(step.images_l))
    ce = -np.log(np.take_along_axis(softmax(logits), numbers(step.labels).astype(int)[:, None], 1)).mean()
    plain = ce + dice(logits, numbers(step.labels))
    assert result.loss.item() == pytest.approx(plain / 4 + result.values["method"].item(), rel=1e-5)


def test_cubes_are_numbered_from_x_and_return_to_their_place() -> None:
    volumes = torch.arange(2 * 3 * 4 * 6 * 2).reshape(2, 3, 4, 6, 2)
    cubes = cut(volumes, (2, 3, 1))
    assert cubes.shape == (2, 6, 3, 2, 2, 2)
    for x in range(2):
        for y in range(3):
            there = volumes[:, :, 2 * x : 2 * x + 2, 2 * y : 2 * y + 2]
            assert torch.equal(cubes[:, x + 2 * y], there)
    assert torch.equal(join(cubes, (2, 3, 1)), volumes)
    order = torch.rand(2, 6).argsort(0)
    assert torch.equal(exchange(exchange(volumes, order, (2, 3, 1)), order.argsort(0), (2, 3, 1)), volumes)


def test_frequencies_are_those_of_the_last_full_period() -> None:
    counts = ClassCounts(3)
    assert counts.share(1.0).tolist() == [0, 0, 0]
    counts.add(torch.tensor([0, 0, 0, 0, 1]), refresh=False)
    assert counts.share(1.0).tolist() == [0, 0, 0]
    counts.add(torch.tensor([[2, 2]]), refresh=True)
    assert counts.share(1.0).tolist() == [1, 0.25, 0.5]
    assert counts.share(2.0).tolist() == pytest.approx([1, 0.5, 0.5**0.5])
    counts.add(torch.tensor([1]), refresh=True)
    assert counts.share(1.0).tolist() == [0, 1, 0]


def test_trains_the_student_and_the_location_head_and_not_the_teacher() -> None:
    method = MagicNet.model_validate({**GRID, "blend_after": 0})
    models = models_of(method, 2, double=False, sides=SIDES)
    step = step_of(method, models, 30, (1, 1), SIDES)
    method.loss(step).backward()
    assert trained(models.student)
    assert trained(models.networks["location"])
    assert all(part.grad is None for part in models.teacher.parameters())
    assert not list(models.networks["counts"].parameters())


def test_own_networks_go_on_from_their_state() -> None:
    method = MagicNet.model_validate(GRID)
    models, others = (models_of(method, 3, double=False, sides=SIDES) for _ in range(2))
    method.loss(step_of(method, models, 0, (1, 1), SIDES))
    for name, network in models.networks.items():
        others.networks[name].load_state_dict(network.state_dict())
    values = [method.loss(step_of(method, some, 200, (1, 1), SIDES)).item() for some in (models, others)]
    assert values[0] == values[1]
    assert models.networks["counts"].counts.sum() == 32 * 32 * 16


def test_the_head_of_the_source_for_its_cubes() -> None:
    with torch.device("meta"):
        head = models_of(MagicNet(), 14, VNetMagic(), double=False, sides=(96, 96, 96)).networks["location"]
    assert sum(part.numel() for part in head.parameters()) == 8_511_515


def test_patches_and_cubes_that_do_not_fit_are_refused_with_what_would() -> None:
    dataset = Phantom(patch=(64, 64, 32))
    cell = {"dataset": dataset, "backbone": VNet(norm="instance")}
    (reason,) = MagicNet().conflicts(cell)
    assert "[64, 64, 32] voxels does not divide into [3, 3, 3]" in reason
    assert "[1, 2, 4], [1, 2, 4], [1, 2] along x, y, z" in reason
    assert MagicNet(cubes_per_side=(2, 2, 1)).conflicts(cell) == []
    (reason,) = MagicNet(cubes_per_side=(4, 4, 2)).conflicts(cell)
    assert "cubes of [16, 16, 16]" in reason  # one voxel at the bottleneck, under instance norm
    assert MagicNet(cubes_per_side=(4, 4, 2)).conflicts({**cell, "backbone": VNet(norm="none")}) == []
    (reason,) = MagicNet(cubes_per_side=(8, 1, 1)).conflicts(cell)
    assert "multiple of 16" in reason
    with pytest.raises(ValueError, match="two cubes"):
        MagicNet(cubes_per_side=(1, 1, 1))


def test_works_in_bfloat16() -> None:
    backbone = VNet.model_validate({"filters": 2, "norm": "instance", "dropout": False, "precision": "bf16"})
    method = MagicNet.model_validate({**GRID, "blend_after": 0})
    models = models_of(method, 2, backbone, double=False, sides=SIDES)
    loss = method.loss(step_of(method, models, 3, (1, 1), SIDES))
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert trained(models.student)


def test_the_loss_falls() -> None:
    method = MagicNet(cubes_per_side=(2, 2, 1), blend=False, ramp_length=0)
    backbone = VNet(filters=2, norm="none", dropout=False)  # cubes of 16 have one voxel at the bottleneck
    models = models_of(method, 2, backbone, double=False, sides=SIDES)
    optimiser = torch.optim.SGD(models.parameters(), 0.1)
    losses = []
    for _ in range(3):
        loss = method.loss(step_of(method, models, 0, (1, 1), SIDES))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_cards_are_the_two_scripts() -> None:
    btcv, mact = (Catalog.read().card("ssl", name).component({}) for name in ("magicnet", "magicnet_mact"))
    assert isinstance(btcv, MagicNet)
    assert isinstance(mact, MagicNet)
    assert (btcv.lambda_cons, btcv.local_from, btcv.blend, btcv.w_location) == (0.1, "start", True, 0.1)
    assert (mact.lambda_cons, mact.local_from, mact.blend, mact.w_location) == (
        0.2,
        "full_weight",
        False,
        0.1,
    )
    assert (btcv.blend_after, btcv.blend_every, btcv.blend_temperature) == (100, 20, 1)
    # the share of the training after which the ramp has ended, and Dice of cubes begins
    assert btcv.ramp_length * btcv.ramp_unit / btcv.steps == 200 * 350 / 70000
    assert mact.ramp_length * mact.ramp_unit / mact.steps == 40 * 300 / 30000
