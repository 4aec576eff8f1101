"""A SAM of 80 thousand parameters for tests: milliseconds a step, the same weights on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import Field

from sfrbench.components.base import COMPILE, NORM, Compile, Norm
from sfrbench.components.foundation.sam import Sam

if TYPE_CHECKING:
    from sfrbench.components.costs import parts
    from sfrbench.components.foundation.segmenter import SamSegmenter


class SamToy(Sam):
    """Segment-anything's classes at width 32 and depth 2, "pretrained" with numbers from a fixed seed."""

    version: ClassVar[int] = 2  # attention in pieces: other last digits
    unkeyed_fields: ClassVar[frozenset[str]] = frozenset({"checkpointing"})
    later_fields: ClassVar[Mapping[str, Any]] = {**Sam.later_fields, "compile": "none"}

    canvas: int = Field(64, ge=64, le=256, multiple_of=16, description="side of the square input, pixels")
    norm: Norm = Field("unit", description=NORM)

    checkpointing: bool = Field(
        False, description="blocks run twice and keep nothing between: less memory, the same numbers"
    )
    compile: Compile = Field("none", description=COMPILE)

    @property
    def layout(self) -> str:
        return "sam_toy"

    @property
    def released(self) -> str | None:
        return None

    def cost(self, classes: int) -> parts.Sam | None:
        from dataclasses import replace

        from sfrbench.components.costs.sam import TOY, vit_sam

        return vit_sam(replace(TOY, again=self.checkpointing), self.canvas, classes)

    def own_state(self, weights: Path | None) -> tuple[Mapping[str, Any], str]:
        """The toy's fixed numbers, head and all, or those of its checkpoint."""
        from sfrbench.components.foundation import _build

        if self.checkpoint is not None:
            return super().own_state(weights)
        return _build.toy_whole_state(), "sam_toy"

    def untrained(self, classes: int) -> SamSegmenter:
        from sfrbench.components.foundation import _build
        from sfrbench.components.foundation._vit import ImageEncoder

        model = _build.toy(canvas=self.canvas, classes=classes, precision=self.precision)
        encoder = cast(ImageEncoder, model.image_encoder)
        encoder.checkpointing, encoder.compiled = self.checkpointing, self.compile == "blocks"
        return model
