"""Nodes and their keys: what a recipe asks for, with the inputs and the digests that decide it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from sfrbench.components.base import Dataset, Protocol
from sfrbench.errors import InputError, did_you_mean
from sfrbench.files.atomic import sha256_of
from sfrbench.plan.resolve import Resolved, digest
from sfrbench.stages.external.files import Predictions
from sfrbench.stages.finder import recipe_of
from sfrbench.stages.prepare import recipe as prepare
from sfrbench.stages.recipe import Asked, Chosen, Link, Pseudo, Score
from sfrbench.stages.settings import StageSettings

__all__ = ["Configuration", "Graph", "Link", "Node", "prepare_node"]


@dataclass(frozen=True)
class Node:
    """One stage with its resolved settings and inputs. Equal nodes are one node."""

    stage: str
    key: str
    components: Mapping[str, Resolved]  # everything that the stage gets; ``keyed`` ones stand in the key
    keyed: tuple[str, ...]
    settings: StageSettings
    inputs: Mapping[str, Link]
    seed: int | None

    @property
    def title(self) -> str:
        """A node as people read it, such as ``retrain 81aa2c03 mean_teacher seed 1``."""
        main = recipe_of(self.stage).told_by
        parts = [self.stage, self.key[:8]]
        if main in self.components:
            parts.append(self.components[main].card.name)
        if self.seed is not None:
            parts.append(f"seed {self.seed}")
        return " ".join(parts)

    def described(self) -> dict[str, Any]:
        """What the key stands for, as the record keeps it."""
        outside = self.outside()
        return {
            "stage": self.stage,
            "stage_version": recipe_of(self.stage).version,
            "components": {
                kind: {"name": resolved.card.name, **resolved.component.key_settings()}
                for kind, resolved in self.components.items()
            },
            "keyed": list(self.keyed),
            "settings": self.settings.told(),
            "inputs": {role: list(link) for role, link in self.inputs.items()},
            "seed": self.seed,
            **({"outside": outside} if outside else {}),
        }

    def outside(self) -> dict[str, str]:
        """The hash of the file of each component that is none of ours, by kind. It is in no key."""
        files = {kind: type(resolved.component).code_file() for kind, resolved in self.components.items()}
        return {
            kind: _hash(file, file.stat().st_mtime_ns)
            for kind, file in files.items()
            if file is not None and file.is_file()
        }


@cache
def _hash(file: Path, changed: int) -> str:
    """The hash of a file that was last changed then."""
    return sha256_of(file)


@dataclass(frozen=True)
class Configuration:
    """What all seeds of an arm share at one point of the axes: components, stages and switches."""

    components: dict[str, Resolved]
    stages: tuple[str, ...]
    pseudo: Pseudo
    score: Score
    pseudo_chosen: str = ""  # the value in the specification, where a profile swaps it
    predictions: Predictions | None = None  # results that another tool made

    @property
    def dataset(self) -> Dataset:
        return cast(Dataset, self.components["dataset"].component)

    @property
    def protocol(self) -> Protocol:
        return cast(Protocol, self.components["protocol"].component)


#: The content hash of label maps that another tool made of the cases of a dataset that are scored.
Look = Callable[[Resolved, Predictions, Score], str]


def unseen(dataset: Resolved, predictions: Predictions, score: Score) -> str:
    """The hash where nobody looks at files."""
    return "absent"


class Graph:
    """Makes nodes, each once."""

    def __init__(
        self,
        nodes: dict[Link, Node],
        profile: str,
        fingerprint: Callable[[Resolved], str],
        look: Look = unseen,
    ) -> None:
        self.nodes = nodes
        self.profile = profile
        self._fingerprint = fingerprint
        self._look = look
        self._fingerprints: dict[str, str] = {}
        self._digests: dict[tuple[str, frozenset[str]], str] = {}

    def node(
        self,
        stage: str,
        asked: Asked,
        components: Mapping[str, Resolved],
        nodes: Mapping[str, Link],
        seed: int | None,
    ) -> Link:
        """The node that a recipe asks for, from the components and the nodes of its cell."""
        recipe = recipe_of(stage)
        where = f"stages/{stage}/recipe.py"
        for source in asked.inputs.values():
            if source not in nodes:
                what = f"the stage asks for an input of role '{source}', which this cell has not"
                raise InputError(what, where=where, hint=did_you_mean(source, nodes))
        inputs = {role: nodes[source] for role, source in asked.inputs.items()}
        for role, link in inputs.items():
            if not recipe.takes(role, link[0]):
                hint = "name it under 'inputs' of the recipe, with that stage"
                raise InputError(f"no input '{role}' of stage '{link[0]}'", where=where, hint=hint)
        seed = seed if recipe.seeded and asked.seeded else None
        payload = {
            "profile": self.profile,
            "stage": stage,
            "version": recipe.version,
            "components": {kind: self._digest(components[kind], out) for kind, out in asked.keyed.items()},
            "settings": asked.told,
            "inputs": inputs,
            "seed": seed,
        }
        link = (stage, digest(payload))
        if link not in self.nodes:
            got = {kind: components[kind] for kind in (*asked.keyed, *asked.gets)}
            self.nodes[link] = Node(stage, link[1], got, tuple(asked.keyed), asked.settings, inputs, seed)
        return link

    def chosen(self, config: Configuration) -> Chosen:
        """A configuration as recipes see it."""
        components = {kind: resolved.component for kind, resolved in config.components.items()}
        fingerprint = self.fingerprint(config.components["dataset"])
        given, dataset = config.predictions, config.components["dataset"]
        predicted = "" if given is None else self._look(dataset, given, config.score)
        switches = (config.stages, config.pseudo, config.score)
        return Chosen(components, *switches, fingerprint, given, predicted)

    def fingerprint(self, dataset: Resolved) -> str:
        """The content hash of a dataset's files on this machine, looked up once."""
        if dataset.digest not in self._fingerprints:
            self._fingerprints[dataset.digest] = self._fingerprint(dataset)
        return self._fingerprints[dataset.digest]

    def _digest(self, resolved: Resolved, left_out: frozenset[str]) -> str:
        """The digest of a component's fields but for some."""
        if not left_out:
            return resolved.digest
        memo = (resolved.digest, left_out)
        if memo not in self._digests:
            settings = resolved.component.key_settings()
            kept = {name: value for name, value in settings.items() if name not in left_out}
            self._digests[memo] = digest(kept)
        return self._digests[memo]


def prepare_node(resolved: Resolved, profile: str, fingerprint: Callable[[Resolved], str]) -> Node:
    """The node that prepares one dataset, as every cell of that profile would have it."""
    nodes: dict[Link, Node] = {}
    graph = Graph(nodes, profile, fingerprint)
    asked = prepare.asked(cast(Dataset, resolved.component), graph.fingerprint(resolved))
    return nodes[graph.node(prepare.STAGE, asked, {"dataset": resolved}, {}, None)]
