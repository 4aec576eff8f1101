"""References between the sections of a specification: to axes, arms and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from sfrbench.components.base import Settings
from sfrbench.errors import Problem, did_you_mean
from sfrbench.spec import METRICS, SWITCHES, Arm, Axis, Exclusion, Local, Profile, ReportItem
from sfrbench.spec_published import check_published
from sfrbench.spec_sections import Reader, form_problem
from sfrbench.yamlio import Where

Entry = TypeVar("Entry", bound=Settings)


class ExclusionEntry(Settings):
    """What is left out, and why."""

    when: dict[str, Any] = Field(min_length=1)
    reason: str = Field(min_length=1)


class LocalEntry(Settings):
    """Choices of base at some points of the axes."""

    when: dict[str, Any] = Field(min_length=1)
    base: dict[str, Any] = Field(min_length=1)


def read_exclusions(
    reader: Reader, entries: Any, at: Where, arms: Sequence[Arm], axes: Sequence[Axis]
) -> tuple[Exclusion, ...]:
    """What the file, or its section for a profile, leaves out; names of axes and arms are checked."""
    parsed = _entries(reader, ExclusionEntry, entries, at)
    _check_points(reader, [entry.when for entry in parsed], at, arms, axes)
    return tuple(
        Exclusion(entry.when, entry.reason, reader.document.where(*at, index))
        for index, entry in enumerate(parsed)
    )


def read_points(
    reader: Reader, entries: Any, at: Where, arms: Sequence[Arm], axes: Sequence[Axis]
) -> tuple[Local, ...]:
    """What base is at some points, of the file or of its section for a profile."""
    parsed = _entries(reader, LocalEntry, entries, at)
    _check_points(reader, [entry.when for entry in parsed], at, arms, axes)
    return tuple(
        Local(entry.when, reader.layer(entry.base, (*at, index, "base"), soft=True))
        for index, entry in enumerate(parsed)
    )


def _entries(reader: Reader, cls: type[Entry], entries: Any, at: Where) -> list[Entry]:
    try:
        return TypeAdapter(list[cls]).validate_python(entries)  # type: ignore[valid-type]
    except ValidationError as error:
        reader.problems += [form_problem(reader.document, fault, at, cls) for fault in error.errors()]
        return []


def _check_points(
    reader: Reader,
    whens: Sequence[Mapping[str, Any]],
    at: Where,
    arms: Sequence[Arm],
    axes: Sequence[Axis],
) -> None:
    known = ["arm", *(path for axis in axes for path in axis.paths)]
    arm_names = [arm.name for arm in arms]
    for index, when in enumerate(whens):
        here: Where = (*at, index, "when")
        for path in when:
            if path not in known:
                reader.fault((*here, path), f"no axis '{path}'", did_you_mean(path, known))
        names = when.get("arm", [])
        for name in [names] if isinstance(names, str) else names:
            if name not in arm_names:
                reader.fault((*here, "arm"), f"no arm '{name}'", did_you_mean(str(name), arm_names))


def check_swapped_axes(reader: Reader, axes: Sequence[Axis], profile: Profile) -> None:
    """An axis over values of a switch that the profile makes one of has the same point twice."""
    for axis in axes:
        heads = [path for path in axis.paths if path in SWITCHES]
        used = {
            tuple(
                profile.instead(path, str(value)) if path in heads else repr(value)
                for path, value in zip(axis.paths, row, strict=True)
            )
            for row in axis.values
        }
        if heads and len(used) < len({repr(row) for row in axis.values}):
            what = f"{', '.join(heads)}: profile '{profile.name}' replaces values, so that two are the same"
            remedy = f"let them stand here: profiles: {{{profile.name}: {{replace: {{{heads[0]}: {{}}}}}}}}"
            reader.problems.append(Problem(axis.where, what, remedy))


def check_report(
    reader: Reader, items: Sequence[ReportItem], arms: Sequence[Arm], axes: Sequence[Axis]
) -> None:
    """Items of the report name axes, arms and metrics that there are."""
    paths = [path for axis in axes for path in axis.paths]
    names = [arm.name for arm in arms]
    for index, item in enumerate(items):
        at: Where = ("report", index)
        if item.published is not None:
            check_published(reader, at, item, arms)
        elif isinstance(item.rows, str) and item.rows not in ("arm", *paths):
            reader.fault(
                (*at, "rows"), f"rows: no axis '{item.rows}'", did_you_mean(item.rows, ["arm", *paths])
            )
        if item.curve is not None:
            if item.curve["x"] not in paths:
                x = item.curve["x"]
                reader.fault((*at, "curve", "x"), f"curve: no axis '{x}'", did_you_mean(x, paths))
            if item.curve["y"] not in METRICS:
                y = item.curve["y"]
                reader.fault((*at, "curve", "y"), f"curve: no metric '{y}'", did_you_mean(y, METRICS))
        for field, chosen in (
            ("pairs", chain(*(item.pairs or ()))),
            ("gains", chain(*item.gains.items())),
            ("arms", item.arms),
        ):
            for name in chosen:
                if name not in names:
                    reader.fault((*at, field), f"{field}: no arm '{name}'", did_you_mean(name, names))
        for name in (name for name, over in item.gains.items() if name == over):
            reader.fault((*at, "gains", name), f"gains: '{name}' against itself")
    _check_features(reader, items, arms)


def _check_features(reader: Reader, items: Sequence[ReportItem], arms: Sequence[Arm]) -> None:
    """Arms exist and re-train; several items share one draw of cases and voxels, so one node."""
    known = {arm.name: arm for arm in arms}
    draws: set[tuple[int, int]] = set()
    for index, item in enumerate(items):
        if item.features is None:
            continue
        at: Where = ("report", index, "features")
        draws.add((item.features.cases, item.features.voxels))
        if len(draws) > 1:
            reader.fault(at, "features: 'cases' and 'voxels' differ from an item before", "make them equal")
        for name in item.features.arms or ():
            if name not in known:
                reader.fault((*at, "arms"), f"features: no arm '{name}'", did_you_mean(name, known))
            elif "retrain" not in known[name].stages:
                reader.fault((*at, "arms"), f"features: arm '{name}' re-trains no segmenter", "leave it out")
