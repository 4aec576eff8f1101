"""The nodes of a cell: those that the stages' recipes ask for, and those that only the report does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sfrbench.plan.graph import Configuration, Graph, Link
from sfrbench.plan.rounds import add_rounds, rounds_of
from sfrbench.spec.model import Item
from sfrbench.stages.finder import recipes
from sfrbench.stages.recipe import Asked
from sfrbench.stages.retrain import recipe as retrain

#: Stage -> what the items of a report want of it.
Wanted = Mapping[str, Mapping[str, int]]


def wanted_of(report: Sequence[Item], arm: str) -> Wanted:
    """What a report needs of an arm's cells alone; of what several items ask for, the largest counts."""
    wanted: dict[str, dict[str, int]] = {}
    for item in report:
        for stage, settings in item.asks(arm).items():
            own = wanted.setdefault(stage, {})
            own |= {name: max(value, own.get(name, value)) for name, value in settings.items()}
    return wanted


class CellMaker:
    """Makes the nodes of the cells of one configuration. What is asked for is the same for every seed."""

    def __init__(self, graph: Graph, config: Configuration, wanted: Wanted) -> None:
        self.graph, self.config, self._chosen = graph, config, graph.chosen(config)
        self._joined: dict[str, Mapping[str, Asked]] = {}
        self._rounds = rounds_of(config, self._chosen) if retrain.STAGE in config.stages else None
        self._requested = {
            stage: recipe.requested(self._chosen, **wanted[stage])
            for stage, recipe in recipes().items()
            if recipe.requested is not None and stage in wanted
        }

    def nodes(self, seed: int) -> dict[str, Link]:
        """The nodes of the cell with this seed, by role."""
        nodes: dict[str, Link] = {}
        for stage, recipe in recipes().items():
            if stage not in self._joined:
                self._joined[stage] = recipe.joins(self._chosen, nodes)
            for role, asked in self._joined[stage].items():
                nodes[role] = self.graph.node(stage, asked, self.config.components, nodes, seed)
            if stage == retrain.STAGE and self._rounds is not None:
                add_rounds(self.graph, self._rounds, nodes, seed)
        parts = self.config.components
        for stage, asked in self._requested.items():
            if nodes.keys() >= set(asked.inputs.values()) and parts.keys() >= {*asked.keyed, *asked.gets}:
                nodes[stage] = self.graph.node(stage, asked, parts, nodes, seed)
        return nodes
