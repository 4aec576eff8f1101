"""What records tell of the cost of their stage: seconds and bytes by settings, and how fast a device is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from pydantic import ValidationError

from sfrbench.catalog.code import class_known_as
from sfrbench.components.base import Component, Dataset, Selector
from sfrbench.components.costs.parts import Extent
from sfrbench.errors import SfrbenchError
from sfrbench.machine.speed import Target, same_device
from sfrbench.plan.resolve import digest
from sfrbench.run.records import Record, newest, record_of
from sfrbench.stages.cost import Costed, Made, Work
from sfrbench.stages.finder import recipe_of, recipes
from sfrbench.stages.recipe import Link
from sfrbench.stages.settings import StageSettings
from sfrbench.store.store import Store

#: Records of a stage that are looked at, from the newest.
MOST = 300


@dataclass(frozen=True)
class Kind:
    """Nodes that differ in seeds at most, as far as their cost goes: a digest."""

    stage: str
    digest: str


def kind_of(
    stage: str,
    version: int,
    components: Mapping[str, str],
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    dataset: str,
) -> Kind:
    """From the digests of components by kind, settings as records hold them, stages of inputs by role, and
    the digest of the dataset whose volumes are read."""
    whole = {"version": version, "components": components, "settings": settings}
    return Kind(stage, digest({**whole, "inputs": inputs, "dataset": dataset}))


@dataclass
class Past:
    """The records of a store, for one device."""

    store: Store
    target: Target

    def __post_init__(self) -> None:
        self._stages: dict[str, list[Record]] = {}
        self._kinds: dict[str, dict[Kind, tuple[float | None, int]]] = {}
        self._factors: dict[tuple[object, ...], float | None] = {}
        self._known_ratios: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        self._components: dict[str, Component | None] = {}
        self._extents: dict[Link, Extent | None] = {}
        self._known: dict[Any, Any] = {}

    def seconds(self, kind: Kind) -> float | None:
        """The median of what nodes of this kind took on this device."""
        return self._by_kind(kind.stage).get(kind, (None, 0))[0]

    def bytes(self, kind: Kind) -> int | None:
        """The median of what nodes of this kind kept, on any device."""
        found = self._by_kind(kind.stage).get(kind)
        return None if found is None else found[1]

    def has(self, stage: str) -> bool:
        """Whether there are records of a stage."""
        return bool(self._records(stage))

    def factor(self, stage: str, classes: Mapping[str, str]) -> float | None:
        """How many times longer than formulas say this device takes; none: no record tells. By the records
        of the stage with the same ``classes`` of components; else with the same network; else of other stages
        with that; else of the stage. What passes through a network tells its speed more than the stage does.
        """
        name = (stage, *sorted(classes.items()))
        if name not in self._factors:
            self._factors[name] = self._factor(stage, classes)
        return self._factors[name]

    def _factor(self, stage: str, classes: Mapping[str, str]) -> float | None:
        mine = _networks(classes)
        own = self._ratios(stage)
        steps = (
            [ratio for other, ratio in own if other == classes],
            [ratio for other, ratio in own if _networks(other) == mine],
            [ratio for other, ratio in self._of_networks if mine and _networks(other) == mine],
            [ratio for _, ratio in own],
        )
        return next((math.exp(statistics.median(ratios)) for ratios in steps if ratios), None)

    @cached_property
    def _of_networks(self) -> list[tuple[Mapping[str, str], float]]:
        stages = [stage for stage, recipe in recipes().items() if recipe.needs.network]
        return [pair for stage in stages for pair in self._ratios(stage)]

    def _ratios(self, stage: str) -> list[tuple[Mapping[str, str], float]]:
        """Of each record of a stage the classes of its components, and the logarithm of its factor."""
        if stage not in self._known_ratios:
            self._known_ratios[stage] = [
                (_classes(record), math.log(record["seconds"] / expected))
                for record in self._records(stage)
                if self._timed(record) and record["seconds"] > 0 and (expected := self._expected(record))
            ]
        return self._known_ratios[stage]

    def _expected(self, record: Record) -> float | None:
        work = self.work(record)
        return None if work is None else expected_seconds(work, self._at(record))

    def device_factor(self) -> float | None:
        """The same over all that run networks, whichever; each network of a stage counts once."""
        groups: dict[object, list[float]] = {}
        for stage, recipe in recipes().items():
            for classes, ratio in self._ratios(stage) if recipe.needs.network else ():
                groups.setdefault((stage, _networks(classes)), []).append(ratio)
        found = [statistics.median(ratios) for ratios in groups.values()]
        return math.exp(statistics.median(found)) if found else None

    def extent(self, link: Link) -> Extent | None:
        """Of prepared volumes that are there."""
        if link not in self._extents:
            self._extents[link] = self._extent(link)
        return self._extents[link]

    def _extent(self, link: Link) -> Extent | None:
        if not self.store.has(*link):
            return None
        try:
            index = self.store.get(*link).read_json("index.json")
            cases = list(index["cases"].values())
            bare = sum(not entry.get("labelled", True) for entry in cases)
            x, y, z = (sum(sides) / len(cases) for sides in zip(*(e["shape"] for e in cases), strict=True))
            lists = len(index["train"]), len(index["test"])
            return Extent(*lists, len(index["classes"]), (x, y, z), bare)
        except (SfrbenchError, KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
            return None  # an index of another shape tells nothing

    def _records(self, stage: str) -> list[Record]:
        if stage not in self._stages:
            self._stages[stage] = newest(self.store, stage, MOST)
        return self._stages[stage]

    def _at(self, record: Record) -> Target:
        threads = record.get("threads")
        return Target(self.target.name, threads if isinstance(threads, int) else self.target.threads)

    def _timed(self, record: Record) -> bool:
        """Whether a record is of this device."""
        return same_device(str(record.get("device", "")), self.target.name)

    def _by_kind(self, stage: str) -> dict[Kind, tuple[float | None, int]]:
        if stage not in self._kinds:
            groups: dict[Kind, list[Record]] = {}
            for record in self._records(stage):
                kind = self._kind(record)
                if kind is not None:
                    groups.setdefault(kind, []).append(record)
            self._kinds[stage] = {kind: self._median(records) for kind, records in groups.items()}
        return self._kinds[stage]

    def _median(self, records: list[Record]) -> tuple[float | None, int]:
        timed = [
            float(record["seconds"])
            for record in records
            if self._timed(record) and (self.target.is_gpu or self._at(record).threads == self.target.threads)
        ]
        seconds = statistics.median(timed) if timed else None
        return seconds, round(statistics.median(int(record["bytes"]) for record in records))

    def _kind(self, record: Record) -> Kind | None:
        try:
            parts = {kind: component_digest(kind, fields) for kind, fields in record["components"].items()}
            inputs = {role: str(link[0]) for role, link in record["inputs"].items()}
            dataset = parts.get("dataset") or self._dataset(record)
            return kind_of(
                str(record["stage"]), record["stage_version"], parts, record["settings"], inputs, dataset
            )
        except (KeyError, TypeError, AttributeError, IndexError):
            return None

    def _dataset(self, record: Record) -> str:
        link = record["inputs"].get("prepare")
        made = None if link is None else record_of(self.store, (str(link[0]), str(link[1])))
        return "" if made is None else component_digest("dataset", made["components"]["dataset"])

    def work(self, record: Record) -> Work | None:
        """What formulas say of a node that was made; none where they, or its record, say too little."""
        try:
            stage = str(record["stage"])
            cost = recipe_of(stage).cost
            node = self._costed(record)
            return None if cost is None or node is None else cost(node)
        except (KeyError, TypeError, AttributeError, ValidationError, SfrbenchError):
            return None  # a record of another version

    def _costed(self, record: Record) -> Costed | None:
        components = {kind: self._component(kind, fields) for kind, fields in record["components"].items()}
        if None in components.values():
            return None
        made: dict[str, Made] = {}
        extent = None
        for role, (stage, key) in record["inputs"].items():
            other = record_of(self.store, (stage, key))
            if other is None:
                return None
            made[role] = self._made(other)
            extent = self.extent((stage, key)) if role == "prepare" else extent
        if record["stage"] == "prepare":
            extent = self.extent((record["stage"], record["key"]))
        parts = cast(dict[str, Component], components)
        return Costed(parts, _settings(record), made, extent, self._known)

    def _made(self, record: Record) -> Made:
        fields = record["components"].get("selector")
        selector = None if fields is None else self._component("selector", fields)
        return Made(str(record["stage"]), _settings(record), cast("Selector | None", selector))

    def _component(self, kind: str, fields: Mapping[str, Any]) -> Component | None:
        """The component that a record describes, as it is now."""
        key = f"{kind} {digest(fields)}"
        if key not in self._components:
            cls = class_known_as(str(fields["class"]), kind)
            known = {name: value for name, value in fields.items() if name in cls.model_fields}
            self._components[key] = cls.model_validate({**cls.later_fields, **known})
        return self._components[key]


def _classes(record: Record) -> dict[str, str]:
    return {kind: str(fields["class"]) for kind, fields in record["components"].items()}


def _networks(classes: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(classes[kind] for kind in ("foundation", "backbone") if kind in classes)


def component_digest(kind: str, fields: Mapping[str, Any]) -> str:
    """Of the key settings of a component, with or without its card's name. Of a dataset it is without the
    fields that prepared volumes do not depend on."""
    out = {"name", *(Dataset.late_fields if kind == "dataset" else ())}
    return digest({name: value for name, value in fields.items() if name not in out})


def _settings(record: Record) -> StageSettings:
    return recipe_of(str(record["stage"])).settings.model_validate(record["settings"])


def expected_seconds(work: Work, at: Target) -> float | None:
    """By formula and the usual rate of a device."""
    rate = at.flops(work.precision)
    if work.flops is None or work.host is None or (work.flops and rate is None):
        return None
    return work.host + (work.flops / rate if rate else 0.0)
