"""The left-atrium benchmark: UA-MT's HDF5 files, or the challenge's NRRD files prepared in UA-MT's way."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from sfrbench.components.base import Case, Dataset

if TYPE_CHECKING:
    from sfrbench.components.costs.parts import Extent

_FOLDERS = ("2018LA_Seg_Training Set", "Training Set")  # UA-MT's name, and the one in the challenge's archive
_FILE = "mri_norm2.h5"
_HINT = f"the data folder holds train.list, test.list and '{_FOLDERS[0]}' (layout of UA-MT)"


class LeftAtrium(Dataset):
    """``<root>/2018LA_Seg_Training Set/<ID>/mri_norm2.h5`` with datasets ``image`` and ``label`` (X, Y, Z),
    and ``train.list`` and ``test.list`` in ``<root>``, one id per line.

    Source: yulequan/UA-MT (the published files; 0.625 mm isotropic). Each cropped volume is z-scored again,
    as SFR's released code does at load.

    A case without that file is read from the challenge's ``lgemri.nrrd`` and ``laendo.nrrd`` and cropped as
    UA-MT does: around the label along x and y, with random margins there. Ours are derived from the case's
    id and ``crop_seed``, so they are the same everywhere, but not those of the published files. UA-MT's
    z-score before the crop is left out: the one after it cancels it. Without list files UA-MT's lists hold.
    """

    later_fields: ClassVar[Mapping[str, Any]] = {
        **Dataset.later_fields,
        "margin": [10, 19],
        "least": 112,
        "crop_seed": 0,
    }

    patch: tuple[int, int, int] = Field((112, 112, 80), description="training patch and window, voxels")
    stride: tuple[int, int, int] = Field((18, 18, 4), description="window stride of the segmenter, voxels")
    downsample: int = Field(1, ge=1, le=8, description="volumes shrink by this: block mean, majority label")
    margin: tuple[int, int] = Field(
        (10, 19), description="NRRD: least and most voxels that the crop adds on each side of the label"
    )
    least: int = Field(112, ge=1, le=1024, description="NRRD: the crop is widened towards so many voxels")
    crop_seed: int = Field(0, ge=0, description="NRRD: another seed gives other margins")

    @model_validator(mode="after")
    def _ordered_margin(self) -> LeftAtrium:
        if not 0 <= self.margin[0] <= self.margin[1] <= 255:
            raise ValueError(f"margin must be two rising numbers in 0 … 255, got {list(self.margin)}")
        return self

    def class_names(self, root: Path | None) -> tuple[str, ...]:
        """Background and left atrium."""
        return ("background", "left atrium")

    def source_files(self, root: Path) -> list[Path]:
        """The lists and every case file that is there (``prepare`` reports those that are not)."""
        train, test = self.case_lists(root)
        files = [root / "train.list", root / "test.list"]
        for case in (*train, *test):
            files.extend(_case_files(root, case))
        return [file for file in files if file.is_file()]

    def case_files(self, root: Path, case: str) -> list[Path]:
        """The h5 file, or image and label in NRRD."""
        return list(_case_files(root, case))

    def case_lists(self, root: Path | None) -> tuple[list[str], list[str]]:
        """Ids of ``train.list`` and ``test.list``, in their order; UA-MT's lists where the folder has
        neither."""
        from sfrbench.components.dataset._checks import check_lists
        from sfrbench.components.dataset._lists import list_files, needed, read_list
        from sfrbench.components.dataset._splits import LA

        folder = needed(root, "la", "left-atrium data")
        pairs = [("train.list", "test.list")]
        if list_files(folder, pairs) is None and any((folder / name).is_dir() for name in _FOLDERS):
            return list(LA.train), list(LA.test)
        train, test = read_list(folder / "train.list", _HINT), read_list(folder / "test.list", _HINT)
        check_lists({"train": (folder / "train.list", train), "test": (folder / "test.list", test)})
        return train, test

    def extent(self, root: Path | None) -> Extent | None:
        """The mean of 40 of the published files; all have 88 slices."""
        from sfrbench.components.costs.extents import extent

        mean = (193.2, 142.7, 88.0)
        return extent(self, root, mean, classes=2, lists=(80, 20), downsample=self.downsample)

    def read_case(self, root: Path | None, case: str) -> Case:
        """Read, check, crop (NRRD), shrink and z-score one case. Raises ``DataError``."""
        from sfrbench.components.dataset._boxes import around
        from sfrbench.components.dataset._checks import Place, checked_image, checked_label
        from sfrbench.components.dataset._finish import finish
        from sfrbench.components.dataset._h5 import read_h5
        from sfrbench.components.dataset._lists import needed
        from sfrbench.components.dataset.geometry import Geometry, Step, crop

        folder = needed(root, "la", "left-atrium data")
        paths = _case_files(folder, case)
        place, label_place = Place(case, paths[0]), Place(case, paths[-1])
        steps: list[Step] = []
        if len(paths) == 1:
            raw_image, raw_label = read_h5(place)
            geometry = Geometry(spacing=(0.625, 0.625, 0.625))
        else:
            raw_image, raw_label, geometry = _read_scan(place, label_place)
        image = checked_image(raw_image, place)
        label = checked_label(raw_label, image.shape, self.class_names(root), label_place)
        if len(paths) > 1:
            if not label.any():
                hint = "restore laendo.nrrd, or take the case off its list"
                raise label_place.error("the label is empty: there is nothing to crop around", hint)
            steps.append(partial(crop, box=around(label, self.least, self._margins(case))))
        names = [str(path.relative_to(folder)) for path in paths]
        return finish(
            image,
            label,
            geometry,
            classes=2,
            downsample=self.downsample,
            min_depth=self.min_depth,
            place=place,
            files=dict(zip(("file", "label_file"), names, strict=False)),
            steps=steps,
        )

    def read_image(self, file: Path, like: Mapping[str, Any]) -> Case:
        """An image alone, whole, in the order of the challenge's files (LPS), shrunk and z-scored."""
        from sfrbench.components.dataset._nifti import kept_order, read_alone

        order = kept_order(like, "LPS")
        return read_alone(file, towards=order, downsample=self.downsample, min_depth=self.min_depth)

    def caveat(self, like: Mapping[str, Any]) -> str:
        """The crop around the label."""
        return (
            "the prepared volumes are cropped around the left atrium along x and y, which takes its label; "
            "an image alone is taken whole and z-scored over the whole, so expect worse results than the "
            "scores say, or crop it around the heart first"
            + (
                "; the h5 files do not say how their axes run: taken as in the challenge (LPS)"
                if like.get("affine") is None
                else ""
            )
        )

    def _margins(self, case: str) -> list[int]:
        """Voxels added before and after x, before and after y: from a hash of seed and id."""
        digest = hashlib.sha256(f"{self.crop_seed}/{case}".encode()).digest()
        low, high = self.margin
        return [low + int.from_bytes(digest[8 * i : 8 * i + 8]) % (high - low + 1) for i in range(4)]


def _case_files(root: Path, case: str) -> tuple[Path, ...]:
    """The case's h5 file; image and label in NRRD where those are there and it is not."""
    h5 = root / _FOLDERS[0] / case / _FILE
    if not h5.is_file():
        for name in _FOLDERS:
            pair = (root / name / case / "lgemri.nrrd", root / name / case / "laendo.nrrd")
            if any(file.is_file() for file in pair):
                return pair
    return (h5,)


def _read_scan(place: Any, label_place: Any) -> tuple[Any, Any, Any]:
    """Image, label (255 made 1) and grid of a case of the challenge. As in UA-MT voxels are taken as they
    stand, so axes that run another way in the label are refused."""
    from sfrbench.components.dataset._checks import check_two_files
    from sfrbench.components.dataset._nifti import letters
    from sfrbench.components.dataset._nrrd import read_nrrd

    check_two_files(place, label_place)
    image, geometry = read_nrrd(place)
    label, other = read_nrrd(label_place)
    if geometry.affine is not None and other.affine is not None:
        ours, theirs = letters(geometry.affine), letters(other.affine)
        if ours != theirs:
            hint = "resample the label (nearest) onto the image, by the two headers"
            raise label_place.error(f"the label's axes run {theirs}, the image's {ours}", hint)
    label = label.copy()
    label[label == 255] = 1
    return image, label, geometry
