"""What the models with SAM's own prompt encoder share: how they go through a volume, slice by slice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sfrbench.components.base import Foundation
from sfrbench.components.base_prompts import Form

if TYPE_CHECKING:
    from sfrbench.components.foundation._slices import Manner
    from sfrbench.components.foundation.prompted import PromptedModel


class Sam(Foundation):
    """Models that segment a picture from clicks and a box; a volume is shown to them slice by slice.

    With prompts they see slices as their published code shows them, whatever ``norm`` says.
    """

    takes: ClassVar[frozenset[Form]] = frozenset({"click", "box", "slice_box"})
    later_fields: ClassVar[Mapping[str, Any]] = {"ends": "released", "propagate": "boxes"}

    ends: Literal["released", "all"] = Field(
        "released",
        description="slices of a box around a whole object that are segmented: all but its first and last "
        "(LiteMedSAM's code), or all",
    )
    propagate: Literal["boxes", "none"] = Field(
        "boxes",
        description="slices beside one that was clicked: by the box around the mask of the slice before "
        "(LiteMedSAM's rule for 3D boxes; for clicks ours), or none",
    )

    @property
    def manner(self) -> Manner:
        """How slices and prompts are brought onto the canvas: segment-anything's way."""
        from sfrbench.components.foundation._slices import SEGMENT_ANYTHING

        return SEGMENT_ANYTHING

    def own_state(self, weights: Path | None) -> tuple[Mapping[str, Any], str]:
        """All tensors of the pretrained model with SAM's own four mask tokens, and where they are from."""
        from sfrbench.components.foundation import segmenter

        path = self.required(weights)
        return segmenter.read_state(path), str(path)

    def prompted(self, weights: Path | None) -> PromptedModel:
        """The pretrained model with SAM's own head. Raises ``NotReadyError`` without its weight file."""
        from sfrbench.components.foundation import _build
        from sfrbench.components.foundation._slice_model import SliceModel

        sam = _build.whole(self.untrained, *self.own_state(weights))
        return SliceModel(sam, self.manner, self.takes, ends=self.ends, propagate=self.propagate)
