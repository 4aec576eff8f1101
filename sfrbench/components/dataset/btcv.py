"""BTCV (Synapse multi-organ): 13 organs in abdominal CT; MagicNet's HDF5 files, or the challenge's NIfTI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from sfrbench.components.dataset._listed import Listed

if TYPE_CHECKING:
    from sfrbench.components.dataset._grid import Step
    from sfrbench.components.dataset._splits import Split


class Btcv(Listed):
    """``btcv_h5/<0001>.h5`` (x, y, z; 1.5 x 1.5 x 2 mm), or ``img0001.nii.gz`` and ``label0001.nii.gz``.

    NIfTI is turned to the closest RAS orientation, resampled and clipped. The resampling is MagicNet's; the
    interpolation orders, the window and the turning are ours, as its own preparation is not published. Each
    volume is z-scored, in either layout. Split: MagicNet's, in the order after its shuffle (0006 first).
    """

    home: ClassVar[str] = "btcv"
    what: ClassVar[str] = "BTCV data"
    layouts: ClassVar[str] = (
        "btcv_h5/0001.h5 (MagicNet), or RawData/Training/img/img0001.nii.gz with label/label0001.nii.gz"
    )
    names: ClassVar[tuple[str, ...]] = (
        "spleen",
        "right kidney",
        "left kidney",
        "gallbladder",
        "oesophagus",
        "liver",
        "stomach",
        "aorta",
        "inferior vena cava",
        "portal and splenic veins",
        "pancreas",
        "right adrenal gland",
        "left adrenal gland",
    )
    list_pairs: ClassVar[tuple[tuple[str, str], ...]] = (
        ("train.list", "test.list"),
        ("train_magic.list", "test.list"),
        ("train.txt", "test.txt"),
    )

    spacing: tuple[float, float, float] | None = Field(
        (1.5, 1.5, 2.0), description="NIfTI: voxel size after resampling, mm; none: as it is"
    )
    image_order: int = Field(1, ge=0, le=5, description="NIfTI: order of the spline for the image")
    label_order: int = Field(0, ge=0, le=1, description="NIfTI: nearest label, or one interpolated per class")
    clip: tuple[float, float] | None = Field(
        (-125.0, 275.0), description="NIfTI: window in HU; none: not clipped"
    )

    def _shipped(self) -> Split:
        from sfrbench.components.dataset._splits import BTCV

        return BTCV

    def _files(self, root: Path, case: str, kind: str) -> tuple[Path, ...]:
        from sfrbench.components.dataset._lists import first_file

        if kind == "h5":
            return (first_file(root, [f"btcv_h5/{case}.h5", f"data/{case}.h5", f"{case}.h5"]),)
        folders = ("RawData/Training/", "Training/", "")
        image, label = (
            first_file(
                root,
                [
                    f"{folder}{inner}{part}{case}{ending}"
                    for folder in folders
                    for inner in (f"{part}/", "")
                    for ending in (".nii.gz", ".nii")
                ],
            )
            for part in ("img", "label")
        )
        return image, label

    def _steps(self, kind: str, root: Path, train: Sequence[str]) -> list[Step]:
        from sfrbench.components.dataset import _grid

        steps: list[Step] = []
        if kind == "nifti" and self.spacing is not None:
            steps.append(
                partial(
                    _grid.resample,
                    spacing=self.spacing,
                    image_order=self.image_order,
                    label_order=self.label_order,
                )
            )
        if kind == "nifti" and self.clip is not None:
            steps.append(partial(_grid.clip, low=self.clip[0], high=self.clip[1]))
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
