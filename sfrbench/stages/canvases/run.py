"""canvases: what SAM is given, kept for the report's pictures (Figs. 3 to 5); no other stage reads it."""

from __future__ import annotations

import json
from typing import cast

import numpy as np
import torch

from sfrbench.components.base import Foundation, Stitch
from sfrbench.engine.context import StageContext, seed_for
from sfrbench.engine.sam_input import Pair, all_canvases, crop_input
from sfrbench.engine.volumes import Volumes
from sfrbench.maths.labels import IGNORE
from sfrbench.maths.sampling import Patch, View
from sfrbench.stages.canvases.recipe import CanvasesSettings

#: How much of the training is done where the training canvas is drawn; some strategies change on the way.
PROGRESS = 0.25


def run(ctx: StageContext[CanvasesSettings]) -> None:
    """Input ``prepare``.

    Takes the middle patch of the first labelled case, as a training canvas, and of the first ``cases`` cases
    of the subset, as canvases of inference, of which the middle one is kept. Writes ``images/<n>.npy``, uint8
    (C, I, I), the input from its 0.5 to its 99.5 percentile; ``voxels/<n>.npy``, int32 (I, I), the number
    (C order) of the voxel of the case's volume that each pixel shows, -1 where it shows none; and
    ``index.json``. Labels are never opened: whoever may see a label map reads it through ``voxels``.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    split = ctx.settings.split.of(volumes)
    scored = {"test": split.test, "val": split.val}[ctx.settings.subset][: ctx.settings.cases]
    for folder in ("images", "voxels"):
        (ctx.out / folder).mkdir()
    entries = []
    for number, case in enumerate((split.labelled[0], *scored)):
        images, targets = _training(ctx, volumes, case) if number == 0 else _scored(ctx, volumes, case)
        middle = len(images) // 2
        voxels = targets[middle].numpy() - (IGNORE + 1)
        voxels = np.where(voxels < 0, -1, voxels).astype(np.int32)
        np.save(ctx.out / "images" / f"{number}.npy", _grey(images[middle].numpy()))
        np.save(ctx.out / "voxels" / f"{number}.npy", voxels)
        role = ctx.settings.subset if number else "train"
        entries.append({"case": case, "role": role, "canvas": middle, "canvases": len(images)})
        ctx.progress(number + 1, 1 + len(scored))
    (ctx.out / "index.json").write_text(json.dumps({"canvases": entries}), encoding="utf-8")


def _training(ctx: StageContext[CanvasesSettings], volumes: Volumes, case: str) -> Pair:
    """A training canvas (1, C, I, I) with its voxels (1, I, I)."""
    stitch, foundation = ctx.component("stitch", Stitch), ctx.component("foundation", Foundation)
    image, voxels = _patch(ctx, volumes, case)
    rng = np.random.default_rng(seed_for("canvases", "training", 0))
    pixels, target = stitch.training_canvas(image, voxels, foundation.canvas, rng, PROGRESS)
    return pixels[None], target[None]


def _scored(ctx: StageContext[CanvasesSettings], volumes: Volumes, case: str) -> Pair:
    """The canvases (N, C, I, I) of inference with their voxels (N, I, I)."""
    stitch, foundation = ctx.component("stitch", Stitch), ctx.component("foundation", Foundation)
    return all_canvases(stitch, *_patch(ctx, volumes, case), foundation.canvas)


def _patch(
    ctx: StageContext[CanvasesSettings], volumes: Volumes, case: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The patch in the middle of a volume on the foundation's scale, and its voxels, where labels would be.

    Voxels are counted from ``IGNORE`` + 1 on, so that what the stitching calls unlabelled stays that.
    """
    volume = volumes.image(case)
    patch = ctx.settings.patch
    x, y, z = ((size - side) // 2 for size, side in zip(volume.shape, patch, strict=True))
    view = View((x, y, z), patch)
    plain, inside = view.take(volume), view.take(np.broadcast_to(np.True_, volume.shape))
    image = crop_input(
        ctx.component("foundation", Foundation), volumes, Patch(case, view, plain, plain, inside), plain
    )
    numbers = np.arange(volume.size, dtype=np.int64).reshape(volume.shape) + (IGNORE + 1)
    return image, torch.from_numpy(np.where(inside, view.take(numbers), IGNORE))


def _grey(pixels: np.ndarray) -> np.ndarray:
    low, high = np.percentile(pixels, (0.5, 99.5))
    return cast(np.ndarray, np.uint8(np.clip((pixels - low) / max(high - low, 1e-6), 0, 1) * 255))
