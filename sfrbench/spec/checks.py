"""References between the sections of a specification: to axes and arms; the entries of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError

from sfrbench.catalog.faults import form_problem
from sfrbench.components.base import Settings
from sfrbench.errors import Problem, did_you_mean, shown
from sfrbench.files.yamlio import Where
from sfrbench.spec.model import SWITCHES, Arm, Axis, Exclusion, Item, ItemKinds, Known, Local, Profile
from sfrbench.spec.sections import Reader


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
    """Choices that replace ``base`` at some points, from the file or from its section for a profile."""
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
    known = _known(reader, arms, axes)
    for index, when in whens.items():
        here: Where = (*at, index, "when")
        for path in when:
            if path not in ("arm", *known.paths) and not {path, "axes"} & reader.unread:
                reader.fault((*here, path), f"no axis '{path}'", did_you_mean(path, ["arm", *known.paths]))
        names = when.get("arm", [])
        for place, what, remedy in known.arm_faults(names if isinstance(names, list) else [names], ("arm",)):
            reader.fault((*here, *place), what, remedy)


def check_without(reader: Reader, arms: Sequence[Arm], axes: Sequence[Axis]) -> None:
    """What an arm is without is an axis."""
    known, by_name = _known(reader, arms, axes), {arm.name: arm for arm in arms}
    listed = reader.document.data.get("arms")
    for index, entry in enumerate(listed if isinstance(listed, list) else []):
        name = entry.get("name") if isinstance(entry, Mapping) else None
        arm = by_name.pop(str(name), None)
        for number, path in enumerate(arm.without if arm else ()):
            at: Where = ("arms", index, "without", number)
            for _, what, remedy in known.axis_faults(path, (), f"without: arm '{name}'"):
                reader.fault(at, what, remedy)


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


def read_items(
    reader: Reader, entries: Any, kinds: ItemKinds, arms: Sequence[Arm], axes: Sequence[Axis]
) -> tuple[Item, ...]:
    """The items of the report that are well formed; what they name that is not there is noted."""
    known = _known(reader, arms, axes)
    items: list[Item] = []
    for index, entry in enumerate(reader.list_of(entries, ("report",))):
        item = _item(reader, entry, ("report", index), kinds)
        if item is not None:
            before = [other for other in items if other.kind == item.kind]
            for place, what, remedy in item.faults(known, before):
                reader.fault(("report", index, *place), what, remedy)
            items.append(item)
    return tuple(items)


def _item(reader: Reader, entry: Any, at: Where, kinds: ItemKinds) -> Item | None:
    name = ".".join(map(str, at))
    if not isinstance(entry, Mapping):
        reader.fault(at, f"{name}: a mapping is needed, got {shown(entry)}", "as in {FIELD: VALUE}")
        return None
    given = [kind for kind in kinds if entry.get(kind) is not None]
    fields = {field for cls in kinds.values() for field in cls.model_fields}
    strange = [str(key) for key in entry if key not in fields]
    if len(given) == 1:
        cls = kinds[given[0]]
        own = {key: value for key, value in entry.items() if key not in kinds or key == cls.kind}
        try:
            return cls.model_validate(own)
        except ValidationError as error:
            faults = [_misplaced(reader, fault, at, kinds, cls) for fault in error.errors()]
            reader.problems += faults
    elif strange and not given:
        for key in strange:
            reader.fault((*at, key), f"no field '{name}.{key}'", did_you_mean(key, kinds))
    else:
        got = ", ".join(given) or "none"
        reader.fault(at, f"{name}: give exactly one of {', '.join(kinds)}; got {got}")
    return None


def _misplaced(
    reader: Reader, fault: Mapping[str, Any], at: Where, kinds: ItemKinds, cls: type[Item]
) -> Problem:
    """A fault of form; a field of other kinds is named with these."""
    problem = form_problem(reader.document, fault, at, cls)
    field = fault["loc"][-1]
    others = [f"'{kind}'" for kind, other in kinds.items() if field in other.model_fields]
    if fault["type"] != "extra_forbidden" or len(fault["loc"]) > 1 or not others:
        return problem
    name, last = ".".join(map(str, at)), others.pop()
    said = f"{', '.join(others)} or {last}" if others else last
    what = f"{name}: {field} goes with {said}, not with '{cls.kind}'"
    return Problem(problem.where, what, "leave it out")


def _known(reader: Reader, arms: Sequence[Arm], axes: Sequence[Axis]) -> Known:
    values = {
        path: len({repr(row[place]) for row in axis.values})
        for axis in axes
        for place, path in enumerate(axis.paths)
    }
    return Known(arms, values, reader.unread)
