"""retrain: a 3D segmenter by a semi-supervised method, with or without SFR's pseudo-labels.

L = L_sup + w_pl * L_pl + L_method. This stage owns the first two, the teacher and the schedule; the method
owns L_method. Seeds of data order, crops, initialisation and dropout do not depend on the method, so arms
with the same base seed are paired: to the bit, as far as the method leaves the labelled patches alone.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from sfrbench.components.backbone._interface import SCALES, in_parts, lacking
from sfrbench.components.base import Backbone, Ssl
from sfrbench.components.split import Split
from sfrbench.components.ssl._supervised import pseudo_label_loss, supervised_loss
from sfrbench.components.ssl.step import Step
from sfrbench.engine.context import Pruned, StageContext, seed_for
from sfrbench.engine.inference import backbone_forward, slide
from sfrbench.engine.training import Stateful, StepResult, save_weights, train
from sfrbench.engine.volumes import Volumes
from sfrbench.maths.losses import ema_alpha
from sfrbench.maths.sampling import mix
from sfrbench.stages.retrain_data import Batch, Data, labeller
from sfrbench.stages.selection import Selection
from sfrbench.store.store import Artefact


def run(ctx: StageContext) -> None:
    """Input ``prepare``, and ``pseudolabel`` or ``finetune`` by ``settings["pseudo"]`` (offline, online).

    Further settings: ``split``, ``patch``, ``rot_flip``, ``crops`` (none: "all") and, with validation cases,
    ``stride``. Writes
    ``model.safetensors`` (the student after the last step), ``model.json`` and ``history.csv``, and with
    validation cases ``best.safetensors`` and ``best.json``. ``networks.safetensors`` holds the method's own
    networks, where it has any, for a round of SFR+ that goes on from here. Such a round has the inputs
    ``before`` (the retrain artefact) and ``select``, and ``settings["first_iteration"]``. Opens labels of
    labelled cases, and those of validation cases for validation only. Raises ``Pruned`` where ``ctx.watch``
    says so after a validation.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    split = volumes.split(**ctx.settings["split"])
    ssl = ctx.component("ssl", Ssl)
    models = build_models(ctx, ssl, len(volumes.classes))
    labels = volumes.labels(split.labelled, "retrain")
    data = Data(ctx, ssl, volumes, split, labels, labeller(ctx, volumes), Selection.of(ctx))
    first = ctx.settings.get("first_iteration", 0)
    best = Best()
    validate = validator(ctx, volumes, split, models.student) if split.val else None

    def after_step(step: int) -> None:
        if models.teacher is not None:
            update_teacher(models.teacher, models.student, ema_alpha(first + step, ssl.ema))
        done = step + 1
        if validate is not None and (done % ssl.val_every == 0 or done == ssl.steps):
            dice = validate()
            best.offer(done, dice, models.student)
            if ctx.watch(first + done, dice):
                raise Pruned(f"validation Dice {dice:.4f} at step {done}")

    train(
        ctx,
        {**models.states(), "best": best},
        models.parameters(),
        ssl.optim,
        steps=ssl.steps,
        checkpoint_every=ssl.checkpoint_every,
        seed=seed_for("retrain", "dropout", ctx.seed),
        step_fn=lambda step: training_step(ctx, ssl, models, data.batch(step), step),
        after_step=after_step,
    )
    save_weights(ctx.out / "model.safetensors", models.student.state_dict())
    if models.networks:
        save_weights(ctx.out / "networks.safetensors", models.own_state())
    count = sum(part.numel() for part in models.student.parameters())
    described = {"classes": list(volumes.classes), "parameters": count}
    (ctx.out / "model.json").write_text(json.dumps(described), encoding="utf-8")
    best.write(ctx)


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
        from safetensors.torch import load_file

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

    def __call__(self, *, outputs: int | None = None, inputs: int = 1) -> nn.Module:
        return self.backbone.build(outputs or self.classes, inputs)


def build_models(ctx: StageContext, ssl: Ssl, classes: int) -> Models:
    """Everything that a method needs, on the device; the student does not depend on the method."""
    backbone = ctx.component("backbone", Backbone)
    torch.manual_seed(seed_for("retrain", "init", ctx.seed))
    student = backbone.build(classes).to(ctx.device).train()
    teacher = None
    if ssl.needs_teacher:
        teacher = copy.deepcopy(student).requires_grad_(False)
    torch.manual_seed(seed_for("retrain", "networks", ctx.seed))
    networks = ssl.networks(Maker(backbone, student, classes, tuple(ctx.settings["patch"])))
    for network in networks.values():
        network.to(ctx.device).train()
    models = Models(student, teacher, networks, classes)
    if "before" in ctx.inputs:
        models.go_on_from(ctx.inputs["before"])
    return models


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, alpha: float) -> None:
    """teacher = alpha * teacher + (1 - alpha) * student, parameters only: buffers are the teacher's own."""
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.mul_(alpha).add_(new, alpha=1 - alpha)


def training_step(ctx: StageContext, ssl: Ssl, models: Models, batch: Batch, step: int) -> StepResult:
    """L and its terms; the student sees labelled and unlabelled patches in one forward pass."""
    rng = torch.Generator(ctx.device)
    rng.manual_seed(mix(seed_for("retrain", "noise", ctx.seed), step))
    seen = first_pass(ssl, models, batch, step, rng, ctx.settings.get("first_iteration", 0))
    labelled = seen.logits_l.shape[0]
    outputs = ssl.outputs(seen)
    share = 1 / len(outputs) if ssl.combine == "mean" else 1.0
    terms: dict[str, torch.Tensor] = {}
    if labelled:
        losses = [supervised_loss(ssl, output[:labelled], batch.labels) for output in outputs]
        terms["supervised"] = share * torch.stack(losses).sum()
    if batch.pseudo is not None and ssl.w_pl > 0 and (batch.by_sam is None or batch.by_sam.any()):
        chosen = slice(None) if batch.by_sam is None else batch.by_sam
        target = batch.pseudo[chosen]
        losses = [pseudo_label_loss(ssl, output[labelled:][chosen], target) for output in outputs]
        terms["pseudo"] = share * torch.stack(losses).sum()
    terms["method"] = ssl.loss(seen)
    weights = {"supervised": ssl.supervised_weight(seen), "pseudo": ssl.w_pl}
    loss = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
    return StepResult(loss, {**terms, **seen.values})


def first_pass(
    ssl: Ssl, models: Models, batch: Batch, step: int, rng: torch.Generator, before: int = 0
) -> Step:
    """The student's forward pass over the plain patches that the method, or L_pl, asks for.

    ``before``: iterations of earlier trainings that this one goes on from.
    """
    count = batch.labels.shape[0]
    first = count if ssl.plain == "none" else 0
    last = len(batch.images) if ssl.plain == "all" or batch.pseudo is not None else count
    student, images = models.student, batch.images[first:last]
    maps: tuple[torch.Tensor, ...] = ()
    scales: tuple[torch.Tensor, ...] = ()
    features = None
    if not len(images):
        logits = images.new_zeros((0, models.classes, *images.shape[2:]))
    elif lacking(student):  # a user's own network that knows its forward pass only
        logits = student(images)
    else:
        parts = in_parts(student)
        maps = parts.encode(images)
        scales = () if lacking(student, SCALES) else parts.decode_scales(maps)
        features = scales[0] if scales else parts.decode(maps)
        logits = parts.head(parts.drop(features))
    return Step(
        student=student,
        teacher=models.teacher,
        networks=models.networks,
        images=batch.images,
        labels=batch.labels,
        logits_l=logits[: count - first],
        logits_u=logits[count - first :],
        pseudo=batch.pseudo,
        iteration=before + step,
        steps=before + ssl.steps,
        classes=models.classes,
        rng=rng,
        maps=maps,
        scales=scales,
        features=features,
    )


class Best:
    """The student's weights at the best validation so far; an earlier one wins a tie."""

    def __init__(self) -> None:
        self.step, self.score = 0, -1.0
        self.weights: dict[str, torch.Tensor] = {}

    def offer(self, step: int, score: float, student: nn.Module) -> None:
        if score > self.score:
            self.step, self.score = step, score
            self.weights = {k: v.detach().cpu().clone() for k, v in student.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "score": self.score, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self.step, self.score, self.weights = state["step"], state["score"], dict(state["weights"])

    def write(self, ctx: StageContext) -> None:
        if self.weights:
            save_weights(ctx.out / "best.safetensors", self.weights)
            content = json.dumps({"step": self.step, "dice": self.score})
            (ctx.out / "best.json").write_text(content, encoding="utf-8")


def validator(ctx: StageContext, volumes: Volumes, split: Split, student: nn.Module) -> Callable[[], float]:
    """Mean Dice, 0 to 1, over validation cases and the foreground classes that each of them has."""
    labels = volumes.labels(split.val, "validation")
    patch, stride = tuple(ctx.settings["patch"]), tuple(ctx.settings["stride"])

    def validate() -> float:
        student.eval()
        scores: list[float] = []
        for case in split.val:
            image = torch.from_numpy(np.array(volumes.image(case))).to(ctx.device)
            probs = slide(image, patch, stride, backbone_forward(student), len(volumes.classes), 4)
            predicted, truth = probs.argmax(0).cpu().numpy(), np.asarray(labels[case])
            for index in range(1, len(volumes.classes)):
                a, b = predicted == index, truth == index
                if b.any():
                    scores.append(float(2 * (a & b).sum() / (a.sum() + b.sum())))
        student.train()
        return float(np.mean(scores)) if scores else 0.0

    return validate
