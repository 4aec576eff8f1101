"""The left-atrium benchmark in the layout of UA-MT: one HDF5 file per case and two list files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sfrbench.components.base import Case, Dataset
from sfrbench.errors import DataError, NotReadyError

if TYPE_CHECKING:
    from sfrbench.components.dataset._checks import Place

_FOLDER = "2018LA_Seg_Training Set"
_FILE = "mri_norm2.h5"


class LeftAtrium(Dataset):
    """``<root>/2018LA_Seg_Training Set/<ID>/mri_norm2.h5`` with datasets ``image`` and ``label`` (X, Y, Z),
    and ``train.list`` and ``test.list`` in ``<root>``, one id per line.

    Source: yulequan/UA-MT (the published files; 0.625 mm isotropic). Each cropped volume is z-scored again,
    as SFR's released code does at load.
    """

    patch: tuple[int, int, int] = Field((112, 112, 80), description="training patch and window, voxels")
    stride: tuple[int, int, int] = Field((18, 18, 4), description="window stride of the segmenter, voxels")
    downsample: int = Field(1, ge=1, le=8, description="volumes shrink by this: block mean, majority label")

    def class_names(self, root: Path | None) -> tuple[str, ...]:
        """Background and left atrium."""
        return ("background", "left atrium")

    def source_files(self, root: Path) -> list[Path]:
        """Both lists and every case file that is there (``prepare`` reports those that are not)."""
        train, test = self.case_lists(root)
        lists = [root / "train.list", root / "test.list"]
        cases = [_case_file(root, case) for case in (*train, *test)]
        return [*lists, *(file for file in cases if file.is_file())]

    def case_lists(self, root: Path | None) -> tuple[list[str], list[str]]:
        """Ids of ``train.list`` and ``test.list``, in their order."""
        from sfrbench.components.dataset._checks import check_lists

        folder = _needed(root)
        train, test = _read_list(folder / "train.list"), _read_list(folder / "test.list")
        check_lists({"train": (folder / "train.list", train), "test": (folder / "test.list", test)})
        return train, test

    def read_case(self, root: Path | None, case: str) -> Case:
        """Read, check, shrink and z-score one case. Raises ``DataError``."""
        from sfrbench.components.dataset._checks import Geometry, Place, checked_image, checked_label, finish

        folder = _needed(root)
        place = Place(case, _case_file(folder, case))
        raw_image, raw_label = _read_h5(place)
        image = checked_image(raw_image, place)
        label = checked_label(raw_label, image.shape, self.class_names(root), place)
        return finish(
            image,
            label,
            Geometry(spacing=(0.625, 0.625, 0.625)),
            classes=2,
            downsample=self.downsample,
            place=place,
            files={"file": str(place.file.relative_to(folder))},
        )


def _needed(root: Path | None) -> Path:
    if root is None:
        raise NotReadyError(
            "the folder of the left-atrium data is not known",
            hint="give --data la=DIR, or put it at $SFRBENCH_DATA/la",
        )
    return root


def _case_file(root: Path, case: str) -> Path:
    return root / _FOLDER / case / _FILE


def _read_list(path: Path) -> list[str]:
    """Ids, one per line; what follows a comma is dropped, as the community's lists carry such lines."""
    if not path.is_file():
        raise DataError(
            "the list file is missing",
            where=str(path),
            hint=f"the data folder holds train.list, test.list and '{_FOLDER}' (layout of UA-MT)",
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"the list is not UTF-8 text: {error.reason}"
        raise DataError(what, where=str(path), hint="save it as UTF-8") from error
    ids = [line.split(",")[0].strip() for line in text.splitlines()]
    return [case for case in ids if case]


def _read_h5(place: Place) -> tuple[Any, Any]:
    import h5py
    import numpy as np

    if not place.file.is_file():
        hint = "restore the file, or take the case off its list"
        if not place.file.parent.is_dir():
            raise place.error("the case is on a list and has no folder", hint)
        raise place.error("the file is missing", hint)
    try:
        with h5py.File(place.file, "r") as file:
            found = sorted(file.keys())
            for name in ("image", "label"):
                if not isinstance(file.get(name), h5py.Dataset):
                    here = ", ".join(found) or "nothing"
                    hint = f"the file must hold the datasets 'image' and 'label'; it holds {here}"
                    raise place.error(f"the dataset '{name}' is missing", hint)
            return np.asarray(file["image"]), np.asarray(file["label"])
    except (OSError, RuntimeError, KeyError) as error:  # h5py: not HDF5, truncated, damaged chunk
        text = str(error).splitlines()[0]
        what = f"the file cannot be read as HDF5: {text}"
        raise place.error(what, "copy or download the file again") from error
