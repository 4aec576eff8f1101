"""A finished cell: the network that predicts, and how its volumes were prepared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from sfrbench.components.base import Dataset
from sfrbench.components.split import Split
from sfrbench.engine.context import StageContext
from sfrbench.engine.volumes import Volumes, split_of
from sfrbench.errors import InputError
from sfrbench.machine.needs import ABSENT
from sfrbench.places import weights
from sfrbench.plan.build import Cell
from sfrbench.plan.graph import Link, Node
from sfrbench.run.executors.precision import Settled, Settler
from sfrbench.run.experiment import Experiment
from sfrbench.stages.external import recipe as external
from sfrbench.stages.interact import recipe as interact
from sfrbench.stages.predict import recipe as predict
from sfrbench.stages.predict.recipe import PredictSettings
from sfrbench.store.store import Artefact


@dataclass(frozen=True)
class Finished:
    """A cell whose model is in the store. ``node`` is its predict node: what it says of windows holds."""

    experiment: Experiment
    cell: Cell
    node: Node

    @cached_property
    def volumes(self) -> Volumes:
        return Volumes(self.artefact("prepare"))

    @property
    def dataset(self) -> Dataset:
        return cast(Dataset, self.cell.components["dataset"].component)

    @property
    def settings(self) -> PredictSettings:
        """How the model predicts, and which stage trained it."""
        return cast(PredictSettings, self.node.settings)

    @property
    def split(self) -> Split:
        return split_of(self.dataset, self.volumes)

    @property
    def like(self) -> Mapping[str, Any]:
        """The ``source`` of a training case, for ``Dataset.read_image``."""
        return self.volumes.case(self.volumes.train[0]).source

    def artefact(self, role: str) -> Artefact:
        """The artefact of an input of the predict node: 'prepare' or 'model'."""
        return self.experiment.store.get(*self.node.inputs[role])

    def settled(self, device: str) -> Settled:
        """The precision that a run would use here."""
        components = {kind: resolved.component for kind, resolved in self.node.components.items()}
        return Settler(device).settle(self.node.stage, components, self.settings)

    def context(self, device: str, settled: Settled) -> StageContext[PredictSettings]:
        """The context that the stage's ``predictor`` needs; writes nothing."""
        return StageContext(
            components=settled.components,
            settings=self.settings,
            inputs={role: self.artefact(role) for role in self.node.inputs},
            seed=self.cell.seed,
            out=Path(os.devnull),
            scratch=Path(os.devnull),
            device=device,
            weights=weights.check,
        )


def finished(experiment: Experiment, cell: Cell) -> Finished:
    """The cell, once it is known that its model is in the store. Raises ``InputError`` otherwise."""
    if interact.STAGE in cell.nodes:
        raise InputError(
            f"{cell.title} segments by prompts, which somebody has to give it",
            hint="name an arm that fine-tunes or re-trains: its model predicts by itself",
        )
    if external.STAGE in cell.nodes:
        raise InputError(
            f"{cell.title} has another tool's label maps, and no model", hint="that tool has the model"
        )
    link = cell.nodes.get(predict.STAGE)
    if link is None:
        raise InputError(
            f"{cell.title} trains no model that predicts", hint=f"its stages lack '{predict.STAGE}'"
        )
    node, store = experiment.plan.nodes[link], experiment.store
    if not all(store.has(*needed) for needed in node.inputs.values()):
        raise InputError(f"{cell.title} has not been run here", hint=_why(experiment, cell, node.inputs))
    return Finished(experiment, cell, node)


def _why(experiment: Experiment, cell: Cell, inputs: Mapping[str, Link]) -> str:
    """What to do about a cell whose model is not there."""
    resolved = cell.components["dataset"]
    if experiment.machine.fingerprint(resolved) == ABSENT:
        name = resolved.card.name
        return f"the data '{name}' are not here, and a run is known by its data too: give --data {name}=DIR"
    for link in cell.nodes.values():
        failure = None if experiment.store.has(*link) else experiment.store.failure(*link)
        if failure is not None:
            return f"{link[0]} failed: {failure.splitlines()[0]}"
    spec = experiment.plan.spec
    return (
        f"sfrbench run {spec.document.path.stem} --profile {experiment.profile} makes it; the profile, the "
        "workspace and --set must be those of the run"
    )
