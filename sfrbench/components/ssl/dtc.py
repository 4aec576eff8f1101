"""DTC (Luo et al., AAAI 2021): two tasks of one network, a segmentation and a distance map, agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.ssl.consistency import Consistency

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from sfrbench.components.core import Part
    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import NetworkMaker, Step


class Dtc(Consistency):
    """L_method = sdf_weight * mean (d - D)^2 + lambda_cons * ramp(t) * mean (sigmoid(-steepness d) - p)^2.

    d in (-1, 1) is tanh of a second output convolution, D the signed distance map of the label (labelled
    patches only); the second mean runs over all patches. L_sup is Dice of the foreground alone: with the
    background's averaged in, it would be half of that, and lambda_cons count double. Source: HiLab-git/DTC,
    ``train_la_dtc.py``, whose length, batch, optimiser and schedule are those of all methods here.

    The source is binary: one distance map and one sigmoid map s. Ours: one of each per foreground class, and
    Dice the mean over these. p_c = softmax_c is the sigmoid of a class against the rest,
    sigmoid(z_c - ln sum_{j != c} e^{z_j}), and so for K = 2 the source's map of one channel z_1 - z_0. Ours
    too: the distance head reads features to which dropout is not yet applied, and a patch full of a class is
    treated as the mirror of one without it (nan in the source). Its largest connected component after
    inference is the protocol's choice.
    """

    version: ClassVar[int] = 2
    uses_labels: ClassVar[bool] = True

    lambda_cons: float = Field(1.0, ge=0, le=100, description="consistency weight at the end of the ramp")
    sup_ce: float = Field(0.0, ge=0, le=1, description="share of cross-entropy in L_sup; Dice: rest")
    sup_dice: Literal["all", "foreground"] = Field(
        "foreground", description="classes that L_sup's Dice averages"
    )
    sdf_weight: float = Field(0.3, ge=0, le=100, description="weight of the distance regression")
    steepness: float = Field(1500, gt=0, description="slope of the sigmoid that makes a distance a mask")
    absent: float = Field(
        0.0,
        ge=0,
        le=1,
        description="distance where a patch lacks the class: 0 in the source, 1 is far outside",
    )

    def asks(self) -> frozenset[Part]:
        return frozenset({"parts"})

    def networks(self, make: NetworkMaker) -> dict[str, nn.Module]:
        from torch import nn

        from sfrbench.components.backbone.interface import in_parts

        return {"sdf": nn.Conv3d(in_parts(make.student).feature_channels, make.classes - 1, 1)}

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        from sfrbench.components.costs.parts import Passes

        return Passes()  # one more output convolution

    def known(self, labels: NDArray[np.uint8], classes: int) -> Mapping[str, NDArray[np.float32]]:
        """The distance maps of labelled patches."""
        from sfrbench.components.ssl._sdf import signed_distances

        return {"sdf": signed_distances(labels, classes, self.absent)}

    def loss(self, step: Step) -> torch.Tensor:
        from sfrbench.components.ssl._prototypes import wide

        if step.features is None or "sdf" not in step.known:
            raise ValueError("DTC was called without features or distance maps")
        distances: torch.Tensor = step.networks["sdf"](wide(step.features)).tanh()
        true = step.known["sdf"].to(distances.dtype)
        regression: torch.Tensor = (distances[: len(true)] - true).square().mean()
        masks: torch.Tensor = (-self.steepness * distances).sigmoid()
        consistency = (masks - step.logits.softmax(1)[:, 1:]).square().mean()
        step.values.update(sdf=regression, consistency=consistency)
        return self.sdf_weight * regression + self.weight(step) * consistency
