"""What every fine-tuning method holds, on the toy foundation: what trains, what stays, how it comes back."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from sfrbench.components.base import Component, Finetune, Optim
from sfrbench.components.foundation._vit import ImageEncoder
from sfrbench.components.foundation.segmenter import SamSegmenter, load_trained, trained_state
from sfrbench.components.foundation.toy import SamToy
from sfrbench.components.stitch.grid import GridStitch
from sfrbench.components.stitch.upsampled import UpsampledStitch
from sfrbench.conformance.checks import Check, Subject, expect
from sfrbench.conformance.material import inputs_of
from sfrbench.engine.context import StageContext
from sfrbench.engine.training import make_optimiser
from sfrbench.maths.labels import IGNORE
from sfrbench.stages.finetune import run as stage
from sfrbench.stages.finetune.recipe import FinetuneSettings
from sfrbench.stages.settings import SplitSettings

#: Parts of SAM that a model without prompts does not use: they may train, and have no gradient.
UNUSED = ("prompt_encoder.", "mask_decoder.iou_prediction_head.")
CANVAS = 64
FAST = Optim(optimiser="adamw", lr=1e-2, weight_decay=0.1, schedule="constant")


def small(subject: Subject) -> Finetune:
    """The card's method in a training of a few steps, one canvas or patch each."""
    optim = {"lr": 5e-3, "schedule": "constant", "warmup": 0, "optimiser": "adamw"}
    wanted = {f"optim.{name}": value for name, value in optim.items()}
    return subject.scaled(Finetune, steps=3, batch=1, checkpoint_every=500, **wanted)


def ready(subject: Subject) -> None:
    """Nothing is needed: the toy brings its own numbers."""


def attached(tuned: Finetune, classes: int = 3, seed: int = 0) -> SamSegmenter:
    """The toy with a method attached to it."""
    torch.manual_seed(seed)
    model = SamToy(canvas=CANVAS).build(classes, None)
    tuned.attach(model)
    return model


def picture(classes: int = 3) -> tuple[Tensor, Tensor]:
    """Two canvases, to a volumetric method two slices, and their labels, with a border to be ignored."""
    draw = torch.Generator().manual_seed(1)
    labels = torch.randint(0, classes, (2, 8, 8), generator=draw)
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = labels[:, None] / classes + 0.05 * torch.randn(2, 1, CANVAS, CANVAS, generator=draw)
    labels[:, :4] = IGNORE
    return images, labels


def one_step(model: SamSegmenter, tuned: Finetune, classes: int) -> Tensor:
    """One step on the picture; returns the loss before it."""
    images, labels = picture(classes)
    optimiser = make_optimiser(FAST, [part for part in model.parameters() if part.requires_grad])
    loss = stage.step_loss(tuned, model(images), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return loss.detach()


def frozen_weights_are_the_pretrained(subject: Subject) -> None:
    """Attaching leaves every pretrained weight that does not train as it was."""
    torch.manual_seed(0)
    model = SamToy(canvas=CANVAS).build(3, None)
    old = {id(value): (name, value.clone()) for name, value in model.named_parameters()}
    keep = list(model.parameters())  # no other parameter gets the identity of one of these
    by_name = {name: value.clone() for name, value in model.state_dict().items()}
    small(subject).attach(model)
    for name, value in model.named_parameters():
        known = old[id(value)][1] if id(value) in old else by_name.get(name)
        if known is not None and not value.requires_grad and known.shape == value.shape:
            expect(torch.equal(value, known), f"{name} is frozen and has other numbers than before")
    expect(len(keep) == len(old), "the foundation has shared parameters")


def training_moves_what_trains(subject: Subject) -> None:
    """A step gives every trained parameter that SAM uses a gradient, and moves none of the others."""
    for classes in (2, 5):
        model = attached(small(subject), classes)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        trained = {name for name, value in model.named_parameters() if value.requires_grad}
        expect(bool(trained), "nothing trains")
        loss = one_step(model, small(subject), classes)
        expect(bool(torch.isfinite(loss)), f"a loss of {loss}")
        reached = {name for name, value in model.named_parameters() if value.grad is not None}
        used = {name for name in trained if not name.startswith(UNUSED)}
        lost = sorted(used - reached)
        expect(not lost, f"trains and has no gradient: {', '.join(lost[:6])}")
        moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        strange = sorted(moved - trained)
        expect(not strange, f"frozen, and a step changed it: {', '.join(strange[:6])}")
        expect(bool(moved), "a step changed nothing")


def logits_have_the_shape(subject: Subject) -> None:
    """Adapted, the model gives logits (B, K, I, I) of its canvases, float32; volumetric as the class says."""
    for classes in (2, 5):
        model = attached(small(subject), classes)
        with torch.no_grad():
            logits = model.segment(picture(classes)[0])
        wanted = (2, classes, CANVAS, CANVAS)
        expect(logits.shape == wanted, f"{tuple(logits.shape)} in the place of {wanted}")
        expect(logits.dtype == torch.float32, f"logits of {logits.dtype}")
        expect(model.volumetric == small(subject).volumetric, f"the model says volumetric {model.volumetric}")


def checkpointing_changes_no_gradient(subject: Subject) -> None:
    """Gradient checkpointing of the encoder keeps the gradients, and less memory where the encoder trains."""
    images, labels = picture()
    grads, kept = [], []
    for again in (False, True):
        torch.manual_seed(0)
        model = SamToy(canvas=CANVAS).build(3, None)
        cast(ImageEncoder, model.image_encoder).checkpointing = again
        small(subject).attach(model)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(_counted(sizes), lambda tensor: tensor):
            loss = stage.step_loss(small(subject), model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        grads.append([part.grad for part in model.parameters() if part.grad is not None])
        kept.append(sum(sizes))
    for plain, other in zip(*grads, strict=True):
        torch.testing.assert_close(other, plain)  # raises with the largest difference
    encoder_trains = any(name.startswith("image_encoder.blocks") for name in trained_state(model))
    expect((kept[1] < kept[0]) == encoder_trains, f"{kept[0]} numbers kept without, {kept[1]} with it")


def _counted(sizes: list[int]) -> Callable[[Tensor], Tensor]:
    """Notes the size of what is kept for the backward pass."""

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    return note


def stored_parameters_are_the_model(subject: Subject) -> None:
    """The trained parameters, put into a fresh model, give the same logits to the bit, merged nearly so."""
    model = attached(small(subject))
    one_step(model, small(subject), 3)
    images, _ = picture()
    other = attached(small(subject), seed=99)
    with torch.no_grad():
        trained = model(images)
        expect(not torch.equal(other(images), trained), "training changes no logits")
        load_trained(other, trained_state(model))
        expect(torch.equal(other(images), trained), "other logits after loading")
        small(subject).merge(other)
        torch.testing.assert_close(other(images), trained, atol=1e-5, rtol=1e-5)


def ignored_pixels_have_no_gradient(subject: Subject) -> None:
    """Pixels labelled 255 have no part in the loss, and a canvas full of them has a finite one."""
    _, labels = picture()
    tuned, draw = small(subject), torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 32, 32, generator=draw, requires_grad=True)
    stage.step_loss(tuned, logits, labels).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    expect(not logits.grad[:, :, 0].any(), "a gradient within the ignored border")  # pixels 0, 1 of 4
    expect(bool(logits.grad[:, :, 4:].any(dim=1).all()), "pixels with a label and without a gradient")
    nothing = stage.step_loss(tuned, logits, torch.full_like(labels, IGNORE))
    expect(bool(torch.isfinite(nothing)), f"a loss of {nothing} where nothing counts")


def _trained(subject: Subject, folder: Path, steps: int) -> StageContext[FinetuneSettings]:
    """The stage on one labelled volume."""
    tuned = small(subject).model_copy(update={"steps": steps})
    components: dict[str, Component] = {
        "stitch": UpsampledStitch() if tuned.volumetric else GridStitch(),
        "foundation": SamToy(canvas=64 if tuned.volumetric else 96),
        "finetune": tuned,
    }
    (folder / "out").mkdir(parents=True)
    depth = 8 if tuned.volumetric else 16
    settings = FinetuneSettings(split=SplitSettings(labeled=1), patch=(16, 16, depth), rot_flip=True)
    inputs = {"prepare": inputs_of(subject.shared, 2).clean}
    ctx = StageContext(components, settings, inputs, 1, folder / "out", folder / "scratch")
    stage.run(ctx)
    return ctx


def it_learns(subject: Subject) -> None:
    """The loss falls in 24 steps on one volume."""
    ctx = _trained(subject, subject.folder / "learns", 24)
    with (ctx.out / "history.csv").open(encoding="utf-8") as stream:
        losses = [float(row["loss"]) for row in csv.DictReader(stream)]
    first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    expect(last < 0.9 * first, f"from {first:.4f} to {last:.4f}")


def a_seed_gives_the_same_bits(subject: Subject) -> None:
    """Two trainings of one seed leave the same files."""
    one, two = (_trained(subject, subject.folder / name, 3) for name in ("one", "two"))
    for file in ("adapter.safetensors", "history.csv", "model.json"):
        expect((one.out / file).read_bytes() == (two.out / file).read_bytes(), f"another {file}")


OF_CARDS: tuple[Check, ...] = ()
FIRST: tuple[Check, ...] = ()
CHECKS: tuple[Check, ...] = (
    frozen_weights_are_the_pretrained,
    training_moves_what_trains,
    logits_have_the_shape,
    checkpointing_changes_no_gradient,
    stored_parameters_are_the_model,
    ignored_pixels_have_no_gradient,
    it_learns,
    a_seed_gives_the_same_bits,
)
