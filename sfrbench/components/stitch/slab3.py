"""Each slice with its two neighbours as the three colour channels of the canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from sfrbench.components.stitch import _geometry
from sfrbench.components.stitch._geometry import Geometry
from sfrbench.components.stitch.grid import GridStitch

if TYPE_CHECKING:
    import torch


class Slab3Stitch(GridStitch):
    """Slices z - 1, z, z + 1 as channels, the label that of z (in the paper's IV-G.6 without results).

    The first and last slice of a patch stand in for the neighbours that they lack. On a training canvas,
    slices at the end of a run keep their neighbours in the patch. What has more than one channel, or integer
    values (maps, labels), is tiled as it is, so ``from_canvases`` is that of the grid; of a slab's own three
    channels it gives the volume as channel 1.
    """

    layout: Literal["stitched", "upsampled"] = Field(
        "stitched", description="slices tiled as by 'grid', or one enlarged slice per canvas"
    )

    @model_validator(mode="after")
    def _scale_is_of_the_grid(self) -> Slab3Stitch:
        if self.layout == "upsampled" and self.scale is not None:
            raise ValueError("scale means nothing where layout is 'upsampled'; leave one of them out")
        return self

    def geometry(self, shape: tuple[int, int], canvas: int) -> Geometry:
        if self.layout == "upsampled":
            return _geometry.fitted(shape, canvas, n=1, pad=0)
        return super().geometry(shape, canvas)

    def channels(self, volume: torch.Tensor) -> torch.Tensor:
        """(1, X, Y, Z) floating to (3, X, Y, Z); anything else as it is."""
        import torch

        if volume.shape[0] != 1 or not volume.is_floating_point():
            return volume
        before = torch.cat([volume[..., :1], volume[..., :-1]], -1)
        after = torch.cat([volume[..., 1:], volume[..., -1:]], -1)
        return torch.cat([before, volume, after])
