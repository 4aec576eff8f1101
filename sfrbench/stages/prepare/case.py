"""One prepared case on its way: made, written so that a kill leaves all of it or nothing, found again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sfrbench.components.base import Case, Dataset
from sfrbench.components.dataset._intensity import zscore
from sfrbench.components.dataset.geometry import Volume, deepen
from sfrbench.files.atomic import canonical, read_state, write_atomic
from sfrbench.stages.prepare.recipe import RECIPE

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Shelf:
    """The work folder of a node: ``images``, ``labels``, ``stamps`` (of the raw files) and, written last for
    each case, ``cases`` with its index entry. It knows the dataset and so can be sent to another process."""

    folder: Path
    dataset: Dataset
    root: Path | None

    def open(self) -> None:
        """Make the folders, and note what the volumes are prepared with."""
        for name in ("images", "labels", "stamps", "cases"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        write_atomic(self.folder / "recipe.json", self._recipe())

    def file(self, kind: str, case: str) -> Path:
        """Where the ``images``, ``labels``, ``stamps`` or ``cases`` file of a case lies."""
        return self.folder / kind / f"{case}{'.npy' if kind in ('images', 'labels') else '.json'}"

    def has(self, case: str) -> bool:
        """Whether a case is finished."""
        return read_state(self.file("cases", case), dict[str, Any]) is not None

    def entry(self, case: str) -> Any:
        """The index entry of a finished case."""
        return json.loads(self.file("cases", case).read_text(encoding="utf-8"))

    def label(self, case: str) -> NDArray[np.uint8]:
        """The label map of a finished case that has one."""
        return cast(
            "NDArray[np.uint8]", np.load(self.file("labels", case), mmap_mode="r", allow_pickle=False)
        )

    def make(self, case: str) -> None:
        """Read and write one case. Raises ``DataError``."""
        stamp = self._stamp(case)  # before the files are read
        read = deep_enough(self.dataset.read_case(self.root, case), self.dataset.min_depth)
        _save(self.file("images", case), np.asarray(read.image, dtype=np.float32))
        if read.labelled:
            _save(self.file("labels", case), np.asarray(read.label, dtype=np.uint8))
        write_atomic(self.file("stamps", case), json.dumps(stamp))
        write_atomic(self.file("cases", case), json.dumps(entry_of(read)))

    def adopt(self, cases: Sequence[str]) -> int:
        """Take over finished cases of interrupted runs with the same recipe whose raw files are the same.

        Another file of the dataset was mended or added there, so the node has another key and another folder.
        Returns how many were taken.
        """
        wanted = [case for case in cases if not self.has(case)]
        taken = 0
        for folder in sorted(self.folder.parent.glob("prepare-*")):
            other = Shelf(folder, self.dataset, self.root)
            if folder == self.folder or not other._same_recipe():
                continue
            taken += sum(self._take(case, other) for case in wanted if not self.has(case) and other.has(case))
        return taken

    def _take(self, case: str, other: Shelf) -> bool:
        stamp = self._stamp(case)
        if stamp is None or read_state(other.file("stamps", case), list[list[Any]]) != stamp:
            return False
        for kind in ("images", "labels", "stamps", "cases"):  # the last one makes it count
            if kind != "labels" or other.file(kind, case).is_file():
                link(other.file(kind, case), self.file(kind, case))
        return True

    def _recipe(self) -> str:
        settings = self.dataset.key_settings()
        kept = {name: value for name, value in settings.items() if name not in self.dataset.late_fields}
        return canonical({"stage": RECIPE.version, "root": str(self.root), "dataset": kept})

    def _same_recipe(self) -> bool:
        path = self.folder / "recipe.json"
        return path.is_file() and path.read_text(encoding="utf-8") == self._recipe()

    def _stamp(self, case: str) -> list[list[Any]] | None:
        """Name, size and time of change of the raw files of a case; None if it depends on more."""
        files = None if self.root is None else self.dataset.case_files(self.root, case)
        if files is None:
            return None
        found = [each for file in files for each in (sorted(file.rglob("*")) if file.is_dir() else [file])]
        stats = [(file, file.stat()) for file in found if file.is_file()]
        return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def deep_enough(case: Case, least: int | None) -> Case:
    """A case with at least so many slices (``Dataset.min_depth``).

    Our datasets see to it before they z-score; a case from another one that is too shallow is interpolated
    here, and z-scored again where it was before.
    """
    if least is None or case.image.shape[2] >= least:
        return case
    affine = None if case.affine is None else np.asarray(case.affine, dtype=np.float64)
    deep = deepen(Volume(case.image, case.label, case.spacing, affine, case.source), least)
    return case.model_copy(
        update={
            "image": zscore(deep.image) if case.zscored else deep.image,
            "label": deep.label,
            "spacing": deep.spacing,
            "affine": None if deep.affine is None else deep.affine.tolist(),
            "source": deep.source,
        }
    )


def link(source: Path, target: Path) -> None:
    """A second name for a file, in place of what was there; a copy where there are no hard links."""
    temporary = _beside(target)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def entry_of(case: Case) -> dict[str, Any]:
    """What the index says of a case: shape, spacing, affine, range and source."""
    low, high = np.percentile(case.image, _PERCENTILES)
    return {
        **({} if case.labelled else {"labelled": False}),
        "shape": [int(size) for size in case.image.shape],
        "spacing": list(case.spacing),
        "affine": case.affine,
        "range": [float(low), float(high)],
        "source": case.source,
    }


def _save(path: Path, values: NDArray[Any]) -> None:
    temporary = _beside(path)
    with temporary.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(values), allow_pickle=False)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def _beside(path: Path) -> Path:
    """A name that no other process uses: one that outlives a kill for a moment may write the same case."""
    return path.with_name(f".{path.name}.{os.getpid()}")
