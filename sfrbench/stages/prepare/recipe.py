"""prepare: a raw dataset becomes memory-mapped volumes and an index, the same for every cell that uses it."""

from __future__ import annotations

from collections.abc import Mapping

from sfrbench.components.base import Dataset
from sfrbench.stages.cost import Costed, Work
from sfrbench.stages.recipe import Asked, Chosen, Link, Needs, Recipe
from sfrbench.stages.settings import StageSettings

STAGE = "prepare"


class PrepareSettings(StageSettings):
    fingerprint: str  # content hash of the dataset's files


def asked(dataset: Dataset, fingerprint: str) -> Asked:
    """What the plan asks of the stage; the dataset's ``late_fields`` belong to the stages that read them."""
    return Asked(PrepareSettings(fingerprint=fingerprint), {}, keyed={"dataset": dataset.late_fields})


def joins(cell: Chosen, nodes: Mapping[str, Link]) -> Mapping[str, Asked]:
    return {STAGE: asked(cell.dataset, cell.fingerprint)}


def cost(node: Costed) -> Work | None:
    """Images of four bytes a voxel, labels of one."""
    data, dataset = node.extent, node.component("dataset", Dataset)
    if data is None:
        return None
    cases, whole = data.train + data.test, data.voxels * 5
    read = cases * data.voxels * 2.5e-7 / min(dataset.workers, 8)
    return Work(0.0, read + 0.5, round(cases * whole - data.bare * data.voxels))


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=PrepareSettings,
    inputs={},
    joins=joins,
    needs=Needs(
        memory="medium"
    ),  # ``Dataset.workers`` processes share the cores, each with one case in memory
    cost=cost,
    told_by="dataset",
    compared=lambda inputs: False,  # it comes before all others
)
