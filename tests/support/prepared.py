"""Prepared volumes and trained models for tests of what comes after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Component, Finetune
from sfrbench.components.foundation.toy import SamToy
from sfrbench.components.ssl.mean_teacher import MeanTeacher
from sfrbench.components.ssl.supervised import Supervised
from sfrbench.components.stitch.grid import GridStitch
from sfrbench.conformance.material import artefact_of
from sfrbench.engine.context import StageContext
from sfrbench.store.store import Artefact

PATCH = [16, 16, 32]


FAST = {"optimiser": "adamw", "lr": 5e-3, "schedule": "constant", "weight_decay": 0.0}


class DecoderOnly(Finetune):
    """The decoder trains, everything else is frozen."""

    def attach(self, model: Any) -> None:
        model.requires_grad_(False)
        model.mask_decoder.requires_grad_(True)


def make_prepared(folder: Path, poison: bool = False) -> Artefact:
    """Six cases of 20 x 18 x 30 with a bright ball; ``poison`` spoils all labels but the first case's."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    names = [f"case{i}" for i in range(6)]
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (20, 18, 30)), indexing="ij"))
    for index, name in enumerate(names):
        centre = rng.uniform([8, 7, 12], [12, 11, 18]).reshape(3, 1, 1, 1)
        ball = ((grid - centre) ** 2).sum(0) < 36
        image = (2.0 * ball + rng.normal(0, 0.3, ball.shape)).astype(np.float32)
        np.save(folder / "images" / f"{name}.npy", (image - image.mean()) / image.std())
        label = np.random.default_rng(index).integers(0, 2, ball.shape) if poison and index else ball
        np.save(folder / "labels" / f"{name}.npy", label.astype(np.uint8))
    case = {"shape": [20, 18, 30], "spacing": [1, 1, 1], "affine": None, "range": [-1, 3], "source": {}}
    index_ = {
        "dataset": "balls",
        "classes": ["background", "ball"],
        "train": names[:5],
        "test": names[5:],
        "cases": dict.fromkeys(names, case),
    }
    (folder / "index.json").write_text(json.dumps(index_))
    return artefact_of("prepare", folder)


def sam(**fields: Any) -> dict[str, Component]:
    tuned = DecoderOnly.model_validate({"steps": 9, "checkpoint_every": 4, "optim": FAST, **fields})
    return {"stitch": GridStitch(), "foundation": SamToy(canvas=96), "finetune": tuned}


def net(method: type[Supervised | MeanTeacher] = MeanTeacher, **fields: Any) -> dict[str, Component]:
    chosen = {
        "steps": 9,
        "checkpoint_every": 4,
        "optim": FAST,
        "val_every": 3,
        "ramp_unit": 1,
        "ramp_length": 4,
    }
    if method is Supervised:
        del chosen["ramp_unit"], chosen["ramp_length"]
    ssl = method.model_validate({**chosen, **fields})
    return {"backbone": VNet(filters=2, norm="batch"), "ssl": ssl}


def files(ctx: StageContext) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in ctx.out.iterdir()}
