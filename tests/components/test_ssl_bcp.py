"""BCP against its formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from sfrbench.catalog.cards import Catalog
from sfrbench.components.ssl.bcp import Bcp, halves
from tests.components.ssl_steps import models_of, numbers, softmax, step_of, trained

SIDES = (32, 16, 16)
LENGTHS = (21, 10, 10)  # two thirds, cut off


def corner(seed: int = 5) -> list[int]:
    rng = torch.Generator().manual_seed(seed)
    return [
        int(torch.randint(side - length, (), generator=rng))
        for side, length in zip(SIDES, LENGTHS, strict=True)
    ]


def inside() -> Any:
    mask = np.zeros(SIDES, dtype=bool)
    x, y, z = corner()
    mask[x : x + 21, y : y + 10, z : z + 10] = True
    return mask


def region(logits: Any, labels: Any, where: Any) -> float:
    """Half of cross-entropy plus Dice, voxel by voxel in a list."""
    probs, classes = softmax(logits), logits.shape[1]
    ce = [
        -np.log(probs[n, labels[n][where], where.nonzero()[0], where.nonzero()[1], where.nonzero()[2]])
        for n in range(len(labels))
    ]
    dice = []
    for n in range(len(labels)):
        for c in range(classes):
            p, y = probs[n, c][where], (labels[n] == c)[where].astype(float)
            dice.append(1 - (2 * (p * y).sum() + 1e-5) / (p.sum() + y.sum() + 1e-5))
    return float((np.mean(ce) + np.mean(dice)) / 2)


def largest_parts(labels: Any, classes: int) -> Any:
    kept = np.zeros_like(labels)
    for n in range(len(labels)):
        for c in range(1, classes):
            parts, count = ndimage.label(labels[n] == c, np.ones((3, 3, 3)))
            sizes = [(parts == i).sum() for i in range(1, count + 1)]
            if sizes:
                kept[n][parts == 1 + int(np.argmax(sizes))] = c
    return kept


def mix(outer: Any, inner: Any) -> Any:
    return torch.from_numpy(np.where(inside(), inner, outer))


@pytest.mark.parametrize(
    ("classes", "counts", "pairs"),
    # indices of a, b among labelled and u, v among unlabelled patches
    [
        (2, (2, 2), ([0], [1], [0], [1])),
        (5, (1, 1), ([0], [0], [0], [0])),
        (3, (4, 4), ([0, 1], [2, 3], [0, 1], [2, 3])),
        (2, (1, 3), ([0, 0], [0, 0], [0, 1], [1, 2])),
    ],
)
def test_matches_the_formula_in_float64(
    classes: int, counts: tuple[int, int], pairs: tuple[list[int], ...]
) -> None:
    method = Bcp(steps=100, u_weight=0.3, pretrain=0.1)
    models = models_of(method, classes)
    step = step_of(method, models, iteration=11, counts=counts)
    assert len(step.logits) == 0  # no forward pass of plain patches
    loss = method.loss(step).item()

    a, b, u, v = pairs
    labels, images = (
        numbers(step.labels).astype(int),
        [numbers(part) for part in (step.images_l, step.images_u)],
    )
    pseudo = largest_parts(numbers(models.teacher(step.images_u)).argmax(1), classes)
    one = numbers(models.student(mix(images[0][a], images[1][u])))
    other = numbers(models.student(mix(images[1][v], images[0][b])))
    out, box = ~inside(), inside()
    expected = region(one, labels[a], out) + 0.3 * region(one, pseudo[u], box)
    expected += 0.3 * region(other, pseudo[v], out) + region(other, labels[b], box)
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("classes", "labelled", "pairs"), [(2, 4, ([0, 1], [2, 3])), (5, 1, ([0], [0]))])
def test_pre_training_matches_the_formula_in_float64(
    classes: int, labelled: int, pairs: tuple[list[int], list[int]]
) -> None:
    method = Bcp(steps=100, pretrain=0.1)
    models = models_of(method, classes)
    step = step_of(method, models, iteration=9, counts=(labelled, 1))
    a, b = pairs
    images, labels = numbers(step.images_l), numbers(step.labels).astype(int)
    logits = numbers(models.student(mix(images[a], images[b])))
    truth = np.where(inside(), labels[b], labels[a])
    assert method.loss(step).item() == pytest.approx(region(logits, truth, np.ones(SIDES, bool)), rel=1e-5)


def test_self_training_starts_from_the_student_once() -> None:
    method = Bcp(steps=100, pretrain=0.1)
    for iteration, equal in ((9, False), (10, True), (11, False)):
        models = models_of(method, 2, double=False)
        method.loss(step_of(method, models, iteration, (1, 1)))
        student, teacher = (network.state_dict() for network in (models.student, models.teacher))
        assert all(torch.equal(teacher[name], student[name]) for name in student) == equal


def test_the_phases_of_the_source() -> None:
    method = Catalog.read().card("ssl", "bcp_source").component({})
    assert isinstance(method, Bcp)
    assert round(method.pretrain * method.steps) == 2000
    assert (method.steps, method.batch_labeled, method.batch_unlabeled) == (17000, 4, 4)
    second = [method.optim.lr_at(2000 + step, 17000) for step in (0, 2499, 2500, 4999, 5000, 14999)]
    assert second == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-7])
    assert method.optim.lr_at(1999, 17000) == 0.01


def test_a_region_gives_the_number_of_the_released_code() -> None:
    """Half of F.cross_entropy and mask_DiceLoss of DeepMed-Lab-ECNU/BCP, on patches of 6 x 5 x 4."""
    logits = 2 * torch.sin(1 + 0.7 * torch.arange(480, dtype=torch.float64)).reshape(2, 2, 6, 5, 4)
    labels = torch.arange(240) * 7 % 11 % 2
    labels[torch.arange(240) % 5 == 0] = 0
    found = Bcp().region(logits, labels.reshape(2, 6, 5, 4), torch.ones(6, 5, 4, dtype=torch.bool))
    assert found.item() == pytest.approx(0.9180859838966063, rel=1e-12)


def test_the_cuboid_stays_inside_and_comes_from_the_step() -> None:
    method = Bcp()
    step = step_of(method, models_of(method, 2), counts=(1, 1))
    masks = [method.outside(step).numpy() for _ in range(30)]
    assert {int((~mask).sum()) for mask in masks} == {21 * 10 * 10}
    assert not any((~mask)[-1].any() for mask in masks)  # the far side is never touched
    assert len({mask.tobytes() for mask in masks}) > 20
    assert np.array_equal(masks[0], ~inside())


def test_largest_components_of_each_class() -> None:
    labels = torch.zeros(2, 16, 4, 4, dtype=torch.int64)
    labels[0, :2] = labels[0, 4:9] = 1
    labels[0, 12:14] = labels[0, 15, :2] = 2
    expected = labels.clone()
    expected[0, :2] = 0
    expected[0, 15] = 0

    def teacher(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(labels[: len(images)], 3).movedim(-1, 1).float()

    method: Any = Bcp()
    assert torch.equal(method.pseudo_labels_of(teacher, torch.zeros(1, 1, 16, 4, 4)), expected[:1])
    assert torch.equal(Bcp(largest_component=False).pseudo_labels_of(teacher, torch.zeros(1)), labels[:1])  # type: ignore[arg-type]


@pytest.mark.parametrize("iteration", [0, 50])
def test_trains_the_student_only_and_falls(iteration: int) -> None:
    method = Bcp(steps=100, pretrain=0.1)
    models = models_of(method, 2, double=False)
    optimiser = torch.optim.SGD(models.parameters(), 0.05)
    losses = []
    for _ in range(4):
        loss = method.loss(step_of(method, models, iteration, (2, 2)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert trained(models.student)
    assert all(part.grad is None for part in models.teacher.parameters())


def test_halves_repeat_what_is_too_few() -> None:
    assert [half.tolist() for half in halves(torch.arange(4), 4)] == [[0, 1], [2, 3]]
    assert [half.tolist() for half in halves(torch.arange(3), 3)] == [[0, 1], [1, 2]]
    assert [half.tolist() for half in halves(torch.arange(2), 5)] == [[0, 1, 0], [0, 1, 0]]
