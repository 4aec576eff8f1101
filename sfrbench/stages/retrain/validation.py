"""Validation of a re-training, and the weights of the best one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from sfrbench.components.split import Split
from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import backbone_forward, on_device, slide
from sfrbench.engine.training import save_weights
from sfrbench.engine.volumes import Volumes
from sfrbench.maths.labels import highest
from sfrbench.stages.retrain.recipe import RetrainSettings

#: Windows that go through the student at once, on every device.
WINDOWS = 4


class Best:
    """The student's weights at the best validation so far; an earlier one wins a tie."""

    def __init__(self) -> None:
        self.step, self.score = 0, -1.0
        self.weights: dict[str, torch.Tensor] = {}

    def offer(self, step: int, score: float, student: nn.Module) -> None:
        if score > self.score:
            self.step, self.score = step, score
            self.weights = {k: v.detach().cpu().clone() for k, v in student.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "score": self.score, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self.step, self.score, self.weights = state["step"], state["score"], dict(state["weights"])

    def write(self, ctx: StageContext[RetrainSettings]) -> None:
        if self.weights:
            save_weights(ctx.out / "best.safetensors", self.weights)
            content = json.dumps({"step": self.step, "dice": self.score})
            (ctx.out / "best.json").write_text(content, encoding="utf-8")


def validator(
    ctx: StageContext[RetrainSettings], volumes: Volumes, split: Split, student: nn.Module
) -> Callable[[], float]:
    """Mean Dice, 0 to 1, over validation cases and the foreground classes that each of them has."""
    labels = volumes.labels(split.val, "validation")
    patch, stride = ctx.settings.patch, ctx.settings.stride
    assert stride is not None  # given where there are validation cases

    def validate() -> float:
        student.eval()
        scores: list[float] = []
        for case in split.val:
            image = on_device(volumes.image(case), ctx.device)
            probs = slide(image, patch, stride, backbone_forward(student), len(volumes.classes), WINDOWS)
            predicted, truth = highest(probs, 0).cpu().numpy(), np.asarray(labels[case])
            for index in range(1, len(volumes.classes)):
                a, b = predicted == index, truth == index
                if b.any():
                    scores.append(float(2 * (a & b).sum() / (a.sum() + b.sum())))
        student.train()
        return float(np.mean(scores)) if scores else 0.0

    return validate
