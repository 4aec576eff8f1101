"""What a training by a semi-supervised method leaves."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Ssl
from sfrbench.conformance._ssl_method import STEPS, small
from sfrbench.conformance.checks import Broken, Subject, expect
from sfrbench.conformance.material import PATCH, Inputs, inputs_of
from sfrbench.engine.context import StageContext, no_progress
from sfrbench.engine.inference import backbone_forward, slide
from sfrbench.stages.retrain import run as retrain
from sfrbench.stages.retrain.recipe import RetrainSettings
from sfrbench.stages.settings import SplitSettings
from sfrbench.store.store import Artefact


def _train(
    method: Ssl, inputs: Inputs, folder: Path, *, pseudo: bool, bf16: bool = False, **options: Any
) -> StageContext[RetrainSettings]:
    """One run of the stage in ``folder``; options: prepared, kill_at."""
    kill_at = options.get("kill_at")

    def progress(done: int, total: int, **values: float) -> None:
        if done == kill_at:
            raise _Killed

    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    prepared: Artefact = options.get("prepared", inputs.clean)
    ctx = StageContext(
        components={
            "backbone": VNet(filters=2, norm="group", precision="bf16" if bf16 else "fp32"),
            "ssl": method,
        },
        settings=RetrainSettings(
            split=SplitSettings(labeled=1),
            patch=PATCH,
            rot_flip=False,
            pseudo="offline" if pseudo else "none",
        ),
        inputs={"prepare": prepared, "pseudolabel": inputs.pseudo},
        seed=1,
        out=folder / "out",
        scratch=folder / "scratch",
        progress=no_progress if kill_at is None else progress,
    )
    retrain.run(ctx)
    return ctx


class _Killed(Exception):
    """Stands for a kill in the midst of a training."""


def _history(ctx: StageContext[RetrainSettings]) -> list[dict[str, float]]:
    with (ctx.out / "history.csv").open(encoding="utf-8") as stream:
        rows = [
            {name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)
        ]
    bad = sorted({name for row in rows for name, value in row.items() if not math.isfinite(value)})
    expect(not bad, f"terms that are not finite: {', '.join(bad)}")
    return rows


def _contents(ctx: StageContext[RetrainSettings]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in ctx.out.iterdir()}


def _is_the_backbone(ctx: StageContext[RetrainSettings], classes: int) -> None:
    """The stored model has the names, shapes and count of the backbone alone."""
    own = VNet(filters=2, norm="group").build(classes)
    stored = load_file(ctx.out / "model.safetensors")
    wanted = {name: part.shape for name, part in own.state_dict().items()}
    strange = sorted({name: part.shape for name, part in stored.items()}.items() ^ wanted.items())
    expect(not strange, f"the stored model is not the backbone alone: {[name for name, _ in strange][:6]}")
    described = json.loads((ctx.out / "model.json").read_text(encoding="utf-8"))
    count = sum(part.numel() for part in own.parameters())
    expect(described["parameters"] == count, f"{described['parameters']} parameters in the place of {count}")


def it_learns(subject: Subject) -> None:
    """On one labelled case the student comes to agree with the labels."""
    wanted: dict[str, Any] = {"steps": 30, "ramp_length": 30, "checkpoint_every": 500, "optim.lr": 2e-2}
    wanted |= {
        "sup_ce": 0.5,
        "sup_dice": "all",
    }  # foreground Dice alone stays long at its start
    method = small(subject, **wanted)
    inputs = inputs_of(subject.shared, 2)
    ctx = _train(method, inputs, subject.folder / "run", pseudo=False)
    _history(ctx)
    _is_the_backbone(ctx, 2)
    case = inputs.clean.read_json("index.json")["train"][0]
    image, label = (
        torch.from_numpy(np.load(inputs.clean.path(f"{name}/{case}.npy"))) for name in ("images", "labels")
    )
    network = VNet(filters=2, norm="group").build(2)
    network.load_state_dict(load_file(ctx.out / "model.safetensors"))
    probs = slide(image, PATCH, PATCH, backbone_forward(network.eval()), 2)
    found, truth = probs.argmax(0) == 1, label == 1
    score = 2 * (found & truth).sum().item() / max((found.sum() + truth.sum()).item(), 1)
    expect(score > 0.3, f"after {method.steps} steps Dice {score:.2f} on the case it is trained on")


def no_label_leaks_and_a_kill_changes_nothing(subject: Subject) -> None:
    """With hard pseudo-labels of five classes: the same bits after a kill, and with other labels wherever no
    method may look; the stored model is the backbone alone."""
    method, inputs = small(subject, pseudo_labels="hard"), inputs_of(subject.shared, 5)
    whole = _train(method, inputs, subject.folder / "whole", pseudo=True)
    expect(all("pseudo" in row for row in _history(whole)), "a step without L_pl")
    _is_the_backbone(whole, 5)
    # both at once; which of the two it was is looked for only where something differs
    both = _killed(method, inputs, subject.folder / "both", inputs.poisoned)
    if _contents(both) == _contents(whole):
        return
    other = _train(method, inputs, subject.folder / "poison", pseudo=True, prepared=inputs.poisoned)
    expect(_contents(other) == _contents(whole), "labels of unlabelled or test cases change the result")
    resumed, wanted = _contents(both), _contents(whole)
    differing = sorted(name for name in {*wanted, *resumed} if wanted.get(name) != resumed.get(name))
    raise Broken(f"killed and resumed, it has another {', '.join(differing)}")


def _killed(method: Ssl, inputs: Inputs, folder: Path, prepared: Artefact) -> StageContext[RetrainSettings]:
    """A training that is killed as it ends, and goes on from what it stored after two steps."""
    try:
        _train(method, inputs, folder, pseudo=True, prepared=prepared, kill_at=STEPS)
    except _Killed:
        resumed = _train(method, inputs, folder, pseudo=True, prepared=prepared)
    else:
        raise Broken("the training reports no progress")
    expect(resumed.notes.get("resumed_at") == 2, f"resumed at {resumed.notes.get('resumed_at')}, not 2")
    return resumed


def soft_pseudo_labels_train_a_bf16_backbone(subject: Subject) -> None:
    """With soft pseudo-labels on a bf16 backbone L_pl is above 0, all is finite, and weights stay float32."""
    soft = small(subject, steps=2, pseudo_labels="soft", ramp_length=0)
    ctx = _train(soft, inputs_of(subject.shared, 5), subject.folder, pseudo=True, bf16=True)
    expect(all(row["pseudo"] > 0 for row in _history(ctx)), "L_pl is 0")
    stored = load_file(ctx.out / "model.safetensors")
    types = {str(part.dtype) for part in stored.values() if part.is_floating_point()}
    expect(types == {"torch.float32"}, f"stored types {', '.join(sorted(types))}")
