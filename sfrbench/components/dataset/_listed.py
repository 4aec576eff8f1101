"""What the datasets with a shipped split share: list files, layouts, the way from files to a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from sfrbench.components.base import Case, Dataset
from sfrbench.errors import DataError

if TYPE_CHECKING:
    from sfrbench.components.dataset._checks import Place
    from sfrbench.components.dataset._splits import Split
    from sfrbench.components.dataset.geometry import Geometry, Step


class Listed(Dataset):
    """Cases of a published or shipped split, one h5 file per case or an image and a label in raw form.

    ``train.list`` and ``test.list`` (or ``.txt``) in the data folder take the place of the shipped split. h5
    files are read where there are any, raw files elsewhere; never some of each.
    """

    home: ClassVar[str] = ""  # the card's name, for messages
    what: ClassVar[str] = ""  # what the data are, for messages
    layouts: ClassVar[str] = ""  # where the files lie, for messages
    names: ClassVar[tuple[str, ...]] = ()
    list_pairs: ClassVar[tuple[tuple[str, str], ...]] = (
        ("train.list", "test.list"),
        ("train.txt", "test.txt"),
    )

    kinds: ClassVar[tuple[str, ...]] = ("h5", "nifti")  # what ``layout`` may be, as they are looked for

    layout: str | None = Field(None, description="which files are read; none: h5 where there")
    downsample: int = Field(1, ge=1, le=8, description="volumes shrink by this: block mean, majority label")

    @model_validator(mode="after")
    def _sound_grid_and_window(self) -> Listed:
        """Bounds of the fields ``spacing`` and ``clip`` of the datasets that have them."""
        spacing, clip = getattr(self, "spacing", None), getattr(self, "clip", None)
        if spacing is not None and not all(0 < step <= 20 for step in spacing):
            raise ValueError(f"spacing must be above 0 and at most 20 mm, got {list(spacing)}")
        if clip is not None and not -32768 <= clip[0] < clip[1] <= 32767:
            raise ValueError(f"clip must be two rising numbers in -32768 … 32767, got {list(clip)}")
        return self

    def class_names(self, root: Path | None) -> tuple[str, ...]:
        """Background and the organs, in the order of their numbers."""
        return ("background", *self.names)

    def case_lists(self, root: Path | None) -> tuple[list[str], list[str]]:
        """Ids of the user's list files, else the shipped ones, in their order."""
        from sfrbench.components.dataset._checks import check_lists
        from sfrbench.components.dataset._lists import list_files, needed, read_list

        folder = needed(root, self.home, self.what)
        files = list_files(folder, self.list_pairs)
        if files is None:
            return self._shipped_lists(folder)
        hint = "bring both lists, or neither: then the shipped split holds"
        train, test = (read_list(file, hint) for file in files)
        for file, ids in self._more_lists(folder):
            check_lists({"validation": (file, ids)})
            train = [*train, *ids]
        check_lists({"train": (files[0], train), "test": (files[1], test)})
        return train, test

    def source_files(self, root: Path) -> list[Path]:
        """The list files and every file of a case that is there (``prepare`` reports the others)."""
        train, test = self.case_lists(root)
        files = [root / name for pair in self.list_pairs for name in pair]
        files.extend(file for file, _ in self._more_lists(root))
        kind = self._layout(root, [*train, *test])
        for case in (*train, *test):
            files.extend(self._files(root, case, kind))
        inside = (sorted(file.rglob("*")) if file.is_dir() else [file] for file in files)
        return [file for group in inside for file in group if file.is_file()]

    def case_files(self, root: Path, case: str) -> list[Path] | None:
        """The h5 file, or image and label."""
        train, test = self.case_lists(root)
        return list(self._files(root, case, self._layout(root, [*train, *test])))

    def read_case(self, root: Path | None, case: str) -> Case:
        """Read, check, prepare and normalise one case. Raises ``DataError``."""
        from sfrbench.components.dataset._checks import Place
        from sfrbench.components.dataset._finish import finish
        from sfrbench.components.dataset._lists import needed

        folder = needed(root, self.home, self.what)
        train, test = self.case_lists(folder)
        kind = self._layout(folder, [*train, *test])
        paths = self._files(folder, case, kind)
        places = [Place(case, path) for path in paths]
        image, label, geometry = self._read_h5(places[0]) if kind == "h5" else self._read_raw(*places)
        names = [str(path.relative_to(folder)) for path in paths]
        return finish(
            image,
            label,
            geometry,
            classes=len(self.names) + 1,
            downsample=self.downsample,
            min_depth=self.min_depth,
            place=places[0],
            files=dict(zip(("file", "label_file"), names, strict=False)),
            steps=self._steps(kind, folder, train),
            rescale=self._rescale(),
        )

    def read_image(self, file: Path, like: Mapping[str, Any]) -> Case:
        """An image alone, prepared as the dataset's NIfTI files are."""
        from sfrbench.components.dataset._nifti import read_alone

        return read_alone(
            file,
            towards=self._towards(like),
            downsample=self.downsample,
            min_depth=self.min_depth,
            steps=self._image_steps(like),
            rescale=self._rescale(),
        )

    def _layout(self, root: Path, cases: Sequence[str]) -> str:
        """Which files are read. Raises ``DataError`` where the folder has none of them."""
        for kind in self.kinds if self.layout is None else (self.layout,):
            if any(file.exists() for case in cases for file in self._files(root, case, kind)):
                return kind
        raise DataError(
            f"no file of any of the {len(cases)} cases is here",
            where=str(root),
            hint=f"wanted: {self.layouts}",
        )

    def _shipped(self) -> Split:
        raise NotImplementedError

    def _shipped_lists(self, root: Path) -> tuple[list[str], list[str]]:
        split = self._shipped()
        return list(split.train), list(split.test)

    def _more_lists(self, root: Path) -> list[tuple[Path, list[str]]]:
        """Further lists of the user, whose cases follow the training cases."""
        return []

    def _files(self, root: Path, case: str, kind: str) -> tuple[Path, ...]:
        """The h5 file, or image and label; empty where a dataset has no such layout. The image of a raw case
        may be a folder."""
        raise NotImplementedError

    def _read_h5(self, place: Place) -> tuple[NDImage, NDLabel, Geometry]:
        from sfrbench.components.dataset._checks import checked_image, checked_label
        from sfrbench.components.dataset._h5 import read_h5

        raw, raw_label = read_h5(place)
        image = checked_image(raw, place)
        stored = self._renumbered(raw_label)
        return image, checked_label(stored, image.shape, self.class_names(None), place), self._h5_grid()

    def _renumbered(self, label: Any) -> Any:
        """The label as stored in an h5 file, with our class numbers."""
        return label

    def _h5_grid(self) -> Geometry:
        """Spacing and axes of the h5 files: (x, y, z), 1.5 x 1.5 x 2 mm as MagicNet resamples."""
        from sfrbench.components.dataset.geometry import Geometry

        return Geometry((1.5, 1.5, 2.0))

    def _read_raw(self, image: Place, label: Place) -> tuple[NDImage, NDLabel, Geometry]:
        from sfrbench.components.dataset._nifti import read_pair

        return read_pair(image, label, self.class_names(None))

    def _steps(self, kind: str, root: Path, train: Sequence[str]) -> list[Step]:
        """What is done to a checked volume before it is shrunk and z-scored."""
        return []

    def _image_steps(self, like: Mapping[str, Any]) -> list[Step]:
        """The same for an image alone, which cannot look at the training cases."""
        return self._steps("nifti", Path(), ())

    def _towards(self, like: Mapping[str, Any]) -> str:
        """The orientation of prepared volumes."""
        return "RAS"

    def _rescale(self) -> bool:
        """Whether each volume is z-scored at last."""
        return True


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    NDImage = NDArray[np.float32]
    NDLabel = NDArray[np.uint8]
