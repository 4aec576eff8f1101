"""SS-Net (Wu et al., MICCAI 2022): smooth against adversarial noise, and separated by class in features."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.ssl.consistency import Consistency
from sfrbench.maths.labels import highest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sfrbench.components.core import Part
    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import NetworkMaker, Step


class SsNet(Consistency):
    """L_method = lambda_cons * ramp(t) * (L_vat + contrast_weight * (C_l + C_u)).

    L_vat is the Dice distance of the prediction and the one under the noise, of length ``radius`` per patch,
    that changes it most (all patches; see ``virtual_adversarial``). C is a weighted mean of 1 - cos between
    features and up to ``memory`` prototypes of their class (see ``Contrast``): by the labels of labelled
    patches, by the student's own classes of unlabelled ones. The memory holds features of labelled voxels
    that the student gets right, foreground only, anew at each step. L_sup is Dice of the foreground alone,
    with plain sums below its line. Source: ycwu1997/SS-Net, ``train_ss_3d.py``, and
    Shathe/SemiSeg-Contrastive for the contrast.

    As in the source, the memory keeps what the selector scores lowest where there is more than it holds.
    Left out, without effect: the source's selectors of the memory (its rescaling divides each weight by
    itself) and of the background (never in the memory). Ours: the loop's prediction is taken in place of a
    further pass without noise; features to which dropout is not yet applied; for K > 2 L_vat in one Dice sum
    and L_sup the mean over the foreground classes (the source's 2D script, for four classes, has settings of
    its own: all classes, squares, eps 1e-10 in both, lambda 0.1, radius 6).
    """

    version: ClassVar[int] = 2
    uses_labels: ClassVar[bool] = True

    lambda_cons: float = Field(1.0, ge=0, le=100, description="consistency weight at the end of the ramp")
    sup_ce: float = Field(0.0, ge=0, le=1, description="share of cross-entropy in L_sup; Dice: rest")
    sup_dice: Literal["all", "foreground"] = Field(
        "foreground", description="classes that L_sup's Dice averages"
    )
    sup_dice_square: bool = Field(False, description="squares below the line of L_sup's Dice")
    sup_dice_eps: float = Field(1e-8, gt=0, le=1, description="eps of L_sup's Dice")
    radius: float = Field(10, ge=0, description="length of the adversarial noise, per patch")
    probe: float = Field(10, gt=0, description="length of the random noise that it is looked for with")
    contrast_weight: float = Field(0.1, ge=0, le=100, description="weight of each contrast")
    width: int = Field(32, ge=1, description="channels of projected features")
    memory: int = Field(32, ge=2, description="prototypes per class")
    keeps: Literal["lowest", "highest"] = Field("lowest", description="scores that enter the memory")

    def asks(self) -> frozenset[Part]:
        return frozenset({"parts"})

    def networks(self, make: NetworkMaker) -> dict[str, nn.Module]:
        from sfrbench.components.backbone.interface import in_parts
        from sfrbench.components.ssl._ss_net import Contrast

        channels = in_parts(make.student).feature_channels
        return {
            "contrast": Contrast(channels, make.classes, self.width, self.memory, self.keeps == "highest")
        }

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        from math import prod

        from sfrbench.components.costs.parts import Passes, linear

        seen, wide = labelled + unlabelled, self.width
        rows = seen * prod(network.patch)
        projected = linear(rows, network.filters, wide) + linear(rows, wide, wide) * 3
        # the noise: forward, and back to the image alone
        own = (network.filters + 2 * wide + 3) * wide + (wide + 4) * wide
        own += (network.classes - 1) * ((wide + 4) * wide + 1)
        return Passes(trained=seen, free=2 * seen, more=projected, parameters=own)

    def loss(self, step: Step) -> torch.Tensor:
        from sfrbench.components.ssl._prototypes import wide
        from sfrbench.components.ssl._ss_net import Contrast, virtual_adversarial

        contrast = step.networks["contrast"]
        if step.features is None or not isinstance(contrast, Contrast):
            raise ValueError("SS-Net was called without features or its own networks")
        probs = step.logits.detach().softmax(1)
        vat = virtual_adversarial(step.student, step.images, probs, step.rng, self.probe, self.radius)
        rows = wide(step.features).movedim(1, -1).flatten(0, -2)
        classes, labels = highest(probs).flatten(), step.labels.flatten()
        first = len(labels)
        right = (classes[:first] == labels) & (labels > 0)
        contrast.remember(rows[:first][right], labels[right])
        near_l = contrast.distance(rows[:first], labels)
        near_u = contrast.distance(rows[first:], classes[first:])
        step.values.update(vat=vat, contrast_labelled=near_l, contrast_unlabelled=near_u)
        return self.weight(step) * (vat + self.contrast_weight * (near_l + near_u))
