"""One slice per canvas, enlarged: the way SAM is commonly given medical slices."""

from __future__ import annotations

from sfrbench.components.stitch import _geometry
from sfrbench.components.stitch._geometry import Geometry
from sfrbench.components.stitch.grid import TiledStitch


class UpsampledStitch(TiledStitch):
    """Slice-wise upsampling (the paper's Fig. 3, 'upsampling fine-tune').

    The longer side of each slice is resized to the canvas, proportions kept, the rest of the canvas is
    padding on both sides. A patch of Z slices gives Z canvases; training draws one slice at random.
    """

    def geometry(self, shape: tuple[int, int], canvas: int) -> Geometry:
        return _geometry.fitted(shape, canvas, n=1, pad=0)
