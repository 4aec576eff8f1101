"""What records tell of the cost of their stage: seconds and bytes by settings, and how fast a device is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from sfrbench.catalog.code import class_known_as
from sfrbench.components.base import Component, Dataset, Selector
from sfrbench.components.costs.parts import Extent
from sfrbench.errors import SfrbenchError
from sfrbench.machine.speed import Target, same_device
from sfrbench.plan.resolve import digest
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
        self._stages: dict[str, list[Mapping[str, Any]]] = {}
        self._kinds: dict[str, dict[Kind, tuple[float | None, int]]] = {}
        self._factors: dict[str, float | None] = {}
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

    def factor(self, stage: str) -> float | None:
        """How many times longer the stage takes on this device than formulas say; none: no record tells."""
        if stage not in self._factors:
            ratios = [
                math.log(float(record["seconds"]) / expected)
                for record in self._records(stage)
                if self._timed(record) and record["seconds"] > 0 and (expected := self._expected(record))
            ]
            self._factors[stage] = math.exp(statistics.median(ratios)) if ratios else None
        return self._factors[stage]

    def _expected(self, record: Mapping[str, Any]) -> float | None:
        work = self.work(record)
        return None if work is None else expected_seconds(work, self._at(record))

    def device_factor(self) -> float | None:
        """The same over all stages that run networks."""
        names = [stage for stage, recipe in recipes().items() if recipe.needs.network]
        found = [math.log(factor) for stage in names if (factor := self.factor(stage)) is not None]
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

    def _records(self, stage: str) -> list[Mapping[str, Any]]:
        """The newest sound records of work that this stage did itself, from beginning to end."""
        if stage not in self._stages:
            self._stages[stage] = [
                record
                for record in self.store.records(stage, MOST)
                if "equal_to" not in record
                and not record.get("notes", {}).get("resumed_at")
                and isinstance(record.get("seconds"), int | float)
            ]
        return self._stages[stage]

    def _at(self, record: Mapping[str, Any]) -> Target:
        threads = record.get("threads")
        return Target(self.target.name, threads if isinstance(threads, int) else self.target.threads)

    def _timed(self, record: Mapping[str, Any]) -> bool:
        """Whether a record is of this device."""
        return same_device(str(record.get("device", "")), self.target.name)

    def _by_kind(self, stage: str) -> dict[Kind, tuple[float | None, int]]:
        if stage not in self._kinds:
            groups: dict[Kind, list[Mapping[str, Any]]] = {}
            for record in self._records(stage):
                kind = self._kind(record)
                if kind is not None:
                    groups.setdefault(kind, []).append(record)
            self._kinds[stage] = {kind: self._median(records) for kind, records in groups.items()}
        return self._kinds[stage]

    def _median(self, records: list[Mapping[str, Any]]) -> tuple[float | None, int]:
        timed = [
            float(record["seconds"])
            for record in records
            if self._timed(record) and (self.target.is_gpu or self._at(record).threads == self.target.threads)
        ]
        seconds = statistics.median(timed) if timed else None
        return seconds, round(statistics.median(int(record["bytes"]) for record in records))

    def _kind(self, record: Mapping[str, Any]) -> Kind | None:
        try:
            parts = {kind: component_digest(kind, fields) for kind, fields in record["components"].items()}
            inputs = {role: str(link[0]) for role, link in record["inputs"].items()}
            dataset = parts.get("dataset") or self._dataset(record)
            return kind_of(
                str(record["stage"]), record["stage_version"], parts, record["settings"], inputs, dataset
            )
        except (KeyError, TypeError, AttributeError, IndexError):
            return None

    def _dataset(self, record: Mapping[str, Any]) -> str:
        link = record["inputs"].get("prepare")
        made = None if link is None else self._record((str(link[0]), str(link[1])))
        return "" if made is None else component_digest("dataset", made["components"]["dataset"])

    def _record(self, link: Link) -> Mapping[str, Any] | None:
        return self.store.get(*link).record if self.store.has(*link) else None

    def work(self, record: Mapping[str, Any]) -> Work | None:
        """What formulas say of a node that was made; none where they, or its record, say too little."""
        try:
            stage = str(record["stage"])
            cost = recipe_of(stage).cost
            node = self._costed(record)
            return None if cost is None or node is None else cost(node)
        except (KeyError, TypeError, AttributeError, ValidationError, SfrbenchError):
            return None  # a record of another version

    def _costed(self, record: Mapping[str, Any]) -> Costed | None:
        components = {kind: self._component(kind, fields) for kind, fields in record["components"].items()}
        if None in components.values():
            return None
        made: dict[str, Made] = {}
        extent = None
        for role, (stage, key) in record["inputs"].items():
            other = self._record((stage, key))
            if other is None:
                return None
            made[role] = self._made(other)
            extent = self.extent((stage, key)) if role == "prepare" else extent
        if record["stage"] == "prepare":
            extent = self.extent((record["stage"], record["key"]))
        parts = cast(dict[str, Component], components)
        return Costed(parts, _settings(record), made, extent, self._known)

    def _made(self, record: Mapping[str, Any]) -> Made:
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


def component_digest(kind: str, fields: Mapping[str, Any]) -> str:
    """Of the key settings of a component, with or without its card's name. Of a dataset it is without the
    fields that prepared volumes do not depend on."""
    out = {"name", *(Dataset.late_fields if kind == "dataset" else ())}
    return digest({name: value for name, value in fields.items() if name not in out})


def _settings(record: Mapping[str, Any]) -> StageSettings:
    return recipe_of(str(record["stage"])).settings.model_validate(record["settings"])


def expected_seconds(work: Work, at: Target) -> float | None:
    """By formula and the usual rate of a device."""
    rate = at.flops(work.precision)
    if work.flops is None or work.host is None or (work.flops and rate is None):
        return None
    return work.host + (work.flops / rate if rate else 0.0)
