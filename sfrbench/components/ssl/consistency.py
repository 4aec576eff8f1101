"""What methods with a ramped consistency term share: the weight, and noise on an input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from sfrbench.components.base import Ssl

if TYPE_CHECKING:
    import torch

    from sfrbench.components.ssl.step import Step


class Consistency(Ssl):
    """A term with the weight lambda_cons * exp(-5 (1 - min(e, R) / R)^2), e = step // ramp_unit.

    The form of Laine and Aila 2017, with the numbers of UA-MT and SFR for the left atrium: R = 40 units of
    150 steps, so that the full weight is reached at step 6000.
    """

    lambda_cons: float = Field(0.1, ge=0, le=100, description="consistency weight at the end of the ramp")
    ramp_length: float = Field(40, ge=0, description="ramp units until the full weight; 0: at once")
    ramp_unit: int = Field(150, ge=1, description="steps per ramp unit; scale it with a shorter training")

    def progress(self, step: Step) -> float:
        """The value of the ramp at this step, from e^-5 to 1."""
        from sfrbench.maths.losses import ramp

        return ramp(step.iteration, self.ramp_length, self.ramp_unit)

    def weight(self, step: Step) -> float:
        """The weight at this step, noted for the history."""
        weight = self.lambda_cons * self.progress(step)
        step.values["consistency_weight"] = weight
        return weight


class NoisyConsistency(Consistency):
    """Consistency under noise on an input."""

    noise: float = Field(0.1, ge=0, description="standard deviation of the noise on the input")
    noise_clamp: float = Field(0.2, ge=0, description="largest absolute value of the noise")

    def noisy(self, images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """``images`` plus clamped normal noise, in the units of the z-scored image."""
        import torch

        noise = torch.randn(images.shape, generator=rng, device=images.device) * self.noise
        return images + noise.clamp(-self.noise_clamp, self.noise_clamp)
