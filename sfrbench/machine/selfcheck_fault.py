"""What the self-check of a machine finds wrong, and the large shapes that it is made for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from sfrbench.components.core import Precision


class Shapes(BaseModel):
    """The largest maps of a node's networks: voxels of a patch, channels of a segmenter's finest level,
    pixels of a canvas."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patch: tuple[int, int, int] | None = None
    filters: int | None = None
    canvas: int | None = None

    def __str__(self) -> str:
        patch = "none" if self.patch is None else "x".join(map(str, self.patch))
        return f"patch {patch}, filters {self.filters or 'none'}, canvas {self.canvas or 'none'}"


class Fault(BaseModel):
    """One operation that is wrong here. ``off``: the norm of the difference as a share of the norm; none
    where that is no number, or the operation failed; ``limit`` is what it may be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Precision
    operation: str  # with its shape
    part: str  # "result", "gradient of input 1", or the error that was raised
    off: float | None = Field(ge=0, allow_inf_nan=False)
    limit: float

    def __str__(self) -> str:
        against = {"bf16": "fp32", "tf32": "fp32", "fp32": "float64"}[self.precision]
        off = "not a number" if self.off is None else f"off by {self.off:.2g} (limit {self.limit:g})"
        return f"{self.operation} in {self.precision} against {against}: {self.part} {off}"
