"""What BTCV and MACT share: raw CTs are resampled and clipped, and each volume is z-scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sfrbench.components.dataset._listed import Listed

if TYPE_CHECKING:
    from sfrbench.components.dataset.geometry import Step


class AbdominalCt(Listed):
    """The spacing is MagicNet's; the interpolation orders and the window are ours, as its own preparation is
    not published."""

    spacing: tuple[float, float, float] | None = Field(
        (1.5, 1.5, 2.0), description="raw files: voxel size after resampling, mm; none: as it is"
    )
    image_order: int = Field(1, ge=0, le=5, description="raw files: order of the spline for the image")
    label_order: int = Field(
        0, ge=0, le=1, description="raw files: nearest label, or one interpolated per class"
    )
    clip: tuple[float, float] | None = Field(
        (-125.0, 275.0), description="raw files: window in HU; none: not clipped"
    )

    def _steps(self, kind: str, root: Path, train: Sequence[str]) -> list[Step]:
        from sfrbench.components.dataset._intensity import clip
        from sfrbench.components.dataset.geometry import resample

        steps: list[Step] = []
        if kind != "h5" and self.spacing is not None:
            steps.append(
                partial(
                    resample,
                    spacing=self.spacing,
                    image_order=self.image_order,
                    label_order=self.label_order,
                )
            )
        if kind != "h5" and self.clip is not None:
            steps.append(partial(clip, low=self.clip[0], high=self.clip[1]))
        return steps

    def normalisation(self, like: Mapping[str, Any]) -> str:
        """The window, then a z-score."""
        window = "" if self.clip is None else f"clipped to {self.clip[0]:g} to {self.clip[1]:g} HU, then "
        return window + super().normalisation(like)

    def caveat(self, like: Mapping[str, Any]) -> str:
        """What MagicNet did to its files is not known in full."""
        if not str(like.get("file", "")).endswith(".h5"):
            return ""
        return (
            "the prepared volumes come from MagicNet's h5 files, whose crop, window and orientation are not "
            "published; an image alone is prepared in our way for NIfTI, and the two need not agree"
        )
