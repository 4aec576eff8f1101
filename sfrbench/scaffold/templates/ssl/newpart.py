"""A semi-supervised method: what it asks of unlabelled patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from sfrbench.components.ssl.consistency import NoisyConsistency

if TYPE_CHECKING:
    import torch

    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import Step


class NewPart(NoisyConsistency):
    """The student's answer to a noisy patch is its answer to the plain one, the more where that is sure.

    L_method = lambda_cons * ramp(t) * sum_v w_v d_v / sum_v w_v over unlabelled voxels v, with d_v the mean
    over K of (softmax z(u + noise) - softmax z(u))^2 and w_v the highest of softmax z(u) to a power. No
    gradient goes through the plain answer. The Pi model (Laine and Aila, ICLR 2017); the weights are ours.

    L_sup, SFR's L_pl, schedule, EMA, checkpoints and history are the training loop's. What ``step`` holds
    stands in ``sfrbench/components/ssl/step.py``. A method with labels in its loss, a teacher or networks of
    its own says so: see ``Ssl`` in ``sfrbench/components/base_ssl.py``.
    """

    #: Raise it when the behaviour changes: results are kept under it.
    # version: ClassVar[int] = 2

    sure: float = Field(2.0, ge=0, le=100, description="power of the weight of a voxel; 0: all count alike")

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        """The noisy patches go through the network and back; ``plan`` forecasts by it."""
        from sfrbench.components.costs.parts import Passes

        return Passes(trained=unlabelled)

    def loss(self, step: Step) -> torch.Tensor:
        """L_method of one step."""
        plain: torch.Tensor = step.logits_u.softmax(1).detach()  # (B_u, K, X, Y, Z)
        noisy = step.student(self.noisy(step.images_u, step.rng)).softmax(1)
        apart = (noisy - plain).square().mean(1)  # (B_u, X, Y, Z)
        weights = plain.amax(1) ** self.sure
        distance: torch.Tensor = (weights * apart).sum() / weights.sum()
        step.values["distance"] = distance  # for the history
        return self.weight(step) * distance
