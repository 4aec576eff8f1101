"""SAM-Med3D (Wang et al. 2024): a 3D SAM of the whole cube around an object, for clicks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.base import Foundation
from sfrbench.components.base_prompts import Form

if TYPE_CHECKING:
    from sfrbench.components.foundation._sam_med3d_net import SamMed3dNet
    from sfrbench.components.foundation.prompted import PromptedModel


class SamMed3d(Foundation):
    """Each object is segmented on its own, in a cube of ``canvas`` voxels of ``spacing`` mm around it.

    As in the released scripts, but for prepared volumes: these are z-scored, so that no window of HU can be
    laid on them, and the statistics of voxels above 0 need a ``background`` that is 0. Larger objects are cut
    at the cube; a click outside of it tells the model nothing, and its answer stays. Axes are taken as they
    are, where the scripts turn volumes to RAS+. Source: uni-medical/SAM-Med3D, ``utils/infer_utils.py``.
    """

    family: ClassVar[str] = "sam_med3d"
    semantic: ClassVar[bool] = False
    takes: ClassVar[frozenset[Form]] = frozenset({"click"})
    overlap: ClassVar[Literal["larger", "later"]] = "later"
    in_3d: ClassVar[bool] = True

    canvas: int = Field(128, ge=128, le=128, description="side of the cube, voxels")
    norm: Literal["zscore"] = Field("zscore", description="of the cube, by its voxels above 0")
    release: Literal["turbo", "turbo_cvpr_coreset"] = Field("turbo", description="which weights")
    spacing: float = Field(1.5, gt=0, le=10, description="mm of the cube's voxels")
    centre: Literal["truth", "click"] = Field(
        "truth",
        description="the cube's middle: that of the box around the truth (as released; it shows where the "
        "object is), or the first click (ours)",
    )
    points: Literal["all", "newest"] = Field(
        "all",
        description="clicks that the model is given beside its last answer: all so far (today's script), or "
        "those of the newest round (that of 2024)",
    )
    background: Literal["minimum", "zero"] = Field(
        "minimum",
        description="what is 0 before the cube is scaled: the volume's minimum (ours), or 0, for z-scored "
        "volumes the mean",
    )
    flip: tuple[bool, bool, bool] = Field(
        (False, False, False), description="turn x, y, z round before the model sees the volume"
    )

    @property
    def weights(self) -> str | None:
        return f"sam_med3d_{self.release}"

    @property
    def given_extent(self) -> bool:
        return self.centre == "truth"

    def prompted(self, weights: Path | None) -> PromptedModel:
        """The released network. Raises ``NotReadyError`` without its weight file."""
        from sfrbench.components.foundation import _sam_med3d_net

        return self._prompted(_sam_med3d_net.pretrained(self.required(weights), self.precision))

    def _prompted(self, network: SamMed3dNet) -> PromptedModel:
        from sfrbench.components.foundation._sam_med3d_talk import Manner, Prompted

        fields = self.model_dump(include={"canvas", "spacing", "points", "background", "flip"})
        return Prompted(network, Manner(takes=self.takes, **fields))


class SamMed3dToy(SamMed3d):
    """SAM-Med3D's code with a tiny network and fixed random numbers, for tests and the smoke profile only."""

    canvas: int = Field(32, ge=32, le=32, description="side of the cube, voxels")

    @property
    def weights(self) -> str | None:
        return None

    def prompted(self, weights: Path | None) -> PromptedModel:
        """The toy; ``weights`` is not used."""
        from sfrbench.components.foundation import _sam_med3d_net

        return self._prompted(_sam_med3d_net.pretrained_toy(self.precision))
