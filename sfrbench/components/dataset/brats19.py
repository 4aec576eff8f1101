"""BraTS 2019 (FLAIR, whole tumour): SSL4MIS's HDF5 files, or the challenge's NIfTI prepared as there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sfrbench.components.dataset._listed import Listed

if TYPE_CHECKING:
    from sfrbench.components.costs.parts import Extent
    from sfrbench.components.dataset._checks import Place
    from sfrbench.components.dataset._listed import NDImage, NDLabel
    from sfrbench.components.dataset._splits import Split
    from sfrbench.components.dataset.geometry import Geometry, Step, Volume


class Brats19(Listed):
    """``<root>/data/<ID>.h5`` (arrays z, y, x) with ``train.txt``, ``val.txt`` and ``test.txt``; or
    ``<root>/HGG/<ID>/<ID>_flair.nii.gz`` and ``_seg.nii.gz``, and ``LGG`` (arrays kept in the file's order).

    NIfTI is cropped to the voxels that are not zero, its upper tail clipped, and normalised; every label
    above 0 is tumour. Source: HiLab-git/SSL4MIS, ``brats_proprecessing``, whose crop drops the last plane
    along each axis, and whose histogram has a bin for each whole number where the image holds such. SFR's
    code z-scores each volume again over the whole crop, which cancels the z-score over the voxels above 0:
    ``norm: volume`` is what SFR trains on, ``norm: nonzero`` what SSL4MIS trains on.
    """

    version: ClassVar[int] = 2  # the tail of whole numbers is one of them

    home: ClassVar[str] = "brats19"
    what: ClassVar[str] = "BraTS 2019 data"
    layouts: ClassVar[str] = (
        "data/BraTS19_TCIA02_370_1.h5 (SSL4MIS), or HGG/<ID>/<ID>_flair.nii.gz with <ID>_seg.nii.gz, and LGG"
    )
    names: ClassVar[tuple[str, ...]] = ("whole tumour",)
    list_pairs: ClassVar[tuple[tuple[str, str], ...]] = (
        ("train.txt", "test.txt"),
        ("train_follow.list", "test_follow.list"),
        ("train.list", "test.list"),
    )

    layout: Literal["h5", "nifti"] | None = Field(
        None, description="which files are read; none: h5 where there"
    )
    use_val: bool = Field(
        False, description="the 25 cases of val.txt follow the training cases; set val to their number"
    )
    crop: bool = Field(True, description="NIfTI: crop to the voxels that are not zero")
    tail: float = Field(
        0.999,
        ge=0.5,
        le=1,
        description="NIfTI: share of voxels below the intensity at which the image is cut off",
    )
    norm: Literal["volume", "nonzero"] = Field(
        "volume", description="z-score over the whole crop (SFR) or over voxels above 0 (SSL4MIS)"
    )

    def extent(self, root: Path | None) -> Extent | None:
        """The usual box of voxels that are not zero (nnU-Net gives 138 x 170 x 138 as the median)."""
        from sfrbench.components.costs.extents import extent

        classes, lists = len(self.names) + 1, (250 + 25 * self.use_val, 60)
        usual = (138.0, 170.0, 138.0)
        return extent(self, root, usual, classes=classes, lists=lists, downsample=self.downsample)

    def _shipped(self) -> Split:
        from sfrbench.components.dataset._splits import BRATS19

        return BRATS19

    def _shipped_lists(self, root: Path) -> tuple[list[str], list[str]]:
        train, test = super()._shipped_lists(root)
        return [*train, *(self._shipped().val if self.use_val else ())], test

    def _more_lists(self, root: Path) -> list[tuple[Path, list[str]]]:
        from sfrbench.components.dataset._lists import list_files, read_list

        if not self.use_val or list_files(root, self.list_pairs) is None:
            return []
        file = root / "val.txt"
        return [(file, read_list(file, "bring val.txt, or set dataset.use_val to false"))]

    def _files(self, root: Path, case: str, kind: str) -> tuple[Path, ...]:
        from sfrbench.components.dataset._lists import first_file
        from sfrbench.components.dataset._names import ENDINGS

        if kind == "h5":
            return (first_file(root, [f"data/{case}.h5", f"{case}.h5"]),)
        folders = (
            "HGG",
            "LGG",
            "MICCAI_BraTS_2019_Data_Training/HGG",
            "MICCAI_BraTS_2019_Data_Training/LGG",
            ".",
        )
        image, label = (
            first_file(
                root, [f"{folder}/{case}/{case}_{part}{ending}" for folder in folders for ending in ENDINGS]
            )
            for part in ("flair", "seg")
        )
        return image, label

    def _h5_grid(self) -> Geometry:
        from sfrbench.components.dataset.geometry import Geometry

        return Geometry((1.0, 1.0, 1.0), axes=((2, 1), (1, 1), (0, 1)))

    def _read_raw(self, image: Place, label: Place) -> tuple[NDImage, NDLabel, Geometry]:
        from dataclasses import replace

        from sfrbench.components.dataset._nifti import read_pair

        parts = ("background", "necrosis", "oedema", "3 (not used)", "enhancing tumour")
        values, classes, geometry = read_pair(image, label, parts)
        return values, (classes > 0).astype("uint8"), replace(geometry, axes=None)

    def _steps(self, kind: str, root: Path, train: Sequence[str]) -> list[Step]:
        return [self._prepared] if kind == "nifti" else []

    def _prepared(self, volume: Volume) -> Volume:
        """Crop, clip, and z-score over the voxels above 0."""
        from sfrbench.components.dataset._boxes import nonzero_box
        from sfrbench.components.dataset._intensity import clip, standardise, tail
        from sfrbench.components.dataset.geometry import crop

        if self.crop:
            volume = crop(volume, nonzero_box(volume.image))
        if volume.image.size == 0:
            return volume  # ``finish`` says so
        if self.tail < 1:
            volume = clip(volume, float(volume.image.min()), tail(volume.image, self.tail))
        inside = volume.image[volume.image > 0]
        if self.norm == "volume" or inside.size == 0 or inside.min() == inside.max():
            return volume
        return standardise(volume, float(inside.mean()), float(inside.std()))

    def normalisation(self, like: Mapping[str, Any]) -> str:
        """Over the crop, or over the voxels above 0."""
        over = "the crop" if self.norm == "volume" else "the voxels above 0"
        return f"cut off at the {self.tail:g} quantile, then z-score over {over}"

    def _towards(self, like: Mapping[str, Any]) -> str:
        from sfrbench.components.dataset._nifti import kept_order

        return kept_order(like, "LPS")

    def _rescale(self) -> bool:
        return self.norm == "volume"
