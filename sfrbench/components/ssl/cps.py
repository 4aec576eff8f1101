"""Cross Pseudo Supervision (Chen et al., CVPR 2021) as SSL4MIS runs it on volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sfrbench.components.ssl.consistency import Consistency
from sfrbench.maths.labels import highest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sfrbench.components.backbone.interface import Passed
    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import NetworkMaker, Step


class Cps(Consistency):
    """Two networks, each trained on the other's hard labels.

    L_method = lambda_cons * ramp(t) * [CE(z_1(u), argmax z_2(u)) + CE(z_2(u), argmax z_1(u))], without noise;
    L_sup, and with SFR L_pl, of both networks are summed. Source: HiLab-git/SSL4MIS,
    ``train_cross_pseudo_supervision_3D.py``. There network 1 is drawn anew by Kaiming's rule and network 2 by
    Xavier's; here network 1 is the student, which is deployed and keeps its backbone's own initialisation, as
    with every method. The source has an optimiser for each network; here one for both, which differs only
    where gradients are clipped.
    """

    second_init: Literal["xavier", "kaiming", "backbone"] = Field(
        "xavier", description="initialisation of the second network's convolutions"
    )

    def networks(self, make: NetworkMaker) -> dict[str, nn.Module]:
        from torch import nn

        second = make()
        for module in second.modules():
            if isinstance(module, nn.Conv3d) and self.second_init == "xavier":
                nn.init.xavier_normal_(module.weight)
            elif isinstance(module, nn.Conv3d) and self.second_init == "kaiming":
                nn.init.kaiming_normal_(module.weight)
        return {"second": second}

    def outputs(self, step: Step) -> list[torch.Tensor]:
        return [step.logits, self._second(step).logits]

    def coarser(self, step: Step) -> list[tuple[torch.Tensor, ...]]:
        return [step.coarser, self._second(step).coarser]

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        from sfrbench.components.costs.parts import Passes

        return Passes(trained=labelled + unlabelled, parameters=network.parameters)

    def loss(self, step: Step) -> torch.Tensor:
        from sfrbench.maths.losses import cross_entropy

        one, two = step.logits_u, self._second(step).logits[len(step.logits_l) :]
        distance = cross_entropy(one, highest(two)) + cross_entropy(two, highest(one))
        step.values["consistency"] = distance
        return self.weight(step) * distance

    def _second(self, step: Step) -> Passed:
        """The second network's pass, computed once in a step."""
        from sfrbench.components.backbone.interface import passed

        return step.once("second", lambda: passed(step.networks["second"], step.images).outputs())
