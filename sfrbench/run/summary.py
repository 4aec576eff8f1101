"""What ``plan`` says of experiments: counts, time and disk, and how these are known."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfrbench.files.atomic import nearest
from sfrbench.machine.speed import Target
from sfrbench.plan.budgets import difference, seen_of
from sfrbench.plan.build import Plan
from sfrbench.plan.reasons import earlier
from sfrbench.plan.schedule import inputs_of, makespan, paths
from sfrbench.run.experiment import Experiment
from sfrbench.run.forecast import HOWS, Cost, Forecast
from sfrbench.stages.finder import recipe_of, recipes
from sfrbench.stages.recipe import Link

#: Workers whose time ``plan`` gives, and from how many nodes on it only gives bounds of it.
WORKERS = (1, 2, 4, 8)
MANY = 5_000


@dataclass
class Sum:
    """Costs of some nodes together; what is unknown is counted, and not in the sums."""

    seconds: float = 0.0
    bytes: int = 0
    nodes: int = 0
    hows: Counter[str] = field(default_factory=Counter)  # of the seconds
    kept: Counter[str] = field(default_factory=Counter)  # of the bytes

    def add(self, cost: Cost, times: int = 1) -> None:
        """So many nodes of the same cost."""
        self.nodes += times
        self.seconds += times * (cost.seconds or 0.0)
        self.bytes += times * (cost.bytes or 0)
        self.hows[cost.how] += times
        self.kept[cost.kept] += times

    def told(self) -> dict[str, Any]:
        """For a page or a program. None where nothing at all is known."""
        timed, sized = self.nodes - self.hows["unknown"], self.nodes - self.kept["unknown"]
        return {
            "seconds": round(self.seconds, 1) if timed or not self.nodes else None,
            "bytes": self.bytes if sized or not self.nodes else None,
            "time_known_by": {how: self.hows[how] for how in HOWS if self.hows[how]},
            "disk_known_by": {how: self.kept[how] for how in HOWS if self.kept[how]},
        }


def summary(experiment: Experiment, on: str = "") -> dict[str, Any]:
    """What ``plan`` prints: counts, by stage too, with time and disk of what is to run. ``on``: a card."""
    plan, todo = experiment.plan, experiment.left()
    forecast = experiment.forecast(on)
    all_nodes = Counter(stage for stage, _ in plan.nodes)
    sums = sums_of(forecast, todo)
    by_stage = {
        stage: {"nodes": all_nodes[stage], "reused": all_nodes[stage] - one.nodes, "to_run": one.nodes}
        | one.told()
        for stage in recipes()
        if stage in all_nodes
        for one in [sums.get(stage, Sum())]
    }
    return {
        "experiment": experiment.name,
        "profile": experiment.profile,
        "cells": len(plan.cells),
        "nodes": len(plan.nodes),
        "naive_nodes": plan.naive_nodes,
        "reused": len(plan.nodes) - len(todo),
        "to_run": len(todo),
        **whole(forecast, todo, sums),
        "free_bytes": free_bytes(experiment.machine.workspace),
        "by_stage": by_stage,
        "precision": precisions(plan),
        "patches": difference(seen_of(plan).values()),
        "swaps": plan.swaps(),
        "excluded": [{"cell": entry.title, "reason": entry.reason} for entry in plan.excluded],
        "no_ops": plan.no_ops(),
        "earlier": earlier(experiment.store),
    }


def precisions(plan: Plan) -> dict[str, list[str]]:
    """What SAM, the segmenter and predictions compute in, where the plan has them: kind -> precisions."""
    found: dict[str, dict[str, None]] = {}
    for cell in plan.cells:
        for kind in ("foundation", "backbone", "protocol"):
            asked = (
                getattr(cell.components[kind].component, "precision", None)
                if kind in cell.components
                else None
            )
            if asked is not None:
                found.setdefault(kind, {})[asked] = None
    return {kind: list(asked) for kind, asked in found.items()}


def sums_of(forecast: Forecast, todo: Iterable[Link]) -> dict[str, Sum]:
    """Costs of nodes by stage. Equal ones are looked at once."""
    groups: dict[int, tuple[Link, int]] = {}
    for link in todo:
        group = forecast.group(link)
        groups[group] = (link, groups[group][1] + 1 if group in groups else 1)
    sums: dict[str, Sum] = {}
    for link, times in groups.values():
        sums.setdefault(link[0], Sum()).add(forecast.cost(link), times)
    return sums


def total_of(sums: Mapping[str, Sum]) -> Sum:
    """The costs of all stages together."""
    total = Sum()
    for one in sums.values():
        total.nodes, total.seconds = total.nodes + one.nodes, total.seconds + one.seconds
        total.bytes += one.bytes
        total.hows += one.hows
        total.kept += one.kept
    return total


def whole(forecast: Forecast, todo: Collection[Link], sums: Mapping[str, Sum]) -> dict[str, Any]:
    """Time and disk of the nodes of ``sums`` together, by device, and on several workers."""
    here = forecast.target
    return {
        **total_of(sums).told(),
        "device": here.told,
        "device_is_here": here.here,
        "by_device": by_device(sums, here),
        **_scheduled(forecast, set(todo)),
    }


def by_device(sums: Mapping[str, Sum], here: Target) -> dict[str, float]:
    """Seconds of stages on ``here``, and on the processor where a card would be idle."""
    found: dict[str, float] = {}
    for stage, one in sums.items():
        name = here.told if recipe_of(stage).needs.accelerator or not here.is_gpu else "the processor"
        found[name] = round(found.get(name, 0.0) + one.seconds, 1)
    return found


def _scheduled(forecast: Forecast, todo: set[Link]) -> dict[str, Any]:
    """The longest path, and the time on some numbers of workers, of what is known."""
    nodes = {link: node for link, node in forecast.plan.nodes.items() if link in todo}
    inputs = inputs_of(nodes)
    seconds = {link: forecast.seconds(link) or 0.0 for link in nodes}
    longest = max(paths(inputs, seconds).values(), default=0.0)
    total = sum(seconds.values())
    rough = len(nodes) > MANY
    ends: dict[int, float] = {}
    for count in WORKERS:
        bound = max(longest, total / count)
        ends[count] = bound if rough or count == 1 else makespan(inputs, seconds, count)
    return {
        "longest_path": round(longest, 1),
        "on_workers": {str(count): round(end, 1) for count, end in ends.items()},
    }


def together(experiments: Sequence[Experiment], on: str = "") -> dict[str, Any]:
    """What several experiments in one workspace come to: each distinct node counts once."""
    nodes = {link: experiment for experiment in experiments for link in experiment.plan.nodes}
    todo = [link for link, experiment in nodes.items() if not experiment.store.has(*link)]
    sums: dict[str, Sum] = {}
    for link in todo:
        sums.setdefault(link[0], Sum()).add(nodes[link].forecast(on).cost(link))
    here = experiments[0].forecast(on).target
    return {
        "cells": sum(len(experiment.plan.cells) for experiment in experiments),
        "nodes": len(nodes),
        "naive_nodes": sum(experiment.plan.naive_nodes for experiment in experiments),
        "reused": len(nodes) - len(todo),
        "to_run": len(todo),
        **total_of(sums).told(),
        "by_device": by_device(sums, here),
    }


def free_bytes(workspace: Path) -> int | None:
    """Free space of the disk that the workspace is or will be on; none where it cannot be asked."""
    try:
        return shutil.disk_usage(nearest(workspace)).free
    except OSError:
        return None
