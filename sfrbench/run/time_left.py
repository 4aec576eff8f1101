"""How long what is left of a run will take: by what was measured, never by a guess."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sfrbench.plan.graph import Link
from sfrbench.plan.schedule import makespan
from sfrbench.run.alive import since_s
from sfrbench.run.boards import Wanted
from sfrbench.run.records import newest, record_of, tells
from sfrbench.run.signs import Sign
from sfrbench.store.store import Store

NEWEST = 12  # records of a stage that are read


@dataclass(frozen=True)
class Left:
    """About how many seconds are left, without the stages that were never measured; None: that is all."""

    seconds: float | None
    unmeasured: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """The nodes of a run, as they stand: ``there`` has the finished ones, with the time of their records."""

    nodes: Mapping[Link, Wanted]
    inputs: Mapping[Link, Collection[Link]]
    there: Mapping[Link, float]
    working: Mapping[Link, Sign]


@dataclass(frozen=True)
class _Measured:
    """Of one stage: what nodes take for each second of their estimate, or what each takes."""

    factor: float | None
    each: float

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float | None]]) -> _Measured | None:
        """``pairs``: seconds that a node took, and its estimate."""
        known = list(pairs)
        if not known:
            return None
        ratios = [took / guess for took, guess in known if guess and guess > 1e-3]
        factor = statistics.median(ratios) if len(ratios) == len(known) else None
        return cls(factor, statistics.median(took for took, _ in known))

    def seconds(self, guess: float | None) -> float:
        return self.each if guess is None or self.factor is None else self.factor * guess


def time_left(seen: Seen, left: Collection[Link], store: Store, profile: str, workers: int) -> Left:
    """The time until the nodes in ``left`` are made on so many equal workers."""
    stages = {stage for stage, _ in left}
    measured = {stage: _of_stage(stage, seen, store, profile) for stage in stages}
    seconds, unmeasured = {}, set()
    for link in left:
        mine = _by_rate(link, seen, measured[link[0]])
        if mine is None:
            unmeasured.add(link[0])
        seconds[link] = mine or 0.0
    if left and unmeasured == stages:
        return Left(None, tuple(sorted(unmeasured)))
    rest = {link: [each for each in seen.inputs[link] if each in seconds] for link in left}
    return Left(makespan(rest, seconds, workers), tuple(sorted(unmeasured)))


def _by_rate(link: Link, seen: Seen, known: _Measured | None) -> float | None:
    """What is left of one node: at its own rate where it runs and has one, else as others took."""
    sign = seen.working.get(link)
    if sign is not None and sign.left_s is not None:
        return sign.left_s
    if known is None:
        return None
    whole = known.seconds(seen.nodes[link].seconds)
    return whole if sign is None else max(0.0, whole - since_s(sign.since))


def _of_stage(stage: str, seen: Seen, store: Store, profile: str) -> _Measured | None:
    """By the newest finished nodes of the run and by those that run; else by others of the same profile."""
    there = sorted((link for link in seen.there if link[0] == stage), key=lambda link: -seen.there[link])
    records = [record_of(store, link) for link in there[:NEWEST]]
    pairs = [
        (record["seconds"], seen.nodes[link].seconds)
        for link, record in zip(there, records, strict=False)
        if record is not None and tells(record)
    ]
    pairs += [
        (sign.whole_s, seen.nodes[link].seconds)
        for link, sign in seen.working.items()
        if link[0] == stage and sign.whole_s is not None
    ]
    if not pairs:
        others = [record for record in newest(store, stage, NEWEST) if record.get("profile") == profile]
        pairs = [(record["seconds"], None) for record in others]
    return _Measured.of(pairs)
