"""SAM 2 and 2.1 (Ravi et al. 2024), Medical SAM 2 (Zhu et al. 2024), on the classes of the extra ``sam2``.

With a semantic head they see stitched canvases, as SAM does, and have no memory; with prompts, slices are
frames of a video. Each slice is then encoded once for a case and tracked once for each object and round. For
'tiny' at 1024 pixels, on one core of a CPU, both together take some six seconds, and more the more slices are
prompted, since every one of them stays in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sfrbench.components._extras import require
from sfrbench.components.base import Foundation
from sfrbench.components.base_prompts import Form
from sfrbench.components.costs.hiera import SEMANTIC_TOY, SIZES, Hiera, hiera_sam

if TYPE_CHECKING:
    from torch import nn

    from sfrbench.components.costs import parts
    from sfrbench.components.foundation.prompted import PromptedModel
    from sfrbench.components.foundation.segmenter import SamSegmenter

_NEEDED = {"transformers": (5, 24)}


class Sam2Like(Foundation):
    """A network of SAM 2's family: with a semantic head on canvases, or prompted over the slices of a volume.

    The semantic head is as for SAM (ours; nobody's recipe): K new mask tokens and their MLPs, no prompts, no
    memory; the IoU and object-score heads are not run. With prompts slices become pictures of 8 bits over the
    case's 0.5 to 99.5 percentiles, are stretched to the canvas, and the memory joins them. A box of the whole
    object is put on its middle slice and restricts nothing else (as MedSAM2 does; ours).
    """

    family: ClassVar[str] = "sam2"
    image_encoder: ClassVar[str] = "a Hiera"
    unkeyed_fields: ClassVar[frozenset[str]] = frozenset({"checkpointing"})
    later_fields: ClassVar[Mapping[str, Any]] = {"high_res": True}
    takes: ClassVar[frozenset[Form]] = frozenset({"click", "box", "slice_box", "absent"})

    canvas: int = Field(1024, ge=64, le=1024, multiple_of=32, description="side of the square input, pixels")
    norm: Literal["zscore", "unit"] = Field(
        "unit",
        description="input scale: 'unit', to [0, 1] by percentiles, then ImageNet's mean and std, as SAM 2 "
        "was trained; 'zscore' as it is (the authors' recipe for SAM), for the semantic head alone",
    )
    high_res: bool = Field(
        True,
        description="the semantic head's decoder adds the encoder's maps at strides 4 and 8, as SAM 2's "
        "does, or has that at stride 16 alone, like SAM's",
    )
    checkpointing: bool = Field(
        False, description="the encoder's blocks run twice and keep nothing between, in fine-tuning"
    )
    release: Literal["sam2", "sam2.1"] = Field(
        "sam2.1", description="networks and weights of July 2024 (2.0), or of September 2024 (2.1)"
    )
    direction: Literal["both", "forward"] = Field(
        "both",
        description="from the first prompted slice to both ends, each time with the prompts alone in memory "
        "(as MedSAM2; ours), or forward only: slices before it stay empty",
    )
    denials: Literal["remembered", "alone"] = Field(
        "remembered",
        description="a slice with negative clicks alone is run with the memory of the others (ours), or like "
        "any prompted slice, as if nothing else were known of the object",
    )

    def check_installed(self) -> None:
        """Raises ``NotReadyError`` where transformers is missing, or too old. Imports nothing."""
        require("SAM 2", "sam2", _NEEDED)

    def network(self, weights: Path | None) -> nn.Module:
        """The network with its weights. Raises ``NotReadyError`` without them."""
        from sfrbench.components.foundation import _sam2_nets, _sam2_weights

        path = self.required(weights)
        return _sam2_weights.load(_sam2_nets.skeleton(self.hiera, self.release, self.canvas), path)

    @property
    def encoder(self) -> str:
        """The size of the image encoder."""
        return "tiny"

    @property
    def hiera(self) -> Hiera:
        """The shape of the image encoder with a semantic head."""
        return SIZES[self.encoder]

    def cost(self, classes: int) -> parts.Sam | None:
        return hiera_sam(self.hiera, self.canvas, classes, high_res=self.high_res, again=self.checkpointing)

    def build(self, classes: int, weights: Path | None) -> SamSegmenter:
        """The pretrained model with a fresh head. Raises ``NotReadyError`` without its weight file."""
        self.check_installed()
        from sfrbench.components.foundation import _build

        state, where = self.own_state(weights)
        return _build.pretrained(lambda: self.untrained(classes), state, where)

    def own_state(self, weights: Path | None) -> tuple[Mapping[str, Any], str]:
        """All tensors but the memory's, as the semantic model names them, and where they are from."""
        from sfrbench.components.foundation import _sam2_semantic, _sam2_weights

        path = self.required(weights)
        whole = _sam2_weights.read(path)
        return _sam2_semantic.of_whole(whole, self.hiera, self.release, str(path)), str(path)

    def untrained(self, classes: int) -> SamSegmenter:
        from sfrbench.components.foundation import _sam2_semantic

        model = _sam2_semantic.untrained(
            self.hiera,
            canvas=self.canvas,
            classes=classes,
            precision=self.precision,
            high_res=self.high_res,
            imagenet=self.norm == "unit",
        )
        model.image_encoder.checkpointing = self.checkpointing
        return model

    def prompted(self, weights: Path | None) -> PromptedModel:
        self.check_installed()
        from sfrbench.components.foundation._sam2_session import Sam2Model, Tracking

        return Sam2Model(self.network(weights), Tracking(self.direction, self.denials, self.precision))


class Sam2(Sam2Like):
    """SAM 2 with Meta's weights."""

    size: Literal["tiny", "small", "base_plus", "large"] = Field("tiny", description="of the image encoder")

    @property
    def weights(self) -> str | None:
        return f"{self.release.replace('.', '_')}_{self.size}"

    @property
    def encoder(self) -> str:
        return self.size


class MedicalSam2(Sam2Like):
    """Medical SAM 2 in three dimensions: SAM 2.0's tiny network as it is, tuned on medical volumes.

    Its released code (SuperMedIntel/Medical-SAM2, ``func_3d``) prompts every n-th slice and tracks forward
    from the first labelled one; the self-sorting memory of its paper is in the code for 2D alone.
    """

    release: Literal["sam2"] = Field("sam2", description="the network that was tuned: SAM 2.0's")
    direction: Literal["both", "forward"] = Field(
        "forward", description="'forward' as in the released code; 'both' as for SAM 2 (ours)"
    )

    @property
    def weights(self) -> str | None:
        return "medical_sam2"


class Sam2Toy(Sam2Like):
    """The same code over eight million numbers from a fixed seed, on canvases of 128 pixels.

    With a semantic head half a million others, since that has no memory.
    """

    canvas: int = Field(128, ge=64, le=1024, multiple_of=32, description="side of the square input, pixels")

    def network(self, weights: Path | None) -> nn.Module:
        from sfrbench.components.foundation import _sam2_nets

        return _sam2_nets.toy(self.release, self.canvas)

    @property
    def hiera(self) -> Hiera:
        return SEMANTIC_TOY

    def own_state(self, weights: Path | None) -> tuple[Mapping[str, Any], str]:
        """The toy's fixed numbers; ``weights`` is not used."""
        from sfrbench.components.foundation import _sam2_semantic

        return _sam2_semantic.toy_state(), "sam2_toy"
