"""Arms whose results another tool made: ``predictions: DIR``, and what they can be asked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from sfrbench.catalog.faults import form_problem
from sfrbench.components.base import Dataset, Protocol, Settings
from sfrbench.errors import Problem, shown
from sfrbench.files.yamlio import Where
from sfrbench.spec.model import Arm, Axis
from sfrbench.spec.sections import Reader
from sfrbench.stages.external.files import CASE, Missing, Predictions
from sfrbench.stages.external.recipe import STAGES

#: Choices that reach label maps which are there already: of which cases, and how they are scored.
_HEADS = ("dataset", "protocol", "score")
_UNREAD = {
    "dataset": Dataset.late_fields - {"max_test", "val"},
    "protocol": Protocol.predict_fields,
}
OTHER = "other"
_SHAPE = "as in {folder: DIR, labels: {3: 1, other: 0}}"


class Entry(Settings):
    """``predictions`` of an arm, as a mapping."""

    folder: str = Field(min_length=1)
    files: str = ""
    labels: dict[str, Any] | None = None
    missing: Missing = "refuse"


def with_predictions(reader: Reader, listed: Sequence[Any], arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The arms, with the results that the entries of ``listed`` name; such an arm has two stages."""
    given: dict[str, Predictions | None] = {}
    for index, entry in enumerate(listed):
        if isinstance(entry, Mapping) and "predictions" in entry:
            at: Where = ("arms", index)
            name = str(entry.get("name"))
            given[name] = _read(reader, entry["predictions"], (*at, "predictions"))
            if "stages" in entry:
                what = f"arm '{name}' has its results from a folder: it has no stages of its own"
                reader.fault((*at, "stages"), what, "leave them out")
    for arm in arms:
        for path in arm.layer.choices if arm.name in given else ():
            if path.partition(".")[0] not in _HEADS:
                what = f"arm '{arm.name}' has its results from a folder: {path} has no effect there"
                remedy = "leave it out, or make it an arm of its own"
                reader.problems.append(Problem(arm.layer.where(path), what, remedy))
    return tuple(
        replace(arm, stages=STAGES, predictions=given[arm.name]) if given.get(arm.name) else arm
        for arm in arms
    )


def _read(reader: Reader, given: Any, at: Where) -> Predictions | None:
    """What ``predictions`` says; none where it is wrong."""
    if not isinstance(given, str | Mapping) or not given:
        what = f"predictions: a folder is needed, got {shown(given)}"
        reader.fault(at, what, f"as in predictions: DIR, or {_SHAPE}")
        return None
    try:
        entry = Entry.model_validate({"folder": given} if isinstance(given, str) else given)
    except ValidationError as error:
        reader.problems += [form_problem(reader.document, fault, at, Entry) for fault in error.errors()]
        return None
    before = len(reader.problems)
    folder = _folder(reader, entry.folder, at)
    pairs, other = _labels(reader, entry.labels, (*at, "labels"))
    if entry.files:
        _check_pattern(reader, entry.files, (*at, "files"))
    if len(reader.problems) > before:
        return None
    labels = None if entry.labels is None else pairs
    where = reader.document.where(*at)
    return Predictions(folder, entry.files, labels, other, entry.missing, where)


def _folder(reader: Reader, text: str, at: Where) -> Path:
    """The folder, beside the specification where it is not absolute."""
    try:
        given = Path(text).expanduser()
    except RuntimeError as error:
        reader.fault(at, f"predictions: {text}: {error}", "give the whole path")
        given = Path(text)
    if "\0" in text:
        reader.fault(at, "predictions: a path holds no NUL", "give a folder")
    return Path(os.path.abspath(reader.document.path.parent / given))


def _labels(
    reader: Reader, given: Mapping[str, Any] | None, at: Where
) -> tuple[tuple[tuple[int, int], ...], int | None]:
    """Values in the files with their classes, in rising order, and the class of all others."""
    pairs, other = dict[int, int](), None
    for key, value in (given or {}).items():
        if type(value) is not int or not 0 <= value <= 255:
            what = f"labels: {key}: the number of a class is needed (0: background), got {shown(value)}"
            reader.fault((*at, key), what, "as in {3: 1, other: 0}: value in the files, class")
        elif key == OTHER:
            other = value
        elif not re.fullmatch(r"-?\d{1,9}", key):
            what = f"labels: '{key}' is no value of a label map"
            reader.fault((*at, key), what, f"give a whole number, or '{OTHER}' for all that are not named")
        elif int(key) in pairs:
            reader.fault((*at, key), f"labels: {int(key)} is given twice", "keep one of the two")
        else:
            pairs[int(key)] = value
    if given is not None and not pairs:
        reader.fault(at, "labels: no value is named", "as in {3: 1, other: 0}")
    return tuple(sorted(pairs.items())), other


def _check_pattern(reader: Reader, pattern: str, at: Where) -> None:
    parts = pattern.split("/")
    if CASE not in pattern:
        what = f"files: {shown(pattern)} has no {CASE}, so all cases would have one file"
        reader.fault(at, what, f"as in '{CASE}/segmentation.nii.gz'")
    if pattern.startswith("/") or ".." in parts or "\0" in pattern:
        reader.fault(at, f"files: {shown(pattern)} leads out of the folder", "name another folder")


def off_axes(arms: Sequence[Arm], axes: Sequence[Axis]) -> tuple[Arm, ...]:
    """Arms of label maps that are there, without the axes that they have no different points on."""
    paths = [path for axis in axes for path in axis.paths if not _reads(path)]
    return tuple(
        arm if arm.predictions is None else replace(arm, without=tuple(dict.fromkeys([*arm.without, *paths])))
        for arm in arms
    )


def _reads(path: str) -> bool:
    head, _, field = path.partition(".")
    return head in _HEADS and field not in _UNREAD.get(head, ())
