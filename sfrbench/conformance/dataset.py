"""What every dataset holds: lists without doubles, and cases whose labels lie on the grid of their image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfrbench.components.base import Case, Dataset
from sfrbench.components.dataset.geometry import restore
from sfrbench.conformance.checks import Check, Subject, expect
from sfrbench.engine.volumes import case_info
from sfrbench.errors import NotReadyError
from sfrbench.machine.datacheck import check_lists
from sfrbench.places.locations import data_root
from sfrbench.stages.prepare.case import deep_enough, entry_of


def small(subject: Subject) -> Dataset:
    """The card's dataset; one that is generated, as small as profile smoke has it."""
    dataset = subject.component(Dataset)
    return dataset if dataset.needs_root else subject.scaled(Dataset)


def ready(subject: Subject) -> None:
    """The folder with the data is known."""
    name = subject.card.name
    if small(subject).needs_root and _root(subject) is None:
        raise NotReadyError(
            f"no folder with '{name}' is known", hint=f"give --data {name}=DIR, or set SFRBENCH_DATA"
        )


def _root(subject: Subject) -> Path | None:
    dataset = small(subject)
    return data_root(subject.card.name, dataset.folder, subject.data) if dataset.needs_root else None


def _some(subject: Subject) -> list[str]:
    """The first and the last training case, the first test case, and one without a label."""
    train, test = small(subject).case_lists(_root(subject))
    bare = sorted(small(subject).without_label(_root(subject)))
    return list(dict.fromkeys([*train[:1], *train[-1:], *test[:1], *bare[:1]]))


def _read(subject: Subject, case: str) -> Case:
    return small(subject).read_case(_root(subject), case)


def lists_are_sound(subject: Subject) -> None:
    """No case stands twice in the training and test lists, classes have names of their own, background
    first, and the split that the fields ask for can be made."""
    dataset, root = small(subject), _root(subject)
    train, test = dataset.case_lists(root)
    twice = sorted({case for case in (*train, *test) if (*train, *test).count(case) > 1})
    expect(not twice, f"twice: {', '.join(twice[:6])}")
    expect((train, test) == dataset.case_lists(root), "the lists change from one call to the next")
    expect(len(dataset.class_names(root)) >= 2, f"classes {dataset.class_names(root)}")
    strange = sorted(dataset.without_label(root) - set(train))
    expect(not strange, f"without a label and not in the training list: {', '.join(strange[:6])}")
    check_lists(dataset, root)


def files_are_there(subject: Subject) -> None:
    """``source_files`` and ``case_files`` name files below the folder of the data."""
    dataset, root = small(subject), _root(subject)
    if root is None:
        return
    files = dataset.source_files(root)
    lost = [str(file) for file in files if not (file.is_file() and file.is_relative_to(root))]
    expect(bool(files) and not lost, f"no such file in the folder: {', '.join(lost[:3]) or 'none is named'}")
    for case in _some(subject):
        own = dataset.case_files(root, case)
        lost = [str(file) for file in own or () if not file.exists()]
        expect(not lost, f"case {case}: no such file: {', '.join(lost[:3])}")


def labels_lie_on_the_image(subject: Subject) -> None:
    """Image (X, Y, Z) float32, finite; label uint8 of the same shape, each value a class."""
    classes = len(small(subject).class_names(_root(subject)))
    for case in _some(subject):
        read = _read(subject, case)
        image, label = np.asarray(read.image), np.asarray(read.label)
        expect(
            image.ndim == 3 and image.dtype == np.float32, f"case {case}: image {image.shape} {image.dtype}"
        )
        expect(bool(np.isfinite(image).all()), f"case {case}: values that are not finite")
        seen = f"case {case}: image {image.shape}, label {label.shape} {label.dtype}"
        expect(label.shape == image.shape and label.dtype == np.uint8, seen)
        expect(int(label.max()) < classes, f"case {case}: label {label.max()} of {classes} classes")
        expect(read.labelled or not label.any(), f"case {case}: without a label, and the label is not 0")
        bare = case in small(subject).without_label(_root(subject))
        expect(read.labelled != bare, f"case {case}: labelled {read.labelled}, without_label {bare}")


def intensities_are_scaled(subject: Subject) -> None:
    """An image that says that it is z-scored has mean 0 and standard deviation 1."""
    for case in _some(subject):
        read = _read(subject, case)
        mean, std = float(np.mean(read.image, dtype=np.float64)), float(np.std(read.image, dtype=np.float64))
        seen = f"case {case}: mean {mean:.3g}, standard deviation {std:.4g}"
        expect(std > 0, seen)
        expect(not read.zscored or (abs(mean) < 1e-3 and abs(std - 1) < 1e-3), seen)


def grid_is_known(subject: Subject) -> None:
    """Spacing is above 0 and that of the affine, where there is one; labels can return to the raw grid."""
    for case in _some(subject):
        read = deep_enough(_read(subject, case), small(subject).min_depth)
        expect(min(read.spacing) > 0, f"case {case}: spacing {read.spacing}")
        if read.affine is not None:
            steps = np.linalg.norm(np.asarray(read.affine)[:3, :3], axis=0)
            seen = f"case {case}: spacing {read.spacing}, by the affine {steps.round(4).tolist()}"
            expect(bool(np.allclose(steps, read.spacing, rtol=1e-3)), seen)
        info = case_info(entry_of(read))
        raw, _ = restore(np.asarray(read.label), info)
        wanted = tuple(info.source.get("shape", info.shape))
        expect(raw.shape == wanted, f"case {case}: {raw.shape} on the raw grid, which has {wanted}")


def reading_repeats(subject: Subject) -> None:
    """A case is read with the same bits each time."""
    case = _some(subject)[0]
    one, two = _read(subject, case), _read(subject, case)
    same = np.array_equal(one.image, two.image) and np.array_equal(one.label, two.label)
    expect(same, f"case {case}: other values the second time")


OF_CARDS: tuple[Check, ...] = ()
FIRST: tuple[Check, ...] = ()
CHECKS: tuple[Check, ...] = (
    lists_are_sound,
    files_are_there,
    labels_lie_on_the_image,
    intensities_are_scaled,
    grid_is_known,
    reading_repeats,
)
