"""CauSSL (Miao et al., ICCV 2023) on cross pseudo supervision."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.ssl.causal import Independent
from sfrbench.components.ssl.cps import Cps

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sfrbench.components.costs.parts import Passes, Segmenter
    from sfrbench.components.ssl.step import NetworkMaker, Step


class CausalCps(Independent, Cps):
    """CPS, from step ``cross_after`` on, of two networks whose kernels must not follow from each other's.

    L_method = [t > cross_after] L_CPS + w_independence * term (``Independent``), the term over all
    convolutions. Source: JuzhengMiao/CauSSL, ``train_CT_CPSCauSSL.py``. lambda_cons is its 0.1 times its 0.3.
    """

    version: ClassVar[int] = 2

    lambda_cons: float = Field(0.03, ge=0, le=100, description="consistency weight at the end of the ramp")
    cross_after: int = Field(400, ge=0, description="the networks train each other after this step")
    game_after: int = Field(500, ge=0, description="no game up to this step")
    second_init: Literal["xavier", "kaiming", "backbone"] = Field(
        "backbone", description="initialisation of the second network's convolutions"
    )

    def networks(self, make: NetworkMaker) -> dict[str, nn.Module]:
        from sfrbench.components.ssl._independence import Independence, shared_kernels

        networks = super().networks(make)
        kernels = shared_kernels([make.student, networks["second"]])
        return {**networks, "independence": Independence(kernels)}

    def cost(self, labelled: int, unlabelled: int, network: Segmenter) -> Passes | None:
        """Without the inner game, a few products of kernels with each other."""
        from sfrbench.components.costs.parts import Passes

        return Passes(trained=labelled + unlabelled, parameters=network.parameters)

    def loss(self, step: Step) -> torch.Tensor:
        pair = [step.student, step.networks["second"]]
        independence = self.independence(step, pair)
        return independence + super().loss(step) if step.iteration > self.cross_after else independence
