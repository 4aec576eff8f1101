"""features: decoder features of labelled and unlabelled training cases, one number a voxel (Fig. 10).

For reports alone: no node takes them as an input. Here labels of unlabelled cases are opened, as those of
test cases in ``evaluate``; ``ledger.json`` says which. BCP's convention (``KDE_demo.py``): features in front
of the output convolution, of voxels of a class that are predicted correctly, averaged over channels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from sfrbench.components.backbone.interface import in_parts
from sfrbench.components.base import Backbone
from sfrbench.engine.at_once import AtOnce
from sfrbench.engine.context import StageContext, seed_for
from sfrbench.engine.inference import (
    case_by_case,
    load_backbone,
    on_device,
    slide,
)
from sfrbench.engine.manner import Forward
from sfrbench.engine.volumes import EVALUATE, Volumes
from sfrbench.maths.labels import highest
from sfrbench.stages.features.recipe import FeaturesSettings


def run(ctx: StageContext[FeaturesSettings]) -> None:
    """Inputs ``prepare`` and ``retrain``.

    At most ``cases`` labelled and as many unlabelled cases are looked at, drawn by a fixed seed, so that all
    arms look at the same ones; only cases with a label, as what is predicted correctly is known of no other.
    Writes ``samples/<case>.npy``, float32 (K, ``voxels``): features of correctly predicted voxels of each
    class, drawn without replacement, in random order, NaN behind the last where there are fewer;
    ``counts/<case>.npy``, int64 (K, 2): voxels of each class, and those predicted correctly; and
    ``index.json`` with classes and cases. The segmenter is the student in evaluation mode; images are not
    augmented. A killed run goes on at the case where it stopped.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    split = ctx.settings.split.of(volumes)
    known = [case for case in split.unlabelled if case not in volumes.without_label]
    labelled, unlabelled = (some(group, ctx.settings.cases) for group in (split.labelled, known))
    classes, patch, stride = len(volumes.classes), ctx.settings.patch, ctx.settings.stride
    network = load_backbone(
        ctx.component("backbone", Backbone),
        ctx.inputs["retrain"],
        ctx.settings.checkpoint,
        classes=classes,
        device=ctx.device,
    )
    forward, batch = features_forward(network), AtOnce.on(ctx.device)
    view = volumes.labels([*labelled, *unlabelled], f"{EVALUATE}: features")

    def look(case: str) -> dict[str, np.ndarray]:
        image = on_device(volumes.image(case), ctx.device)
        maps = slide(image, patch, stride, forward, classes + 1, batch)
        predicted, value = highest(maps[:classes], 0).cpu().numpy(), maps[classes].cpu().numpy()
        return sample(value, predicted, view[case], classes, ctx.settings.voxels, case)

    case_by_case(ctx, [*labelled, *unlabelled], look)
    index = {"classes": volumes.classes, "labelled": labelled, "unlabelled": unlabelled}
    (ctx.out / "index.json").write_text(json.dumps(index), encoding="utf-8")
    ledger = {"labels_opened": sorted(view.ids), "purpose": view.purpose}
    (ctx.out / "ledger.json").write_text(json.dumps(ledger, indent=1), encoding="utf-8")


def some(cases: Sequence[str], most: int) -> list[str]:
    """At most ``most`` of the cases, drawn by a fixed seed, in list order."""
    if len(cases) <= most:
        return list(cases)
    rng = np.random.default_rng(seed_for("features", "cases", 0))
    return [cases[index] for index in sorted(rng.choice(len(cases), most, replace=False))]


def features_forward(network: nn.Module) -> Forward:
    """Patches (B, X, Y, Z) to (B, K + 1, X, Y, Z): class probabilities, and the mean feature behind them.

    Raises ``InputError`` where the network cannot be taken apart.
    """
    parts = in_parts(network)

    def forward(patches: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            maps = parts.features(patches[:, None])
            logits = parts.head(parts.drop(maps)).float()
        return torch.cat([logits.softmax(1), maps.float().mean(1, keepdim=True)], 1)

    return forward


def sample(
    value: np.ndarray, predicted: np.ndarray, truth: np.ndarray, classes: int, voxels: int, case: str
) -> dict[str, np.ndarray]:
    """The arrays of one case, from maps (X, Y, Z): feature, predicted class, true class."""
    rng = np.random.default_rng(seed_for("features", case, 0))
    samples = np.full((classes, voxels), np.nan, dtype=np.float32)
    counts = np.zeros((classes, 2), dtype=np.int64)
    for label in range(classes):
        inside = truth == label
        right = np.flatnonzero(inside & (predicted == label))
        counts[label] = inside.sum(), right.size
        chosen = rng.choice(right, min(right.size, voxels), replace=False)
        samples[label, : chosen.size] = value.ravel()[chosen]
    return {"samples": samples, "counts": counts}
