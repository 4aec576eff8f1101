"""What one step of re-training sees: augmented patches, labels of labelled cases, and pseudo-labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from sfrbench.components.base import Foundation, Ssl
from sfrbench.components.split import Split
from sfrbench.engine.context import StageContext, seed_for
from sfrbench.engine.hard_labels import hardened
from sfrbench.engine.inference import fine_tuned_forward
from sfrbench.engine.sam_input import crop_input
from sfrbench.engine.volumes import LabelView, Volumes
from sfrbench.maths.sampling import Patch, Volume, draw_patch, labelled_at, unlabelled_at
from sfrbench.stages.retrain.recipe import RetrainSettings
from sfrbench.stages.select.selection import Selection

#: Augmented crops to their labels, uint8 (B, X, Y, Z), or to foreground probabilities (B, K - 1, X, Y, Z).
Labeller = Callable[[list[Patch]], torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """One step's data on the device; ``pseudo`` as in ``Step``."""

    images: torch.Tensor
    labels: torch.Tensor
    pseudo: torch.Tensor | None
    by_sam: torch.Tensor | None = None  # (B_u,) bool: patches that L_pl is taken on; none: all


@dataclass(frozen=True)
class Data:
    """Draws the patches of a step; labels are reachable for labelled cases only."""

    ctx: StageContext[RetrainSettings]
    ssl: Ssl
    volumes: Volumes
    split: Split
    labels: LabelView
    label: Labeller | None
    selection: Selection | None = None

    def batch(self, step: int) -> Batch:
        ssl, device = self.ssl, self.ctx.device
        cases = labelled_at(self.split.labelled, ssl.batch_labeled, self._seed("order"), step)
        patches = self._patches(cases, self._seed("labelled"), step)
        labels = np.stack([patch.view.take(self.labels[patch.case]) for patch in patches])
        unlabelled: list[Patch] = []
        if ssl.uses_unlabelled or self.label is not None:
            order = self._seed("unlabelled order")
            cases = unlabelled_at(self.split.unlabelled, ssl.batch_unlabeled, order, step)
            unlabelled = self._patches(cases, self._seed("unlabelled"), step)
        pseudo = None
        if self.label is not None:
            pseudo = as_target(self.label(unlabelled).to(device), soft=ssl.pseudo_labels == "soft")
        by_sam = None
        if self.selection is not None:
            chosen = [self.selection.is_labelled_by_sam(patch) for patch in unlabelled]
            by_sam = torch.tensor(chosen, device=device)
        images = np.stack([patch.image for patch in (*patches, *unlabelled)])[:, None]
        targets = torch.from_numpy(labels).to(device).long()
        return Batch(torch.from_numpy(images).to(device), targets, pseudo, by_sam)

    def _seed(self, purpose: str) -> int:
        return seed_for("retrain", purpose, self.ctx.seed)

    def _patches(self, cases: list[str], seed: int, step: int) -> list[Patch]:
        told = self.ctx.settings
        return [
            draw_patch(
                case,
                self.volumes.image(case),
                told.patch,
                told.rot_flip,
                self.ssl.intensity_augment,
                np.random.default_rng([seed, step, index]),
                told.crops,
            )
            for index, case in enumerate(cases)
        ]


def as_target(given: torch.Tensor, soft: bool) -> torch.Tensor:
    """Labels uint8 (B, ...) or foreground probabilities (B, K - 1, ...) to what L_pl is taken to, on their
    device: soft labels (B, K, ...) float32, or hard ones (B, ...) int64."""
    if not soft:
        return (hardened(given) if given.is_floating_point() else given).long()
    foreground = given.float()
    background = (1 - foreground.sum(1, keepdim=True)).clamp(min=0)
    probs = torch.cat([background, foreground], 1)
    return probs / probs.sum(1, keepdim=True)


def labeller(ctx: StageContext[RetrainSettings], volumes: Volumes) -> Labeller | None:
    """Where pseudo-labels come from: nowhere, stored ones, or the frozen fine-tuned SAM."""
    mode = ctx.settings.pseudo
    if mode == "none":
        return None
    return _stored(ctx) if mode == "offline" else _online(ctx, volumes)


def _stored(ctx: StageContext[RetrainSettings]) -> Labeller:
    """Cuts the crop of each patch out of the stored labels of whole volumes, or out of their probabilities:
    those are what soft labels need, and what was once stored for hard ones, too."""
    artefact = ctx.inputs["pseudolabel"]
    soft = ctx.component("ssl", Ssl).pseudo_labels == "soft"
    hard = not soft and any(name.startswith("labels/") for name in artefact.record["files"])
    folder = "labels" if hard else "probs"
    opened: dict[str, Volume] = {}

    def label(patches: list[Patch]) -> torch.Tensor:
        for patch in patches:
            if patch.case not in opened:
                opened[patch.case] = np.load(artefact.path(f"{folder}/{patch.case}.npy"), mmap_mode="r")
        return torch.from_numpy(np.stack([patch.view.take(opened[patch.case]) for patch in patches]))

    return label


def _online(ctx: StageContext[RetrainSettings], volumes: Volumes) -> Labeller:
    """The frozen SAM sees each crop as rotated and flipped, before any intensity augmentation."""
    foundation = ctx.component("foundation", Foundation)
    forward = fine_tuned_forward(ctx, "finetune", len(volumes.classes), 2)

    def label(patches: list[Patch]) -> torch.Tensor:
        images = [crop_input(foundation, volumes, patch, patch.plain) for patch in patches]
        return forward(torch.stack(images).to(ctx.device))[:, 1:].clone()

    return label
