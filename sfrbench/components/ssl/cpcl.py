"""CPCL (Xu et al., JBHI 2022): cyclic prototype consistency, labelled to unlabelled and back."""

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


class Cpcl(NoisyConsistency):
    """L_method = lambda_cons * ramp(t) * (L_l2u + L_mt + back_weight * L_u2l). Source: lemoshu/CPCL.

    A prototype is the mean of features over the voxels of a class in one case, weighted by the probability of
    that class; q, the softmax of ``scale`` times the cosine with the K prototypes, is a segmentation of
    another case. f_s, p_s are the student's features and probabilities, f_t, p_t the teacher's without noise.

    - L_l2u = mean (q - p_t)^2 on unlabelled patches: prototypes of f_s over the labels, q of f_t.
    - L_u2l = CE(q, label) on labelled patches: prototypes of f_t over argmax p_t, q of f_s.
    - L_mt = mean (z_s - z_t)^2 of logits, all patches, the teacher's under noise.

    Patch i meets patch i of the other half (ours: modulo its size where sizes differ). A class without
    voxels has the prototype 0, so cosine 0. The released code differs in what ``detached``, ``softmax_twice``
    and ``layer`` choose.
    """

    needs_teacher: ClassVar[bool] = True
    uses_labels: ClassVar[bool] = True

    back_weight: float = Field(10, ge=0, le=100, description="weight of unlabelled-to-labelled prediction")
    scale: float = Field(20, gt=0, description="factor of the cosine")
    layer: Literal["features", "bottleneck"] = Field(
        "features", description="where prototypes live: before the head, or the released code's bottleneck"
    )
    detached: bool = Field(
        False,
        description="true repeats the released code, where no gradient passes a prototype or its features",
    )
    softmax_twice: bool = Field(
        True, description="q stands for logits in the cross-entropy, as in the released code"
    )

    def asks(self) -> frozenset[Part]:
        return frozenset({"parts"})

    def networks(self, make: NetworkMaker) -> dict[str, nn.Module]:
        from sfrbench.components.backbone.interface import in_parts

        in_parts(make.student)  # refuses another backbone before the first step
        return {}

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        from sfrbench.components.costs.parts import Passes

        return Passes(free=labelled + 2 * unlabelled)

    def loss(self, step: Step) -> torch.Tensor:
        import torch

        from sfrbench.components.backbone.interface import in_parts
        from sfrbench.maths.losses import cross_entropy

        if step.teacher is None or step.features is None:
            raise ValueError("CPCL was called without a teacher or without features")
        teacher = in_parts(step.teacher)
        with torch.no_grad():
            noisy = teacher(self.noisy(step.images, step.rng))
            maps_t = teacher.encode(step.images_u)
            finest = teacher.decode(maps_t)
            target = teacher.head(teacher.drop(finest)).softmax(1)
            theirs = self._at(maps_t[-1], finest)
        ours = self._at(step.maps[-1], step.features)[: len(step.labels)]
        if self.detached:
            ours = ours.detach()
        forward = self._segment(ours, step.labels, step.logits_l.softmax(1).detach(), theirs)
        back = self._segment(theirs, highest(target), target, ours)
        l2u = (forward.softmax(1) - target).square().mean()
        u2l = cross_entropy(back.softmax(1) if self.softmax_twice else back, step.labels)
        consistency = (step.logits - noisy).square().mean()
        step.values.update(l2u=l2u, u2l=u2l, consistency=consistency)
        total: torch.Tensor = l2u + consistency + self.back_weight * u2l
        return self.weight(step) * total

    def _at(self, bottleneck: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The chosen layer, (B, C, X, Y, Z), in the size of the patch."""
        from torch.nn import functional

        from sfrbench.components.ssl._prototypes import wide

        if self.layer == "features":
            return wide(features)
        return functional.interpolate(wide(bottleneck), features.shape[2:], mode="trilinear")

    def _segment(
        self, source: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, other: torch.Tensor
    ) -> torch.Tensor:
        """``scale`` times the cosine of ``other`` with the prototypes of ``source``: (B, K, X, Y, Z)."""
        import torch

        from sfrbench.components.ssl._prototypes import prototypes, similarities

        centres, _ = prototypes(source, labels, weights)
        partner = torch.arange(len(other), device=other.device) % len(source)
        return self.scale * similarities(centres[partner], other)
