"""One cube size for every dataset: the paper's simplified strategy."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from sfrbench.components.base import Component, Dataset, Foundation
from sfrbench.components.stitch.grid import GridStitch


class UniformStitch(GridStitch):
    """Volumes of any size cut into cubes, and the slices of a cube stitched on one canvas (Table VI).

    Cubes of 96 give 10 x 10 cells on 1024 pixels. What is not as deep as a cube is interpolated along z, as
    the paper says, which is the dataset's part: ``dataset.min_depth``; the released code, which has no run of
    Table VI, would pad with 0. Predictions are scored on the slices that a case has of its own. The geometry
    is that of 'grid'; what this adds is that a specification which would do something else is refused.
    """

    side: int = Field(96, ge=16, le=256, description="voxels along each side of the cube")

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        faults = super().conflicts(cell)
        dataset, foundation = cell.get("dataset"), cell.get("foundation")
        if not isinstance(dataset, Dataset):
            return faults
        cube = (self.side,) * 3
        if tuple(dataset.patch) != cube:
            faults.append(
                f"{list(dataset.patch)} is no cube of {self.side}: set dataset.patch to {list(cube)}"
            )
        elif not faults and isinstance(foundation, Foundation):
            cells, side = self.geometry(cube[:2], foundation.canvas).cells, foundation.canvas
            if cells < self.side:
                faults.append(
                    f"{self.side} slices need more than the {cells} cells of a canvas of {side} pixels"
                )
        if (dataset.min_depth or 0) < self.side:
            faults.append(f"shallower volumes must be interpolated: set dataset.min_depth to {self.side}")
        return faults
