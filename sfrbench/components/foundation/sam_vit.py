"""SAM with its original ViT encoders (Kirillov et al. 2023), on segment-anything's own classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from sfrbench.components.base import COMPILE, Compile
from sfrbench.components.foundation.sam import Sam

if TYPE_CHECKING:
    from sfrbench.components.costs import parts
    from sfrbench.components.foundation._slices import Manner
    from sfrbench.components.foundation.segmenter import SamSegmenter


class SamVit(Sam):
    """SAM ViT-B, -L or -H. On canvases other than 1024 the position tables are interpolated."""

    version: ClassVar[int] = 2  # attention in pieces: other last digits
    unkeyed_fields: ClassVar[frozenset[str]] = frozenset({"checkpointing"})
    later_fields: ClassVar[Mapping[str, Any]] = {**Sam.later_fields, "compile": "none", "slices": "sam"}

    size: Literal["b", "l", "h"] = Field("b", description="ViT-B, ViT-L or ViT-H")
    checkpointing: bool = Field(
        False, description="blocks run twice and keep nothing between: less memory, the same numbers"
    )
    compile: Compile = Field("none", description=COMPILE)
    slices: Literal["sam", "medsam"] = Field(
        "sam",
        description="how slices are shown with prompts: as segment-anything's code does, or MedSAM's, which "
        "stretches them to the square and scales each to [0, 1]",
    )

    @property
    def layout(self) -> str:
        return f"sam_vit_{self.size}"

    @property
    def manner(self) -> Manner:
        from sfrbench.components.foundation._slices import MEDSAM, SEGMENT_ANYTHING

        return MEDSAM if self.slices == "medsam" else SEGMENT_ANYTHING

    def cost(self, classes: int) -> parts.Sam | None:
        from dataclasses import replace

        from sfrbench.components.costs.sam import VITS, vit_sam

        return vit_sam(replace(VITS[self.size], again=self.checkpointing), self.canvas, classes)

    def untrained(self, classes: int) -> SamSegmenter:
        from sfrbench.components.foundation import _build
        from sfrbench.components.foundation._vit import ImageEncoder

        model = _build.vit(self.size, canvas=self.canvas, classes=classes, precision=self.precision)
        encoder = cast(ImageEncoder, model.image_encoder)
        encoder.checkpointing, encoder.compiled = self.checkpointing, self.compile == "blocks"
        return model
