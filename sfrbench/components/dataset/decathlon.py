"""The layout of the Medical Segmentation Decathlon and of nnU-Net: how users bring their own data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from sfrbench.components.base import Case, Dataset
from sfrbench.errors import NotReadyError


class Decathlon(Dataset):
    """``dataset.json``, ``imagesTr/`` and ``labelsTr/`` with NIfTI files, in either naming:
    ``imagesTr/<case>.nii.gz`` (Decathlon) or ``imagesTr/<case>_0000.nii.gz``, one file per channel (nnU-Net).

    Volumes are turned to the closest RAS orientation, so that x, y, z run to the right, the front and the
    top; spacing and affine come from the header. Training cases are ordered by a hash of their ids, which
    is the same everywhere; the last ``test_cases`` of that order are the test cases. With ``fold``, nnU-Net's
    ``splits_final.json`` in the data folder says which cases train and which, its validation cases, test; the
    order is that of the hash, too.
    """

    later_fields: ClassVar[Mapping[str, Any]] = {**Dataset.later_fields, "fold": None}

    channel: int = Field(0, ge=0, description="image channel (modality) that is used")
    test_cases: int | None = Field(
        None,
        ge=1,
        description="test cases, taken from the training list; none: labelsTs where there, else a fifth",
    )
    fold: int | None = Field(
        None, ge=0, description="fold of splits_final.json, from 0; none: the file is not looked at"
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
        from sfrbench.components.dataset._decathlon import read_manifest

        return read_manifest(_needed(root)).classes

    def source_files(self, root: Path) -> list[Path]:
        """``dataset.json`` and every image and label that is there (``prepare`` reports the others)."""
        from sfrbench.components.dataset._decathlon import SPLITS, case_files, read_manifest

        manifest = read_manifest(root)
        files = [root / "dataset.json", *([] if self.fold is None else [root / SPLITS])]
        train, test = self.case_lists(root)
        for case in (*train, *test):
            files.extend(case_files(root, manifest, self._part(root, case), case, self.channel))
        return [file for file in files if file.is_file()]

    def case_files(self, root: Path, case: str) -> list[Path]:
        """``dataset.json``, image and label."""
        from sfrbench.components.dataset._decathlon import case_files, read_manifest

        found = case_files(root, read_manifest(root), self._part(root, case), case, self.channel)
        return [root / "dataset.json", *found]

    def case_lists(self, root: Path | None) -> tuple[list[str], list[str]]:
        """Training and test ids: the two parts of ``fold``, or all cases in hashed order, cut before the last
        ``test_cases``."""
        from sfrbench.components.dataset._checks import check_lists
        from sfrbench.components.dataset._decathlon import ids_in, read_fold, read_manifest, training_ids
        from sfrbench.errors import DataError

        folder = _needed(root)
        manifest = read_manifest(folder)
        listed, file = training_ids(folder, manifest)
        if self.fold is not None:
            check_lists({"train": (file, listed)})
            train, test = read_fold(folder, self.fold, listed)
            return sorted(train, key=self._rank), sorted(test, key=self._rank)
        train = sorted(listed, key=self._rank)
        if self._has_test_labels(folder):
            test = ids_in(folder / "labelsTs", manifest.ending)
            check_lists({"train": (file, listed), "test": (folder / "labelsTs", test)})
            return train, test
        check_lists({"train": (file, listed)})
        count = max(len(listed) // 5, 1) if self.test_cases is None else self.test_cases
        if count >= len(train):
            raise DataError(
                f"{count} test cases leave nothing of {len(train)} training cases",
                where=str(file),
                hint="lower dataset.test_cases, or add cases",
            )
        return train[:-count], train[-count:]

    def read_case(self, root: Path | None, case: str) -> Case:
        """Read, check, turn, shrink and z-score one case. Raises ``DataError``."""
        from sfrbench.components.dataset._decathlon import read

        folder = _needed(root)
        return read(folder, self._part(folder, case), case, self.channel, self.downsample)

    def _rank(self, case: str) -> str:
        return hashlib.sha256(f"{self.split_seed}/{case}".encode()).hexdigest()

    def _has_test_labels(self, root: Path) -> bool:
        if self.test_cases is not None or self.fold is not None:
            return False
        return (root / "imagesTs").is_dir() and (root / "labelsTs").is_dir()

    def _part(self, root: Path, case: str) -> str:
        """The suffix of the folders in which the case lies, ``Tr`` or ``Ts``."""
        if self._has_test_labels(root) and any((root / "labelsTs").glob(f"{case}.nii*")):
            return "Ts"
        return "Tr"


def _needed(root: Path | None) -> Path:
    if root is None:
        raise NotReadyError(
            "the folder of this dataset is not known",
            hint="give --data NAME=DIR, the folder that holds dataset.json, or put it at $SFRBENCH_DATA/NAME",
        )
    return root
