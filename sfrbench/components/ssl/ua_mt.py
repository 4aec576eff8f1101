"""Uncertainty-aware Mean Teacher (Yu et al., MICCAI 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.ssl.mean_teacher import MeanTeacher

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import Step


class UaMt(MeanTeacher):
    """Mean Teacher on the voxels where the teacher is sure of itself.

    L_method = lambda_cons * ramp(t) * sum M (p_s - p_t)^2 / (K sum M + 1e-16), the upper sum over K too, with
    M = [U < (certain_from + (certain_to - certain_from) * r) * ln K] and r = exp(-5 (1 - t/T)^2) over all T
    steps. p_t is one noisy pass of the teacher; U is the entropy of the mean over ``passes`` further ones,
    each with noise and dropout of its own. Source: yulequan/UA-MT,
    ``train_LA_meanteacher_certainty_unlabel.py``, where K = 2; ln K and K for more classes are ours. Dice of
    L_sup is the foreground's. The source's length, batch, optimiser and schedule are those of all methods
    here.
    """

    version: ClassVar[int] = 2

    sup_dice: Literal["all", "foreground"] = Field(
        "foreground", description="classes that L_sup's Dice averages"
    )
    consistency_on: Literal["all", "unlabelled"] = Field(
        "unlabelled", description="patches that the term compares; 'all' is the source's second script"
    )
    passes: int = Field(8, ge=1, le=64, description="teacher passes that the uncertainty is estimated from")
    passes_at_once: int = Field(
        2, ge=1, description="of them in one batch, which also is what batch norm averages over"
    )
    certain_from: float = Field(0.75, ge=0, le=1, description="threshold at the start, in units of ln K")
    certain_to: float = Field(1.0, ge=0, le=1, description="threshold at the end, in units of ln K")

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        from sfrbench.components.costs.parts import Passes

        seen = unlabelled + (labelled if self.consistency_on == "all" else 0)
        return Passes(free=seen * (1 + self.passes))

    def loss(self, step: Step) -> torch.Tensor:
        import math

        import torch

        from sfrbench.maths.losses import ramp

        if step.teacher is None:
            raise ValueError("UA-MT was called without a teacher")
        everything = self.consistency_on == "all"
        images, logits = (step.images, step.logits) if everything else (step.images_u, step.logits_u)
        grown = ramp(step.iteration, step.steps, 1)
        threshold = self.certain_from + (self.certain_to - self.certain_from) * grown
        with torch.no_grad():
            target = step.teacher(self.noisy(images, step.rng)).softmax(1)
            mean = self._mean_prediction(step.teacher, images, step.rng)
            uncertainty = -(mean * (mean + 1e-6).log()).sum(1, keepdim=True)
            mask = (uncertainty < threshold * math.log(step.classes)).float()
        distance: torch.Tensor = (mask * (logits.softmax(1) - target).square()).sum()
        distance = distance / (step.classes * mask.sum() + 1e-16)
        step.values["consistency"] = distance
        step.values["certain"] = mask.mean()
        return self.weight(step) * distance

    def _mean_prediction(
        self, teacher: nn.Module, images: torch.Tensor, rng: torch.Generator
    ) -> torch.Tensor:
        """The mean of the teacher's probabilities (B, K, X, Y, Z) over ``passes``."""
        total = images.new_zeros(())
        for first in range(0, self.passes, self.passes_at_once):
            count = min(self.passes_at_once, self.passes - first)
            noisy = self.noisy(images.repeat(count, 1, 1, 1, 1), rng)
            for probs in teacher(noisy).softmax(1).chunk(count):
                total = total + probs
        return total / self.passes
