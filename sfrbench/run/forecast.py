"""What the nodes of a plan will take: seconds and bytes, and how each is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

from sfrbench.components.base import Dataset, Selector
from sfrbench.components.costs.parts import Extent
from sfrbench.machine.needs import Machine
from sfrbench.machine.speed import Target, target
from sfrbench.plan.build import Plan
from sfrbench.plan.graph import Node
from sfrbench.plan.resolve import Resolved
from sfrbench.run.described import Kind, component_digest, kind_of
from sfrbench.run.past import Past, expected_seconds
from sfrbench.stages.cost import Costed, Made, Work, extent_of
from sfrbench.stages.finder import recipe_of
from sfrbench.stages.prepare.recipe import STAGE as PREPARE
from sfrbench.stages.recipe import Link
from sfrbench.stages.settings import StageSettings
from sfrbench.store.store import Store

#: ``measured``: records of the same settings on this device. ``scaled``: a formula, and how fast this device
#: was in records of the same network or stage. ``estimated``: a formula, and the usual rate of such a device.
How = Literal["measured", "scaled", "estimated", "unknown"]
HOWS: tuple[How, ...] = ("measured", "scaled", "estimated", "unknown")


@dataclass(frozen=True)
class Cost:
    """What one node takes."""

    seconds: float | None
    how: How  # the seconds are known
    bytes: int | None
    kept: How  # how the bytes are known


class Forecast:
    """Costs of the nodes of a plan, against the records of a store, on a device.

    Nodes that differ in seeds alone are one group, and a group is looked at when it is asked for.
    """

    def __init__(self, plan: Plan, store: Store, machine: Machine, past: Past | None = None) -> None:
        """``past``: records, and the device that the forecast is for; by default this one."""
        self.plan, self.machine = plan, machine
        self.past = past or Past(store, target_of(plan, machine))
        self.target = self.past.target
        self._costs: dict[int, Cost] = {}
        self._known: dict[Any, Any] = {}

    def seconds(self, link: Link) -> float | None:
        """Seconds on one device; none: unknown."""
        return self.cost(link).seconds

    def bytes(self, link: Link) -> int | None:
        """Bytes that the store keeps of the node; none: unknown."""
        return self.cost(link).bytes

    def how(self, link: Link) -> How:
        """How its seconds are known."""
        return self.cost(link).how

    def cost(self, link: Link) -> Cost:
        """All of it."""
        group = self.group(link)
        if group not in self._costs:
            self._costs[group] = self._cost(self.plan.nodes[link], link)
        return self._costs[group]

    def group(self, link: Link) -> int:
        """The number of the group of a node."""
        return self._groups[link]

    @cached_property
    def _groups(self) -> Mapping[Link, int]:
        numbers: dict[Any, int] = {}
        return {link: numbers.setdefault(look, len(numbers)) for link, look in self._looks()}

    def _looks(self) -> Any:
        """Each node with all that its cost depends on, as something to compare."""
        settings: dict[StageSettings, int] = {}
        seen: dict[int, int] = {}  # by identity: nodes of one configuration share their settings
        nodes = self.plan.nodes

        def told(node: Node) -> int:
            at = id(node.settings)
            if at not in seen:
                seen[at] = settings.setdefault(node.settings, len(settings))
            return seen[at]

        for link, node in nodes.items():
            inputs = tuple(
                source if source[0] == PREPARE else (source[0], told(nodes[source]), _selector(nodes[source]))
                for source in node.inputs.values()
            )
            parts = tuple([resolved.digest for resolved in node.components.values()])
            own = node.key if node.stage == PREPARE else ""
            yield link, (node.stage, parts, told(node), tuple(node.inputs), inputs, own)

    def _cost(self, node: Node, link: Link) -> Cost:
        work = self._work(node, link)
        kind = self._kind(node, link) if self.past.has(node.stage) else None
        free = work is not None and work.flops == 0 and work.host == 0
        seconds, how = (None, "unknown") if free or kind is None else (self.past.seconds(kind), "measured")
        kept = None if free or kind is None else self.past.bytes(kind)
        if seconds is None:
            seconds, how = self._expected(node, work)
        if kept is not None:
            return Cost(seconds, cast(How, how), kept, "measured")
        count = None if work is None else work.bytes
        return Cost(seconds, cast(How, how), count, "unknown" if count is None else "estimated")

    def _expected(self, node: Node, work: Work | None) -> tuple[float | None, How]:
        expected = None if work is None else expected_seconds(work, self.target)
        if expected is None:
            return None, "unknown"
        classes = {kind: resolved.component.identity() for kind, resolved in node.components.items()}
        factor = self.past.factor(node.stage, classes, expected)
        if factor is not None:
            return expected * factor, "scaled"
        shared = self.past.device_factor(expected) if recipe_of(node.stage).needs.network else None
        return expected * (shared or 1.0), "estimated"

    def _work(self, node: Node, link: Link) -> Work | None:
        cost: Callable[[Costed], Work | None] | None = recipe_of(node.stage).cost
        if cost is None:
            return None
        parts = {kind: resolved.component for kind, resolved in node.components.items()}
        inputs = {role: _made(self.plan.nodes[source]) for role, source in node.inputs.items()}
        return cost(Costed(parts, node.settings, inputs, self._extent(node, link), self._known))

    def _extent(self, node: Node, link: Link) -> Extent | None:
        """Of the prepared volumes that a node makes or reads."""
        at = link if node.stage == PREPARE else node.inputs.get("prepare")
        if at is None:
            return None
        key = ("extent", at)
        if key not in self._known:
            made = self.past.described.extent(at)
            self._known[key] = self._declared(self.plan.nodes[at]) if made is None else made
        found: Extent | None = self._known[key]
        return found

    def _declared(self, node: Node) -> Extent | None:
        resolved = node.components["dataset"]
        return extent_of(cast(Dataset, resolved.component), self.machine.root(resolved))

    def _kind(self, node: Node, link: Link) -> Kind:
        parts = {kind: self._digest(kind, resolved) for kind, resolved in node.components.items()}
        source = node.inputs.get("prepare")
        prepared = None if source is None else self.plan.nodes[source].components["dataset"]
        dataset = parts.get("dataset") or ("" if prepared is None else self._digest("dataset", prepared))
        inputs = {role: stage for role, (stage, _) in node.inputs.items()}
        version = recipe_of(node.stage).version
        return kind_of(node.stage, version, parts, node.settings.told(), inputs, dataset)

    def _digest(self, kind: str, resolved: Resolved) -> str:
        if kind != "dataset":
            return resolved.digest
        key = ("dataset", resolved.digest)
        if key not in self._known:
            self._known[key] = component_digest(kind, resolved.component.key_settings())
        return str(self._known[key])


def target_of(plan: Plan, machine: Machine, on: str = "", workers: int = 1) -> Target:
    """What each worker of a run of a plan has, or a card; see ``target``."""
    return target(machine, wants_gpu=plan.spec.profile.needs_gpu, on=on, workers=workers)


def _selector(node: Node) -> str:
    resolved = node.components.get("selector")
    return "" if resolved is None else resolved.digest


def _made(node: Node) -> Made:
    resolved = node.components.get("selector")
    return Made(node.stage, node.settings, None if resolved is None else cast(Selector, resolved.component))
