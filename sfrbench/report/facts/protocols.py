"""The protocols of a report: the rules of each by its name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sfrbench.plan.build import Plan
from sfrbench.results.axes import axis_text


def protocols_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """The rules of every protocol by its name, and by what differs where one name has several rules or where
    not all arms have it."""
    by_digest: dict[str, tuple[str, dict[str, Any], set[str]]] = {}
    for cell in plan.cells:
        own = cell.components["protocol"]
        fields = own.component.model_dump(mode="json")
        by_digest.setdefault(own.digest, (own.card.name, fields, set()))[2].add(cell.arm)
    named: dict[str, dict[str, Any]] = {}
    for name, fields, arms in by_digest.values():
        others = [other for also, other, _ in by_digest.values() if also == name]
        own_way = [
            f"{path} {axis_text(fields[path])}"
            for path in fields
            if any(o[path] != fields[path] for o in others)
        ]
        if len(arms) < len(plan.spec.arms):
            own_way.append(f"arms {', '.join(arm.name for arm in plan.spec.arms if arm.name in arms)}")
        named[f"{name} ({', '.join(own_way)})" if own_way else name] = fields
    return named


def mixed(protocols: Collection[str]) -> list[str]:
    """What is flagged where there are several."""
    if len(protocols) < 2:
        return []
    return [f"this report mixes the protocols {', '.join(protocols)}; their rules stand at the top"]
