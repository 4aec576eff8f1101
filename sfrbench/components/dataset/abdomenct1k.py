"""AbdomenCT-1K: liver, kidneys, spleen and pancreas in CT, prepared in the way of nnU-Net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sfrbench.components.dataset._listed import Listed
from sfrbench.errors import DataError

if TYPE_CHECKING:
    from sfrbench.components.costs.parts import Extent
    from sfrbench.components.dataset._organ_stats import OrganStats
    from sfrbench.components.dataset.geometry import Step, Volume

_TEST, _CASES = 100, 1000
_IMAGES = (*(f"AbdomenCT-1K-ImagePart{part}/" for part in (1, 2, 3)), "imagesTr/", "images/", "")
_LABELS = ("Mask/", "labelsTr/", "labels/", "")


class AbdomenCt1k(Listed):
    """``Case_00001_0000.nii.gz`` (``AbdomenCT-1K-ImagePart1`` … ``3``) and ``Mask/Case_00001.nii.gz``.

    Volumes are turned to the closest RAS orientation, clipped, z-scored with the statistics of the organs
    over the training cases, and resampled to their usual spacing (``_organ_stats.target_spacing``) within
    their limits, as nnU-Net does for CT (which does not turn, and draws the voxels of its statistics at
    random). The statistics take one reading of these cases before the first is prepared, and they look at the
    labels of all of them: ``stat_cases`` set to the number of labelled cases keeps the others out.

    The split is ours, as none is published: of our order of all cases those with a label count, the first 100
    for the test, the next 900 for training.
    """

    version: ClassVar[int] = 2  # nnU-Net's rule for a coarse axis, and its limits after interpolation

    home: ClassVar[str] = "abdomenct1k"
    what: ClassVar[str] = "AbdomenCT-1K data"
    layouts: ClassVar[str] = (
        "AbdomenCT-1K-ImagePart1/Case_00001_0000.nii.gz and so on with Mask/Case_00001.nii.gz,"
        " or imagesTr and labelsTr"
    )
    names: ClassVar[tuple[str, ...]] = ("liver", "kidneys", "spleen", "pancreas")

    layout: Literal["nifti"] | None = Field(None, description="files that are read: only NIfTI")
    stat_cases: int | None = Field(
        None, ge=1, description="training cases, from the first, that give the statistics; none: all"
    )
    clip: tuple[float, float] | None = Field(
        None, description="window in HU; none: 0.5 and 99.5 percentiles of the organs in the training cases"
    )
    mean: float | None = Field(
        None, ge=-32768, le=32767, description="HU; none: mean of the organs in the training cases"
    )
    std: float | None = Field(None, gt=0, le=32767, description="HU; none: that of the organs")
    norm: Literal["dataset", "volume"] = Field(
        "dataset", description="mean and std as above (nnU-Net), or of each volume (SFR's code on other data)"
    )
    spacing: tuple[float, float, float] | None = Field(
        None, description="voxel size after resampling, mm; none: nnU-Net's, of the training cases"
    )
    image_order: int = Field(3, ge=0, le=5, description="order of the spline for the image")
    label_order: int = Field(1, ge=0, le=1, description="nearest label, or one interpolated per class")
    separate: float | None = Field(
        3.0,
        ge=1,
        le=100,
        description="slices are taken, not interpolated, along an axis that is coarser by more than this",
    )

    def case_files(self, root: Path, case: str) -> None:
        """None: the statistics of the training cases go into every case."""
        return None

    def _shipped_lists(self, root: Path) -> tuple[list[str], list[str]]:
        from sfrbench.components.dataset._splits import ABDOMENCT1K

        have = [case for case in ABDOMENCT1K if self._files(root, case, "nifti")[1].is_file()]
        if len(have) < _CASES:
            raise DataError(
                f"labels of {len(have)} cases are here, and the split needs {_CASES}",
                where=str(root),
                hint=f"wanted: {self.layouts}; bring all, or write train.list and test.list",
            )
        return have[_TEST:_CASES], have[:_TEST]

    def extent(self, root: Path | None) -> Extent | None:
        """The usual grid of abdominal CT, which nnU-Net's median spacing leaves as it is."""
        from sfrbench.components.costs.extents import extent

        classes, lists = len(self.names) + 1, (900, 100)
        usual = (512.0, 512.0, 105.0)
        return extent(self, root, usual, classes=classes, lists=lists, downsample=self.downsample)

    def _files(self, root: Path, case: str, kind: str) -> tuple[Path, ...]:
        from sfrbench.components.dataset._lists import first_file

        if kind != "nifti":
            return ()
        image = first_file(root, [f"{folder}{case}_0000.nii.gz" for folder in _IMAGES])
        return image, first_file(root, [f"{folder}{case}.nii.gz" for folder in _LABELS])

    def _steps(self, kind: str, root: Path, train: Sequence[str]) -> list[Step]:
        return self._made_with(self._stats(root, train))

    def _image_steps(self, like: Mapping[str, Any]) -> list[Step]:
        from sfrbench.components.dataset._organ_stats import OrganStats

        known = like["statistics"]
        return self._made_with(OrganStats(**{**known, "spacing": tuple(known["spacing"])}))

    def normalisation(self, like: Mapping[str, Any]) -> str:
        """The window, then the statistics of the organs or a z-score."""
        known = like["statistics"]
        window = f"clipped to {known['low']:g} to {known['high']:g} HU, then "
        if self.norm == "volume":
            return window + super().normalisation(like)
        return window + f"minus {known['mean']:g}, divided by {known['std']:g}"

    def _made_with(self, stats: OrganStats) -> list[Step]:
        from sfrbench.components.dataset._intensity import clip, standardise

        steps: list[Step] = [
            partial(_noted, stats=stats),
            partial(clip, low=stats.low, high=stats.high),
        ]
        if self.norm == "dataset":
            steps.append(partial(standardise, mean=stats.mean, std=stats.std))
        steps.append(
            partial(
                _resampled,
                spacing=stats.spacing,
                image_order=self.image_order,
                label_order=self.label_order,
                separate=self.separate,
            )
        )
        return steps

    def _stats(self, root: Path, train: Sequence[str]) -> OrganStats:
        """The fields that are given; for the others, the statistics of the training cases."""
        from sfrbench.components.dataset._organ_stats import OrganStats, organ_stats

        clip, mean, std, spacing = self.clip, self.mean, self.std, self.spacing
        if clip is None or mean is None or std is None or spacing is None:
            pairs = [self._files(root, case, "nifti") for case in train[: self.stat_cases]]
            stats = organ_stats(root, [(image, label) for image, label in pairs], self.class_names(None))
            clip = clip or (stats.low, stats.high)
            mean = stats.mean if mean is None else mean
            std, spacing = std or stats.std, spacing or stats.spacing
        return OrganStats(*clip, mean, std, spacing)

    def _rescale(self) -> bool:
        return self.norm == "volume"


def _noted(volume: Volume, stats: OrganStats) -> Volume:
    """Keeps in the index what the volume was prepared with."""
    return replace(volume, source={**volume.source, "statistics": asdict(stats)})


def _resampled(
    volume: Volume,
    spacing: Sequence[float],
    *,
    image_order: int,
    label_order: int,
    separate: float | None,
) -> Volume:
    """``geometry.resample`` within the limits of the image, as scikit-image's ``resize`` does for nnU-Net: a
    spline overshoots at edges. Where slices are taken one by one, the limits are those of each."""
    import numpy as np

    from sfrbench.components.dataset._interpolation import coarse_axis, nearest
    from sfrbench.components.dataset.geometry import resample

    made = resample(volume, spacing, image_order=image_order, label_order=label_order, separate=separate)
    coarse = None if separate is None else coarse_axis((volume.spacing, spacing), separate)
    inner = tuple(axis for axis in range(3) if axis != coarse)
    low, high = volume.image.min(inner, keepdims=True), volume.image.max(inner, keepdims=True)
    if coarse is not None:
        taken = nearest(volume.image.shape[coarse], made.image.shape[coarse])
        low, high = (np.take(limit, taken, coarse) for limit in (low, high))
    return replace(made, image=np.clip(made.image, low, high))
