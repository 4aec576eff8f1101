"""The volumes and label maps of single cases, for slices; each array is read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sfrbench.components.base import Dataset
from sfrbench.components.base_prompts import Said
from sfrbench.engine.predictions import label_map
from sfrbench.engine.volumes import EVALUATE, Volumes, split_of
from sfrbench.plan.build import Cell
from sfrbench.plan.graph import Link
from sfrbench.report.facts.said import said_until
from sfrbench.results.predicted import result_role, rounds_scored
from sfrbench.results.subsets import UNLABELLED
from sfrbench.run.experiment import Experiment
from sfrbench.store.store import Artefact

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Getter = Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class MontageCase:
    """Arrays of one case under one cell, read when called: all (X, Y, Z), label maps integer.

    ``spacing`` is the voxel size along x, y, z; ``prediction`` and ``pseudo`` are none where there is none.
    ``said`` is what the model was told until then, of all objects.
    """

    image: Getter
    truth: Getter
    prediction: Getter | None = None
    pseudo: Getter | None = None
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    said: Sequence[Said] = ()


def volumes_of(experiment: Experiment) -> Callable[[str, str, str], MontageCase | None]:
    """Gives the volumes of one cell and case, where the store has them."""
    cells = {cell.id: cell for cell in experiment.plan.cells}
    opened: dict[Link, Volumes] = {}

    def case_of(cell_id: str, case: str, subset: str) -> MontageCase | None:
        cell, store = cells[cell_id], experiment.store
        if not store.has(*cell.nodes["prepare"]):
            return None
        link = cell.nodes["prepare"]
        if link not in opened:
            opened[link] = Volumes(store.get(*link))
        volumes = opened[link]
        labels = volumes.labels([case], f"{EVALUATE}: picture")
        classes, after = len(volumes.classes), rounds_scored(cell)
        predicted = None if subset == UNLABELLED else artefact_of(experiment, cell, result_role(cell))
        pseudo = artefact_of(experiment, cell, "pseudolabel") if case in _unlabelled(cell, volumes) else None
        return MontageCase(
            image=lambda: volumes.image(case),
            truth=lambda: labels[case],
            prediction=None if predicted is None else lambda: label_map(predicted, case, classes, after),
            pseudo=None if pseudo is None else lambda: label_map(pseudo, case, classes),
            spacing=volumes.case(case).spacing,
            said=() if predicted is None or after is None else said_until(predicted, case, after),
        )

    return case_of


def _unlabelled(cell: Cell, volumes: Volumes) -> tuple[str, ...]:
    data = cast(Dataset, cell.components["dataset"].component)
    return split_of(data, volumes).unlabelled


def artefacts_of(experiment: Experiment) -> Callable[[str, str], Artefact | None]:
    """What the nodes of a cell left, from the cell's id and the role of the node."""
    cells = {cell.id: cell for cell in experiment.plan.cells}
    return lambda cell, role: artefact_of(experiment, cells[cell], role)


def artefact_of(experiment: Experiment, cell: Cell, role: str) -> Artefact | None:
    """What the node of a role left; none where the cell has no such node or it did not run."""
    link = cell.nodes.get(role)
    return experiment.store.get(*link) if link is not None and experiment.store.has(*link) else None
