"""SLC-Net (Liu, Desrosiers, Zhou, MICCAI 2022): a second network sees the image and the first one's map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from sfrbench.components.ssl.consistency import NoisyConsistency
from sfrbench.maths.labels import highest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sfrbench.components.backbone.interface import Passed
    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import NetworkMaker, Step


class SlcNet(NoisyConsistency):
    """Two networks exchange hard labels; the second sees image + noise and softmax(z_1) as its channels.

    L_method = lambda_cons * ramp(t) * [CE(z_1, argmax z_2) + mean e^{-U} CE(z_2, argmax z_1)] on unlabelled
    patches, U the entropy (natural logarithm) of the mean of ``passes`` noisy passes of the first network.
    Gradients of the second network's losses pass its input into the first. L_sup, and with SFR L_pl, are
    summed over both. The first is the student, the one that is deployed. Source: igip-liu/SLC-Net,
    ``train_CLB.py``.

    The source is 2D, for ACDC, with batches of 12 and 12 slices. Ours: the same in 3D with the batch of the
    other methods. Left out: Dice on a grid of 4 x 4 blocks, which the script has off by default.
    """

    noise_clamp: float = Field(0.05, ge=0, description="largest absolute value of the noise")
    passes: int = Field(8, ge=2, multiple_of=2, description="passes that the uncertainty is taken from")

    def networks(self, make: NetworkMaker) -> dict[str, nn.Module]:
        return {"second": make(inputs=1 + make.classes)}

    def outputs(self, step: Step) -> list[torch.Tensor]:
        return [step.logits, self._second(step).logits]

    def coarser(self, step: Step) -> list[tuple[torch.Tensor, ...]]:
        return [step.coarser, self._second(step).coarser]

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        from sfrbench.components.costs.parts import Passes

        seen = labelled + unlabelled
        wider = 27 * network.classes * network.filters  # a channel for each class beside the image
        return Passes(
            trained=seen,
            free=self.passes * unlabelled,
            more=network.first * (seen * network.classes),
            parameters=network.parameters + wider,
        )

    def loss(self, step: Step) -> torch.Tensor:
        import math

        import torch
        from torch.nn import functional

        from sfrbench.components.ssl._ambiguity import entropy, mean_probabilities

        one, two = step.logits_u, self._second(step).logits[len(step.logits_l) :]
        with torch.no_grad():
            mean = mean_probabilities(
                step.student, step.images_u, self.passes, lambda images: self.noisy(images, step.rng)
            )
            trust = (-entropy(mean) * math.log(step.classes)).exp()
        first = functional.cross_entropy(one, highest(two))
        second = (trust * functional.cross_entropy(two, highest(one), reduction="none")).mean()
        step.values.update(first=first, second=second, trust=trust.mean())
        return self.weight(step) * (first + second)

    def _second(self, step: Step) -> Passed:
        """The second network's pass over all patches, computed once in a step."""
        import torch

        from sfrbench.components.backbone.interface import passed

        def run() -> Passed:
            noisy = self.noisy(step.images, step.rng)
            both = torch.cat([noisy, step.logits.softmax(1)], 1)
            return passed(step.networks["second"], both).outputs()

        return step.once("second", run)
