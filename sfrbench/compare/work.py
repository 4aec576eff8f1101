"""Whether two runs of an arm are the same work, and if not, in which stage and what they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from sfrbench.compare.sides import Side
from sfrbench.compare.trace import WrittenReport, ancestors
from sfrbench.plan.reasons import comparable, differences, flatten
from sfrbench.store.store import Store

_SHOWN = 4  # differences that are told of one stage


def work_of(a: Side, b: Side, *parts: pd.DataFrame) -> str:
    """Whether both sides did the same work, seed by seed; if not, what differs, as far as the records
    show."""
    keys = [part.groupby("seed")[["key", "cell"]].first() for part in parts]
    told: dict[str, list[str]] = {}
    for seed in sorted(set(keys[0].index) & set(keys[1].index)):
        one, other = (frame.loc[seed] for frame in keys)
        if one["key"] == other["key"]:
            said = _same(*(part[part["seed"] == seed] for part in parts))
        elif a.report is None or b.report is None:
            said = "other keys; what differs is only known from reports, not from exported frames"
        else:
            said = "; ".join(_causes(_nodes(a.report, one), _nodes(b.report, other)))
        told.setdefault(said, []).append(str(seed))
    if len(told) == 1:
        return next(iter(told))
    return " | ".join(f"seed {', '.join(seeds)}: {said}" for said, seeds in told.items())


def _same(one: pd.DataFrame, other: pd.DataFrame) -> str:
    order = ["case", "class", "metric"]
    values = [part.set_index(order)["value"].sort_index() for part in (one, other)]
    both = values[0].index.intersection(values[1].index)
    equal = [part.loc[both].to_numpy(dtype=float).round(9).tolist() for part in values]
    same = repr(equal[0]) == repr(equal[1])
    return "same work" if same else "same keys and other numbers: this machine or code does not repeat itself"


def _nodes(report: WrittenReport, row: Mapping[str, Any]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """The nodes behind one key of one cell, by role: link and record (empty where it is gone)."""
    store = Store(report.workspace / "store")
    behind = ancestors(report.whole["records"], [f"evaluate/{row['key']}"])
    nodes = {}
    for role, link in report.whole["nodes"][row["cell"]].items():
        stage, _, key = link.partition("/")
        if link in behind:
            nodes[role] = (link, store.get(stage, key).record if store.has(stage, key) else {})
    return nodes


def _causes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The stages that differ by themselves, not only through their inputs."""
    causes = []
    for role in dict.fromkeys([*a, *b]):
        if role not in a or role not in b:
            causes.append(f"{role}: only in {'A' if role in a else 'B'}")
        elif a[role][0] != b[role][0]:
            said = list(_differences(a[role][1], b[role][1]))
            more = f" and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
            causes += [f"{role}: {', '.join(said[:_SHOWN])}{more}"] if said else []
    return causes or ["other keys, and nothing in the records tells why"]


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    if not one or not other:
        yield f"its record is gone in {'B' if one else 'A'}"
        return
    flat = [flatten({**comparable(record), "profile": record.get("profile")}) for record in (one, other)]
    yield from differences(flat[0], flat[1], inputs=False)
