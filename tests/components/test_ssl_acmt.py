"""ACMT: its four selectors against plain formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sfrbench.catalog.cards import Catalog
from sfrbench.components.ssl._ambiguity import label_errors, prototype_labels
from sfrbench.components.ssl.acmt import Acmt
from tests.components.ssl_steps import gradients, models_of, numbers, softmax, step_of

SELECTORS = ("ent", "mu", "p_err", "s_err")


def method(**fields: Any) -> Acmt:
    return Acmt.model_validate({"ramp_length": 10, "ramp_unit": 5, "steps": 100, "optim": {}, **fields})


def noise(step: Any, rng: torch.Generator, images: Any) -> Any:
    drawn = torch.randn(images.shape, generator=rng)
    return images + (drawn * 0.1).clamp(-0.2, 0.2).double()


WEIGHT = 0.1 * np.exp(-5 * (1 - 5 / 10) ** 2)  # iteration 27: 5 of 10 ramp units


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("selector", ["ent", "mu"])
def test_entropy_selectors_match_the_formula(selector: str, classes: int) -> None:
    acmt = method(selector=selector, threshold=0.8 if classes == 2 else 0.9, threshold_rise=0.05)
    made = models_of(acmt, classes)
    step = step_of(acmt, made, 27, seed=4)
    loss = acmt.loss(step)

    rng = torch.Generator().manual_seed(4)
    images = step.images_u
    assert made.teacher is not None
    theirs = softmax(numbers(made.teacher(noise(step, rng, images))))
    ours = seen = softmax(numbers(made.student(images)))
    if selector == "mu":
        passes = [numbers(made.student(noise(step, rng, torch.cat([images, images])))) for _ in range(4)]
        seen = sum(softmax(a[:2]) + softmax(a[2:]) for a in passes) / 8
    entropy = -(seen * np.log(seen + 1e-6)).sum(1)
    threshold = (acmt.threshold + 0.05 * np.exp(-5 * (1 - 0.27) ** 2)) * np.log(classes)
    mask = entropy >= threshold
    assert 0.02 < mask.mean() < 0.98
    total = (mask[:, None] * (ours - theirs) ** 2).sum()
    share = 1 if selector == "mu" else classes
    assert loss.item() == pytest.approx(WEIGHT * total / (share * mask.sum()), rel=1e-5)
    assert float(step.values["ambiguous"]) == pytest.approx(mask.mean(), rel=1e-5)


class Replay(nn.Module):
    """A teacher whose passes are given: one of logits, then features and logits of these by turns."""

    def __init__(self, logits: list[torch.Tensor], features: list[torch.Tensor]) -> None:
        super().__init__()
        self.given, self.maps = iter(logits), iter(features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return next(self.given)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return next(self.maps)

    def drop(self, features: torch.Tensor) -> torch.Tensor:
        return features

    def head(self, features: torch.Tensor) -> torch.Tensor:
        return next(self.given)


@pytest.mark.parametrize("classes", [2, 5])
def test_nearest_prototype_matches_a_plain_loop(classes: int) -> None:
    generator = torch.Generator().manual_seed(3)
    shape = (2, classes, 4, 3, 2)
    middle = torch.randn(shape, generator=generator)
    middle[1, -1] = -9.0  # no voxel of the last class in the second case
    logits = [middle + 1.2 * torch.randn(shape, generator=generator) for _ in range(5)]
    features = [torch.randn(2, 6, 4, 3, 2, generator=generator) for _ in range(4)]
    teacher: Any = Replay(logits, features)
    found = prototype_labels(teacher, torch.zeros(2, 1, 4, 3, 2), 4, 0.12).numpy()

    probs = softmax(numbers(logits[0]))
    halves = np.stack([1 / (1 + np.exp(-numbers(a) / 2)) for a in logits[1:]])
    sure = halves.std(0, ddof=1) < 0.12
    assert 0.1 < sure.mean() < 0.95
    mean = np.mean([numbers(f) for f in features], 0)
    masks = (sure * probs).argmax(1)
    for case in range(2):
        centres = {}
        for k in range(classes):
            here = masks[case] == k
            if here.any():
                weight = probs[case, k][here]
                centres[k] = (mean[case][:, here] * weight).sum(1) / (weight.sum() + 1e-5)
        for voxel in np.ndindex(4, 3, 2):
            far = {k: ((mean[case][:, *voxel] - c) ** 2).sum() for k, c in centres.items()}
            assert found[case][voxel] == min(far, key=lambda k: far[k])


def errors_by_hand(labels: Any, probs: Any) -> Any:
    """Confident learning with loops and sorts; equal values count as in the docstring of ``label_errors``."""
    total, classes = probs.shape
    counts = [int((labels == k).sum()) for k in range(classes)]
    limits = [probs[labels == k, k].mean() if counts[k] else np.inf for k in range(classes)]
    joint = np.zeros((classes, classes))
    for n in range(total):
        sure = [k for k in range(classes) if probs[n, k] >= limits[k] - 1e-6]
        if sure:
            joint[labels[n], max(sure, key=lambda k: probs[n, k])] += 1
    for k in range(classes):
        joint[k, k] = max(joint[k, k], 1)
        joint[k] = np.round(joint[k] / joint[k].sum() * counts[k])
        joint[k, k] = max(joint[k, k], 1)
    wrong = np.zeros(total, bool)
    for i in range(classes):
        here = np.flatnonzero(labels == i)
        if not len(here):
            continue
        own = probs[here, i]
        by_class = set(here[own < np.sort(own)[int(counts[i] - joint[i, i])]])
        by_rate: set[int] = set()
        for j in range(classes):
            if j != i and joint[i, j] > 0:
                margin = probs[here, j] - own
                by_rate |= set(here[margin >= np.sort(margin)[::-1][int(joint[i, j]) - 1]])
        for n in by_class & by_rate:
            wrong[n] = probs[n].argmax() != i
    return wrong


@pytest.mark.parametrize("classes", [2, 5])
def test_confident_learning_matches_a_plain_loop(classes: int) -> None:
    generator = np.random.default_rng(classes)
    truth = generator.integers(0, classes, 600)
    if classes == 5:
        truth[truth == 3] = 1  # a class that occurs nowhere
    probs = softmax(3 * np.eye(classes)[truth] + generator.normal(size=(600, classes)))
    labels = np.where(generator.random(600) < 0.2, (truth + 1) % classes, truth)
    labels[labels == 3] = 0
    found = label_errors(torch.from_numpy(labels), torch.from_numpy(probs))
    assert found is not None
    expected = errors_by_hand(labels, probs)
    assert 20 < expected.sum() < 200
    assert (found.numpy() == expected).all()
    flipped = labels != truth
    assert (found.numpy() & flipped).sum() / found.numpy().sum() > 0.8  # it finds what was wrong


def test_confident_learning_needs_two_classes() -> None:
    assert label_errors(torch.zeros(5, dtype=torch.long), torch.rand(5, 3)) is None


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("selector", ["p_err", "s_err"])
def test_masked_term_of_error_selectors(selector: str, classes: int) -> None:
    acmt = method(selector=selector, passes=2)
    made = models_of(acmt, classes)
    step = step_of(acmt, made, 27, seed=4)
    loss = acmt.loss(step)

    assert made.teacher is not None
    theirs = softmax(numbers(made.teacher(noise(step, torch.Generator().manual_seed(4), step.images_u))))
    ours = softmax(numbers(step.logits_u))
    labels = ours.argmax(1)
    if selector == "s_err":
        clean = numbers(made.teacher(step.images_u).softmax(1))  # of the same precision: counts are discrete
        flat = clean.transpose(0, 2, 3, 4, 1).reshape(-1, classes)
        mask = errors_by_hand(labels.ravel(), flat).reshape(labels.shape)
    else:
        near = prototype_labels(made.teacher, step.images_u, 2, acmt.certain)
        mask = near.numpy() != labels
    assert 0 < mask.mean() < 1
    term = (mask[:, None] * (ours - theirs) ** 2).sum() / (classes * mask.sum())
    if selector == "p_err":
        entropy = -(ours * np.log(ours + 1e-6)).sum(1) / np.log(classes)
        term += (~mask * entropy).mean()
    assert loss.item() == pytest.approx(WEIGHT * term, rel=1e-5)


@pytest.mark.parametrize("selector", SELECTORS)
def test_only_the_student_is_trained_and_one_patch_of_each_will_do(selector: str) -> None:
    acmt = method(selector=selector, passes=2, threshold=0.5)
    made = models_of(acmt, double=False)
    step = step_of(acmt, made, counts=(1, 1))
    loss = acmt.loss(step)
    loss.backward()
    assert torch.isfinite(loss)
    assert gradients(made) == {"student": True, "teacher": False}


def test_nothing_ambiguous_gives_zero() -> None:
    acmt = method(threshold=1.0, threshold_rise=0.2)
    step = step_of(acmt, models_of(acmt, double=False), 99)
    assert acmt.loss(step).item() == 0


@pytest.mark.parametrize(
    ("card", "fields"),
    [
        ("acmt", ("ent", 0.75, 0.2, 8)),
        ("acmt_mu", ("mu", 0.75, 0.15, 8)),
        ("acmt_p_err", ("p_err", 0.75, 0.2, 10)),
        ("acmt_s_err", ("s_err", 0.75, 0.2, 8)),
    ],
)
def test_cards_hold_the_numbers_of_the_source(card: str, fields: tuple[Any, ...]) -> None:
    made = Catalog.read().card("ssl", card).component({})
    assert isinstance(made, Acmt)
    assert (made.selector, made.threshold, made.threshold_rise, made.passes) == fields
    assert (made.lambda_cons, made.ramp_length, made.ramp_unit, made.certain) == (0.1, 40, 150, 0.1)
