"""What is in a dataset's folder and what is wrong with it, for ``sfrbench data list`` and ``data check``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sfrbench.components.base import Case, Dataset
from sfrbench.errors import DataError, Problem, SfrbenchError


@dataclass(frozen=True)
class CaseReport:
    """One case as ``read_case`` gives it. Where it is broken, ``faults`` say why and the rest is empty."""

    case: str
    subset: str  # "train" or "test"
    shape: tuple[int, ...] = ()  # voxels of the prepared grid
    spacing: tuple[float, ...] = ()  # mm of the prepared grid
    orientation: str | None = None  # of the raw file, such as "LPS"; none where it does not say
    intensity: tuple[float, float] | None = None  # smallest and largest raw value
    volumes: Mapping[str, float] = field(default_factory=dict)  # class -> ml, foreground classes present
    notes: tuple[str, ...] = ()  # warnings
    duplicate_of: str | None = None  # an earlier case with the same image
    faults: tuple[Problem, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether the case can be prepared."""
        return not self.faults


@dataclass(frozen=True)
class Summary:
    """What ``data list`` shows of a dataset; ``fault`` where its lists cannot be read."""

    train: int = 0
    test: int = 0
    classes: tuple[str, ...] = ()
    megabytes: float = 0.0  # of the raw files
    faults: tuple[Problem, ...] = ()


def summary(dataset: Dataset, root: Path | None) -> Summary:
    """Counts from the lists, without opening a volume."""
    try:
        train, test = dataset.case_lists(root)
        files = [] if root is None or not dataset.needs_root else dataset.source_files(root)
        size = sum(file.stat().st_size for file in files) / 1e6
        return Summary(len(train), len(test), dataset.class_names(root), size)
    except SfrbenchError as error:
        return Summary(faults=error.problems)


def check(
    dataset: Dataset, root: Path | None, progress: Callable[[int, int], None] | None = None
) -> list[CaseReport]:
    """Read every case as ``prepare`` would and report on it, broken or not.

    Raises ``DataError`` where the lists themselves are broken. Two cases with the same image are linked by
    ``duplicate_of``: across train and test that is a leak.
    """
    train, test = dataset.case_lists(root)
    classes = dataset.class_names(root)
    cases = [(case, "train") for case in train] + [(case, "test") for case in test]
    first: dict[str, str] = {}
    reports = []
    for done, (case, subset) in enumerate(cases):
        if progress is not None:
            progress(done, len(cases))
        try:
            read = dataset.read_case(root, case)
        except DataError as error:
            reports.append(CaseReport(case, subset, faults=error.problems))
            continue
        earlier = first.setdefault(hashlib.sha256(read.image.tobytes()).hexdigest(), case)
        reports.append(_report(read, case, subset, classes, None if earlier == case else earlier))
    if progress is not None:
        progress(len(cases), len(cases))
    return reports


def _report(read: Case, case: str, subset: str, classes: tuple[str, ...], twin: str | None) -> CaseReport:
    import numpy as np

    voxel_ml = float(np.prod(read.spacing)) / 1000
    counts = np.bincount(read.label.ravel(), minlength=len(classes))
    low, high = read.source["intensity"]
    return CaseReport(
        case,
        subset,
        shape=tuple(int(size) for size in read.image.shape),
        spacing=tuple(read.spacing),
        orientation=read.source.get("orientation"),
        intensity=(low, high),
        volumes={name: int(counts[k]) * voxel_ml for k, name in enumerate(classes) if k and counts[k]},
        notes=tuple(read.source.get("notes", ())),
        duplicate_of=twin,
    )
