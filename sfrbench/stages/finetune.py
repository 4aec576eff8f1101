"""finetune: adapt the foundation model on stitched patches of the labelled cases (eq. 5)."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from sfrbench.components.base import Finetune, Foundation, Stitch
from sfrbench.components.foundation.segmenter import SamSegmenter, enlarge, trained_state
from sfrbench.inference import pretrained_path
from sfrbench.losses import IGNORE, segmentation_loss
from sfrbench.sampling import Patch, Volume, draw_patch, labelled_at
from sfrbench.stages.context import StageContext, seed_for
from sfrbench.stages.finetune_views import FixedViews
from sfrbench.training import StepResult, TrainedParts, save_weights, train
from sfrbench.volumes import Volumes, split_cases


def run(ctx: StageContext) -> None:
    """Input ``prepare``; settings ``split``, ``patch``, ``rot_flip``.

    Writes ``adapter.safetensors`` (the trained parameters), ``model.json`` and ``history.csv``. Opens the
    labels of the labelled cases only. Each canvas of a batch holds one random crop of a labelled case, new at
    every step, or one of the fixed views where the method has such. A volumetric method sees every canvas of
    each crop.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    finetune = ctx.component("finetune", Finetune)
    model = build_model(ctx, len(volumes.classes))
    batch = make_batches(ctx, volumes, model)

    def step_fn(step: int) -> StepResult:
        logits, targets = batch(step)
        return StepResult(step_loss(finetune, logits, targets))

    train(
        ctx,
        {"model": TrainedParts(model)},
        [part for part in model.parameters() if part.requires_grad],
        finetune.optim,
        steps=finetune.steps,
        checkpoint_every=finetune.checkpoint_every,
        seed=seed_for("finetune", "dropout", ctx.seed),
        step_fn=step_fn,
    )
    save_weights(ctx.out / "adapter.safetensors", trained_state(model))
    (ctx.out / "model.json").write_text(json.dumps(describe(model, volumes.classes)), encoding="utf-8")


#: Low-resolution logits (B, K, h, w) of a step's canvases, with their labels (B, I, I) int64.
Batches = Callable[[int], tuple[torch.Tensor, torch.Tensor]]


def make_batches(ctx: StageContext, volumes: Volumes, model: SamSegmenter) -> Batches:
    """What each step is trained on, from the seed and the step's number alone."""
    foundation, finetune = ctx.component("foundation", Foundation), ctx.component("finetune", Finetune)
    stitch = ctx.component("stitch", Stitch)
    split = split_cases(volumes.train, volumes.test, **ctx.settings["split"])
    labels = volumes.labels(split.labelled, "finetune")
    x, y, z = ctx.settings["patch"]
    order_seed, crop_seed = (seed_for("finetune", purpose, ctx.seed) for purpose in ("order", "labelled"))

    def canvas(case: str, rng: np.random.Generator, progress: float) -> tuple[torch.Tensor, torch.Tensor]:
        patch = draw_patch(
            case, volumes.image(case), (x, y, z), ctx.settings["rot_flip"], finetune.intensity_augment, rng
        )
        label = torch.from_numpy(patch.view.take(labels[case])).long()
        image = sam_input(foundation, volumes, patch, patch.image)
        if finetune.volumetric:
            return all_canvases(stitch, image, label, foundation.canvas)
        return stitch.training_canvas(image, label, foundation.canvas, rng, progress)

    def fresh(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        cases = labelled_at(split.labelled, finetune.batch, order_seed, step)
        pairs = [
            canvas(case, np.random.default_rng([crop_seed, step, index]), step / finetune.steps)
            for index, case in enumerate(cases)
        ]
        if finetune.volumetric:
            logits = torch.cat([model(images.to(ctx.device)) for images, _ in pairs])
            return logits, torch.cat([target for _, target in pairs]).to(ctx.device)
        images, targets = (torch.stack(part).to(ctx.device) for part in zip(*pairs, strict=True))
        return model(images), targets

    if finetune.fixed_views is None:
        return fresh
    view_seed = seed_for("finetune", "views", ctx.seed)

    def draw(case: str, view: int) -> tuple[torch.Tensor, torch.Tensor]:
        # a stitching that changes as training goes on is taken as it is at the end
        rng = np.random.default_rng([view_seed, split.labelled.index(case), view])
        return canvas(case, rng, (finetune.steps - 1) / finetune.steps)

    views = FixedViews(
        ctx.scratch / "views",
        split.labelled,
        finetune.fixed_views,
        draw,
        lambda canvases: model.encode(canvases.to(ctx.device)),
    )

    def repeated(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        names = labelled_at(views.names, finetune.batch, order_seed, step)
        embeddings, targets = views.batch(names, ctx.device)
        ctx.notes["encoder_runs"] = views.encoded
        return model.decode(embeddings), targets

    return repeated


def all_canvases(
    stitch: Stitch, image: torch.Tensor, label: torch.Tensor, canvas: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every canvas of a patch (X, Y, Z), in order: (N, 1, I, I), and labels (N, I, I) int64 with 255."""
    images = stitch.to_canvases(image[None], canvas, 0.0)
    return images, stitch.to_canvases(label[None], canvas, IGNORE)[:, 0]


def step_loss(finetune: Finetune, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of low-resolution logits (B, K, h, w) against labels (B, I, I) with 255 to be ignored."""
    if finetune.loss_on == "full":
        logits = enlarge(logits, targets.shape[-1])
    else:
        targets = shrink(targets, (logits.shape[-2], logits.shape[-1]))
    return segmentation_loss(logits, targets, finetune.ce_weight, finetune.dice_ignores_padding)


def shrink(targets: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Labels (B, I, I) int64 to (B, *size), each the label at the middle of its cell; 255 stays 255."""
    small = nn.functional.interpolate(targets[:, None].float(), size=size, mode="nearest-exact")
    return small[:, 0].long()


def build_model(ctx: StageContext, classes: int) -> SamSegmenter:
    """The pretrained model with its adapters, on the device and in training mode.

    Batch norms, where a pretrained encoder has any, keep their statistics: those are no parameters, so
    they would be missing from the adapter.
    """
    foundation, finetune = ctx.component("foundation", Foundation), ctx.component("finetune", Finetune)
    weights = pretrained_path(foundation, ctx.weights)
    torch.manual_seed(seed_for("finetune", "init", ctx.seed))
    model = foundation.build(classes, weights)
    finetune.attach(model)
    model.to(ctx.device).train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def sam_input(foundation: Foundation, volumes: Volumes, patch: Patch, image: Volume) -> torch.Tensor:
    """A crop (X, Y, Z) on the input scale of the foundation; 0 outside the volume, as in inference."""
    scaled = foundation.normalise(torch.from_numpy(image), volumes.case(patch.case).range)
    return scaled * torch.from_numpy(patch.inside)


def describe(model: nn.Module, classes: tuple[str, ...]) -> dict[str, object]:
    """Class names and parameter counts."""
    total = sum(part.numel() for part in model.parameters())
    trainable = sum(part.numel() for part in model.parameters() if part.requires_grad)
    return {"classes": list(classes), "trainable": trainable, "total": total}
