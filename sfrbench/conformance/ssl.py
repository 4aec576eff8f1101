"""What every semi-supervised method holds: what its loss depends on, and what training by it leaves."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Ssl
from sfrbench.conformance.checks import Broken, Check, Subject, expect
from sfrbench.conformance.material import PATCH, Inputs, inputs_of
from sfrbench.engine.context import StageContext, no_progress
from sfrbench.engine.inference import backbone_forward, slide
from sfrbench.stages import retrain
from sfrbench.stages.retrain_data import Batch
from sfrbench.store.store import Artefact

STEPS = 4
#: One optimiser for all: a card's own recipe is not what is examined.
FAST = {
    "optimiser": "adamw",
    "lr": 5e-3,
    "schedule": "constant",
    "weight_decay": 0.0,
    "warmup": 0,
    "step_every": 2500,
    "step_from": 0,
}
#: Iterations at which a loss is looked at: some methods begin with a part of it.
ITERATIONS = (0, STEPS - 1)


def small(subject: Subject, **fields: Any) -> Ssl:
    """The card's method in a training of some steps, at the full weight of its terms from the third on."""
    wanted: dict[str, Any] = {f"optim.{name}": value for name, value in FAST.items()}
    wanted |= {"steps": STEPS, "checkpoint_every": 2, "ramp_unit": 1, "ramp_length": 2, **fields}
    made = subject.scaled(Ssl, **wanted)
    # inner loops of its own, such as a game within a step
    own = {name for name in type(made).model_fields if name not in Ssl.model_fields}
    inner = {name: 5 for name in own if name.endswith("_steps") and getattr(made, name) > 5}
    return subject.scaled(Ssl, **wanted, **inner) if inner else made


def ready(subject: Subject) -> None:
    """Nothing is needed: volumes are generated."""


# What a step depends on


@dataclass(frozen=True)
class _Seen:
    """What a step made: the value of a loss, and its gradients by all that trains."""

    value: float
    gradients: torch.Tensor

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, _Seen) and torch.equal(self.gradients, other.gradients)
        return same and self.value == other.value  # type: ignore[attr-defined]


Change = Callable[[Batch, retrain.Models], Batch]


def _context(subject: Subject, method: Ssl, **options: Any) -> StageContext:
    backbone = VNet(filters=2, norm="group", dropout=False)
    return StageContext(
        components={"backbone": backbone, "ssl": method},
        settings={"patch": list(PATCH)},
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


def _unchanged(batch: Batch, models: retrain.Models) -> Batch:
    return batch


def _other_labels(batch: Batch, models: retrain.Models) -> Batch:
    """Labels one class further."""
    return replace(batch, labels=(batch.labels + 1) % models.classes)


def _other_unlabelled(batch: Batch, models: retrain.Models) -> Batch:
    count = len(batch.labels)
    return replace(batch, images=torch.cat([batch.images[:count], -batch.images[count:]]))


def _other_teacher(batch: Batch, models: retrain.Models) -> Batch:
    if models.teacher is not None:
        _move(models.teacher, 3)
    return batch


def _move(network: torch.nn.Module, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for part in network.parameters():
        part.data += 0.2 * torch.randn(part.shape, generator=draw)


def _step(subject: Subject, iteration: int, change: Change, whole: bool) -> _Seen:
    """L_method of a step, or the ``whole`` loss with L_sup, and its gradients."""
    method = small(subject)
    ctx = _context(subject, method)
    models = retrain.build_models(ctx, method, 3)
    if models.teacher is not None:  # as behind a student that has learned
        _move(models.teacher, 1)
    batch = change(_batch(3, method.uses_unlabelled), models)
    kept = batch.images.clone(), batch.labels.clone()
    torch.manual_seed(2)
    if whole:
        loss = retrain.training_step(ctx, method, models, batch, iteration).loss
    else:
        loss = method.loss(retrain.first_pass(method, models, batch, iteration, _generator()))
    expect(loss.shape == () and bool(torch.isfinite(loss)), f"a loss of {loss.detach()}")
    parts = models.parameters()
    found: tuple[torch.Tensor | None, ...] = (None,) * len(parts)
    if loss.requires_grad:
        found = torch.autograd.grad(loss, parts, allow_unused=True)
    same = torch.equal(batch.images, kept[0]) and torch.equal(batch.labels, kept[1])
    expect(same, "the step changed images or labels in place")
    flat = [
        part.new_zeros(part.numel()) if one is None else one.flatten()
        for part, one in zip(parts, found, strict=True)
    ]
    return _Seen(loss.item(), torch.cat(flat))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def _responds(subject: Subject, change: Change, whole: bool = False) -> bool:
    """Whether the loss or a gradient is another at one of the iterations."""
    return any(
        _step(subject, iteration, _unchanged, whole) != _step(subject, iteration, change, whole)
        for iteration in ITERATIONS
    )


def a_step_repeats(subject: Subject) -> None:
    """A step with the same seeds gives the same finite loss and gradients, and changes no patch in place."""
    for iteration in ITERATIONS:
        one, two = (_step(subject, iteration, _unchanged, True) for _ in range(2))
        expect(one == two, f"iteration {iteration}: {one.value!r}, the second time {two.value!r}")


def training_follows_the_labels(subject: Subject) -> None:
    """Other labels of the labelled patches change the whole loss (L_sup and L_method) and its gradients at
    every step."""
    for iteration in ITERATIONS:
        same, other = (_step(subject, iteration, change, True) for change in (_unchanged, _other_labels))
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
    models = retrain.build_models(_context(subject, method), method, 3)
    step = retrain.first_pass(method, models, _batch(3, method.uses_unlabelled), STEPS - 1, _generator())
    outputs = method.outputs(step)
    expect(bool(outputs), "there is none")
    for output in outputs:
        seen = f"{tuple(output.shape)} beside logits {tuple(step.logits.shape)}"
        expect(output.shape == step.logits.shape, seen)
        expect(output.requires_grad or not len(output), "no gradient goes through it")


# What training leaves


def _train(
    method: Ssl, inputs: Inputs, folder: Path, *, pseudo: bool, bf16: bool = False, **options: Any
) -> StageContext:
    """One run of the stage in ``folder``; options: prepared, kill_at."""
    kill_at = options.get("kill_at")

    def progress(done: int, total: int, **values: float) -> None:
        if done == kill_at:
            raise _Killed

    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    prepared: Artefact = options.get("prepared", inputs.clean)
    ctx = StageContext(
        components={
            "backbone": VNet(filters=2, norm="group", precision="bf16" if bf16 else "fp32"),
            "ssl": method,
        },
        settings={
            "split": {"labeled": 1},
            "patch": list(PATCH),
            "rot_flip": False,
            "pseudo": "offline" if pseudo else "none",
        },
        inputs={"prepare": prepared, "pseudolabel": inputs.pseudo},
        seed=1,
        out=folder / "out",
        scratch=folder / "scratch",
        progress=no_progress if kill_at is None else progress,
    )
    retrain.run(ctx)
    return ctx


class _Killed(Exception):
    """Stands for a kill in the midst of a training."""


def _history(ctx: StageContext) -> list[dict[str, float]]:
    with (ctx.out / "history.csv").open(encoding="utf-8") as stream:
        rows = [
            {name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)
        ]
    bad = sorted({name for row in rows for name, value in row.items() if not math.isfinite(value)})
    expect(not bad, f"terms that are not finite: {', '.join(bad)}")
    return rows


def _contents(ctx: StageContext) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in ctx.out.iterdir()}


def _is_the_backbone(ctx: StageContext, classes: int) -> None:
    """The stored model has the names, shapes and count of the backbone alone."""
    own = VNet(filters=2, norm="group").build(classes)
    stored = load_file(ctx.out / "model.safetensors")
    wanted = {name: part.shape for name, part in own.state_dict().items()}
    strange = sorted({name: part.shape for name, part in stored.items()}.items() ^ wanted.items())
    expect(not strange, f"the stored model is not the backbone alone: {[name for name, _ in strange][:6]}")
    described = json.loads((ctx.out / "model.json").read_text(encoding="utf-8"))
    count = sum(part.numel() for part in own.parameters())
    expect(described["parameters"] == count, f"{described['parameters']} parameters in the place of {count}")


def it_learns(subject: Subject) -> None:
    """On one labelled case the student comes to agree with the labels."""
    wanted: dict[str, Any] = {"steps": 30, "ramp_length": 30, "checkpoint_every": 500, "optim.lr": 2e-2}
    wanted |= {
        "sup_ce": 0.5,
        "sup_dice": "all",
    }  # foreground Dice alone stays long at its start
    method = small(subject, **wanted)
    inputs = inputs_of(subject.shared, 2)
    ctx = _train(method, inputs, subject.folder / "run", pseudo=False)
    _history(ctx)
    _is_the_backbone(ctx, 2)
    case = inputs.clean.read_json("index.json")["train"][0]
    image, label = (
        torch.from_numpy(np.load(inputs.clean.path(f"{name}/{case}.npy"))) for name in ("images", "labels")
    )
    network = VNet(filters=2, norm="group").build(2)
    network.load_state_dict(load_file(ctx.out / "model.safetensors"))
    probs = slide(image, PATCH, PATCH, backbone_forward(network.eval()), 2)
    found, truth = probs.argmax(0) == 1, label == 1
    score = 2 * (found & truth).sum().item() / max((found.sum() + truth.sum()).item(), 1)
    expect(score > 0.3, f"after {method.steps} steps Dice {score:.2f} on the case it is trained on")


def no_label_leaks_and_a_kill_changes_nothing(subject: Subject) -> None:
    """With hard pseudo-labels of five classes: the same bits after a kill, and with other labels wherever no
    method may look; the stored model is the backbone alone."""
    method, inputs = small(subject, steps=6, pseudo_labels="hard"), inputs_of(subject.shared, 5)
    whole = _train(method, inputs, subject.folder / "whole", pseudo=True)
    expect(all("pseudo" in row for row in _history(whole)), "a step without L_pl")
    _is_the_backbone(whole, 5)
    other = _train(method, inputs, subject.folder / "poison", pseudo=True, prepared=inputs.poisoned)
    expect(_contents(other) == _contents(whole), "labels of unlabelled or test cases change the result")
    try:
        _train(method, inputs, subject.folder / "killed", pseudo=True, kill_at=4)
    except _Killed:
        resumed = _train(method, inputs, subject.folder / "killed", pseudo=True)
    else:
        raise Broken("the training reports no progress")
    expect(resumed.notes.get("resumed_at") == 2, f"resumed at {resumed.notes.get('resumed_at')}, not 2")
    differing = sorted(
        name for name, content in _contents(whole).items() if _contents(resumed).get(name) != content
    )
    expect(not differing, f"killed and resumed, it has another {', '.join(differing)}")


def soft_pseudo_labels_train_a_bf16_backbone(subject: Subject) -> None:
    """With soft pseudo-labels on a bf16 backbone L_pl is above 0, all is finite, and weights stay float32."""
    soft = small(subject, steps=2, pseudo_labels="soft", ramp_length=0)
    ctx = _train(soft, inputs_of(subject.shared, 5), subject.folder, pseudo=True, bf16=True)
    expect(all(row["pseudo"] > 0 for row in _history(ctx)), "L_pl is 0")
    stored = load_file(ctx.out / "model.safetensors")
    types = {str(part.dtype) for part in stored.values() if part.is_floating_point()}
    expect(types == {"torch.float32"}, f"stored types {', '.join(sorted(types))}")


OF_CARDS: tuple[Check, ...] = ()
CHECKS: tuple[Check, ...] = (
    a_step_repeats,
    training_follows_the_labels,
    loss_uses_labels_as_declared,
    loss_uses_unlabelled_patches_as_declared,
    loss_uses_the_teacher_as_declared,
    outputs_are_logits,
    it_learns,
    no_label_leaks_and_a_kill_changes_nothing,
    soft_pseudo_labels_train_a_bf16_backbone,
)
