"""MagicNet's V-Net: no affine norm, no dropout, and a head for the training method alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sfrbench.components.backbone.vnet import VNet

if TYPE_CHECKING:
    from sfrbench.components.backbone._vnet_magic import LocationHead


class VNetMagic(VNet):
    """V-Net as MagicNet uses it: 9,443,470 parameters for K = 14, and 8,511,515 more while it trains.

    The network is the V-Net alone, and so are the stored model and its parameter count. The location
    head is a network of the semi-supervised method, which makes one for itself.
    """

    norm: Literal["batch", "group", "instance", "none"] = Field(
        "instance", description="normalisation behind each convolution"
    )
    dropout: bool = Field(False, description="channel dropout, 0.5, after the bottleneck and before the head")

    def location_head(self, cube: int = 32, positions: int = 27) -> LocationHead:
        """Bottleneck maps of cubes, ``cube`` voxels a side, to scores of the positions in the patch."""
        from sfrbench.components.backbone._vnet_magic import LocationHead

        return LocationHead(self.filters * 2**4, cube, positions)
