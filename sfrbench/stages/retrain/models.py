"""The networks of a re-training: student, teacher, and those of the method."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors.torch import load_file
from torch import nn

from sfrbench.components.base import Backbone, Ssl
from sfrbench.engine.context import StageContext, seed_for
from sfrbench.engine.training import Stateful
from sfrbench.stages.retrain.recipe import RetrainSettings
from sfrbench.store.store import Artefact


@dataclass(frozen=True)
class Models:
    """The student, its EMA where the method needs one, and the method's own networks."""

    student: nn.Module
    teacher: nn.Module | None
    networks: Mapping[str, nn.Module]
    classes: int

    def states(self) -> dict[str, Stateful]:
        teacher: dict[str, Stateful] = {} if self.teacher is None else {"teacher": self.teacher}
        networks = {f"net.{name}": network for name, network in self.networks.items()}
        return {"student": self.student, **teacher, **networks}

    def own_state(self) -> dict[str, torch.Tensor]:
        """The state of the method's networks, by network and name."""
        return {
            f"{name}:{part}": value
            for name, network in self.networks.items()
            for part, value in network.state_dict().items()
        }

    def go_on_from(self, artefact: Artefact) -> None:
        """Take the weights of an earlier training; the teacher begins as the student. Optimisers are new."""
        state = load_file(artefact.path("model.safetensors"))
        self.student.load_state_dict(state)
        if self.teacher is not None:
            self.teacher.load_state_dict(state)
        own = load_file(artefact.path("networks.safetensors")) if self.networks else {}
        for name, network in self.networks.items():
            prefix = f"{name}:"
            network.load_state_dict(
                {part.removeprefix(prefix): value for part, value in own.items() if part.startswith(prefix)}
            )

    def parameters(self) -> list[nn.Parameter]:
        networks = (self.student, *self.networks.values())
        return [part for net in networks for part in net.parameters() if part.requires_grad]


@dataclass(frozen=True)
class Maker:
    """Makes further backbones for a method (``NetworkMaker``)."""

    backbone: Backbone
    student: nn.Module
    classes: int
    patch: tuple[int, int, int]

    @property
    def multiples(self) -> tuple[int, int, int]:
        return self.backbone.multiples

    def __call__(self, *, outputs: int | None = None, inputs: int = 1) -> nn.Module:
        return self.backbone.build(outputs or self.classes, inputs)


def build_models(ctx: StageContext[RetrainSettings], ssl: Ssl, classes: int) -> Models:
    """Everything that a method needs, on the device; the student does not depend on the method."""
    backbone = ctx.component("backbone", Backbone)
    torch.manual_seed(seed_for("retrain", "init", ctx.seed))
    student = backbone.build(classes).to(ctx.device).train()
    teacher = None
    if ssl.needs_teacher:
        teacher = copy.deepcopy(student).requires_grad_(False)
    torch.manual_seed(seed_for("retrain", "networks", ctx.seed))
    networks = ssl.networks(Maker(backbone, student, classes, ctx.settings.patch))
    for network in networks.values():
        network.to(ctx.device).train()
    models = Models(student, teacher, networks, classes)
    if "before" in ctx.inputs:
        models.go_on_from(ctx.inputs["before"])
    return models


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, alpha: float) -> None:
    """teacher = alpha * teacher + (1 - alpha) * student, parameters only: buffers are the teacher's own.

    Two calls for all of them: a GPU would wait longer for the host to name 2 P kernels than these take."""
    old: list[torch.Tensor] = list(teacher.parameters())
    new: list[torch.Tensor] = list(student.parameters())
    torch._foreach_mul_(old, alpha)
    torch._foreach_add_(old, new, alpha=1 - alpha)
