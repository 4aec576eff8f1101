"""References between the sections of a specification: to axes, arms and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from pydantic import Field

from sfrbench.components.base import Settings
from sfrbench.errors import Problem, did_you_mean, shorter, shown
from sfrbench.files.yamlio import Where
from sfrbench.spec.model import METRICS, SWITCHES, Arm, Axis, Exclusion, Local, Profile, ReportItem
from sfrbench.spec.published import check_published
from sfrbench.spec.sections import Reader
from sfrbench.stages.retrain import recipe as retrain


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
    parsed = reader.entries(ExclusionEntry, entries, at)
    _check_points(reader, {index: entry.when for index, entry in parsed}, at, arms, axes)
    return tuple(
        Exclusion(entry.when, entry.reason, reader.document.where(*at, index)) for index, entry in parsed
    )


def read_points(
    reader: Reader, entries: Any, at: Where, arms: Sequence[Arm], axes: Sequence[Axis]
) -> tuple[Local, ...]:
    """What base is at some points, of the file or of its section for a profile."""
    parsed = reader.entries(LocalEntry, entries, at)
    _check_points(reader, {index: entry.when for index, entry in parsed}, at, arms, axes)
    return tuple(
        Local(entry.when, reader.layer(entry.base, (*at, index, "base"), soft=True))
        for index, entry in parsed
    )


def _check_points(
    reader: Reader,
    whens: Mapping[int, Mapping[str, Any]],
    at: Where,
    arms: Sequence[Arm],
    axes: Sequence[Axis],
) -> None:
    known = ["arm", *_paths(axes)]
    for index, when in whens.items():
        here: Where = (*at, index, "when")
        for path in when:
            if path not in known and not {path, "axes"} & reader.unread:
                reader.fault((*here, path), f"no axis '{path}'", did_you_mean(path, known))
        names = when.get("arm", [])
        _check_arms(reader, names if isinstance(names, list) else [names], (*here, "arm"), arms)


def _paths(axes: Sequence[Axis]) -> list[str]:
    return [path for axis in axes for path in axis.paths]


def _check_arms(reader: Reader, names: Iterable[Any], at: Where, arms: Sequence[Arm], of: str = "") -> None:
    """Names of arms that there are; no word where arms could not be read."""
    known = [arm.name for arm in arms]
    for name in names:
        if name not in known and "arms" not in reader.unread:
            what = (
                f"no arm '{shorter(name)}'" if isinstance(name, str) else f"no arm has the name {shown(name)}"
            )
            reader.fault(at, of + what, did_you_mean(str(name), known))


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
    reader: Reader, items: Sequence[tuple[int, ReportItem]], arms: Sequence[Arm], axes: Sequence[Axis]
) -> None:
    """Items of the report name axes, arms and metrics that there are."""
    paths = _paths(axes)
    for index, item in items:
        at: Where = ("report", index)
        if item.published is not None:
            check_published(reader, at, item, arms)
        elif isinstance(item.rows, str) and item.rows != "arm":
            _check_axis(reader, item.rows, (*at, "rows"), "rows", ["arm", *paths])
        if item.curve is not None:
            _check_axis(reader, item.curve["x"], (*at, "curve", "x"), "curve", paths)
            if item.curve["y"] not in METRICS:
                y = item.curve["y"]
                reader.fault((*at, "curve", "y"), f"curve: no metric '{y}'", did_you_mean(y, METRICS))
        for field, chosen in (
            ("pairs", chain(*(item.pairs or ()))),
            ("gains", chain(*item.gains.items())),
            ("arms", item.arms),
        ):
            _check_arms(reader, chosen, (*at, field), arms, f"{field}: ")
        for name in (name for name, over in item.gains.items() if name == over):
            reader.fault((*at, "gains", name), f"gains: '{name}' against itself")
    _check_features(reader, items, arms)


def _check_axis(reader: Reader, path: str, at: Where, of: str, known: Sequence[str]) -> None:
    if path not in known and not {path, "axes"} & reader.unread:
        reader.fault(at, f"{of}: no axis '{path}'", did_you_mean(path, known))


def _check_features(reader: Reader, items: Sequence[tuple[int, ReportItem]], arms: Sequence[Arm]) -> None:
    """Arms exist and re-train; several items share one draw of cases and voxels, so one node."""
    known = {arm.name: arm for arm in arms}
    draws: set[tuple[int, int]] = set()
    for index, item in items:
        if item.features is None:
            continue
        at: Where = ("report", index, "features")
        draws.add((item.features.cases, item.features.voxels))
        if len(draws) > 1:
            reader.fault(at, "features: 'cases' and 'voxels' differ from an item before", "make them equal")
        for name in item.features.arms or ():
            _check_arms(reader, [name], (*at, "arms"), arms, "features: ")
            if name in known and retrain.STAGE not in known[name].stages:
                reader.fault((*at, "arms"), f"features: arm '{name}' re-trains no segmenter", "leave it out")
