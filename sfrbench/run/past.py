"""What records tell of the cost of their stage: seconds and bytes by settings, and how fast a device is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from sfrbench.machine.speed import Target, same_device
from sfrbench.run.described import Described, Kind
from sfrbench.run.records import Record, newest
from sfrbench.stages.cost import Work
from sfrbench.stages.finder import recipes
from sfrbench.store.store import Store

#: Records of a stage that are looked at, from the newest.
MOST = 300

#: A record of at least so many seconds, by formula, tells a device's speed for work of any size; a smaller
#: one for up to so many times its own work: what a toy takes is mostly what stands beside its network.
ENOUGH, LIKE = 5.0, 10.0


@dataclass(frozen=True)
class Timed:
    """A record of this device against its formula."""

    classes: Mapping[str, str]  # of its components
    ratio: float  # the logarithm of how many times longer than by formula it took
    expected: float  # seconds by formula

    def tells(self, expected: float) -> bool:
        """Whether it says how long a node takes for which the formula expects so many seconds."""
        return self.expected >= ENOUGH or expected <= LIKE * self.expected


@dataclass
class Past:
    """The records of a store, for one device."""

    store: Store
    target: Target

    def __post_init__(self) -> None:
        self._stages: dict[str, list[Record]] = {}
        self._kinds: dict[str, dict[Kind, tuple[float | None, int]]] = {}
        self._known_steps: dict[tuple[object, ...], tuple[list[Timed], ...]] = {}
        self._known_ratios: dict[str, list[Timed]] = {}
        self.described = Described(self.store)

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

    def factor(self, stage: str, classes: Mapping[str, str], expected: float) -> float | None:
        """How many times longer than the seconds ``expected`` by formula this device takes; none: no record
        tells. By the records of the stage with the same ``classes`` of components; else with the same
        network; else of other stages with that; else of the stage. What passes through a network tells its
        speed more than the stage does.
        """
        told = ([one.ratio for one in step if one.tells(expected)] for step in self._steps(stage, classes))
        return next((math.exp(statistics.median(ratios)) for ratios in told if ratios), None)

    def _steps(self, stage: str, classes: Mapping[str, str]) -> tuple[list[Timed], ...]:
        name = (stage, *sorted(classes.items()))
        if name not in self._known_steps:
            mine, own = _networks(classes), self._ratios(stage)
            self._known_steps[name] = (
                [one for one in own if one.classes == classes],
                [one for one in own if _networks(one.classes) == mine],
                [one for one in self._of_networks if mine and _networks(one.classes) == mine],
                own,
            )
        return self._known_steps[name]

    @cached_property
    def _of_networks(self) -> list[Timed]:
        stages = [stage for stage, recipe in recipes().items() if recipe.needs.network]
        return [one for stage in stages for one in self._ratios(stage)]

    def _ratios(self, stage: str) -> list[Timed]:
        if stage not in self._known_ratios:
            self._known_ratios[stage] = [
                Timed(_classes(record), math.log(record["seconds"] / expected), expected)
                for record in self._records(stage)
                if self._timed(record) and record["seconds"] > 0 and (expected := self._expected(record))
            ]
        return self._known_ratios[stage]

    def _expected(self, record: Record) -> float | None:
        work = self.described.work(record)
        return None if work is None or work.at_most else expected_seconds(work, self._at(record))

    def device_factor(self, expected: float) -> float | None:
        """The same over all that run networks, whichever; each network of a stage counts once."""
        groups: dict[object, list[float]] = {}
        for stage, recipe in recipes().items():
            for one in self._ratios(stage) if recipe.needs.network else ():
                if one.tells(expected):
                    groups.setdefault((stage, _networks(one.classes)), []).append(one.ratio)
        found = [statistics.median(ratios) for ratios in groups.values()]
        return math.exp(statistics.median(found)) if found else None

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
                kind = self.described.kind(record)
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


def _classes(record: Record) -> dict[str, str]:
    return {kind: str(fields["class"]) for kind, fields in record["components"].items()}


def _networks(classes: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(classes[kind] for kind in ("foundation", "backbone") if kind in classes)


def expected_seconds(work: Work, at: Target) -> float | None:
    """By formula and the usual rate of a device."""
    rate = at.flops(work.precision)
    if work.flops is None or work.host is None or (work.flops and rate is None):
        return None
    return work.host + (work.flops / rate if rate else 0.0)
