"""What one step of fine-tuning sees: stitched crops of labelled cases, and of confident ones in a round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from sfrbench.components.base import Finetune, Foundation, Stitch
from sfrbench.components.foundation.segmenter import SamSegmenter
from sfrbench.engine.context import StageContext, seed_for
from sfrbench.engine.sam_input import Pair, all_canvases, crop_input
from sfrbench.engine.volumes import LabelView, Volumes, check_foreground
from sfrbench.maths.sampling import Patch, Volume, draw_patch, labelled_at
from sfrbench.stages.finetune.recipe import FinetuneSettings
from sfrbench.stages.finetune.views import FixedViews
from sfrbench.stages.select.selection import Selection

#: Low-resolution logits (B, K, h, w) of a step's canvases, with their labels (B, I, I) int64.
Batches = Callable[[int], Pair]
#: Crops of a confident case drawn in search of a confident one, where crops are judged one by one.
ATTEMPTS = 8


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

    def logits(self, model: SamSegmenter, pairs: list[Pair]) -> Pair:
        """A forward pass over the canvases of a step."""
        device = self.ctx.device
        if self.finetune.volumetric:
            logits = torch.cat([model(images.to(device)) for images, _ in pairs])
            return logits, torch.cat([target for _, target in pairs]).to(device)
        images, targets = (torch.stack(part).to(device) for part in zip(*pairs, strict=True))
        return model(images), targets

    def progress(self, step: int) -> float:
        """How much of the training is done; a round of SFR+ goes on where a stitch that changes has ended."""
        steps = self.finetune.steps
        return (steps - 1 if "before" in self.ctx.inputs else step) / steps


def make_batches(ctx: StageContext[FinetuneSettings], volumes: Volumes, model: SamSegmenter) -> Batches:
    """What each step is trained on, from the seed and the step's number alone."""
    canvases, finetune = Canvases(ctx, volumes), ctx.component("finetune", Finetune)
    split = ctx.settings.split.of(volumes)
    labels = volumes.labels(split.labelled, "finetune")
    check_foreground(labels.__getitem__, split.labelled)
    order_seed, crop_seed = (seed_for("finetune", purpose, ctx.seed) for purpose in ("order", "labelled"))

    def fresh(step: int) -> Pair:
        cases = labelled_at(split.labelled, finetune.batch, order_seed, step, finetune.short_batch)
        pairs = []
        for index, case in enumerate(cases):
            rng = np.random.default_rng([crop_seed, step, index])
            pairs.append(
                canvases.stitched(canvases.draw(case, rng), labels[case], rng, canvases.progress(step))
            )
        return canvases.logits(model, pairs)

    if finetune.fixed_views is None:
        return fresh
    return _fixed(canvases, model, list(split.labelled), labels, order_seed)


def _fixed(
    canvases: Canvases,
    model: SamSegmenter,
    labelled: list[str],
    labels: LabelView,
    order_seed: int,
) -> Batches:
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

    def repeated(step: int) -> Pair:
        names = labelled_at(views.names, finetune.batch, order_seed, step, finetune.short_batch)
        embeddings, targets = views.batch(names, ctx.device)
        ctx.notes["encoder_runs"] = views.encoded
        return model.decode(embeddings), targets

    return repeated


def confident_batches(
    ctx: StageContext[FinetuneSettings], volumes: Volumes, model: SamSegmenter, selection: Selection
) -> Callable[[int], Pair | None]:
    """One canvas of a confident case a step, under the segmenter's hard labels.

    Where each crop is judged on its own, none in a step whose crops all fall short.
    """
    canvases = Canvases(ctx, volumes)
    order_seed, crop_seed = (
        seed_for("finetune", f"confident {name}", ctx.seed) for name in ("order", "crop")
    )

    def batch(step: int) -> Pair | None:
        (case,) = labelled_at(selection.candidates, 1, order_seed, step)
        for attempt in range(ATTEMPTS):
            rng = np.random.default_rng([crop_seed, step, attempt])
            patch = canvases.draw(case, rng)
            if selection.is_confident(patch):
                label = selection.map("labels", case)
                pair = canvases.stitched(patch, label, rng, canvases.progress(step))
                return canvases.logits(model, [pair])
        return None

    return batch
