"""The nodes of a cell: which stages run, on what they depend, and therefore their keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from sfrbench.components.base import Dataset, Protocol, Ssl
from sfrbench.plan.resolve import Resolved, digest

#: Raised when a stage's own code changes what it writes; part of every key of the stage.
STAGE_VERSIONS: Mapping[str, int] = {
    "prepare": 1,
    "finetune": 1,
    "pseudolabel": 1,
    "retrain": 2,  # paired dropout, weights of SFR+ rounds kept
    "select": 1,
    "predict": 1,
    "evaluate": 1,
    "canvases": 1,
    "features": 1,
}

Link = tuple[str, str]  # stage, key


@dataclass(frozen=True)
class Node:
    """One stage with its resolved settings and inputs. Equal nodes are one node."""

    stage: str
    key: str
    components: Mapping[str, Resolved]  # everything that the stage gets; ``keyed`` ones stand in the key
    keyed: tuple[str, ...]
    settings: Mapping[str, Any]
    inputs: Mapping[str, Link]
    seed: int | None

    def described(self) -> dict[str, Any]:
        """What the key stands for, as the record keeps it."""
        return {
            "stage": self.stage,
            "stage_version": STAGE_VERSIONS[self.stage],
            "components": {
                kind: {"name": resolved.card.name, **resolved.component.key_settings()}
                for kind, resolved in self.components.items()
            },
            "keyed": list(self.keyed),
            "settings": dict(self.settings),
            "inputs": {role: list(link) for role, link in self.inputs.items()},
            "seed": self.seed,
        }


class Graph:
    """Makes nodes, each once."""

    def __init__(self, nodes: dict[Link, Node], profile: str, fingerprint: Callable[[Resolved], str]) -> None:
        self.nodes = nodes
        self.profile = profile
        self.fingerprint = fingerprint
        self._memo: dict[tuple[Any, ...], Link] = {}

    def node(
        self,
        stage: str,
        components: Mapping[str, Resolved],
        settings: Mapping[str, Any],
        inputs: Mapping[str, Link],
        seed: int | None,
        keyed: Mapping[str, str],
    ) -> Link:
        """``keyed`` maps the kinds that belong to the key to their digests."""
        payload = {
            "profile": self.profile,
            "stage": stage,
            "version": STAGE_VERSIONS[stage],
            "components": dict(keyed),
            "settings": dict(settings),
            "inputs": dict(inputs),
            "seed": seed,
        }
        link = (stage, digest(payload))
        if link not in self.nodes:
            self.nodes[link] = Node(stage, link[1], components, tuple(keyed), settings, inputs, seed)
        return link

    def memo(self, key: tuple[Any, ...], make: Callable[[], Link]) -> Link:
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]


@dataclass(frozen=True)
class Point:
    """What all seeds of one arm and point share."""

    components: dict[str, Resolved]
    pseudo: str
    score: str
    dataset: Dataset
    protocol: Protocol
    pseudo_chosen: str = ""  # the value in the specification, where a profile swaps it


@dataclass(frozen=True)
class More:
    """What a round adds to a node of finetune or retrain."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Link] = field(default_factory=dict)
    keyed: Mapping[str, str] = field(default_factory=dict)


NOTHING_MORE = More()


def _digests(point: Point, *kinds: str) -> dict[str, str]:
    return {kind: point.components[kind].digest for kind in kinds}


def _some(point: Point, *kinds: str) -> dict[str, Resolved]:
    return {kind: point.components[kind] for kind in kinds if kind in point.components}


def without(settings: dict[str, Any], names: frozenset[str]) -> str:
    return digest({name: value for name, value in settings.items() if name not in names})


def prepare_node(resolved: Resolved, profile: str, fingerprint: Callable[[Resolved], str]) -> Node:
    """The node that prepares one dataset, as every cell of that profile would have it."""
    nodes: dict[Link, Node] = {}
    return nodes[dataset_node(Graph(nodes, profile, fingerprint), resolved)]


def dataset_node(graph: Graph, resolved: Resolved) -> Link:
    late = cast(Dataset, resolved.component).late_fields
    keyed = {"dataset": without(resolved.component.key_settings(), late)}
    settings = {"fingerprint": graph.fingerprint(resolved)}
    return graph.node("prepare", {"dataset": resolved}, settings, {}, None, keyed)


def _labelled(dataset: Dataset) -> dict[str, Any]:
    return {"labeled": dataset.labeled, "choice": dataset.choice, "val": dataset.val}


def _drawn(dataset: Dataset) -> dict[str, Any]:
    """How training crops are drawn; ``crops`` came later and is told where it is not "all"."""
    crops = {} if dataset.crops == "all" else {"crops": dataset.crops}
    return {"patch": list(dataset.patch), "rot_flip": dataset.rot_flip, **crops}


def finetune_node(
    graph: Graph, point: Point, nodes: Mapping[str, Link], seed: int, more: More = NOTHING_MORE
) -> Link:
    data = point.dataset
    settings = {"split": _labelled(data), **_drawn(data)}
    kinds = ("stitch", "foundation", "finetune")
    inputs = {"prepare": nodes["prepare"], **more.inputs}
    keyed = {**_digests(point, *kinds), **more.keyed}
    return graph.node("finetune", _some(point, *kinds, *more.keyed), settings, inputs, seed, keyed)


def _sam_stride(point: Point) -> list[int]:
    data = point.dataset
    return list(data.sam_stride or [max(side // 2, 1) for side in data.patch])


def pseudolabel_node(graph: Graph, point: Point, nodes: Mapping[str, Link], by: str = "finetune") -> Link:
    """Labels of all unlabelled cases by SAM or, for self-training, by the 3D segmenter in ``nodes[by]``."""
    data = point.dataset
    settings: dict[str, Any] = {
        "split": {**_labelled(data), "unlabeled": data.unlabeled},
        "patch": list(data.patch),
    }
    inputs = {"prepare": nodes["prepare"], by: nodes[by]}
    if by == "finetune":
        settings["sam_stride"] = _sam_stride(point)
        return graph.node(
            "pseudolabel", _some(point, "stitch", "foundation", "finetune"), settings, inputs, None, {}
        )
    settings["stride"] = list(data.stride)
    return graph.node("pseudolabel", _some(point, "backbone"), settings, inputs, None, {})


def retrain_node(
    graph: Graph, point: Point, nodes: Mapping[str, Link], seed: int, more: More = NOTHING_MORE
) -> Link:
    data = point.dataset
    ssl = cast(Ssl, point.components["ssl"].component)
    split = _labelled(data)
    if ssl.uses_unlabelled or point.pseudo != "none":
        split["unlabeled"] = data.unlabeled
    settings: dict[str, Any] = {
        "split": split,
        **_drawn(data),
        "pseudo": point.pseudo,
        **more.settings,
    }
    if data.val:
        settings["stride"] = list(data.stride)
    inputs = {"prepare": nodes["prepare"], **more.inputs}
    if point.pseudo != "none":
        source = "pseudolabel" if point.pseudo == "offline" else "finetune"
        inputs[source] = nodes[source]
    online = ("stitch", "foundation", "finetune") if point.pseudo == "online" else ()
    components = _some(point, "backbone", "ssl", *online, *more.keyed)
    keyed = {**_digests(point, "backbone", "ssl"), **more.keyed}
    return graph.node("retrain", components, settings, inputs, seed, keyed)


def select_node(graph: Graph, point: Point, nodes: Mapping[str, Link]) -> Link:
    data = point.dataset
    settings = {
        "split": {**_labelled(data), "unlabeled": data.unlabeled},
        "patch": list(data.patch),
        "stride": list(data.stride),
    }
    inputs = {"prepare": nodes["prepare"], "retrain": nodes["retrain"]}
    return graph.node("select", _some(point, "backbone"), settings, inputs, None, {})


def predict_node(graph: Graph, point: Point, nodes: Mapping[str, Link], model: str) -> Link:
    data, protocol = point.dataset, point.protocol
    # test cases do not depend on the labelled ones; validation cases only on how many there are
    split = {"max_test": data.max_test} if point.score == "test" else {"val": data.val}
    settings: dict[str, Any] = {
        "split": split,
        "subset": point.score,
        "patch": list(data.patch),
        "model_stage": model,
    }
    if model == "retrain":
        settings["stride"] = list(protocol.stride or data.stride)
        settings["checkpoint"] = protocol.checkpoint
    else:
        settings["sam_stride"] = list(protocol.sam_stride) if protocol.sam_stride else _sam_stride(point)
    kinds = (
        ("backbone", "protocol") if model == "retrain" else ("stitch", "foundation", "finetune", "protocol")
    )
    inputs = {"prepare": nodes["prepare"], "model": nodes[model]}
    return graph.node("predict", _some(point, *kinds), settings, inputs, None, {})


def canvases_node(graph: Graph, point: Point, nodes: Mapping[str, Link], cases: int) -> Link:
    """What SAM is given, for the report's pictures: no node takes it as an input."""
    data = point.dataset
    settings = {
        "split": {**_labelled(data), "max_test": data.max_test},
        "subset": point.score,
        "patch": list(data.patch),
        "cases": cases,
    }
    kinds = ("stitch", "foundation")
    inputs = {"prepare": nodes["prepare"]}
    return graph.node("canvases", _some(point, *kinds), settings, inputs, None, _digests(point, *kinds))


def features_node(graph: Graph, point: Point, nodes: Mapping[str, Link], *, cases: int, voxels: int) -> Link:
    """Samples of the deployed segmenter's features, for the report alone: no node takes them as an input."""
    data, protocol = point.dataset, point.protocol
    settings = {
        "split": {**_labelled(data), "unlabeled": data.unlabeled},
        "patch": list(data.patch),
        "stride": list(protocol.stride or data.stride),
        "checkpoint": protocol.checkpoint,
        "cases": cases,
        "voxels": voxels,
    }
    inputs = {"prepare": nodes["prepare"], "retrain": nodes["retrain"]}
    return graph.node("features", _some(point, "backbone"), settings, inputs, None, {})


def evaluate_node(graph: Graph, point: Point, nodes: Mapping[str, Link], source: str) -> Link:
    keyed = {
        "protocol": without(point.components["protocol"].component.key_settings(), Protocol.predict_fields)
    }
    inputs = {"prepare": nodes["prepare"], "prediction": nodes[source]}
    # volumes that are interpolated along z were once scored so, and are scored on their own slices now
    settings = {} if point.dataset.min_depth is None else {"slices": "own"}
    return graph.node("evaluate", _some(point, "protocol"), settings, inputs, None, keyed)
