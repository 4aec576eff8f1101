"""MagicNet's V-Net: no affine norm, no dropout, and a head for the training method alone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sfrbench.components.backbone.vnet import VNet


class VNetMagic(VNet):
    """V-Net as MagicNet uses it: 9,443,470 parameters for K = 14, and 8,511,515 more while it trains.

    The network is the V-Net alone, and so are the stored model and its parameter count. The location
    head is a network of the semi-supervised method, which makes one for itself.
    """

    norm: Literal["batch", "group", "instance", "none"] = Field(
        "instance", description="normalisation behind each convolution"
    )
    dropout: bool = Field(False, description="channel dropout, 0.5, after the bottleneck and before the head")
