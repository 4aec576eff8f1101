"""What is in a dataset's folder and what is wrong with it, for ``sfrbench data list`` and ``data check``."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sfrbench.components.base import Case, Dataset
from sfrbench.errors import DataError, Problem, SfrbenchError, few


@dataclass(frozen=True)
class CaseReport:
    """One case as ``read_case`` gives it. Where it is broken, ``faults`` say why and the rest is empty."""

    case: str
    subset: str  # "train" or "test"
    labelled: bool = True  # false: no label is there, and the case trains unlabelled
    shape: tuple[int, ...] = ()  # voxels of the prepared grid
    spacing: tuple[float, ...] = ()  # mm of the prepared grid
    raw_shape: tuple[int, ...] = ()  # of the raw file, in its own order of axes
    raw_spacing: tuple[float, ...] = ()
    orientation: str | None = None  # of the raw file, such as "LPS"; none where it does not say
    intensity: tuple[float, float] | None = None  # smallest and largest raw value
    volumes: Mapping[str, float] = field(default_factory=dict)  # class -> ml, foreground classes present
    absent: tuple[str, ...] = ()  # the other foreground classes
    notes: tuple[str, ...] = ()  # warnings
    duplicate_of: str | None = None  # an earlier case with the same raw image
    leak: bool = False  # one of the two is a training case, the other a test case
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
    without_label: int = 0  # of the training cases
    faults: tuple[Problem, ...] = ()


def summary(dataset: Dataset, root: Path | None) -> Summary:
    """Counts from the lists, without opening a volume."""
    try:
        train, test = dataset.case_lists(root)
        bare = len(dataset.without_label(root))
        return Summary(len(train), len(test), dataset.class_names(root), bare)
    except SfrbenchError as error:
        return Summary(faults=error.problems)


def check_lists(dataset: Dataset, root: Path | None) -> None:
    """Lists, classes and the split that the fields ask for, without opening a volume. Raises
    ``SfrbenchError``."""
    from sfrbench.components.split import split_cases

    train, test = dataset.case_lists(root)
    names = dataset.class_names(root)
    if len(set(names)) < len(names):
        what = f"two classes have one name: {', '.join(names)}"
        raise DataError(what, hint="every result stands under its class's name: give each one of its own")
    split_cases(
        train,
        test,
        without_label=dataset.without_label(root),
        labeled=dataset.labeled,
        choice=dataset.choice,
        unlabeled=dataset.unlabeled,
        val=dataset.val,
        max_test=dataset.max_test,
    )


def check(
    dataset: Dataset, root: Path | None, progress: Callable[[int, int], None] | None = None
) -> list[CaseReport]:
    """The reports of ``examine``. Raises ``DataError`` where the lists themselves are broken."""
    total = sum(map(len, dataset.case_lists(root)))
    reports: list[CaseReport] = []
    for report, _ in examine(dataset, root):
        if progress is not None:
            progress(len(reports), total)
        reports.append(report)
    if progress is not None:
        progress(total, total)
    return reports


def examine(dataset: Dataset, root: Path | None) -> Iterator[tuple[CaseReport, Case | None]]:
    """Read every case as ``prepare`` would, one at a time, and report on it; the case is None if it is
    broken.

    Raises ``DataError`` where the lists themselves are broken. Two cases with the same raw image are linked
    by ``duplicate_of``, however their axes run and whatever is cropped of them; across train and test that is
    a leak."""
    train, test = dataset.case_lists(root)
    classes = dataset.class_names(root)
    cases = [(case, "train") for case in train] + [(case, "test") for case in test]
    first: dict[str, tuple[str, str]] = {}
    for case, subset in cases:
        try:
            read = dataset.read_case(root, case)
        except DataError as error:
            yield CaseReport(case, subset, faults=error.problems), None
            continue
        digest = read.digest or hashlib.sha256(read.image.tobytes()).hexdigest()
        earlier = first.setdefault(digest, (case, subset))
        yield _report(read, case, subset, classes, None if earlier == (case, subset) else earlier), read


def by_class(reports: Sequence[CaseReport], classes: Sequence[str]) -> list[str]:
    """A line for each foreground class: how many sound cases have it, and its volumes."""
    sound = [report for report in reports if report.sound and report.labelled]
    lines = []
    for name in classes[1:]:
        volumes = [report.volumes[name] for report in sound if name in report.volumes]
        line = f"{name}: in {len(volumes)} of {len(sound)} cases"
        if volumes:
            middle = statistics.median(volumes)
            line += f", {min(volumes):.1f} to {max(volumes):.1f} ml, median {middle:.1f}"
        lines.append(line)
    return lines


def no_foreground(dataset: Dataset, root: Path | None, reports: Sequence[CaseReport]) -> tuple[str, bool]:
    """What to say where training would learn no class, and whether no choice of labelled cases mends it.

    That is so where no training case has one; where those that ``labeled`` and ``choice`` take have none,
    others may.
    """
    from sfrbench.components.split import split_cases

    empty = {report.case for report in reports if report.sound and report.labelled and not report.volumes}
    train, _ = dataset.case_lists(root)
    bare = dataset.without_label(root)
    known = [case for case in train if case not in bare]
    if known and empty.issuperset(known):
        return f"none of the {len(known)} labelled training cases has a foreground voxel", True
    pool = known[: len(known) - dataset.val]
    if not empty or not 1 <= dataset.labeled <= len(pool):
        return "", False
    taken = split_cases(pool, (), labeled=dataset.labeled, choice=dataset.choice).labelled
    if not empty.issuperset(taken):
        return "", False
    choice = f"with labeled: {dataset.labeled} and choice: {dataset.choice}"
    said = f"{choice} training learns from {few(taken)} alone"
    return f"{said}, whose labels have no foreground voxel", False


def _report(
    read: Case, case: str, subset: str, classes: Sequence[str], twin: tuple[str, str] | None
) -> CaseReport:
    import numpy as np

    voxel_ml = float(np.prod(read.spacing)) / 1000
    counts = np.bincount(read.label.ravel(), minlength=len(classes))
    low, high = read.source.get("intensity", (float(read.image.min()), float(read.image.max())))
    shape = tuple(int(size) for size in read.image.shape)
    return CaseReport(
        case,
        subset,
        shape=shape,
        spacing=tuple(read.spacing),
        raw_shape=tuple(read.source.get("shape", shape)),
        raw_spacing=tuple(read.source.get("spacing", read.spacing)),
        orientation=read.source.get("orientation"),
        intensity=(low, high),
        labelled=read.labelled,
        volumes={name: int(counts[k]) * voxel_ml for k, name in enumerate(classes) if k and counts[k]},
        absent=tuple(name for k, name in enumerate(classes) if read.labelled and k and not counts[k]),
        notes=tuple(read.source.get("notes", ())),
        duplicate_of=twin[0] if twin else None,
        leak=twin is not None and twin[1] != subset,
    )
