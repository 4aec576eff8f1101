"""A study as plain data, for tables, plots and trackers; nothing here knows Optuna."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sfrbench.plan.space import Space

State = Literal["complete", "pruned", "failed", "retried", "running", "waiting"]


@dataclass(frozen=True)
class Trial:
    """One trial. ``value`` is the metric, in percent where it is a share; ``curve`` maps training steps to
    validation Dice in percent; ``facts`` hold nodes, counts, cases and the fault, as the trial noted them."""

    number: int
    state: State
    values: Mapping[str, Any]
    value: float | None
    curve: Mapping[int, float] = field(default_factory=dict)
    seconds: float | None = None
    started: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """Why there is no value, or where the trial comes from."""
        if self.state in ("complete", "running", "waiting"):
            return f"again, after trial {self.facts['after']}" if "after" in self.facts else ""
        if self.state == "retried":
            return "its worker ended before it; the trial was run again"
        return str(self.facts.get("fault", ""))


@dataclass(frozen=True)
class Study:
    """A search as far as it has come."""

    name: str
    metric: str
    larger: bool
    unit: str
    seeds: Sequence[int]
    space: Space
    sampler: str
    pruner: str
    trials: Sequence[Trial]
    importances: Mapping[str, float] = field(default_factory=dict)
    optuna: str = ""

    def of(self, *states: State) -> list[Trial]:
        return [trial for trial in self.trials if trial.state in states]

    @property
    def finished(self) -> list[Trial]:
        """The trials that count for the budget; one whose worker was killed does not, its repetition does."""
        return self.of("complete", "pruned", "failed")

    @property
    def hours(self) -> float:
        """Time spent in finished trials, over all workers."""
        return sum(trial.seconds or 0 for trial in self.finished) / 3600

    @property
    def best(self) -> Trial | None:
        """The complete trial with the best value; an earlier one wins a tie."""
        done = [trial for trial in self.of("complete") if trial.value is not None]
        sign = -1 if self.larger else 1
        return min(done, key=lambda trial: (sign * (trial.value or 0), trial.number), default=None)

    @property
    def tie(self) -> str:
        """Which trials are as good as the best one, in words; empty: none is."""
        best = self.best
        same = [trial for trial in self.of("complete") if best is not None and trial.value == best.value]
        if len(same) < 2:
            return ""
        if len(same) == len(self.of("complete")):
            return f"all {len(same)} complete trials have the same {self.metric}: none is better than another"
        return f"{len(same)} trials have this {self.metric}; the first of them is named"

    @property
    def nodes(self) -> int:
        """Nodes of all trials, were nothing shared."""
        return sum(trial.facts.get("ran", 0) + trial.facts.get("reused", 0) for trial in self.trials)

    @property
    def shared(self) -> int:
        """Of those, the ones that another trial or a run had made."""
        return sum(trial.facts.get("reused", 0) for trial in self.trials)
