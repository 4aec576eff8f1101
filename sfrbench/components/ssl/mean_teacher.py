"""Mean Teacher (Tarvainen and Valpola, 2017) as UA-MT and SFR run it on volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.ssl.consistency import NoisyConsistency

if TYPE_CHECKING:
    import torch

    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import Step


class MeanTeacher(NoisyConsistency):
    """L_method = lambda_cons * ramp(t) * mean (softmax(student) - softmax(teacher))^2, the mean over K too.

    The teacher sees the patches with noise, its dropout active and with its own batch statistics. SFR's
    released code compares all patches of the batch; UA-MT and SSL4MIS the unlabelled ones only.
    """

    needs_teacher: ClassVar[bool] = True

    consistency_on: Literal["all", "unlabelled"] = Field("all", description="patches that the term compares")

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        from sfrbench.components.costs.parts import Passes

        seen = unlabelled + (labelled if self.consistency_on == "all" else 0)
        return Passes(free=seen)

    def loss(self, step: Step) -> torch.Tensor:
        import torch

        if step.teacher is None:
            raise ValueError("Mean Teacher was called without a teacher")
        everything = self.consistency_on == "all"
        images, logits = (step.images, step.logits) if everything else (step.images_u, step.logits_u)
        with torch.no_grad():
            target = step.teacher(self.noisy(images, step.rng)).softmax(1)
        distance: torch.Tensor = (logits.softmax(1) - target).square().mean()
        step.values["consistency"] = distance
        return self.weight(step) * distance
