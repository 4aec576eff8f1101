"""What the self-check of a machine finds wrong."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["bf16", "fp32"]


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
        against = {"bf16": "fp32", "fp32": "float64"}[self.precision]
        off = "not a number" if self.off is None else f"off by {self.off:.2g} (limit {self.limit:g})"
        return f"{self.operation} in {self.precision} against {against}: {self.part} {off}"
