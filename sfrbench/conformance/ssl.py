"""What every semi-supervised method holds: what its loss depends on, and what training by it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Ssl
from sfrbench.conformance._ssl_method import ITERATIONS, STEPS, small
from sfrbench.conformance._ssl_training import (
    it_learns,
    no_label_leaks_and_a_kill_changes_nothing,
    soft_pseudo_labels_train_a_bf16_backbone,
)
from sfrbench.conformance.checks import Check, Subject, expect
from sfrbench.conformance.material import PATCH
from sfrbench.engine.context import StageContext
from sfrbench.stages.retrain import run as retrain
from sfrbench.stages.retrain.data import Batch, known_of
from sfrbench.stages.retrain.models import Models, build_models
from sfrbench.stages.retrain.recipe import RetrainSettings
from sfrbench.stages.settings import SplitSettings


def ready(subject: Subject) -> None:
    """Nothing is needed: volumes are generated."""


# What a step depends on


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a step made: the value of a loss, and its gradients by all that trains."""

    loss: torch.Tensor
    parts: list[torch.nn.Parameter]

    @cached_property
    def gradients(self) -> torch.Tensor:
        """All of them in a row; of what the loss does not depend on zeros."""
        found: tuple[torch.Tensor | None, ...] = (None,) * len(self.parts)
        if self.loss.requires_grad:
            found = torch.autograd.grad(self.loss, self.parts, allow_unused=True, retain_graph=True)
        pairs = zip(self.parts, found, strict=True)
        return torch.cat([(torch.zeros_like(part) if one is None else one).flatten() for part, one in pairs])

    @property
    def value(self) -> float:
        return self.loss.item()

    def same_as(self, other: _Seen) -> bool:
        return self.value == other.value and torch.equal(self.gradients, other.gradients)


@dataclass(frozen=True)
class _Step:
    """One step of training: L_method alone, and the whole loss with L_sup."""

    own: _Seen
    whole: _Seen


Change = Callable[[Batch, Models], Batch]


def _context(subject: Subject, method: Ssl, **options: Any) -> StageContext[RetrainSettings]:
    backbone = VNet(filters=2, norm="group", dropout=False)
    return StageContext(
        components={"backbone": backbone, "ssl": method},
        settings=RetrainSettings(split=SplitSettings(), patch=PATCH, rot_flip=False, pseudo="none"),
        inputs={},
        seed=1,
        out=subject.folder,
        scratch=subject.folder,
    )


def _batch(classes: int, unlabelled: bool) -> Batch:
    """Two labelled patches, and two unlabelled ones: noise, lifted where there is a class."""
    draw = torch.Generator().manual_seed(11)
    labels = torch.randint(0, classes, (4, *(side // 8 for side in PATCH)), generator=draw)
    for axis in (1, 2, 3):
        labels = labels.repeat_interleave(8, axis)
    images = labels[:, None].float() + 0.3 * torch.randn(4, 1, *PATCH, generator=draw)
    return Batch(images[: 4 if unlabelled else 2], labels[:2], None)


def _known(batch: Batch, method: Ssl) -> Batch:
    """With what the method reads off the labels."""
    return replace(batch, known=known_of(method, batch.labels.byte().numpy(), 3))


def _unchanged(batch: Batch, models: Models) -> Batch:
    return batch


def _other_labels(batch: Batch, models: Models) -> Batch:
    """Labels one class further."""
    return replace(batch, labels=(batch.labels + 1) % models.classes)


def _other_unlabelled(batch: Batch, models: Models) -> Batch:
    count = len(batch.labels)
    return replace(batch, images=torch.cat([batch.images[:count], -batch.images[count:]]))


def _other_teacher(batch: Batch, models: Models) -> Batch:
    if models.teacher is not None:
        _move(models.teacher, 3)
    return batch


def _move(network: torch.nn.Module, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for part in network.parameters():
        part.data += 0.2 * torch.randn(part.shape, generator=draw)


def _step(subject: Subject, iteration: int, change: Change) -> _Step:
    """A step anew, from the same seeds."""
    method = small(subject)
    ctx = _context(subject, method)
    models = build_models(ctx, method, 3)
    if models.teacher is not None:  # as behind a student that has learned
        _move(models.teacher, 1)
    batch = _known(change(_batch(3, method.uses_unlabelled), models), method)
    kept = batch.images.clone(), batch.labels.clone()
    torch.manual_seed(2)
    made = retrain.training_step(ctx, method, models, batch, iteration)
    own, whole = torch.as_tensor(made.values["method"]), made.loss
    for loss in (own, whole):
        expect(loss.shape == () and bool(torch.isfinite(loss)), f"a loss of {loss.detach()}")
    parts = models.parameters()
    same = torch.equal(batch.images, kept[0]) and torch.equal(batch.labels, kept[1])
    expect(same, "the step changed images or labels in place")
    return _Step(_Seen(own, parts), _Seen(whole, parts))


def _kept(subject: Subject, iteration: int, change: Change) -> _Step:
    """A step that several checks look at, made once."""
    name = f"step {iteration} {change.__name__}"
    if name not in subject.kept:
        subject.kept[name] = _step(subject, iteration, change)
    made: _Step = subject.kept[name]
    return made


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def _responds(subject: Subject, change: Change) -> bool:
    """Whether L_method or a gradient of it is another at one of the iterations."""
    return any(
        not _kept(subject, iteration, _unchanged).own.same_as(_kept(subject, iteration, change).own)
        for iteration in ITERATIONS
    )


def a_step_repeats(subject: Subject) -> None:
    """A step with the same seeds gives the same finite loss and gradients, and changes no patch in place."""
    for iteration in ITERATIONS:
        one, two = _kept(subject, iteration, _unchanged).whole, _step(subject, iteration, _unchanged).whole
        expect(one.same_as(two), f"iteration {iteration}: {one.value!r}, the second time {two.value!r}")


def training_follows_the_labels(subject: Subject) -> None:
    """Other labels of the labelled patches change the whole loss (L_sup and L_method) and its gradients at
    every step."""
    for iteration in ITERATIONS:
        same, other = (_kept(subject, iteration, change).whole for change in (_unchanged, _other_labels))
        expect(
            not torch.equal(same.gradients, other.gradients),
            f"iteration {iteration}: the same gradients whatever the labels: "
            f"{type(small(subject)).__name__} leaves no L_sup to the loop (see plain, outputs), "
            "and its own loss ignores the labels",
        )


def loss_uses_labels_as_declared(subject: Subject) -> None:
    """L_method depends on the labels of labelled patches exactly where the class says ``uses_labels``."""
    declared, seen = type(small(subject)).uses_labels, _responds(subject, _other_labels)
    expect(seen or not declared, "uses_labels is true, and other labels change neither loss nor gradients")
    expect(declared or not seen, "other labels change the loss: say 'uses_labels: ClassVar[bool] = True'")


def loss_uses_unlabelled_patches_as_declared(subject: Subject) -> None:
    """L_method depends on unlabelled patches where the class says ``uses_unlabelled``."""
    if type(small(subject)).uses_unlabelled:
        seen = _responds(subject, _other_unlabelled)
        expect(seen, "uses_unlabelled is true, and other patches change neither loss nor gradients")


def loss_uses_the_teacher_as_declared(subject: Subject) -> None:
    """L_method depends on the teacher where the class says ``needs_teacher``."""
    if type(small(subject)).needs_teacher:
        seen = _responds(subject, _other_teacher)
        expect(seen, "needs_teacher is true, and another teacher changes neither loss nor gradients")


def outputs_are_logits(subject: Subject) -> None:
    """``outputs`` gives logits like the step's own, which the student is trained by."""
    method = small(subject)
    models = build_models(_context(subject, method), method, 3)
    batch = _known(_batch(3, method.uses_unlabelled), method)
    step = retrain.first_pass(method, models, batch, STEPS - 1, _generator())
    outputs = method.outputs(step)
    expect(bool(outputs), "there is none")
    for output in outputs:
        seen = f"{tuple(output.shape)} beside logits {tuple(step.logits.shape)}"
        expect(output.shape == step.logits.shape, seen)
        expect(output.requires_grad or not len(output), "no gradient goes through it")


OF_CARDS: tuple[Check, ...] = ()
FIRST: tuple[Check, ...] = (a_step_repeats,)
CHECKS: tuple[Check, ...] = (
    training_follows_the_labels,
    loss_uses_labels_as_declared,
    loss_uses_unlabelled_patches_as_declared,
    loss_uses_the_teacher_as_declared,
    outputs_are_logits,
    it_learns,
    no_label_leaks_and_a_kill_changes_nothing,
    soft_pseudo_labels_train_a_bf16_backbone,
)
