"""external: label maps of test or validation cases that another tool made, brought to the prepared grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from sfrbench.stages.cost import WRITTEN, Costed, Work
from sfrbench.stages.external.files import Missing
from sfrbench.stages.prepare import recipe as prepare
from sfrbench.stages.recipe import Asked, Chosen, Link, Recipe, Score
from sfrbench.stages.settings import SplitSettings, StageSettings

STAGE = "external"
#: The stages of an arm whose results another tool made.
STAGES = (STAGE, "evaluate")


class ExternalSettings(StageSettings):
    """``fingerprint`` says what the files hold, case by case; ``labels``, ``other`` and ``missing`` are as in
    ``Predictions``. Where the files lie, and what they are called, is in no key and in no record."""

    places: ClassVar[frozenset[str]] = frozenset({"folder", "files"})

    split: SplitSettings
    subset: Score
    fingerprint: str
    labels: tuple[tuple[int, int], ...] | None = None
    other: int | None = None
    missing: Missing = "refuse"
    folder: str = ""
    files: str = ""

    def told(self) -> dict[str, Any]:
        return {name: value for name, value in super().told().items() if name not in self.places}


def asked(cell: Chosen) -> Asked:
    given, data = cell.predictions, cell.dataset
    assert given is not None
    settings = ExternalSettings(
        split=SplitSettings(max_test=data.max_test) if cell.score == "test" else SplitSettings(val=data.val),
        subset=cell.score,
        fingerprint=cell.predicted,
        labels=given.labels,
        other=given.other,
        missing=given.missing,
        folder=str(given.folder),
        files=given.files,
    )
    return Asked(settings, {"prepare": prepare.STAGE}, gets=("dataset",))


def joins(cell: Chosen, nodes: Mapping[str, Link]) -> Mapping[str, Asked]:
    return {STAGE: asked(cell)} if STAGE in cell.stages else {}


def cost(node: Costed) -> Work | None:
    """Reading and turning; a label of one byte for each voxel."""
    told, data = cast(ExternalSettings, node.settings), node.extent
    have = node.counts(told.split)
    if have is None or data is None:
        return None
    voxels = (have.test if told.subset == "test" else have.val) * data.voxels
    return Work(0.0, voxels * 6e-8 + voxels / WRITTEN + 0.2, round(voxels))


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=ExternalSettings,
    inputs={"prepare": (prepare.STAGE,)},
    joins=joins,
    cost=cost,
    named="never",
)
