"""BTCV (Synapse multi-organ): 13 organs in abdominal CT; MagicNet's HDF5 files, or the challenge's NIfTI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.dataset._ct import AbdominalCt

if TYPE_CHECKING:
    from sfrbench.components.costs.parts import Extent
    from sfrbench.components.dataset._splits import Split


class Btcv(AbdominalCt):
    """``btcv_h5/<0001>.h5`` (x, y, z; 1.5 x 1.5 x 2 mm), or ``img0001.nii.gz`` and ``label0001.nii.gz``.

    NIfTI is turned to the closest RAS orientation (ours, as MagicNet's way is not published), resampled and
    clipped. Each volume is z-scored, in either layout. Split: MagicNet's, in the order after its shuffle
    (0006 first).
    """

    version: ClassVar[int] = 2  # units of the header

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

    layout: Literal["h5", "nifti"] | None = Field(
        None, description="which files are read; none: h5 where there"
    )

    def extent(self, root: Path | None) -> Extent | None:
        """From what is published: 512 pixels of 0.76 mm, 3779 slices of 3 mm in 30 cases."""
        from sfrbench.components.costs.extents import extent

        classes, lists = len(self.names) + 1, (18, 12)
        usual = (260.0, 260.0, 189.0)
        return extent(self, root, usual, classes=classes, lists=lists, downsample=self.downsample)

    def _shipped(self) -> Split:
        from sfrbench.components.dataset._splits import BTCV

        return BTCV

    def _files(self, root: Path, case: str, kind: str) -> tuple[Path, ...]:
        from sfrbench.components.dataset._lists import first_file
        from sfrbench.components.dataset._names import ENDINGS

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
                    for ending in ENDINGS
                ],
            )
            for part in ("img", "label")
        )
        return image, label
