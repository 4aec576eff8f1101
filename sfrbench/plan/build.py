"""From a specification to cells, and from cells to one merged graph of nodes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import KINDS, Dataset, Ssl, Stitch
from sfrbench.errors import InputError, Problem
from sfrbench.files.limits import limit, remedy
from sfrbench.plan.cells import CellMaker, report_nodes
from sfrbench.plan.graph import Configuration, Graph, Link, Node
from sfrbench.plan.resolve import Resolved, Resolver, digest
from sfrbench.plan.space import Space, check_space
from sfrbench.spec.model import Arm, Layer, Spec, matches
from sfrbench.spec.sections import leaves
from sfrbench.stages.evaluate import recipe as evaluate
from sfrbench.stages.finder import recipes
from sfrbench.stages.recipe import Pseudo, Score
from sfrbench.stages.retrain import recipe as retrain


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
                    texts[f"{kind}: {own.card.name} in the place of {own.chosen}"] = None
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
    spec: Spec, catalog: Catalog, fingerprint: Callable[[Resolved], str], *, whole: bool = True
) -> Plan:
    """Expand and merge. ``fingerprint`` gives the content hash of a dataset on this machine. Not ``whole``:
    a part of a specification that has been checked before, so fields that only other parts use are no fault.

    Raises ``InputError`` with every unknown name, bound and impossible combination at once.
    """
    _check_size(spec)
    resolver = Resolver(spec, catalog)
    plan = Plan(spec)
    graph = Graph(plan.nodes, spec.profile.name, fingerprint)
    choices = [_axis_layers(spec, axis_index) for axis_index in range(len(spec.axes))]
    told = spec.told
    for arm in spec.arms:
        resolve = _ArmResolver(resolver, arm, choices)
        for point in itertools.product(*(range(len(layers)) for layers in choices)):
            values = {
                path: value
                for axis, row in zip(spec.axes, point, strict=True)
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
            maker = CellMaker(graph, cell)
            for seed in spec.seeds:
                nodes = maker.nodes(seed)
                nodes |= report_nodes(graph, cell, nodes, arm.name, spec.report)
                name = digest([spec.profile.name, arm.name, values, seed])[:12]
                how = (cell.components, cell.score, cell.pseudo, cell.pseudo_chosen)
                plan.cells.append(Cell(name, arm.name, arm.label, values, seed, nodes, *how))
    if spec.search is not None:
        plan.space = check_space(
            spec.search, resolver, lambda arm, layer: _ArmResolver(resolver, arm, [[layer]]).cell((0,))
        )
    _check_sets(spec, resolver)
    if whole:
        resolver.check_unused()
    problems = dict.fromkeys([*spec.problems, *resolver.problems])
    if problems:
        raise InputError.of(list(problems))
    if not plan.cells:
        raise InputError("no cell is left", where=str(spec.document.path), hint="look at 'exclude'")
    return plan


def _check_size(spec: Spec) -> None:
    """Raises ``InputError`` where arms, axes and seeds make more cells than ``limits`` has."""
    points = len(spec.arms) * math.prod(len(axis.values) for axis in spec.axes)
    count, most = points * len(spec.seeds), limit("cells")
    if count > most:
        longest = max((len(axis.values), axis.where) for axis in spec.axes) if spec.axes else (0, "")
        seeds = spec.document.where("seeds")
        where = longest[1] if longest[0] > len(spec.seeds) else seeds
        what = (
            f"{len(spec.arms)} arms at {points // len(spec.arms)} points of the axes with {len(spec.seeds)} "
        )
        problem = Problem(where, f"{what}seeds are {count} cells", remedy("cells"))
        raise InputError.of([*spec.problems, problem])


def _axis_layers(spec: Spec, index: int) -> list[Layer]:
    """One layer for each entry of an axis."""
    axis = spec.axes[index]
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


class _ArmResolver:
    """Resolves the points of one arm; a kind is resolved anew only where an axis touches it."""

    def __init__(self, resolver: Resolver, arm: Arm, choices: Sequence[Sequence[Layer]]) -> None:
        self.resolver = resolver
        self.arm = arm
        self.choices = choices
        self._touches = [
            {path.partition(".")[0] for layer in layers for path in layer.choices} for layers in choices
        ]
        self._local = (*resolver.spec.points, *resolver.spec.overlay_points)
        layers = resolver.layers(arm.layer, [layer for axis in choices for layer in axis], {})
        self._chosen = {kind for kind in KINDS if any(kind in layer.choices for layer in layers)}
        self._memo: dict[tuple[Any, ...], Any] = {}
        self.where = arm.layer.places.get(next(iter(arm.layer.places), ""), str(resolver.spec.document.path))

    def _layers(self, head: str, point: Sequence[int]) -> tuple[tuple[int, ...], list[Layer]]:
        """What decides the choices of ``head`` at a point, and these choices."""
        here = self._here(point)
        used = tuple(
            row if head in touched else -1 for row, touched in zip(point, self._touches, strict=True)
        )
        axes = [layers[row] for layers, row in zip(self.choices, used, strict=True) if row >= 0]
        local = tuple(int(entry.holds(here)) for entry in self._local)
        return (*used, *local), self.resolver.layers(self.arm.layer, axes, here)

    def _here(self, point: Sequence[int]) -> dict[str, Any]:
        """The point by path, where anything depends on it."""
        here: dict[str, Any] = {"arm": self.arm.name} if self._local else {}
        for layers, row in zip(self.choices, point, strict=True):
            here |= layers[row].choices if self._local else {}
        return here

    def _chosen_at(self, point: Sequence[int]) -> set[str]:
        """The kinds that are chosen by name."""
        here = self._here(point)
        local = (entry.layer.choices for entry in self._local if entry.holds(here))
        return self._chosen.union(kind for choices in local for kind in choices if kind in KINDS)

    def kind(self, kind: str, point: Sequence[int]) -> Resolved | None:
        used, layers = self._layers(kind, point)
        if (kind, used) not in self._memo:
            self._memo[kind, used] = self.resolver.kind(kind, layers, self.where)
        return cast("Resolved | None", self._memo[kind, used])

    def switch(self, name: str, point: Sequence[int], default: str) -> tuple[str, str]:
        used, layers = self._layers(name, point)
        if (name, used) not in self._memo:
            self._memo[name, used] = self.resolver.switch(name, layers, default)
        return cast("tuple[str, str]", self._memo[name, used])

    def cell(self, point: Sequence[int]) -> Configuration | None:
        stages = self.arm.stages
        pseudo: Pseudo = "none"
        chosen_pseudo = ""
        if retrain.STAGE in stages:
            switched, chosen_pseudo = self.switch("pseudo", point, "none")
            pseudo = cast(Pseudo, switched)
        score = cast(Score, self.switch("score", point, "test")[0])
        asked = (kind for recipe in recipes().values() for kind in recipe.kinds(stages, pseudo))
        kinds = list(dict.fromkeys(["dataset", "protocol", *asked]))
        chosen = self._chosen_at(point)
        if pseudo != "none" and "selector" in chosen:
            kinds.append("selector")
        found = {kind: self.kind(kind, point) for kind in kinds}
        for kind in chosen - found.keys():
            self.kind(kind, point)  # not needed here, and yet a wrong name or field is a mistake
        if None in found.values():
            return None
        components = cast("dict[str, Resolved]", found)
        if pseudo == "none" and "ssl" in components:
            components["ssl"] = self._without_pseudo(components["ssl"])
        memo = ("conflicts", pseudo, *(resolved.digest for resolved in components.values()))
        dataset = cast(Dataset, components["dataset"].component)
        if memo not in self._memo:
            self._memo[memo] = True
            self.resolver.conflicts(components, self.where, pseudo)
            if score == "val" and dataset.val == 0:
                self.resolver.add(
                    self.where, "score: val needs validation cases", "set dataset.val to 1 or more"
                )
        return Configuration(components, stages, pseudo, score, chosen_pseudo)

    def _without_pseudo(self, ssl: Resolved) -> Resolved:
        """The method with the fields of SFR at their defaults: they change nothing here."""
        memo = ("plain", ssl.digest)
        if memo not in self._memo:
            component = cast(Ssl, ssl.component)
            defaults = {name: type(component).model_fields[name].default for name in component.pseudo_fields}
            plain = Resolved.of(component.model_copy(update=defaults), ssl.card)
            self._memo[memo] = replace(plain, chosen=ssl.chosen)
        return cast(Resolved, self._memo[memo])
