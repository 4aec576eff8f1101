"""The space of a search: ranges of cards filled in, every bound checked against the field's own.

Nothing here knows Optuna; the ends of each range and all choices are resolved as if they were points of an
axis, so that a search is checked by the same rules as everything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, get_args

from sfrbench.catalog.fields import field_exists, field_paths, nested
from sfrbench.components.base import KINDS, Settings
from sfrbench.errors import did_you_mean
from sfrbench.files.limits import limit, remedy
from sfrbench.plan.graph import Configuration
from sfrbench.plan.resolve import Resolved, Resolver
from sfrbench.spec.model import Arm, Layer, Param, Range, Search
from sfrbench.spec.search import range_faults, to_range

Space = Mapping[str, Range]
#: Resolves an arm with one more layer of choices; none where something is wrong, which the resolver notes.
Resolve = Callable[[Arm, Layer], Configuration | None]


def scored_arm(search: Search) -> Arm:
    """The searched arm, scored on validation cases."""
    layer = search.arm.layer
    places = {"score": search.where, **{path: at for path, at in layer.places.items() if path != "score"}}
    return replace(search.arm, layer=Layer({**layer.choices, "score": "val"}, places))


def check_space(search: Search, resolver: Resolver, resolve: Resolve) -> Space:
    """The range of every searched field. Faults go to the resolver, with the place of the wrong end."""
    arm = scored_arm(search)
    plain = resolve(arm, Layer({}))
    space: dict[str, Range] = {}
    if plain is None:
        return space
    for param in search.params:
        searched = _range(param, plain, search, resolver)
        if searched is None:
            continue
        before = len(resolver.problems)
        points = [
            resolve(arm, Layer({param.path: value}, {param.path: param.places.get(part, param.where)}))
            for part, value in probes(searched)
        ]
        same = (
            not resolver.spec.sets.choices
            and len({_work(point) for point in points if point is not None}) == 1
        )
        if same and len(resolver.problems) == before:
            what = f"search: {param.path} has no effect in arm '{search.arm.name}'"
            resolver.add(param.where, what, "search another field or another arm")
        space[param.path] = searched
    if search.sampler == "grid":
        _check_grid(search, space, resolver)
    return space


def _range(param: Param, plain: Configuration, search: Search, resolver: Resolver) -> Range | None:
    """The range of one field, in whole numbers where the field is whole."""
    kind, _, field = param.path.partition(".")
    if kind not in KINDS or not field:
        return param.range
    resolved = plain.components.get(kind)
    if resolved is None:
        if resolver.spec.sets.choices and param.range is not None:
            return param.range  # an option says otherwise for this once
        what = f"search: {param.path} has no effect in arm '{search.arm.name}', which uses no {kind}"
        resolver.add(param.where, what, "search another field or another arm")
        return None
    cls = type(resolved.component)
    if not field_exists(cls, field):
        what = f"search: {param.path}: no field '{field}' in {cls.__name__}"
        resolver.add(param.where, what, did_you_mean(field, field_paths(cls)))
        return None
    searched = param.range if param.range is not None else _from_card(param, resolved, field, resolver)
    if searched is None or searched.choices or not _is_whole(cls, field):
        return searched
    if any(float(end) != int(end) for end in (searched.low, searched.high)):
        return searched  # refused by the field itself
    if searched.step is not None and searched.step != int(searched.step):
        where = param.places.get("step", param.where)
        resolver.add(where, f"search: {param.path}: the field is whole, its step {searched.step} is not")
        return None
    step = None if searched.step is None else int(searched.step)
    return Range(int(searched.low), int(searched.high), searched.log, step, whole=True)


def _from_card(param: Param, resolved: Resolved, field: str, resolver: Resolver) -> Range | None:
    card = resolved.card
    if field not in card.search:
        what = f"search: {param.path}: card {card.kind}/{card.name} gives no range for '{field}'"
        known = f"; it has {', '.join(card.search)}" if card.search else ""
        resolver.add(param.where, what, f"give [low, high] or {{choices: [...]}}{known}")
        return None
    faults = list(range_faults(card.search[field]))
    for _, what, mend in faults:
        resolver.add(str(card.path), f"search: {field}: {what}", mend)
    return None if faults else to_range(card.search[field])


def _is_whole(cls: type[Settings] | None, field: str) -> bool:
    *groups, name = field.split(".")
    for group in groups:
        cls = nested(cls, group) if cls is not None and group in cls.model_fields else None
    if cls is None or name not in cls.model_fields:
        return False
    annotation = cls.model_fields[name].annotation
    return int in (annotation, *get_args(annotation)) and float not in get_args(annotation)


def probes(searched: Range) -> Iterator[tuple[str, Any]]:
    """The values whose soundness means that of all others: both ends, or every choice."""
    if searched.choices:
        yield from ((f"choices.{index}", value) for index, value in enumerate(searched.choices))
    else:
        yield from (("low", searched.low), ("high", searched.high))


def _work(config: Configuration) -> tuple[Any, ...]:
    return (config.pseudo, *((kind, resolved.digest) for kind, resolved in sorted(config.components.items())))


def _check_grid(search: Search, space: Space, resolver: Resolver) -> None:
    before = len(resolver.problems)
    for param in search.params:
        searched = space.get(param.path)
        if (
            searched is not None
            and not searched.choices
            and (searched.log or (not searched.whole and searched.step is None))
        ):
            what = f"search: sampler grid: {param.path} has no end of values"
            hint = "give it choices, or a step and no log" if searched.log else "give it a step, or choices"
            resolver.add(param.where, what, hint)
    if len(resolver.problems) == before and grid_size(space) > limit("cells"):
        resolver.add(search.where, f"search: a grid of {grid_size(space):g} points", remedy("cells"))


def grid_values(searched: Range) -> list[Any]:
    """Every value of a range that has an end of them."""
    if searched.choices:
        return list(searched.choices)
    values = [searched.low + index * (searched.step or 1) for index in range(_count(searched))]
    return [int(value) if searched.whole else round(value, 12) for value in values]


def grid_size(space: Space) -> int:
    """How many points a grid over the whole space has."""
    return math.prod(_count(searched) for searched in space.values())


def _count(searched: Range) -> int:
    """How many values a range has, without listing them."""
    if searched.choices:
        return len(searched.choices)
    return int(min((searched.high - searched.low) / (searched.step or 1) + 1e-9, 1e18)) + 1
