"""LiteMedSAM: a small SAM that was distilled from MedSAM, with real weights of 39 MB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sfrbench.components.base import COMPILE, NORM, PRECISION, Compile, Norm, Precision
from sfrbench.components.foundation.sam import Sam

if TYPE_CHECKING:
    from sfrbench.components.costs import parts
    from sfrbench.components.foundation._slices import Manner
    from sfrbench.components.foundation.segmenter import SamSegmenter


class LiteMedSam(Sam):
    """TinyViT encoder and SAM's decoder; canvases of 256 pixels give 64 x 64 tokens.

    Trained on images scaled to [0, 1], so that is the default norm. Source: Ma et al. 2024 (MedSAM),
    bowang-lab/MedSAM, branch LiteMedSAM.
    """

    image_encoder: ClassVar[str] = "a TinyViT"
    later_fields: ClassVar[Mapping[str, Any]] = {**Sam.later_fields, "compile": "none", "enlarge": "area"}

    canvas: int = Field(256, ge=32, le=2048, multiple_of=16, description="side of the square input, pixels")
    norm: Norm = Field("unit", description=NORM)
    precision: Precision = Field("bf16", description=PRECISION)
    compile: Compile = Field("none", description=COMPILE)
    enlarge: Literal["area", "bilinear"] = Field(
        "area",
        description="slices smaller than the canvas, with prompts: by 'area', as its code does, which leaves "
        "blocks, or 'bilinear' (ours; on LA and hippocampus neither was clearly better)",
    )

    @property
    def manner(self) -> Manner:
        """As in LiteMedSAM's inference: [0, 1] by the slice's own range, boxes in whole pixels, one mask."""
        from dataclasses import replace

        from sfrbench.components.foundation._slices import LITE_MEDSAM

        return replace(LITE_MEDSAM, enlarge=self.enlarge)

    @property
    def layout(self) -> str:
        return "lite_medsam"

    def cost(self, classes: int) -> parts.Sam | None:
        from sfrbench.components.costs.sam import tiny_sam

        return tiny_sam(self.canvas, classes)

    def untrained(self, classes: int) -> SamSegmenter:
        from sfrbench.components.foundation import segmenter
        from sfrbench.components.foundation._tinyvit import TinyVit

        parts = segmenter.prompt_and_decoder(classes=classes, canvas=self.canvas, stride=4)
        return segmenter.SamSegmenter(
            TinyVit(compiled=self.compile == "blocks"),
            *parts,
            canvas=self.canvas,
            classes=classes,
            precision=self.precision,
            channels_last=True,
        )
