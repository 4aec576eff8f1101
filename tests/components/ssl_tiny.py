"""Steps on a tiny V-Net for the tests of single methods."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Ssl
from sfrbench.components.ssl.step import Step
from sfrbench.stages.retrain import Maker, Models, first_pass
from sfrbench.stages.retrain_data import Batch

SHAPE = (32, 16, 16)


def models(method: Ssl, classes: int = 3, backbone: VNet | None = None) -> Models:
    """A student, a teacher that differs from it, and the method's networks, from fixed seeds."""
    backbone = backbone or VNet(filters=2, norm="instance", dropout=False)
    torch.manual_seed(0)
    student = backbone.build(classes)
    teacher = None
    if method.needs_teacher:
        teacher = copy.deepcopy(student).requires_grad_(False)
        with torch.no_grad():
            for part in teacher.parameters():
                part += 0.05 * torch.randn(part.shape)
    torch.manual_seed(1)
    return Models(student, teacher, method.networks(Maker(backbone, student, classes, SHAPE)), classes)


def make_step(
    method: Ssl,
    made: Models,
    iteration: int = 0,
    *,
    labelled: int = 2,
    unlabelled: int = 2,
    seed: int = 0,
    double: bool = False,
) -> Step:
    """The step that the loop would make of random patches; ``double``: everything in float64."""
    generator = torch.Generator().manual_seed(11)
    images = torch.randn(labelled + unlabelled, 1, *SHAPE, generator=generator)
    labels = torch.randint(0, made.classes, (labelled, *SHAPE), generator=generator)
    if double:
        images = images.double()
        for network in (made.student, made.teacher, *made.networks.values()):
            if network is not None:
                network.double()
    torch.manual_seed(2)
    rng = torch.Generator().manual_seed(seed)
    return first_pass(method, made, Batch(images, labels, None), iteration, rng)


def after_reload(method: Ssl, classes: int = 3) -> tuple[float, float]:
    """The loss of a step with networks changed by an earlier one, and with their stored states."""
    made, again = models(method, classes), models(method, classes)
    with torch.no_grad():
        for network in made.networks.values():
            for part in network.parameters():
                part += 0.1 * torch.randn(part.shape)
    method.loss(make_step(method, made))
    for name, network in again.networks.items():
        network.load_state_dict(made.networks[name].state_dict())
    return method.loss(make_step(method, made)).item(), method.loss(make_step(method, again)).item()


def gradients(made: Models) -> dict[str, bool]:
    """Which networks have a gradient that is not 0 anywhere in them."""
    named: Mapping[str, nn.Module | None] = {
        "student": made.student,
        "teacher": made.teacher,
        **made.networks,
    }
    return {name: any(touched(network)) for name, network in named.items() if network is not None}


def touched(network: nn.Module) -> Iterator[bool]:
    for part in network.parameters():
        yield part.grad is not None and bool(part.grad.abs().sum() > 0)


def softmax(logits: Any) -> Any:
    """Over axis 1, in numpy."""
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def array(tensor: torch.Tensor) -> Any:
    """float64, detached."""
    return tensor.detach().double().numpy()
