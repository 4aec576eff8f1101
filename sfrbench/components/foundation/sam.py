"""What the models in segment-anything's layout share: their weights, and how they go through a volume."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr

from sfrbench.components.base import Foundation
from sfrbench.components.base_prompts import Form
from sfrbench.errors import NotReadyError
from sfrbench.places import added, weights
from sfrbench.places.weight_files import LAYOUTS

if TYPE_CHECKING:
    from sfrbench.components.foundation._slices import Manner
    from sfrbench.components.foundation.prompted import PromptedModel
    from sfrbench.components.foundation.segmenter import SamSegmenter

#: Stands in keys for a weight file that this machine does not have.
ABSENT = "absent"


class Sam(Foundation):
    """Models that segment a picture from clicks and a box; a volume is shown to them slice by slice.

    With prompts they see slices as their published code shows them, whatever ``norm`` says.
    """

    takes: ClassVar[frozenset[Form]] = frozenset({"click", "box", "slice_box"})
    later_fields: ClassVar[Mapping[str, Any]] = {"ends": "released", "propagate": "boxes", "checkpoint": None}
    own_fields: ClassVar[frozenset[str]] = frozenset({"checkpoint"})

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
    checkpoint: str | None = Field(
        None,
        pattern=added.NAME,
        description="other weights for the same network: a name of 'sfrbench weights list', such as one that "
        "'sfrbench weights add' gave; keys hold the file's hash",
    )
    _sha256: str = PrivateAttr("")  # of the checkpoint, as it was here when this was made

    def model_post_init(self, context: Any, /) -> None:
        """The hash of the checkpoint is looked up once, where a plan is made, and goes with it."""
        if self.checkpoint is not None:
            self._sha256 = weights.hash_of(self.checkpoint)

    @property
    def layout(self) -> str:
        """The network, one of ``weight_files.LAYOUTS``."""
        raise NotImplementedError

    @property
    def released(self) -> str | None:
        """The weight file that it starts from without a ``checkpoint``."""
        return self.layout

    @property
    def weights(self) -> str | None:
        return self.released if self.checkpoint is None else f"{self.checkpoint}@{self._sha256}"

    def key_settings(self) -> dict[str, Any]:
        """As everywhere, with the hash in the place of the name; without it where it is the released file."""
        settings = super().key_settings()
        if self.checkpoint is None:
            return settings
        if self.released is not None and self._sha256 == weights.entry(self.released).sha256:
            return {name: value for name, value in settings.items() if name != "checkpoint"}
        return {**settings, "checkpoint": self._sha256 or ABSENT}

    def check_weights(self) -> None:
        if self.checkpoint is None:
            return
        weight = weights.entry(f"{self.checkpoint}@")
        if weight.fits != self.layout:
            is_of = LAYOUTS.get(weight.fits, "no network in segment-anything's layout")
            what = f"weights '{self.checkpoint}' are of {is_of}, and this is {LAYOUTS[self.layout]}"
            hint = (
                f"choose foundation {weight.fits}, or other weights"
                if weight.fits
                else "choose other weights"
            )
            raise NotReadyError(what, where="foundation.checkpoint", hint=hint)

    @property
    def manner(self) -> Manner:
        """How slices and prompts are brought onto the canvas: segment-anything's way."""
        from sfrbench.components.foundation._slices import SEGMENT_ANYTHING

        return SEGMENT_ANYTHING

    def own_state(self, weights: Path | None) -> tuple[Mapping[str, Any], str]:
        """All tensors of the pretrained model with SAM's own four mask tokens, and where they are from."""
        from sfrbench.components.foundation import _any_file, segmenter

        path = self.required(weights)
        if self.checkpoint is None:
            return segmenter.read_state(path), str(path)
        return _any_file.read(path)[0], str(path)

    def build(self, classes: int, weights: Path | None) -> SamSegmenter:
        """The pretrained model with a fresh head. Raises ``NotReadyError`` without its weight file."""
        from sfrbench.components.foundation import _build, _likeness

        state, where = self.own_state(weights)
        model = _build.pretrained(lambda: self.untrained(classes), _likeness.without_hq(state), where)
        model.per_canvas = self.norm == "minmax"
        return model

    def prompted(self, weights: Path | None) -> PromptedModel:
        """The pretrained model with SAM's own head. Raises ``NotReadyError`` without its weight file."""
        from sfrbench.components.foundation import _build
        from sfrbench.components.foundation._slice_model import SliceModel

        sam = _build.whole(self.untrained, *self.own_state(weights))
        return SliceModel(sam, self.manner, self.takes, ends=self.ends, propagate=self.propagate)
