"""ACMT (Xu et al., MedIA 2023): consistency with an averaged teacher where the student is ambiguous."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.ssl.consistency import NoisyConsistency
from sfrbench.maths.labels import highest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sfrbench.components.core import Part
    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import NetworkMaker, Step


class Acmt(NoisyConsistency):
    """L_method = lambda_cons * ramp(t) * sum M (p_s - p_t)^2 / (K sum M + 1e-16) on unlabelled patches.

    p_t is the teacher's under noise. M, in {0, 1}, is one of four selectors (repository lemoshu/AC-MT):

    - ``ent``: the entropy of p_s over ln K is at least threshold + threshold_rise * exp(-5 (1 - t/T)^2).
    - ``mu``: the same of the mean of ``passes`` noisy passes of the student; divided by sum M without K.
    - ``p_err``: the nearest prototype of the teacher's features is not the student's class. Adds
      mean (1 - M) H(p_s) / ln K, the entropy of the other voxels, under the same weight.
    - ``s_err``: confident learning on the teacher's clean probabilities finds the student's class wrong; all
      voxels where the student sees one class only. Written from the paper of Northcutt et al., without the
      package cleanlab: counts are rounded one by one, not by row.

    The source is binary. Ours: ln K in place of ln 2; nearest of K prototypes, in the features in front of
    the output convolution (the source: one level coarser, interpolated); the entropy of ``p_err`` masked
    voxel by voxel (the source's mask is broadcast over cases). Its selection of a checkpoint on test cases is
    left out.
    """

    needs_teacher: ClassVar[bool] = True

    selector: Literal["ent", "mu", "p_err", "s_err"] = Field("ent", description="which voxels are ambiguous")
    threshold: float = Field(0.75, ge=0, le=1, description="entropy over ln K; ent and mu")
    threshold_rise: float = Field(
        0.2,
        ge=-1,
        le=1,
        description="added by the last step: 0.2 for ent, 0.15 for mu; -0.15 loosens instead",
    )
    passes: int = Field(8, ge=2, multiple_of=2, description="passes: 8 for mu, 10 for p_err")
    certain: float = Field(0.1, ge=0, description="p_err: largest deviation of a probability that counts")

    def asks(self) -> frozenset[Part]:
        return frozenset({"parts"} if self.selector == "p_err" else ())

    def networks(self, make: NetworkMaker) -> dict[str, nn.Module]:
        from sfrbench.components.backbone.interface import in_parts

        if self.selector == "p_err":
            in_parts(make.student)  # refuses another backbone before the first step
        return {}

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        from sfrbench.components.costs.parts import Passes

        more = {"ent": 0, "mu": self.passes, "p_err": 1 + self.passes, "s_err": 1}[self.selector]
        return Passes(free=unlabelled * (1 + more))

    def loss(self, step: Step) -> torch.Tensor:
        import torch

        from sfrbench.components.ssl._ambiguity import entropy

        if step.teacher is None:
            raise ValueError("ACMT was called without a teacher")
        probs = step.logits_u.softmax(1)
        with torch.no_grad():
            target = step.teacher(self.noisy(step.images_u, step.rng)).softmax(1)
            mask = self._mask(step, probs)
        squares = (probs - target).square().sum(1)
        share = 1 if self.selector == "mu" else step.classes
        term: torch.Tensor = (mask * squares).sum() / (share * mask.sum() + 1e-16)
        step.values["consistency"] = term
        step.values["ambiguous"] = mask.float().mean()
        if self.selector == "p_err":
            regular = (~mask * entropy(probs)).mean()
            step.values["entropy"] = regular
            term = term + regular
        return self.weight(step) * term

    def _mask(self, step: Step, probs: torch.Tensor) -> torch.Tensor:
        """(B_u, X, Y, Z) bool."""
        import torch

        from sfrbench.components.backbone.interface import in_parts
        from sfrbench.components.ssl import _ambiguity
        from sfrbench.maths.losses import ramp

        assert step.teacher is not None
        images, labels = step.images_u, highest(probs)
        if self.selector == "p_err":
            teacher = in_parts(step.teacher)
            return _ambiguity.prototype_labels(teacher, images, self.passes, self.certain) != labels
        if self.selector == "s_err":
            theirs = step.teacher(images).softmax(1).movedim(1, -1).flatten(0, -2)
            wrong = _ambiguity.label_errors(labels.flatten(), theirs)
            return torch.ones_like(labels, dtype=torch.bool) if wrong is None else wrong.view_as(labels)
        if self.selector == "mu":
            probs = _ambiguity.mean_probabilities(
                step.student, images, self.passes, lambda batch: self.noisy(batch, step.rng)
            )
        threshold = self.threshold + self.threshold_rise * ramp(step.iteration, step.steps, 1)
        return _ambiguity.entropy(probs) >= threshold
