"""Uncertainty Rectified Pyramid Consistency (Luo et al., MICCAI 2021 and MedIA 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from sfrbench.components.ssl.consistency import Consistency

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sfrbench.components.core import Part
    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import NetworkMaker, Step


class Urpc(Consistency):
    """The predictions of all decoder levels agree with their mean, most of all where they already do.

    With p_s the softmax of level s's logits, enlarged to the patch, p the mean of all p_s and
    D_s = KL(p || p_s) at each voxel,
    L_method = lambda_cons * ramp(t) * mean_s [mean((p - p_s)^2 e^-D_s) / (mean e^-D_s + 1e-8) + mean D_s]
    over unlabelled patches, the first mean over K too. L_sup, and with SFR L_pl, is the mean over the levels.
    The finest is the student's own output, which is deployed; the heads of the coarser ones belong to the
    method, on any backbone. Source: HiLab-git/SSL4MIS,
    ``train_uncertainty_rectified_pyramid_consistency_3D.py``, whose 3D U-Net has channel dropout at every
    level: backbone ``unet3d_ds`` has it, V-Net has not (ours).
    """

    combine: ClassVar[Literal["sum", "mean"]] = "mean"

    def asks(self) -> frozenset[Part]:
        return frozenset({"parts", "scales"})

    def networks(self, make: NetworkMaker) -> dict[str, nn.Module]:
        from sfrbench.components.backbone.interface import SCALES, in_parts
        from sfrbench.components.ssl._scale_heads import ScaleHeads

        return {"heads": ScaleHeads(in_parts(make.student, SCALES).scale_channels[1:], make.classes)}

    def outputs(self, step: Step) -> list[torch.Tensor]:
        return [step.logits, *self._coarser(step)]

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        from sfrbench.components.costs.parts import Passes

        return Passes()  # three more output convolutions

    def loss(self, step: Step) -> torch.Tensor:
        import math

        import torch

        logits = [step.logits_u, *(scale[len(step.logits_l) :] for scale in self._coarser(step))]
        logs = torch.stack([scale.log_softmax(1) for scale in logits])
        log_mean = logs.logsumexp(0) - math.log(len(logits))  # finite, as log(mean) would not be
        mean = log_mean.exp()
        divergence = (mean * (log_mean - logs)).sum(2, keepdim=True)
        certain = (-divergence).exp()
        rest = tuple(range(1, logs.ndim))
        rectified = ((mean - logs.exp()).square() * certain).mean(rest) / (certain.mean(rest) + 1e-8)
        distance = (rectified + divergence.mean(rest)).mean()
        step.values["consistency"] = distance
        return self.weight(step) * distance

    def _coarser(self, step: Step) -> list[torch.Tensor]:
        """Logits of the coarser levels, each like ``step.logits``; computed once in a step."""
        return step.once("scales", lambda: step.networks["heads"](step.scales[1:], step.images.shape[2:]))
