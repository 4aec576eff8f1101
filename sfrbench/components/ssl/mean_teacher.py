"""Mean Teacher (Tarvainen and Valpola, 2017) as UA-MT and SFR run it on volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.base import Ssl

if TYPE_CHECKING:
    import torch

    from sfrbench.components.ssl.step import Step


class MeanTeacher(Ssl):
    """L_method = lambda_cons * ramp(t) * mean (softmax(student) - softmax(teacher))^2, the mean over K too.

    The teacher sees the patches with noise, its dropout active and with its own batch statistics. SFR's
    released code compares all patches of the batch; UA-MT and SSL4MIS the unlabelled ones only.
    """

    needs_teacher: ClassVar[bool] = True

    lambda_cons: float = Field(0.1, ge=0, le=100, description="consistency weight at the end of the ramp")
    ramp_length: float = Field(40, ge=0, description="ramp units until the full weight; 0: at once")
    ramp_unit: int = Field(150, ge=1, description="steps per ramp unit; scale it with a shorter training")
    noise: float = Field(0.1, ge=0, description="standard deviation of the noise on the teacher's input")
    noise_clamp: float = Field(0.2, ge=0, description="largest absolute value of the noise")
    consistency_on: Literal["all", "unlabelled"] = Field("all", description="patches that the term compares")

    def loss(self, step: Step) -> torch.Tensor:
        import torch

        from sfrbench.losses import ramp

        if step.teacher is None:
            raise ValueError("Mean Teacher was called without a teacher")
        everything = self.consistency_on == "all"
        images, logits = (step.images, step.logits) if everything else (step.images_u, step.logits_u)
        noise = torch.randn(images.shape, generator=step.rng, device=images.device) * self.noise
        with torch.no_grad():
            target = step.teacher(images + noise.clamp(-self.noise_clamp, self.noise_clamp)).softmax(1)
        distance: torch.Tensor = (logits.softmax(1) - target).square().mean()
        weight = self.lambda_cons * ramp(step.iteration, self.ramp_length, self.ramp_unit)
        step.values.update(consistency=distance, consistency_weight=weight)
        return weight * distance
