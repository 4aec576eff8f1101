"""SAM 2 and 2.1 (Ravi et al. 2024), and Medical SAM 2 (Zhu et al. 2024): slices as frames of a video.

Through transformers' classes (the extra ``sam2``). Each slice is encoded once for a case and then tracked
once for each object and round. For 'tiny' at 1024 pixels, on one core of a CPU, both together take some six
seconds, and more the more slices are prompted, since every one of them stays in memory.
"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.base import Foundation
from sfrbench.components.base_prompts import Form
from sfrbench.errors import NotReadyError

if TYPE_CHECKING:
    from torch import nn

    from sfrbench.components.foundation.prompted import PromptedModel

_NEEDED = (5, 24)  # of transformers


class Sam2Like(Foundation):
    """A network of SAM 2's family over the slices of a volume, which its memory joins.

    Slices become pictures of 8 bits over the case's 0.5 to 99.5 percentiles and are stretched to the canvas.
    A box of the whole object is put on its middle slice and restricts nothing else (as MedSAM2 does; ours).
    """

    family: ClassVar[str] = "sam2"
    semantic: ClassVar[bool] = False
    takes: ClassVar[frozenset[Form]] = frozenset({"click", "box", "slice_box", "absent"})

    canvas: int = Field(
        1024, ge=64, le=1024, multiple_of=32, description="side that slices are stretched to, pixels"
    )
    norm: Literal["unit"] = Field("unit", description="input scale: 'unit', percentiles to [0, 1]")
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
        try:
            found = importlib.metadata.version("transformers")
        except importlib.metadata.PackageNotFoundError:
            found = "not installed"
        if tuple(map(int, re.findall(r"\d+", found)[:2])) < _NEEDED:
            needed = ".".join(map(str, _NEEDED))
            what = f"SAM 2 needs transformers {needed} or later; here: {found}"
            raise NotReadyError(what, hint="pip install 'sfrbench[sam2]'")

    def network(self, weights: Path | None) -> nn.Module:
        """The network with its weights. Raises ``NotReadyError`` without them."""
        from sfrbench.components.foundation import _sam2_nets, _sam2_weights

        path = self.required(weights)
        return _sam2_weights.load(
            _sam2_nets.skeleton(_sam2_nets.SIZES[self.encoder], self.release, self.canvas), path
        )

    @property
    def encoder(self) -> str:
        """The size of the image encoder."""
        return "tiny"

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
    """The same code over eight million numbers from a fixed seed, on canvases of 128 pixels."""

    canvas: int = Field(
        128, ge=64, le=1024, multiple_of=32, description="side that slices are stretched to, pixels"
    )

    def network(self, weights: Path | None) -> nn.Module:
        from sfrbench.components.foundation import _sam2_nets

        return _sam2_nets.toy(self.release, self.canvas)
