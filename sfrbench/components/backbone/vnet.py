"""V-Net: the backbone of the left-atrium experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.base import PRECISION, Backbone, Part, Precision
from sfrbench.components.core import ALL_PARTS

if TYPE_CHECKING:
    from torch import nn

    from sfrbench.components.costs.parts import Segmenter, Size


class VNet(Backbone):
    """V-Net with additive skips, as UA-MT, DTC and SFR use it: 9,448,866 parameters, K = 2."""

    parts: ClassVar[frozenset[Part]] = ALL_PARTS
    version: ClassVar[int] = 3  # small maps are convolved in float32
    unkeyed_fields: ClassVar[frozenset[str]] = frozenset({"checkpointing"})

    filters: int = Field(16, ge=2, le=64, description="channels of the finest level; doubled at each level")
    norm: Literal["batch", "group", "instance", "none"] = Field(
        "batch", description="normalisation behind each convolution"
    )
    dropout: bool = Field(True, description="channel dropout, 0.5, after the bottleneck and before the head")
    precision: Precision = Field("fp32", description=PRECISION)
    checkpointing: bool = Field(
        False, description="levels run twice and keep nothing between: less memory, the same numbers"
    )

    def build(self, classes: int, inputs: int = 1) -> nn.Module:
        """(B, inputs, X, Y, Z) to logits (B, K, X, Y, Z), both float32; PyTorch's default initialisation."""
        from sfrbench.components.backbone._vnet import VNetModule

        return VNetModule(
            classes,
            self.filters,
            self.norm,
            self.dropout,
            self.precision == "bf16",
            inputs,
            self.checkpointing,
        )

    def cost(self, patch: Size, classes: int) -> Segmenter | None:
        from sfrbench.components.costs.nets import twice, vnet

        cost = vnet(patch, classes, self.filters, self.norm)
        return twice(cost) if self.checkpointing else cost

    @property
    def bottleneck(self) -> int:
        return 2 if self.norm == "instance" else 1
