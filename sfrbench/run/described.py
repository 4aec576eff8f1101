"""Nodes that were made, as their records describe them: components, settings, what they should have cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from sfrbench.catalog.code import class_known_as
from sfrbench.components.base import Component, Dataset, Selector
from sfrbench.components.costs.parts import Extent
from sfrbench.errors import SfrbenchError
from sfrbench.plan.resolve import digest
from sfrbench.run.records import Record, record_of
from sfrbench.stages.cost import Costed, Made, Work
from sfrbench.stages.finder import recipe_of
from sfrbench.stages.recipe import Link
from sfrbench.stages.settings import StageSettings
from sfrbench.store.store import Store


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
class Described:
    """What the records of a store describe."""

    store: Store

    def __post_init__(self) -> None:
        self._components: dict[str, Component | None] = {}
        self._extents: dict[Link, Extent | None] = {}
        self._known: dict[Any, Any] = {}

    def kind(self, record: Record) -> Kind | None:
        """Which nodes cost the same as one that was made; none where its record says too little."""
        try:
            parts = {kind: component_digest(kind, fields) for kind, fields in record["components"].items()}
            inputs = {role: str(link[0]) for role, link in record["inputs"].items()}
            dataset = parts.get("dataset") or self._dataset(record)
            return kind_of(
                str(record["stage"]), record["stage_version"], parts, record["settings"], inputs, dataset
            )
        except (KeyError, TypeError, AttributeError, IndexError):
            return None

    def work(self, record: Record) -> Work | None:
        """What formulas say of a node that was made; none where they, or its record, say too little."""
        try:
            stage = str(record["stage"])
            cost = recipe_of(stage).cost
            node = self._costed(record)
            return None if cost is None or node is None else cost(node)
        except (KeyError, TypeError, AttributeError, ValidationError, SfrbenchError):
            return None  # a record of another version

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

    def _dataset(self, record: Record) -> str:
        link = record["inputs"].get("prepare")
        made = None if link is None else record_of(self.store, (str(link[0]), str(link[1])))
        return "" if made is None else component_digest("dataset", made["components"]["dataset"])

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


def component_digest(kind: str, fields: Mapping[str, Any]) -> str:
    """Of the key settings of a component, with or without its card's name. Of a dataset it is without the
    fields that prepared volumes do not depend on."""
    out = {"name", *(Dataset.late_fields if kind == "dataset" else ())}
    return digest({name: value for name, value in fields.items() if name not in out})


def _settings(record: Record) -> StageSettings:
    return recipe_of(str(record["stage"])).settings.model_validate(record["settings"])
