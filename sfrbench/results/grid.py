"""Which lines tables and figures have, whether or not there are scores for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfrbench.plan.build import Excluded


@dataclass(frozen=True)
class Missing:
    """A cell without a result. ``axes`` maps the path of each axis to the cell's value."""

    arm: str
    axes: Mapping[str, Any]
    seed: int
    reason: str


@dataclass(frozen=True)
class Grid:
    """Which lines there are beside those with scores, and in which order.

    ``arms`` are (name, label) in the order of the specification, ``axes`` map a path to its values in order.
    ``missing`` are cells without a result, ``unscored`` those whose pseudo-labels cannot be scored;
    ``pseudo_arms`` make pseudo-labels; ``excluded`` is left out on purpose. ``without`` maps an arm to the
    axes that it has no point on.
    """

    arms: Sequence[tuple[str, str]]
    seeds: Sequence[int]
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    missing: Sequence[Missing] = ()
    unscored: Sequence[Missing] = ()
    pseudo_arms: Sequence[str] = ()
    excluded: Sequence[Excluded] = ()
    without: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def paths(self, arm: str, among: Sequence[str]) -> list[str]:
        """The axes of ``among`` that an arm has points on."""
        return [path for path in among if path not in self.without.get(arm, ())]

    def left_out(self, arm: str, axes: Mapping[str, Any] | None = None) -> str:
        """Why an arm is left out on purpose, at points with these values of axes; empty where it is not."""
        reasons = [
            entry.reason
            for entry in self.excluded
            if entry.arm == arm and all(entry.axes.get(path) == value for path, value in (axes or {}).items())
        ]
        return f"left out: {'; '.join(dict.fromkeys(reasons))}" if reasons else ""
