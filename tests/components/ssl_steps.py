"""One training step of a method on a tiny real backbone, as the loop makes it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Backbone, Ssl
from sfrbench.components.ssl.step import Step
from sfrbench.stages.retrain import Maker, Models, first_pass
from sfrbench.stages.retrain_data import Batch

TINY = VNet(filters=2, norm="instance", dropout=False)


def models_of(
    method: Ssl,
    classes: int,
    backbone: Backbone = TINY,
    double: bool = True,
    sides: tuple[int, int, int] = (32, 16, 16),
) -> Models:
    """A student, a different teacher where the method wants one, and the method's networks."""
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
    sides: tuple[int, int, int] = (32, 16, 16),
    seed: int = 5,
) -> Step:
    """The step that the loop would hand to ``loss``; ``counts``: labelled and unlabelled patches."""
    generator = torch.Generator().manual_seed(11)
    dtype = next(models.student.parameters()).dtype
    images = torch.randn(sum(counts), 1, *sides, generator=generator).to(dtype)
    labels = torch.randint(0, models.classes, (counts[0], *sides), generator=generator)
    rng = torch.Generator().manual_seed(seed)
    return first_pass(method, models, Batch(images, labels, None), iteration, rng)


def softmax(logits: Any) -> Any:
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def numbers(tensor: torch.Tensor) -> Any:
    return tensor.detach().double().numpy()


def trained(network: nn.Module) -> bool:
    """Whether the last backward pass reached the parameters that train."""
    parts = [part for part in network.parameters() if part.requires_grad]
    return bool(parts) and all(part.grad is not None for part in parts)
