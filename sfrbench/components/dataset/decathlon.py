"""The layout of the Medical Segmentation Decathlon and of nnU-Net: how users bring their own data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from sfrbench.components.base import Case, Dataset
from sfrbench.errors import NotReadyError

if TYPE_CHECKING:
    from sfrbench.components.costs.parts import Extent
    from sfrbench.components.dataset._decathlon_cases import Folder


class Decathlon(Dataset):
    """``dataset.json``, ``imagesTr/`` and ``labelsTr/`` with NIfTI files, in either naming:
    ``imagesTr/<case>.nii.gz`` (Decathlon) or ``imagesTr/<case>_0000.nii.gz``, one file per channel (nnU-Net).
    Where ``dataset.json`` names the files of its cases (``training`` of the Decathlon and of MONAI,
    ``dataset`` of nnU-Net), these are read.

    Volumes are turned to the closest RAS orientation, so that x, y, z run to the right, the front and the
    top; spacing and affine come from the header. Training cases are ordered by a hash of their ids, which
    is the same everywhere; the last ``test_cases`` of that order are the test cases. With ``fold``, nnU-Net's
    ``splits_final.json`` in the data folder (else the ``fold`` of MONAI's entries) says which cases train and
    which, its validation cases, test; the order is that of the hash, too.

    An image without a label is an unlabelled training case: it stands behind those with a label, and never
    tests or validates. ``unlisted`` says whether one that the lists of ``dataset.json`` do not name is, too.
    """

    version: ClassVar[int] = 2  # the files that dataset.json names; units of the header
    later_fields: ClassVar[Mapping[str, Any]] = {
        **Dataset.later_fields,
        "fold": None,
        "missing_label": "unlabelled",
        "unlisted": None,
    }

    channel: int = Field(0, ge=0, description="image channel (modality) that is used")
    test_cases: int | None = Field(
        None,
        ge=1,
        description="test cases, taken from the training list; none: those set apart (labelsTs, or "
        "validation or labelled test in dataset.json), else a fifth",
    )
    fold: int | None = Field(
        None, ge=0, description="fold of splits_final.json, from 0; none: the file is not looked at"
    )
    missing_label: Literal["unlabelled", "error"] = Field(
        "unlabelled", description="an image without a label trains unlabelled, or is an error"
    )
    unlisted: Literal["unlabelled", "left_out"] | None = Field(
        None,
        description="images of imagesTr that dataset.json has lists for and does not name: they train "
        "unlabelled or are left out; none: left out where the lists name images without a label",
    )
    split_seed: int = Field(0, ge=0, description="another seed gives another order and another test set")
    downsample: int = Field(1, ge=1, le=8, description="volumes shrink by this: block mean, majority label")

    @model_validator(mode="after")
    def _one_split(self) -> Decathlon:
        if self.fold is not None and self.test_cases is not None:
            raise ValueError("fold and test_cases exclude each other: a fold says which cases test")
        return self

    def class_names(self, root: Path | None) -> tuple[str, ...]:
        """Names from ``dataset.json``, in the order of their numbers."""
        from sfrbench.components.dataset._manifest import read_manifest

        return read_manifest(_needed(root)).classes

    def source_files(self, root: Path) -> list[Path]:
        """``dataset.json`` and every image and label that is there (``prepare`` reports the others)."""
        from sfrbench.components.dataset._decathlon_folds import SPLITS

        folder = self._look(root)
        files = [root / "dataset.json", *([] if self.fold is None else [root / SPLITS])]
        train, test = self._lists(root, folder)
        for case in (*train, *test):
            found = folder.files(case)
            files += [found.image, *([] if found.label is None else [found.label])]
        return [file for file in files if file.is_file()]

    def case_files(self, root: Path, case: str) -> list[Path]:
        """``dataset.json``, image and label."""
        found = self._look(root).files(case)
        return [root / "dataset.json", found.image, *([] if found.label is None else [found.label])]

    def case_lists(self, root: Path | None) -> tuple[list[str], list[str]]:
        """Training and test ids: the two parts of ``fold``, or all cases in hashed order, cut before the last
        ``test_cases``; training cases without a label follow those with one."""
        folder = _needed(root)
        return self._lists(folder, self._look(folder))

    def extent(self, root: Path | None) -> Extent | None:
        """From the headers of some images; nothing is known without them."""
        from sfrbench.components.costs.extents import extent, mean_shape
        from sfrbench.errors import SfrbenchError

        if root is None:
            return None
        try:
            folder, (train, test) = self._look(root), self.case_lists(root)
            shape = mean_shape([folder.files(case).image for case in (*train, *test)])
            classes = len(self.class_names(root))
        except (SfrbenchError, OSError):  # 'data check' says what is wrong
            return None
        if shape is None:
            return None
        lists = (len(train), len(test))
        return extent(self, root, shape, classes=classes, lists=lists, downsample=self.downsample)

    def without_label(self, root: Path | None) -> frozenset[str]:
        """The cases that no label is there for."""
        return frozenset(self._look(_needed(root)).bare)

    def remarks(self, root: Path | None) -> tuple[str, ...]:
        """Cases without a label, cases that are not used, and where the test cases come from."""
        return self._look(_needed(root)).remarks

    def _look(self, root: Path) -> Folder:
        from sfrbench.components.dataset._checks import check_lists
        from sfrbench.components.dataset._decathlon_cases import look
        from sfrbench.components.dataset._decathlon_unread import some
        from sfrbench.errors import DataError

        apart = self.test_cases is None and self.fold is None
        folder = look(root, self.channel, apart=apart, unlisted=self.unlisted)
        check_lists(folder.lists, folder.places)
        if folder.bare and self.missing_label == "error":
            raise DataError(
                f"{len(folder.bare)} training cases have no label: {some(folder.bare)}",
                where=str(root),
                hint="bring their labels, or let them train unlabelled (dataset.missing_label: unlabelled)",
            )
        return folder

    def _lists(self, root: Path, folder: Folder) -> tuple[list[str], list[str]]:
        from sfrbench.components.dataset._apart import check_apart
        from sfrbench.components.dataset._decathlon_folds import read_fold
        from sfrbench.errors import DataError

        check_apart(folder)
        bare = sorted(folder.bare, key=self._rank)
        if self.fold is not None:
            part, val = read_fold(root, self.fold, folder)
            return [*sorted(part, key=self._rank), *bare], sorted(val, key=self._rank)
        train = sorted(folder.labelled, key=self._rank)
        if folder.apart:
            return [*train, *bare], list(folder.apart)
        count = max(len(train) // 5, 1) if self.test_cases is None else self.test_cases
        if count >= len(train):
            for case in train:  # a label whose image is not there is the better reason
                folder.check_image(case)
            labelled = "training cases with a label" if bare else "training cases"
            raise DataError(
                f"{count} test cases leave nothing of {len(train)} {labelled}",
                where=str(folder.lists["train"][0]),
                hint="lower dataset.test_cases, or add cases",
            )
        return [*train[:-count], *bare], train[-count:]

    def read_case(self, root: Path | None, case: str) -> Case:
        """Read, check, turn, shrink and z-score one case. Raises ``DataError``."""
        from sfrbench.components.dataset._decathlon import read

        folder = _needed(root)
        return read(folder, self._look(folder), case, self.channel, self.downsample, self.min_depth)

    def read_image(self, file: Path, like: Mapping[str, Any]) -> Case:
        """An image alone, turned, shrunk and z-scored in the same way."""
        from sfrbench.components.dataset._nifti import read_alone

        return read_alone(file, downsample=self.downsample, min_depth=self.min_depth)

    def _rank(self, case: str) -> str:
        return hashlib.sha256(f"{self.split_seed}/{case}".encode()).hexdigest()


def _needed(root: Path | None) -> Path:
    if root is None:
        raise NotReadyError(
            "the folder of this dataset is not known",
            hint="give --data NAME=DIR, the folder that holds dataset.json, or put it at $SFRBENCH_DATA/NAME",
        )
    return root
