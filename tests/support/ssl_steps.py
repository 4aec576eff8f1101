"""One training step of a method on a tiny real backbone, as the loop makes it: for the tests of methods."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Backbone, Ssl
from sfrbench.components.ssl.step import Step
from sfrbench.stages.retrain.data import Batch, known_of
from sfrbench.stages.retrain.models import Maker, Models
from sfrbench.stages.retrain.run import first_pass

Sides = tuple[int, int, int]
TINY = VNet(filters=2, norm="instance", dropout=False)
SIDES: Sides = (32, 16, 16)


def models_of(
    method: Ssl,
    classes: int = 3,
    backbone: Backbone = TINY,
    double: bool = True,
    sides: Sides = SIDES,
) -> Models:
    """A student, a different teacher where the method wants one, and the method's networks.

    ``double``: all in float64, as tests against formulas need it; not for a backbone of bf16.
    """
    torch.manual_seed(3)
    student = backbone.build(classes)
    teacher = copy.deepcopy(backbone.build(classes)).requires_grad_(False) if method.needs_teacher else None
    networks = method.networks(Maker(backbone, student, classes, sides))
    for network in (student, teacher, *networks.values()):
        if network is not None:
            network.train()
            if double:
                network.double()
    return Models(student, teacher, networks, classes)


def step_of(
    method: Ssl,
    models: Models,
    iteration: int = 0,
    counts: tuple[int, int] = (2, 2),
    sides: Sides = SIDES,
    seed: int = 5,
) -> Step:
    """The step that the loop would hand to ``loss``; ``counts``: labelled and unlabelled patches."""
    generator = torch.Generator().manual_seed(11)
    dtype = next(models.student.parameters()).dtype
    images = torch.randn(sum(counts), 1, *sides, generator=generator).to(dtype)
    labels = torch.randint(0, models.classes, (counts[0], *sides), generator=generator)
    torch.manual_seed(2)
    rng = torch.Generator().manual_seed(seed)
    return first_pass(method, models, batch_of(method, images, labels, models.classes), iteration, rng)


def batch_of(method: Ssl, images: torch.Tensor, labels: torch.Tensor, classes: int) -> Batch:
    """A batch without pseudo-labels."""
    return Batch(images, labels, None, known=known_of(method, labels.byte().numpy(), classes))


def after_reload(method: Ssl) -> tuple[float, float]:
    """The loss of a step with networks changed by an earlier one, and with their stored states."""
    made, again = (models_of(method, double=False) for _ in range(2))
    with torch.no_grad():
        for network in made.networks.values():
            for part in network.parameters():
                part += 0.1 * torch.randn(part.shape)
    method.loss(step_of(method, made))
    for name, network in again.networks.items():
        network.load_state_dict(made.networks[name].state_dict())
    return method.loss(step_of(method, made)).item(), method.loss(step_of(method, again)).item()


def softmax(logits: Any) -> Any:
    """Over axis 1, in numpy."""
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def numbers(tensor: torch.Tensor) -> Any:
    """float64 in numpy, detached."""
    return tensor.detach().double().numpy()


def trained(network: nn.Module) -> bool:
    """Whether the last backward pass reached all the parameters that train."""
    parts = [part for part in network.parameters() if part.requires_grad]
    return bool(parts) and all(part.grad is not None for part in parts)


def gradients(models: Models) -> dict[str, bool]:
    """Which networks have a gradient that is not 0 anywhere in them."""
    named = {"student": models.student, "teacher": models.teacher, **models.networks}
    return {name: _touched(network) for name, network in named.items() if network is not None}


def _touched(network: nn.Module) -> bool:
    return any(part.grad is not None and bool(part.grad.abs().sum() > 0) for part in network.parameters())
