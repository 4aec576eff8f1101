"""The nodes of a cell: those that the stages' recipes ask for, and those that only the report does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sfrbench.plan.graph import Configuration, Graph, Link
from sfrbench.plan.rounds import add_rounds, rounds_of
from sfrbench.spec.model import Item
from sfrbench.stages.finder import recipes
from sfrbench.stages.recipe import Asked
from sfrbench.stages.retrain import recipe as retrain


class CellMaker:
    """Makes the nodes of the cells of one configuration. What recipes ask for is the same for every seed."""

    def __init__(self, graph: Graph, config: Configuration) -> None:
        self.graph, self.config, self._chosen = graph, config, graph.chosen(config)
        self._joined: dict[str, Mapping[str, Asked]] = {}
        self._rounds = rounds_of(config, self._chosen) if retrain.STAGE in config.stages else None

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
        return nodes


def report_nodes(
    graph: Graph, config: Configuration, nodes: Mapping[str, Link], arm: str, report: Sequence[Item]
) -> dict[str, Link]:
    """Nodes that only the report of a specification asks for, by role."""
    asked: dict[str, dict[str, int]] = {}
    for item in report:
        for stage, settings in item.asks(arm).items():
            own = asked.setdefault(stage, {})
            own |= {name: max(value, own.get(name, value)) for name, value in settings.items()}
    found = {}
    for stage, recipe in recipes().items():
        wanted = recipe.requested(graph.chosen(config), nodes, asked[stage]) if stage in asked else None
        if wanted is not None:
            found[stage] = graph.node(stage, wanted, config.components, nodes, None)
    return found
