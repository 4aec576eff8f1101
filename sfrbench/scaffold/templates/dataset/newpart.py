"""A dataset: a folder of NIfTI pairs, what its classes are, and which cases train."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from sfrbench.components.base import Case, Dataset
from sfrbench.errors import DataError, NotReadyError


class NewPart(Dataset):
    """``<root>/images/<case>.nii.gz`` and ``<root>/labels/<case>.nii.gz``, whole numbers of classes.

    Cases are in the order of their names: the first ``labeled`` are labelled, the last ``test_cases`` test.
    Volumes are checked, turned to RAS and z-scored; predictions go back to the raw grid. Lists of your own
    (a published split) go into ``case_lists``. For folders in the Decathlon's or nnU-Net's layout there is
    the dataset 'decathlon' already.
    """

    #: Raise it when the behaviour changes: results are kept under it.
    # version: ClassVar[int] = 2

    test_cases: int = Field(2, ge=1, description="test cases: the last ones by name")

    def class_names(self, root: Path | None) -> tuple[str, ...]:
        """Background first: the number in a label is the place in this list."""
        return ("background", "organ")

    def source_files(self, root: Path) -> list[Path]:
        """All files that the prepared volumes depend on."""
        return [file for case in self._names(root) for file in self.case_files(root, case) if file.is_file()]

    def case_files(self, root: Path, case: str) -> list[Path]:
        """Image and label."""
        return [root / "images" / f"{case}.nii.gz", root / "labels" / f"{case}.nii.gz"]

    def case_lists(self, root: Path | None) -> tuple[list[str], list[str]]:
        """Training and test cases."""
        folder = _needed(root)
        names = self._names(folder)
        if len(names) <= self.test_cases:
            what = f"{self.test_cases} test cases leave nothing of {len(names)} cases to train on"
            hint = "lower dataset.test_cases, or put the images into the folder 'images'"
            raise DataError(what, where=str(folder), hint=hint)
        return names[: -self.test_cases], names[-self.test_cases :]

    def read_case(self, root: Path | None, case: str) -> Case:
        """One case. Raises ``DataError`` where image and label do not belong together."""
        from sfrbench.components.dataset._checks import Place
        from sfrbench.components.dataset._finish import finish
        from sfrbench.components.dataset._nifti import read_pair

        classes = self.class_names(root)
        places = [Place(case, file) for file in self.case_files(_needed(root), case)]
        image, label, geometry = read_pair(places[0], places[1], classes)
        return finish(
            image,
            label,
            geometry,
            classes=len(classes),
            downsample=1,
            min_depth=self.min_depth,
            place=places[0],
            files={"image": str(places[0].file), "label": str(places[1].file)},
        )

    def read_image(self, file: Path, like: Mapping[str, Any]) -> Case:
        """An image alone, prepared in the same way, for ``sfrbench predict``."""
        from sfrbench.components.dataset._nifti import read_alone

        return read_alone(file, downsample=1, min_depth=self.min_depth)

    def _names(self, root: Path) -> list[str]:
        return sorted(file.name.removesuffix(".nii.gz") for file in root.glob("images/*.nii.gz"))


def _needed(root: Path | None) -> Path:
    if root is None:
        raise NotReadyError("the folder of this dataset is not known", hint="give --data NAME=DIR")
    return root
