"""One slice per canvas at its own size: the model's input is shrunk to the slice."""

from __future__ import annotations

from collections.abc import Mapping

from sfrbench.components.base import Component, Dataset, Foundation
from sfrbench.components.stitch import _geometry
from sfrbench.components.stitch._geometry import Geometry
from sfrbench.components.stitch.grid import TiledStitch

#: Pixels that a canvas may be larger than the slice; beyond that it would mostly be padding.
SLACK = 32


class SmallSizeStitch(TiledStitch):
    """Small-size fine-tuning (the paper's Fig. 3): no resampling, no stitching, a small canvas.

    The canvas is the foundation's: set ``foundation.canvas`` to the side of the slice, rounded up to a
    multiple of 16 (112 for LA); the foundation then interpolates its position tables. A slice lies in the
    middle of the canvas, the rest is padding. A patch of Z slices gives Z canvases; training draws one slice.
    """

    def geometry(self, shape: tuple[int, int], canvas: int) -> Geometry:
        return _geometry.centred(shape, canvas)

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        faults = super().conflicts(cell)
        dataset, foundation = cell.get("dataset"), cell.get("foundation")
        if not faults and isinstance(dataset, Dataset) and isinstance(foundation, Foundation):
            side = max(dataset.patch[:2])
            if foundation.canvas - side > SLACK:
                wanted = -(-side // 16) * 16
                faults.append(
                    f"the canvas of {foundation.canvas} pixels is not the slice's {side}: "
                    f"set foundation.canvas to {wanted}, or to at most {SLACK} more than the slice"
                )
        return faults
