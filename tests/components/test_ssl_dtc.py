"""DTC: distance maps by brute force, one step against the formula."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sfrbench.catalog.cards import Catalog
from sfrbench.components.backbone.interface import in_parts
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.ssl._sdf import signed_distances
from sfrbench.components.ssl.dtc import Dtc
from sfrbench.engine.context import StageContext
from sfrbench.stages.retrain.run import training_step
from tests.support.ssl_steps import (
    SIDES,
    after_reload,
    batch_of,
    gradients,
    models_of,
    numbers,
    softmax,
    step_of,
)


def distances_by_hand(mask: Any) -> Any:
    """Nearest voxel of the other side, by trying all."""
    points = np.array(list(np.ndindex(mask.shape)))
    flat = mask.ravel()
    steps = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    to_other = np.array([steps[n][flat != flat[n]].min() for n in range(len(flat))])
    out = np.where(flat, -to_other / to_other[flat].max(), to_other / to_other[~flat].max())
    out[flat & (to_other == 1)] = 0
    return out.reshape(mask.shape)


def test_signed_distances_match_brute_force() -> None:
    labels = np.zeros((2, 7, 6, 5), np.int64)
    labels[0, 1:6, 1:5, 0:4] = 1
    labels[0, 2, 2, 2] = 2
    labels[1] = 2
    found = signed_distances(labels, 4, 1.0)
    assert found.shape == (2, 3, 7, 6, 5)
    assert found.dtype == np.float32
    for k in (1, 2):
        assert found[0, k - 1] == pytest.approx(distances_by_hand(labels[0] == k), abs=1e-6)
    assert (found[0, 2] == 1).all()  # absent
    assert (found[1, 1] == -1).all()  # nothing else
    assert (found[1, 0] == 1).all()


@pytest.mark.parametrize("classes", [2, 5])
def test_the_whole_loss_of_a_step_matches_the_formula(classes: int, tmp_path: Path) -> None:
    """L of the loop: Dice of the foreground, the distances, and lambda times the consistency, once."""
    dtc = Dtc.model_validate({"ramp_length": 10, "ramp_unit": 5, "steepness": 3.0})
    made = models_of(dtc, classes)
    images, labels = step_of(dtc, made).images, torch.zeros((2, *SIDES), dtype=torch.int64)
    labels[0, 4:20, 3:12, 2:9] = 1
    labels[1, 9:13, 5:6, 4:14] = classes - 1
    ctx = StageContext({}, SimpleNamespace(first_iteration=0), {}, 1, tmp_path, tmp_path)
    loss = training_step(ctx, dtc, made, batch_of(dtc, images, labels, classes), 27).loss

    head: Any = made.networks["sdf"]
    maps = numbers(in_parts(made.student).features(images))
    kernel = numbers(head.weight)[:, :, 0, 0, 0]
    d = np.tanh(np.einsum("fc,bcxyz->bfxyz", kernel, maps) + numbers(head.bias)[:, None, None, None])
    true = signed_distances(labels.numpy(), classes, 0.0)
    p = softmax(numbers(made.student(images)))[:, 1:]
    y = np.stack([labels.numpy() == k for k in range(1, classes)], 1)
    axes = (0, 2, 3, 4)
    both, sizes = (p[:2] * y).sum(axes), (p[:2] ** 2).sum(axes) + y.sum(axes)
    expected = np.mean(1 - (2 * both + 1e-5) / (sizes + 1e-5))
    weight = np.exp(-5 * (1 - 5 / 10) ** 2)
    expected += 0.3 * ((d[:2] - true) ** 2).mean() + weight * ((1 / (1 + np.exp(3 * d)) - p) ** 2).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_student_and_head_are_trained_with_one_patch_of_each() -> None:
    dtc = Dtc()
    made = models_of(dtc, backbone=VNet(filters=2, norm="none", precision="bf16"), double=False)
    loss = dtc.loss(step_of(dtc, made, counts=(1, 1)))
    loss.backward()
    assert torch.isfinite(loss)
    assert gradients(made) == {"student": True, "sdf": True}


def test_the_head_comes_back_from_its_state() -> None:
    one, two = after_reload(Dtc())
    assert one == two


def test_card_holds_the_numbers_of_the_source() -> None:
    card = Catalog.read().card("ssl", "dtc")
    made = card.component({})
    assert isinstance(made, Dtc)
    assert (made.lambda_cons, made.ramp_length, made.ramp_unit, made.steps) == (1.0, 40, 150, 6000)
    assert (made.sdf_weight, made.steepness, made.sup_ce, made.absent) == (0.3, 1500, 0, 0)
    assert (made.sup_dice, made.sup_dice_square, made.sup_dice_eps) == ("foreground", True, 1e-5)
    assert (made.optim.schedule, made.optim.step_every, made.batch_labeled) == ("step", 2500, 2)
    student = VNet().build(2)
    head = made.networks(type("Maker", (), {"student": student, "classes": 2})())  # type: ignore[arg-type]
    total = sum(p.numel() for net in (student, *head.values()) for p in net.parameters())
    assert total == card.figures["training_parameters"]
