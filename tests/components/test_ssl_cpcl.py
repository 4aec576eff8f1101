"""CPCL: prototypes by plain loops, one step against the formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sfrbench.catalog.cards import Catalog
from sfrbench.components.backbone._interface import in_parts
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.ssl.cpcl import Cpcl
from sfrbench.errors import InputError
from tests.components.ssl_steps import gradients, models_of, numbers, softmax, step_of


def segmented(source: Any, labels: Any, weights: Any, other: Any, scale: float) -> Any:
    """Cosine with weighted means, one case of ``other`` after the other."""
    classes = weights.shape[1]
    out = np.zeros((len(other), classes, *other.shape[2:]))
    for n, features in enumerate(other):
        m = n % len(source)
        for k in range(classes):
            w = weights[m, k] * (labels[m] == k)
            centre = (source[m] * w).sum((1, 2, 3)) / (w.sum() + 1e-5)
            norms = np.maximum(np.sqrt((features**2).sum(0)), 1e-8) * max(np.sqrt((centre**2).sum()), 1e-8)
            out[n, k] = scale * np.einsum("c,cxyz->xyz", centre, features) / norms
    return softmax(out)


@pytest.mark.parametrize("layer", ["features", "bottleneck"])
@pytest.mark.parametrize(("classes", "labelled"), [(2, 2), (5, 1)])
def test_step_matches_the_formula(classes: int, labelled: int, layer: str) -> None:
    cpcl = Cpcl.model_validate({"ramp_length": 10, "ramp_unit": 5, "layer": layer})
    made = models_of(cpcl, classes)
    step = step_of(cpcl, made, 27, seed=4, counts=(labelled, 2))
    loss = cpcl.loss(step)

    assert made.teacher is not None
    drawn = torch.randn(step.images.shape, generator=torch.Generator().manual_seed(4))
    noisy = numbers(made.teacher(step.images + (drawn * 0.1).clamp(-0.2, 0.2).double()))
    target = softmax(numbers(made.teacher(step.images_u)))
    maps = [in_parts(net).encode(step.images)[-1] for net in (made.student, made.teacher)]
    if layer == "features":
        ours, theirs = (numbers(in_parts(net).features(step.images)) for net in (made.student, made.teacher))
    else:
        resize = torch.nn.Upsample(size=step.images.shape[2:], mode="trilinear")
        ours, theirs = (numbers(resize(m)) for m in maps)
    ours, theirs = ours[:labelled], theirs[labelled:]
    labels = step.labels.numpy()
    p = softmax(numbers(step.logits_l))
    l2u = ((segmented(ours, labels, p, theirs, 20) - target) ** 2).mean()
    q = segmented(theirs, target.argmax(1), target, ours, 20)
    chosen = np.take_along_axis(np.log(softmax(q)), labels[:, None], 1)
    stability = ((numbers(step.logits) - noisy) ** 2).mean()
    expected = 0.1 * np.exp(-5 * (1 - 5 / 10) ** 2) * (l2u + stability + 10 * -chosen.mean())
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert numbers(torch.as_tensor(step.values["l2u"])) == pytest.approx(l2u, rel=1e-5)


@pytest.mark.parametrize(
    ("term", "detached", "reached"), [("l2u", False, True), ("u2l", False, True), ("u2l", True, False)]
)
def test_prototype_terms_reach_the_student_unless_detached(term: str, detached: bool, reached: bool) -> None:
    cpcl = Cpcl(detached=detached)
    made = models_of(cpcl, double=False)
    step = step_of(cpcl, made)
    cpcl.loss(step)
    value = step.values[term]
    assert isinstance(value, torch.Tensor)
    assert value.requires_grad == reached
    if reached:
        value.backward()
        assert gradients(made) == {"student": True, "teacher": False}


def test_cross_entropy_of_the_prediction_itself() -> None:
    steps = []
    for twice in (True, False):
        cpcl = Cpcl(softmax_twice=twice)
        steps.append(step_of(cpcl, models_of(cpcl, double=False)))
        cpcl.loss(steps[-1])
    assert steps[0].values["l2u"] == steps[1].values["l2u"]
    assert steps[0].values["u2l"] != steps[1].values["u2l"]


def test_bf16_and_one_patch_of_each() -> None:
    cpcl = Cpcl()
    made = models_of(cpcl, backbone=VNet(filters=2, norm="none", precision="bf16"), double=False)
    loss = cpcl.loss(step_of(cpcl, made, counts=(1, 1)))
    loss.backward()
    assert torch.isfinite(loss)
    assert loss.dtype == torch.float32
    assert gradients(made) == {"student": True, "teacher": False}


def test_a_backbone_without_parts_is_refused_at_once() -> None:
    maker: Any = type("Maker", (), {"student": torch.nn.Conv3d(1, 2, 3), "classes": 2})()
    with pytest.raises(InputError, match="decode"):
        Cpcl().networks(maker)


def test_card_holds_the_numbers_of_the_source() -> None:
    made = Catalog.read().card("ssl", "cpcl").component({})
    assert isinstance(made, Cpcl)
    assert (made.lambda_cons, made.ramp_length, made.ramp_unit) == (0.1, 40, 150)
    assert (made.back_weight, made.scale) == (10, 20)
