"""What one step of fine-tuning sees: stitched crops of labelled cases, and of confident ones in a round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from sfrbench.components.base import Finetune, Foundation, Stitch
from sfrbench.components.foundation.segmenter import SamSegmenter
from sfrbench.engine.context import StageContext, seed_for
from sfrbench.engine.feeding import moved, pinned
from sfrbench.engine.sam_input import Pair, all_canvases, crop_input
from sfrbench.engine.volumes import LabelView, Volumes, check_foreground
from sfrbench.maths.sampling import Patch, Volume, draw_patch, labelled_at
from sfrbench.stages.finetune.recipe import FinetuneSettings
from sfrbench.stages.finetune.views import FixedViews, Found
from sfrbench.stages.select.selection import Selection

#: Canvases (N, C, I, I) that go through the model together, with labels (N, I, I) uint8; on the host.
Drawn = list[Pair]
Made = TypeVar("Made")
#: Crops of a confident case drawn in search of a confident one, where crops are judged one by one.
ATTEMPTS = 8


@dataclass(frozen=True)
class Batches(Generic[Made]):
    """What each step is trained on, from the seed and the step's number alone."""

    draw: Callable[[int], Made]  # needs the host alone, so that it can run beside another step
    logits: Callable[[Made], Pair]  # low resolution (B, K, h, w), with labels (B, I, I) int64

    def __call__(self, step: int) -> Pair:
        return self.logits(self.draw(step))


@dataclass(frozen=True)
class Canvases:
    """Draws crops and stitches them."""

    ctx: StageContext[FinetuneSettings]
    volumes: Volumes

    @property
    def finetune(self) -> Finetune:
        return self.ctx.component("finetune", Finetune)

    def draw(self, case: str, rng: np.random.Generator) -> Patch:
        told, vary = self.ctx.settings, self.finetune.intensity_augment
        image = self.volumes.image(case)
        return draw_patch(case, image, told.patch, told.rot_flip, vary, rng, told.crops)

    def stitched(self, patch: Patch, label: Volume, rng: np.random.Generator, progress: float) -> Pair:
        """Canvas and labels of a crop, or all its canvases; ``label`` is the whole volume's (X, Y, Z)."""
        foundation = self.ctx.component("foundation", Foundation)
        stitch = self.ctx.component("stitch", Stitch)
        target = torch.from_numpy(patch.view.take(label)).long()
        image = crop_input(foundation, self.volumes, patch, patch.image)
        if self.finetune.volumetric:
            return all_canvases(stitch, image, target, foundation.canvas)
        return stitch.training_canvas(image, target, foundation.canvas, rng, progress)

    def ready(self, pairs: list[Pair]) -> Drawn:
        """Canvases of a step as the model sees them: those of a crop by themselves where it is volumetric."""
        if not self.finetune.volumetric:
            images, targets = (torch.stack(part) for part in zip(*pairs, strict=True))
            pairs = [(images, targets)]
        device = self.ctx.device
        return [
            (pinned(images, device), pinned(targets.to(torch.uint8), device)) for images, targets in pairs
        ]

    def logits(self, model: SamSegmenter, drawn: Drawn) -> Pair:
        """A forward pass over the canvases of a step."""
        device = self.ctx.device
        logits = [model(moved(images, device)) for images, _ in drawn]
        targets = [moved(target, device).long() for _, target in drawn]
        return (logits[0], targets[0]) if len(drawn) == 1 else (torch.cat(logits), torch.cat(targets))

    def progress(self, step: int) -> float:
        """How much of the training is done; a round of SFR+ goes on where a stitch that changes has ended."""
        steps = self.finetune.steps
        return (steps - 1 if "before" in self.ctx.inputs else step) / steps


def make_batches(ctx: StageContext[FinetuneSettings], volumes: Volumes, model: SamSegmenter) -> Batches[Any]:
    """Crops of the labelled cases, new at every step, or their fixed views."""
    canvases, finetune = Canvases(ctx, volumes), ctx.component("finetune", Finetune)
    split = ctx.settings.split.of(volumes)
    labels = volumes.labels(split.labelled, "finetune")
    check_foreground(labels.__getitem__, split.labelled)
    order_seed, crop_seed = (seed_for("finetune", purpose, ctx.seed) for purpose in ("order", "labelled"))

    def fresh(step: int) -> Drawn:
        cases = labelled_at(split.labelled, finetune.batch, order_seed, step, finetune.short_batch)
        pairs = []
        for index, case in enumerate(cases):
            rng = np.random.default_rng([crop_seed, step, index])
            pairs.append(
                canvases.stitched(canvases.draw(case, rng), labels[case], rng, canvases.progress(step))
            )
        return canvases.ready(pairs)

    if finetune.fixed_views is None:
        return Batches(fresh, lambda drawn: canvases.logits(model, drawn))
    return _fixed(canvases, model, list(split.labelled), labels, order_seed)


def _fixed(
    canvases: Canvases,
    model: SamSegmenter,
    labelled: list[str],
    labels: LabelView,
    order_seed: int,
) -> Batches[list[Found]]:
    """Batches of views that are encoded once."""
    ctx, finetune = canvases.ctx, canvases.finetune
    view_seed, last = seed_for("finetune", "views", ctx.seed), (finetune.steps - 1) / finetune.steps

    def draw(case: str, view: int) -> Pair:
        # a stitching that changes as training goes on is taken as it is at the end
        rng = np.random.default_rng([view_seed, labelled.index(case), view])
        return canvases.stitched(canvases.draw(case, rng), labels[case], rng, last)

    views = FixedViews(
        ctx.scratch / "views",
        labelled,
        finetune.fixed_views or 1,
        draw,
        lambda images: model.encode(images.to(ctx.device)),
    )

    def repeated(step: int) -> list[Found]:
        return views.found(labelled_at(views.names, finetune.batch, order_seed, step, finetune.short_batch))

    def logits(found: list[Found]) -> Pair:
        embeddings, targets = views.batch(found, ctx.device)
        ctx.notes["encoder_runs"] = views.encoded
        return model.decode(embeddings), targets

    return Batches(repeated, logits)


def confident_batches(
    ctx: StageContext[FinetuneSettings], volumes: Volumes, selection: Selection
) -> Callable[[int], Drawn | None]:
    """One canvas of a confident case a step, under the segmenter's hard labels.

    Where each crop is judged on its own, none in a step whose crops all fall short.
    """
    canvases = Canvases(ctx, volumes)
    order_seed, crop_seed = (
        seed_for("finetune", f"confident {name}", ctx.seed) for name in ("order", "crop")
    )

    def draw(step: int) -> Drawn | None:
        (case,) = labelled_at(selection.candidates, 1, order_seed, step)
        for attempt in range(ATTEMPTS):
            rng = np.random.default_rng([crop_seed, step, attempt])
            patch = canvases.draw(case, rng)
            if selection.is_confident(patch):
                label = selection.map("labels", case)
                pair = canvases.stitched(patch, label, rng, canvases.progress(step))
                return canvases.ready([pair])
        return None

    return draw
