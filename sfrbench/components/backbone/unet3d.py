"""3D U-Net: the backbone of the brain-tumour experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from sfrbench.components.base import PRECISION, Backbone, Part, Precision
from sfrbench.components.core import ALL_PARTS

if TYPE_CHECKING:
    from torch import nn

    from sfrbench.components.costs.parts import Segmenter, Size

Share = Annotated[float, Field(ge=0, lt=1)]


class UNet3d(Backbone):
    """3D U-Net with instance norm (no affine) and concatenated skips: 5,884,050 parameters, K = 2."""

    parts: ClassVar[frozenset[Part]] = ALL_PARTS
    version: ClassVar[int] = 2  # small maps are convolved in float32
    unkeyed_fields: ClassVar[frozenset[str]] = frozenset({"checkpointing"})

    filters: int = Field(16, ge=2, le=64, description="channels of the finest level; doubled at each level")
    dropout: Share = Field(0.3, description="dropout of values, after the bottleneck and before the head")
    level_dropout: tuple[Share, Share, Share, Share] = Field(
        (0.0, 0.0, 0.0, 0.0), description="dropout of channels after each decoder level, coarsest first"
    )
    deep_supervision: bool = Field(
        False, description="heads at the coarser levels, for methods that ask for logits at all scales"
    )
    precision: Precision = Field("fp32", description=PRECISION)
    checkpointing: bool = Field(
        False, description="levels run twice and keep nothing between: less memory, the same numbers"
    )

    def build(self, classes: int, inputs: int = 1) -> nn.Module:
        """(B, inputs, X, Y, Z) float32 to logits (B, K, X, Y, Z) float32; Kaiming initialisation."""
        from sfrbench.components.backbone._unet3d import UNet3dModule

        return UNet3dModule(
            classes,
            self.filters,
            self.dropout,
            self.level_dropout,
            self.deep_supervision,
            self.precision == "bf16",
            inputs,
            self.checkpointing,
        )

    def cost(self, patch: Size, classes: int) -> Segmenter | None:
        from sfrbench.components.costs.nets import twice, unet

        cost = unet(patch, classes, self.filters, deep=self.deep_supervision)
        return twice(cost) if self.checkpointing else cost

    @property
    def bottleneck(self) -> int:
        return 2
