"""Interpolation Consistency Training (Verma et al., IJCAI 2019) as SSL4MIS runs it on volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.ssl.consistency import Consistency

if TYPE_CHECKING:
    import torch

    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import Step


class Ict(Consistency):
    """The student's answer to a mixture is the mixture of the teacher's answers.

    L_method = lambda_cons * ramp(t) * mean (p_s(mix(u_0, u_1)) - mix(p_t(u_0), p_t(u_1)))^2, the mean over K
    too, with mix(a, b) = (1 - m) a + m b and m ~ Beta(alpha, alpha), one for each pair. No noise. The first
    half of the unlabelled patches is paired with the second; an odd one out with the first labelled image, of
    which only the intensities are used (ours: the source has two unlabelled patches, and so one pair).
    Source: HiLab-git/SSL4MIS, ``train_interpolation_consistency_training_3D.py``, where the student sees
    labelled and mixed patches in one batch; here in two, which differs under batch norm only.
    """

    needs_teacher: ClassVar[bool] = True
    plain: ClassVar[Literal["all", "labelled", "none"]] = "labelled"

    alpha: float = Field(0.2, gt=0, le=10, description="both parameters of the Beta distribution of m")

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        from sfrbench.components.costs.parts import Passes

        pairs = -(-unlabelled // 2)
        return Passes(trained=pairs, free=2 * pairs)

    def loss(self, step: Step) -> torch.Tensor:
        import torch

        if step.teacher is None:
            raise ValueError("ICT was called without a teacher")
        images = step.images_u
        if len(images) % 2:
            images = torch.cat([images, step.images_l[:1]])
        first, second = images.chunk(2)
        share = self.factors(step.host_rng, len(first), images.device)
        with torch.no_grad():
            target = mix(step.teacher(first).softmax(1), step.teacher(second).softmax(1), share)
        mixed = step.student(mix(first, second, share)).softmax(1)
        distance: torch.Tensor = (mixed - target).square().mean()
        step.values["consistency"] = distance
        return self.weight(step) * distance

    def factors(self, rng: torch.Generator, count: int, device: torch.device) -> torch.Tensor:
        """(count, 1, 1, 1, 1) shares of the second patches, float32, in [0, 1]; ``rng`` is the host's."""
        import numpy as np
        import torch

        seed = int(torch.randint(2**62, (), generator=rng))
        shares = np.random.default_rng(seed).beta(self.alpha, self.alpha, count)
        # filled in there, number by number: a copy would wait for the device
        return torch.cat([torch.full((1, 1, 1, 1, 1), share, device=device) for share in shares.tolist()])


def mix(first: torch.Tensor, second: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    return (1 - share) * first + share * second
