"""What a profile has in the place of values that a specification gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sfrbench.catalog.fields import field_exists
from sfrbench.components.base import Component
from sfrbench.plan.build import Plan


def overlaid(plan: Plan) -> Iterator[tuple[str, Any, Any]]:
    """For each field that the profile overrides in a component in use: its path, the specification's value,
    and the profile's."""
    spec = plan.spec
    kept = {path for layer in (spec.overlay, spec.sets) for path in layer.choices}
    kinds: dict[str, set[type[Component]]] = {}
    for cell in plan.cells:
        for kind, part in cell.components.items():
            kinds.setdefault(kind, set()).add(type(part.component))
    for path, own in spec.base.choices.items():
        used = spec.profile.layer.choices.get(path, own)
        kind, _, name = path.partition(".")
        if used != own and path not in kept and any(field_exists(cls, name) for cls in kinds.get(kind, ())):
            yield path, own, used
