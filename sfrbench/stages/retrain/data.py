"""What one step of re-training sees: augmented patches, labels of labelled cases, and pseudo-labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch

from sfrbench.components.base import Backbone, Foundation, Ssl
from sfrbench.components.split import Split
from sfrbench.engine.arithmetic import arithmetic, in_tf32
from sfrbench.engine.context import StageContext, seed_for
from sfrbench.engine.feeding import moved, pinned
from sfrbench.engine.hard_labels import hardened
from sfrbench.engine.inference import fine_tuned_forward
from sfrbench.engine.sam_input import crop_input
from sfrbench.engine.volumes import LabelView, Volumes
from sfrbench.errors import DataError
from sfrbench.maths.augment import draw_augmented
from sfrbench.maths.labels import IGNORE
from sfrbench.maths.sampling import (
    Patch,
    Sides,
    Volume,
    draw_patch,
    draw_voxel,
    forced,
    labelled_at,
    unlabelled_at,
    voxels_by_class,
)
from sfrbench.stages.retrain.recipe import RetrainSettings
from sfrbench.stages.select.selection import Selection


@dataclass(frozen=True)
class Labeller:
    """Where pseudo-labels come from: ``read`` needs the host alone, ``label`` goes on on the device."""

    #: Of augmented unlabelled crops; those with these indices must have labels.
    read: Callable[[list[Patch], Collection[int]], torch.Tensor]
    label: Callable[[torch.Tensor], torch.Tensor]  # to labels, uint8, or foreground probabilities


@dataclass(frozen=True)
class Drawn:
    """One step's data on the host."""

    images: torch.Tensor  # (B_l + B_u, 1, X, Y, Z) float32
    labels: torch.Tensor  # (B_l, X, Y, Z) uint8
    unlabelled: torch.Tensor | None  # what pseudo-labels are made of; none: no patch is labelled
    by_sam: torch.Tensor | None
    known: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """One step's data on the device; ``pseudo`` and ``known`` as in ``Step``."""

    images: torch.Tensor
    labels: torch.Tensor
    pseudo: torch.Tensor | None
    by_sam: torch.Tensor | None = None  # int64 indices of the patches that L_pl is taken on; none: all
    known: Mapping[str, torch.Tensor] = field(default_factory=dict)


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
    _voxels: dict[str, list[Volume]] = field(default_factory=dict)  # of labelled cases, by class

    def drawn(self, step: int) -> Drawn:
        """What needs the host alone, so that it can be made while another step runs."""
        ssl = self.ssl
        cases = labelled_at(self.split.labelled, ssl.batch_labeled, self._seed("order"), step)
        patches = self._patches(cases, self._seed("labelled"), step, forced(len(cases), ssl.foreground))
        labels = np.stack([patch.view.take_labels(self.labels[patch.case]) for patch in patches])
        unlabelled: list[Patch] = []
        if ssl.uses_unlabelled or self.label is not None:
            order = self._seed("unlabelled order")
            cases = unlabelled_at(self.split.unlabelled, ssl.batch_unlabeled, order, step)
            unlabelled = self._patches(cases, self._seed("unlabelled"), step)
        images = np.stack([patch.image for patch in (*patches, *unlabelled)])[:, None]
        known, by_sam = known_of(ssl, labels, len(self.volumes.classes)), self._by_sam(unlabelled)
        every = len(by_sam) == len(unlabelled)
        read = self.label.read(unlabelled, by_sam) if self.label is not None and by_sam else None
        return Drawn(
            images=self._pinned(images),
            labels=self._pinned(labels),
            unlabelled=None if read is None else self._pinned(read),
            by_sam=None if every else self._pinned(torch.tensor(by_sam, dtype=torch.int64)),
            known={name: self._pinned(values) for name, values in known.items()},
        )

    def batch(self, drawn: Drawn) -> Batch:
        """The same on the device, with pseudo-labels."""
        device = self.ctx.device
        return Batch(
            images=moved(drawn.images, device),
            labels=moved(drawn.labels, device).long(),
            pseudo=None if self.label is None else self._pseudo(drawn, self.label),
            by_sam=None if drawn.by_sam is None else moved(drawn.by_sam, device),
            known={name: moved(values, device) for name, values in drawn.known.items()},
        )

    def _pseudo(self, drawn: Drawn, label: Labeller) -> torch.Tensor:
        """As in ``Step``. Where L_pl is taken on no patch, nothing is labelled."""
        soft, device = self.ssl.pseudo_labels == "soft", self.ctx.device
        if drawn.unlabelled is not None:
            return as_target(label.label(moved(drawn.unlabelled, device)), soft)
        count, patch = len(drawn.images) - len(drawn.labels), drawn.images.shape[2:]
        if soft:
            return torch.full((count, len(self.volumes.classes), *patch), torch.nan, device=device)
        return torch.full((count, *patch), IGNORE, device=device)

    def _pinned(self, values: Volume | torch.Tensor) -> torch.Tensor:
        tensor = values if isinstance(values, torch.Tensor) else torch.from_numpy(values)
        return pinned(tensor, self.ctx.device)

    def _by_sam(self, unlabelled: list[Patch]) -> list[int]:
        """The indices of the patches that L_pl is taken on."""
        chosen = self.selection
        return [i for i, patch in enumerate(unlabelled) if chosen is None or chosen.is_labelled_by_sam(patch)]

    def _seed(self, purpose: str) -> int:
        return seed_for("retrain", purpose, self.ctx.seed)

    def _patches(self, cases: list[str], seed: int, step: int, on_foreground: int = 0) -> list[Patch]:
        """A patch of each case; the last ``on_foreground`` are centred on some."""
        first = len(cases) - on_foreground
        return [
            self._patch(case, np.random.default_rng([seed, step, index]), index >= first)
            for index, case in enumerate(cases)
        ]

    def _patch(self, case: str, rng: np.random.Generator, on_foreground: bool) -> Patch:
        told, ssl, image = self.ctx.settings, self.ssl, self.volumes.image(case)
        around = self._foreground(case, rng) if on_foreground else None
        if ssl.augment == "nnunet":
            return draw_augmented(case, image, told.patch, told.rot_flip, rng, told.crops, around)
        intensity = ssl.intensity_augment
        return draw_patch(case, image, told.patch, told.rot_flip, intensity, rng, told.crops, around)

    def _foreground(self, case: str, rng: np.random.Generator) -> Sides | None:
        """A voxel of the foreground of a labelled case, where it has any."""
        labels = self.labels[case]
        if case not in self._voxels:
            self._voxels[case] = voxels_by_class(labels)
        return draw_voxel(self._voxels[case], labels.shape, rng) if self._voxels[case] else None


def known_of(ssl: Ssl, labels: Volume, classes: int) -> dict[str, torch.Tensor]:
    """What the method's loss needs of labels uint8 (B_l, X, Y, Z), as tensors of the host."""
    return {name: torch.from_numpy(values) for name, values in ssl.known(labels, classes).items()}


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
    return _stored(ctx, len(volumes.classes)) if mode == "offline" else _online(ctx, volumes)


def _stored(ctx: StageContext[RetrainSettings], classes: int) -> Labeller:
    """Cuts the crop of each patch out of the stored labels of whole volumes, or out of their probabilities:
    those are what soft labels need, and what was once stored for hard ones, too. Raises ``DataError`` naming
    the case where a crop that must have labels has none."""
    artefact = ctx.inputs["pseudolabel"]
    soft = ctx.component("ssl", Ssl).pseudo_labels == "soft"
    hard = not soft and not any(name.startswith("probs/") for name in artefact.record["files"])
    folder = "labels" if hard else "probs"
    opened: dict[str, Volume] = {}

    def volume(case: str) -> Volume:
        if case not in opened:
            name = f"{folder}/{case}.npy"
            if name not in artefact.record["files"]:
                what = "re-training draws this case, and it has no pseudo-labels"
                raise DataError(what, where=f"case {case}, {artefact.folder}")
            opened[case] = np.load(artefact.path(name), mmap_mode="r")
        return opened[case]

    def crop(patch: Patch, wanted: bool) -> Volume:
        if wanted:
            stored = volume(patch.case)
            return patch.view.take_labels(stored) if hard else patch.view.take(stored)
        if hard:
            return np.full(patch.view.patch, IGNORE, np.uint8)
        return np.full((classes - 1, *patch.view.patch), np.nan, np.float16)

    def read(patches: list[Patch], wanted: Collection[int]) -> torch.Tensor:
        crops = [crop(patch, index in wanted) for index, patch in enumerate(patches)]
        return torch.from_numpy(np.stack(crops))

    return Labeller(read, lambda crops: crops)


def _online(ctx: StageContext[RetrainSettings], volumes: Volumes) -> Labeller:
    """The frozen SAM sees each crop as rotated and flipped, before any intensity augmentation."""
    foundation = ctx.component("foundation", Foundation)
    forward = fine_tuned_forward(ctx, "finetune", len(volumes.classes), 2)
    tf32 = in_tf32(foundation, ctx.device)
    as_the_step = tf32 == in_tf32(ctx.component("backbone", Backbone), ctx.device)

    def read(patches: list[Patch], wanted: Collection[int]) -> torch.Tensor:
        return torch.stack([crop_input(foundation, volumes, patch, patch.plain) for patch in patches])

    def label(images: torch.Tensor) -> torch.Tensor:
        with nullcontext() if as_the_step else arithmetic(tf32=tf32):
            return forward(images)[:, 1:].clone()

    return Labeller(read, label)
