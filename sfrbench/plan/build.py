"""From a specification to cells, and from cells to one merged graph of nodes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Stitch
from sfrbench.errors import InputError, Problem, by_place
from sfrbench.files.limits import limit, remedy
from sfrbench.plan.arms import ArmResolver
from sfrbench.plan.cells import CellMaker, wanted_of
from sfrbench.plan.graph import Graph, Link, Look, Node, unseen
from sfrbench.plan.hidden import check_hidden
from sfrbench.plan.resolve import Resolved, Resolver, digest
from sfrbench.plan.space import Space, check_space
from sfrbench.spec.model import Axis, Layer, Spec, matches
from sfrbench.spec.sections import leaves
from sfrbench.stages.evaluate import recipe as evaluate


@dataclass(frozen=True)
class Cell:
    """One arm at one point of the axes and one seed."""

    id: str
    arm: str
    label: str
    axes: Mapping[str, Any]
    seed: int
    nodes: Mapping[str, Link]  # role -> node; a role is a stage's name, "evaluate_pseudo" or of a round
    components: Mapping[str, Resolved]
    score: str = "test"
    pseudo: str = "none"
    pseudo_chosen: str = ""  # the value in the specification, where a profile swaps it

    @property
    def title(self) -> str:
        return f"{self.point} seed {self.seed}"

    @property
    def point(self) -> str:
        """The title without the seed."""
        return _titled(self.arm, self.axes)


@dataclass(frozen=True)
class Excluded:
    """One arm at one point of the axes that the specification leaves out."""

    arm: str
    axes: Mapping[str, Any]
    reason: str

    @property
    def title(self) -> str:
        return _titled(self.arm, self.axes)


@dataclass
class Plan:
    """Cells and the merged graph, in an order in which each node follows its inputs."""

    spec: Spec
    cells: list[Cell] = field(default_factory=list)
    nodes: dict[Link, Node] = field(default_factory=dict)
    excluded: list[Excluded] = field(default_factory=list)
    space: Space = field(default_factory=dict)  # of the search, where there is one

    @property
    def naive_nodes(self) -> int:
        """How many nodes there would be if cells shared nothing."""
        return sum(len(set(cell.nodes.values())) for cell in self.cells)

    def swaps(self) -> list[str]:
        """What the profile puts in the place of what the specification chooses, as in ``dataset: X in the
        place of Y``."""
        texts: dict[str, None] = {}
        for cell in self.cells:
            for kind, own in cell.components.items():
                if own.swapped:
                    less = f", so without {', '.join(own.dropped)}" if own.dropped else ""
                    texts[f"{kind}: {own.card.name} in the place of {own.chosen}{less}"] = None
                if isinstance(own.component, Stitch) and own.component.stand_in:
                    texts[f"{kind} {own.card.name}: {own.component.stand_in}"] = None
            if cell.pseudo_chosen:
                texts[f"pseudo: {cell.pseudo} in the place of {cell.pseudo_chosen}"] = None
        return list(texts)

    def no_ops(self) -> list[str]:
        """Arms and points whose scored results are the same node: a switch between them has no effect."""
        groups: dict[tuple[Link, int], list[Cell]] = {}
        for cell in self.cells:
            last = cell.nodes.get(evaluate.STAGE) or list(cell.nodes.values())[-1]
            groups.setdefault((last, cell.seed), []).append(cell)
        texts: dict[str, None] = {}
        for cells in groups.values():
            names = [cell.point for cell in cells]
            if len(names) > 1:
                texts[
                    f"{' = '.join(names[:6])}: the same work, so what differs between them has no effect"
                ] = None
        return list(texts)


def _titled(arm: str, axes: Mapping[str, Any]) -> str:
    return arm + "".join(f" {path}={value}" for path, value in axes.items())


def build_plan(
    spec: Spec,
    catalog: Catalog,
    fingerprint: Callable[[Resolved], str],
    *,
    look: Look = unseen,
    whole: bool = True,
) -> Plan:
    """Expand and merge. ``fingerprint`` gives the content hash of a dataset on this machine, ``look`` that of
    another tool's results. Not ``whole``: a part of a specification that has been checked before, so fields
    that only other parts use are no fault.

    Raises ``InputError`` with every unknown name, bound and impossible combination at once.
    """
    _check_size(spec)
    resolver = Resolver(spec, catalog)
    plan = Plan(spec)
    graph = Graph(plan.nodes, spec.profile.name, fingerprint, look)
    told = spec.told
    for arm in spec.arms:
        axes = spec.axes_of(arm)
        choices = [_axis_layers(axis) for axis in axes]
        resolve, wanted = ArmResolver(resolver, arm, choices), wanted_of(spec.report, arm.name)
        for point in itertools.product(*(range(len(layers)) for layers in choices)):
            values = {
                path: value
                for axis, row in zip(axes, point, strict=True)
                for path, value in zip(axis.paths, axis.values[row], strict=True)
            }
            reason = _excluded(spec, arm.name, values)
            values = {path: spec.used(path, value) for path, value in values.items()}
            if reason is not None:
                plan.excluded.append(Excluded(arm.name, values, reason))
                continue
            cell = resolve.cell(point)
            if cell is None:
                continue
            values = {path: value for path, value in values.items() if path in told}
            maker = CellMaker(graph, cell, wanted)
            for seed in spec.seeds:
                nodes = maker.nodes(seed)
                name = digest([spec.profile.name, arm.name, values, seed])[:12]
                how = (cell.components, cell.score, cell.pseudo, cell.pseudo_chosen)
                plan.cells.append(Cell(name, arm.name, arm.label, values, seed, nodes, *how))
    if spec.search is not None:
        plan.space = check_space(
            spec.search, resolver, lambda arm, layer: ArmResolver(resolver, arm, [[layer]]).cell((0,))
        )
    _check_sets(spec, resolver)
    if whole:
        resolver.check_unused()
        check_hidden(resolver)
    problems = by_place([*spec.problems, *resolver.problems])
    if problems:
        raise InputError.of(problems)
    if not plan.cells:
        raise InputError("no cell is left", where=str(spec.document.path), hint="look at 'exclude'")
    return plan


def _check_size(spec: Spec) -> None:
    """Raises ``InputError`` where arms, axes and seeds make more cells than ``limits`` has."""
    points = [math.prod(len(axis.values) for axis in spec.axes_of(arm)) for arm in spec.arms]
    count, most = sum(points) * len(spec.seeds), limit("cells")
    if count > most:
        longest = max((len(axis.values), axis.where) for axis in spec.axes) if spec.axes else (0, "")
        seeds = spec.document.where("seeds")
        where = longest[1] if longest[0] > len(spec.seeds) else seeds
        most_points = f"{'up to ' if min(points) < max(points) else ''}{max(points)}"
        what = f"{len(spec.arms)} arms at {most_points} points of the axes with {len(spec.seeds)} "
        problem = Problem(where, f"{what}seeds are {count} cells", remedy("cells"))
        raise InputError.of(by_place([*spec.problems, problem]))


def _axis_layers(axis: Axis) -> list[Layer]:
    """One layer for each entry of an axis."""
    layers = []
    for row in axis.values:
        choices: dict[str, Any] = {}
        for path, value in zip(axis.paths, row, strict=True):
            if isinstance(value, Mapping) and "." not in path:
                choices |= {path: value["name"]} if "name" in value else {}
                choices |= leaves(path, {name: item for name, item in value.items() if name != "name"})
            else:
                choices |= leaves(path, value)
        layers.append(Layer(choices, dict.fromkeys(choices, axis.where)))
    return layers


def _excluded(spec: Spec, arm: str, values: Mapping[str, Any]) -> str | None:
    here = {"arm": arm, **values}
    for entry in spec.exclude:
        if matches(entry.when, here):
            return entry.reason
    return None


def _check_sets(spec: Spec, resolver: Resolver) -> None:
    for path in spec.sets.choices:
        if any(path in axis.paths for axis in spec.axes):
            resolver.add(f"--set {path}", "this path is an axis", f"narrow the axis in {spec.document.path}")
