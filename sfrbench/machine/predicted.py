"""Another tool's results on this machine: what they hold, and what they lack for the cases of a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from sfrbench.components.base import Dataset
from sfrbench.components.split import split_cases
from sfrbench.errors import Problem, few, problem_of
from sfrbench.stages.external.files import CASE, READ, Found, Predictions, find
from sfrbench.stages.recipe import Score

_COPY = "look at 'predictions' of the arm"


def scored_cases(dataset: Dataset, root: Path | None, score: Score) -> tuple[str, ...]:
    """The cases that an arm is scored on. Raises ``SfrbenchError`` where the data do not say."""
    train, test = dataset.case_lists(root)
    bare, (val, most) = dataset.without_label(root), (dataset.val, dataset.max_test)
    split = split_cases(train, test, without_label=bare, labeled=1, val=val, max_test=most)
    return split.test if score == "test" else split.val


def look(given: Predictions, cases: tuple[str, ...]) -> Found:
    """The files of these cases. Raises ``OSError`` where the folder cannot be listed."""
    return find(given.folder, given.files, cases)


def lacks(arm: str, given: Predictions, cases: tuple[str, ...], classes: int) -> Iterator[Problem]:
    """What keeps these label maps from being scored, as far as names of files tell."""
    who = f"arm '{arm}'"
    numbers = [*dict(given.labels or ()).values(), *([] if given.other is None else [given.other])]
    for number in sorted({number for number in numbers if number >= classes}):
        what = f"{who}: labels: there is no class {number}"
        yield Problem(given.where, what, f"the classes of these data are 0 to {classes - 1}")
    try:
        found = look(given, cases)
    except OSError as error:
        yield Problem(given.where, f"{who}: {given.folder}: {problem_of(error).what}", _COPY)
        return
    if not found.of and found.missing and not found.unread:
        yield _none(who, given, cases)
        return
    for case, files in found.twice.items():
        names = " and ".join(file.name for file in files)
        yield Problem(given.where, f"{who}: case {case} has several files: {names}", "leave one of them")
    for case, file in found.unread.items():
        if file.name.endswith(READ):
            yield Problem(given.where, f"{who}: case {case}: {file.name} is no file, or a broken link", _COPY)
            continue
        what = f"{who}: case {case}: {file.name} is in a format that is not read"
        yield Problem(given.where, what, f"convert it to one of {', '.join(READ)}, with its geometry")
    gone = [case for case in found.missing if case not in found.unread]
    if gone and given.missing == "refuse":
        what = f"{who}: {len(gone)} of {len(cases)} cases have no file in {given.folder}: {few(gone)}"
        yield Problem(given.where, what, "bring them; 'missing: empty' counts them as empty label maps")
    if any(file.suffix == ".nrrd" for file in found.of.values()) and find_spec("nrrd") is None:
        yield Problem(given.where, f"{who}: reading NRRD needs pynrrd", "pip install 'sfrbench[nrrd]'")


def _none(who: str, given: Predictions, cases: tuple[str, ...]) -> Problem:
    name = given.files.replace(CASE, cases[0]) if given.files else f"{cases[0]}{READ[0]}"
    what = f"{who}: {given.folder} holds no file of any of the {len(cases)} cases, such as {name}"
    return Problem(given.where, what, f"files: 'PREFIX_{CASE}.nii.gz' says how they are called")


def remarks(arm: str, given: Predictions, cases: tuple[str, ...]) -> Iterator[str]:
    """What users should know of the files: cases that count as empty, files of no case."""
    found = look(given, cases)
    if found.missing and given.missing == "empty":
        what = f"{len(found.missing)} of {len(cases)} cases have no file and count as empty"
        yield f"arm {arm}: {what}: {few(found.missing)}"
    if found.surplus:
        what = f"{len(found.surplus)} files of other cases are left out"
        yield f"arm {arm}: {what}: {few(found.surplus)}"
