"""A backbone: the 3D segmenter that is trained and deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from sfrbench.components.base import PRECISION, Backbone, Part, Precision
from sfrbench.components.core import ALL_PARTS

if TYPE_CHECKING:
    from torch import nn


class NewPart(Backbone):
    """A U-Net of three levels with added skips (ours): small, and whole enough for every method.

    Fields stand here, the network in the module beside, which is imported when it is built: planning never
    waits for torch. ``cost``, which this one does not state, is what ``plan`` forecasts by: see
    ``sfrbench/components/costs/nets.py``.
    """

    #: Raise it when the behaviour changes: results are kept under it.
    # version: ClassVar[int] = 2

    #: What methods may ask of its network, beside logits: all of it.
    parts: ClassVar[frozenset[Part] | None] = ALL_PARTS
    #: Two halvings: every side of a patch is a multiple of this.
    divisor: ClassVar[int] = 4

    filters: int = Field(16, ge=2, le=64, description="channels of the finest level; doubled at each level")
    precision: Precision = Field("fp32", description=PRECISION)

    def build(self, classes: int, inputs: int = 1) -> nn.Module:
        """(B, inputs, X, Y, Z) to logits (B, K, X, Y, Z), both float32."""
        from sfrbench.scaffold.templates.backbone._newpart import NewPartNetwork

        return NewPartNetwork(classes, self.filters, self.precision == "bf16", inputs)
