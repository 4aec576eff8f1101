"""How many patches the trainings of a segmenter see, where rows that are compared see different numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from sfrbench.components.base import Ssl
from sfrbench.plan.build import Cell, Plan
from sfrbench.stages.retrain import recipe as retrain

#: The label of an arm, with the values of axes along which its cells differ, and the patches of one of them.
Seen = tuple[str, int]


def patches_seen(plan: Plan, cell: Cell) -> int | None:
    """Labelled and unlabelled patches of all re-trainings behind a cell, rounds included; none: no such
    training."""
    links = {link for link in cell.nodes.values() if link[0] == retrain.STAGE}
    total = 0
    for link in links:
        node = plan.nodes[link]
        ssl = cast(Ssl, node.components["ssl"].component)
        told = cast(retrain.RetrainSettings, node.settings)
        unlabelled = ssl.batch_unlabeled if ssl.uses_unlabelled or told.pseudo != "none" else 0
        total += ssl.steps * (ssl.batch_labeled + unlabelled)
    return total if links else None


def seen_of(plan: Plan) -> dict[str, Seen]:
    """Of each cell, by its id, that trains a segmenter."""
    arms: dict[str, list[tuple[Cell, int]]] = {}
    for cell in plan.cells:
        count = patches_seen(plan, cell)
        if count is not None:
            arms.setdefault(cell.arm, []).append((cell, count))
    found: dict[str, Seen] = {}
    for counted in arms.values():
        paths = _telling(counted)
        for cell, count in counted:
            at = [f"{path} {cell.axes[path]}" for path in paths]
            found[cell.id] = " at ".join([cell.label, *at]), count
    return found


def _telling(counted: Sequence[tuple[Cell, int]]) -> list[str]:
    """The axes along which cells of one arm see other numbers."""
    found = []
    for path in counted[0][0].axes:
        by_value: dict[str, set[int]] = {}
        for cell, count in counted:
            by_value.setdefault(str(cell.axes.get(path)), set()).add(count)
        if len({frozenset(counts) for counts in by_value.values()}) > 1:
            found.append(path)
    return found


def difference(seen: Iterable[Seen]) -> str:
    """A sentence on who sees how many, against the number that most arms have; empty: all see the same."""
    labels: dict[int, dict[str, None]] = {}
    for label, count in seen:
        labels.setdefault(count, {})[label] = None
    if len(labels) < 2:
        return ""
    usual = max(labels, key=lambda count: len(labels[count]))  # the first of equal ones
    said = [f"{usual:,} {_named(labels[usual])}"]
    said += [
        f"{count:,} {_named(own)}, {count / usual:.3g} times as many"
        for count, own in labels.items()
        if count != usual
    ]
    return f"Patches that training sees: {'; '.join(said)}."


def _named(labels: Iterable[str]) -> str:
    """At most four names."""
    names = list(labels)
    return f"({', '.join(names) if len(names) <= 4 else f'{len(names)} arms'})"
