"""How much memory training takes on a GPU, counted with fake tensors: without one, and without training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from sfrbench.components.base import Backbone, Finetune, Foundation, Ssl
from sfrbench.components.foundation._attention import as_on_a_gpu
from sfrbench.components.foundation.segmenter import SamSegmenter
from sfrbench.engine.context import StageContext
from sfrbench.engine.training import descend, make_optimiser
from sfrbench.machine.live_bytes import LiveBytes, materialise, shapes_only
from sfrbench.stages.finetune.run import step_loss
from sfrbench.stages.retrain.data import Batch, known_of
from sfrbench.stages.retrain.models import Maker, Models, update_teacher
from sfrbench.stages.retrain.recipe import RetrainSettings
from sfrbench.stages.retrain.run import training_step
from sfrbench.stages.settings import Size, SplitSettings

T = TypeVar("T")

#: Of a card's memory: CUDA's context, and what kernels work in.
KEPT_FREE = 2**30
#: What free memory in pieces and rounded blocks cost, as a share of what is used.
LOST = 0.05
#: The first step makes what the optimiser remembers; from the second on all are alike.
STEPS = 2


def fits(peak: int, card: int) -> bool:
    """Whether a training of ``peak`` bytes has room on a card of ``card`` bytes."""
    return peak * (1 + LOST) + KEPT_FREE <= card


def retraining(ssl: Ssl, backbone: Backbone, classes: int, patch: Size, *, pseudo: bool = False) -> int:
    """Bytes at most in a step of re-training, at the end of the training, when all terms of a method run.
    ``pseudo``: with hard pseudo-labels of SFR."""
    ctx = _context(patch, "offline" if pseudo else "none")
    known = known_of(ssl, np.ones((ssl.batch_labeled, *patch), np.uint8), classes)
    unlabelled = ssl.batch_unlabeled if ssl.uses_unlabelled or pseudo else 0

    def steps(models: Models) -> None:
        trained = models.parameters()
        optimiser = make_optimiser(ssl.optim, trained)
        for step in range(ssl.steps - STEPS, ssl.steps):
            images = torch.randn(ssl.batch_labeled + unlabelled, 1, *patch)
            labels = torch.ones(ssl.batch_labeled, *patch, dtype=torch.int64)
            target = torch.ones(unlabelled, *patch, dtype=torch.int64) if pseudo else None
            batch = Batch(images, labels, target, known=_like(known))
            loss = training_step(ctx, ssl, models, batch, step).loss
            descend(optimiser, loss, trained, ssl.optim.lr, ssl.optim.clip)
            if models.teacher is not None:
                update_teacher(models.teacher, models.student, ssl.ema)

    def networks(models: Models) -> list[nn.Module]:
        return [one for one in (models.student, models.teacher, *models.networks.values()) if one is not None]

    return _peak(lambda: _models(ssl, backbone, classes, patch), networks, steps)


def fine_tuning(foundation: Foundation, finetune: Finetune, classes: int, canvases: int = 1) -> int:
    """Bytes at most in a step of fine-tuning. ``canvases``: of a patch, where the method is volumetric."""
    side = foundation.canvas

    def adapted() -> SamSegmenter:
        model = _traceless(foundation).untrained(classes)
        finetune.attach(model)
        return model.train()

    def steps(model: SamSegmenter) -> None:
        trained = [part for part in model.parameters() if part.requires_grad]
        optimiser = make_optimiser(finetune.optim, trained)
        count = finetune.batch * (canvases if finetune.volumetric else 1)
        for _ in range(STEPS):
            images, targets = torch.randn(count, 1, side, side), torch.ones(count, side, side).long()
            if finetune.fixed_views is None:
                logits = model(images)
            else:  # views are encoded one by one, when they are first drawn
                with torch.no_grad():
                    embedding = model.encode(images[:1])
                logits = model.decode(embedding.expand(count, -1, -1, -1).contiguous())
            loss = step_loss(finetune, logits, targets)
            descend(optimiser, loss, trained, finetune.optim.lr, finetune.optim.clip)

    return _peak(adapted, lambda model: [model], steps)


def _peak(make: Callable[[], T], networks: Callable[[T], list[nn.Module]], steps: Callable[[T], None]) -> int:
    """Bytes at most in ``steps`` with what ``make`` gives, whose ``networks`` are there from the start."""
    with torch.device("meta"):  # fake networks cannot be built: torch does not move their parameters
        made = make()
    with torch.random.fork_rng(devices=[]), as_on_a_gpu(), shapes_only(), LiveBytes() as live:
        for network in networks(made):
            materialise(network)
            live.hold(*network.parameters(), *network.buffers())
        steps(made)
    return int(live.peak)


def _traceless(foundation: Foundation) -> Foundation:
    """Without ``torch.compile``, which does not run on tensors that are shapes alone."""
    plain = {"compile": "none"} if "compile" in type(foundation).model_fields else {}
    return foundation.model_copy(update=plain)


def _models(ssl: Ssl, backbone: Backbone, classes: int, patch: Size) -> Models:
    student = backbone.build(classes).train()
    teacher = copy.deepcopy(student).requires_grad_(False) if ssl.needs_teacher else None
    networks = ssl.networks(Maker(backbone, student, classes, patch))
    return Models(student, teacher, {name: network.train() for name, network in networks.items()}, classes)


def _like(known: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of the same shapes and types, made where the count sees them."""
    return {name: torch.ones(values.shape, dtype=values.dtype) for name, values in known.items()}


def _context(patch: Size, pseudo: Any) -> StageContext[RetrainSettings]:
    told = RetrainSettings(split=SplitSettings(), patch=patch, rot_flip=True, pseudo=pseudo)
    return StageContext({}, told, {}, 0, Path(), Path())
