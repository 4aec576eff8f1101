"""The nodes of one cell: which stages run, one after the other, and the rounds of SFR+ and self-training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import cast

from sfrbench.components.base import Finetune, Selector, Ssl
from sfrbench.plan import roles
from sfrbench.plan.graph import (
    Graph,
    Link,
    More,
    Point,
    canvases_node,
    dataset_node,
    evaluate_node,
    features_node,
    finetune_node,
    predict_node,
    pseudolabel_node,
    retrain_node,
    select_node,
    without,
)
from sfrbench.plan.resolve import Resolved, digest
from sfrbench.spec.model import Item


def cell_nodes(graph: Graph, point: Point, stages: Collection[str], seed: int) -> dict[str, Link]:
    """The nodes of one cell, by role."""
    nodes: dict[str, Link] = {}
    own = point.components
    nodes["prepare"] = graph.memo(
        ("prepare", own["dataset"].digest), lambda: dataset_node(graph, own["dataset"])
    )
    if "finetune" in own:
        nodes["finetune"] = finetune_node(graph, point, nodes, seed)
        if point.pseudo == "offline":
            nodes["pseudolabel"] = pseudolabel_node(graph, point, nodes)
    if "retrain" in stages:
        nodes["retrain"] = retrain_node(graph, point, nodes, seed)
        nodes.update(further_rounds(graph, point, nodes, seed))
    if "predict" in stages:
        nodes["predict"] = predict_node(graph, point, nodes, "retrain" if "retrain" in stages else "finetune")
    if "evaluate" in stages:
        if "predict" in nodes:
            nodes[roles.RESULT] = evaluate_node(graph, point, nodes, "predict")
        if "pseudolabel" in nodes:
            nodes[roles.PSEUDO] = evaluate_node(graph, point, nodes, "pseudolabel")
        for role in list(nodes):
            stage, _ = roles.round_of(role) or ("", 0)
            if stage in ("select", "pseudolabel"):
                nodes[roles.scored(role)] = evaluate_node(graph, point, nodes, role)
    return nodes


#: Stages that only a report asks for: the role that must be there, and what makes the node.
_ASKED: Mapping[str, tuple[str, Callable[..., Link]]] = {
    "canvases": ("finetune", canvases_node),
    "features": ("retrain", features_node),
}


def report_nodes(
    graph: Graph, point: Point, nodes: Mapping[str, Link], arm: str, report: Sequence[Item]
) -> dict[str, Link]:
    """Nodes that only the report of a specification asks for, by role."""
    asked: dict[str, dict[str, int]] = {}
    for item in report:
        for stage, settings in item.asks(arm).items():
            own = asked.setdefault(stage, {})
            own |= {name: max(value, own.get(name, value)) for name, value in settings.items()}
    return {
        stage: make(graph, point, nodes, **asked[stage])
        for stage, (needed, make) in _ASKED.items()
        if stage in asked and needed in nodes
    }


def further_rounds(graph: Graph, point: Point, nodes: Mapping[str, Link], seed: int) -> dict[str, Link]:
    """What follows the first training: rounds of SFR+ or of self-training; "retrain" is the last one."""
    selector = point.components.get("selector")
    ssl = cast(Ssl, point.components["ssl"].component)
    if selector is not None:
        return _selected_rounds(graph, point, dict(nodes), seed, selector)
    known, found = dict(nodes), {}
    for number in range(1, ssl.relabels + 1):
        found[roles.in_round("retrain", number - 1)] = known["retrain"]
        by_model = {**known, "pseudolabel": pseudolabel_node(graph, point, known, by="retrain")}
        offline = replace(point, pseudo="offline")
        known["retrain"] = retrain_node(graph, offline, by_model, round_seed(seed, number))
        found[roles.in_round("pseudolabel", number)] = by_model["pseudolabel"]
    return {**found, "retrain": known["retrain"]} if found else {}


def _selected_rounds(
    graph: Graph, point: Point, nodes: dict[str, Link], seed: int, selector: Resolved
) -> dict[str, Link]:
    """A round of SFR+: confidence of the segmenter, an update of SAM, new pseudo-labels, more re-training."""
    chooser = cast(Selector, selector.component)
    ssl, finetune = point.components["ssl"], point.components["finetune"]
    continuing = Resolved.of(chooser.continuing(cast(Ssl, ssl.component)), ssl.card)
    updating = Resolved.of(chooser.updating(cast(Finetune, finetune.component)), finetune.card)
    later = replace(point, components={**point.components, "ssl": continuing, "finetune": updating})
    keyed = {"selector": without(chooser.key_settings(), chooser.round_fields)}
    found: dict[str, Link] = {}
    done = cast(Ssl, ssl.component).steps
    for number in range(1, chooser.rounds + 1):
        own_seed = round_seed(seed, number)
        before = {"retrain": nodes["retrain"], "finetune": nodes["finetune"]}
        select = select_node(graph, point, nodes)
        tune = More(inputs={"before": before["finetune"], "select": select}, keyed=keyed)
        nodes["finetune"] = finetune_node(graph, later, nodes, own_seed, tune)
        if point.pseudo == "offline":
            # what SAM's update is trained with does not matter here, so that labels by a SAM that no
            # case has updated are the same work as before
            nodes["pseudolabel"] = pseudolabel_node(graph, point, nodes)
            found[roles.in_round("pseudolabel", number)] = nodes["pseudolabel"]
        train = More({"first_iteration": done}, {"before": before["retrain"], "select": select}, keyed)
        nodes["retrain"] = retrain_node(graph, later, nodes, own_seed, train)
        done += chooser.retrain_steps
        found |= {
            roles.in_round("retrain", number - 1): before["retrain"],
            roles.in_round("select", number): select,
        }
        found[roles.in_round("finetune", number)] = nodes["finetune"]
    return {**found, "retrain": nodes["retrain"]}


def round_seed(seed: int, number: int) -> int:
    """The base seed of a round, so that it draws other crops than the training before."""
    return int(digest(["round", number, seed])[:7], 16)
