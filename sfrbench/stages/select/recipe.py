"""select: how confident the 3D segmenter is of each unlabelled case (eq. 8), for the rounds of SFR+."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

from pydantic import Field

from sfrbench.components.base import Selector
from sfrbench.stages.cost import Costed, Work, whole_volumes
from sfrbench.stages.recipe import Asked, Chosen, Needs, Recipe
from sfrbench.stages.settings import Size, SplitSettings, StageSettings, half, with_unlabelled

STAGE = "select"


class SelectSettings(StageSettings):
    """Certainty was once kept for all selectors. One that judges whole cases reads C alone: it is equal."""

    later_fields: ClassVar[Mapping[str, Any]] = {"keep": "labels"}

    split: SplitSettings
    patch: Size
    stride: Size
    keep: Literal["labels", "certainty"] = Field("labels", description="maps of each case; labels always")


def asked(cell: Chosen) -> Asked:
    """No selector is in the key: all thresholds share the confidences of the same windows. One that judges
    crops needs the certainty of each voxel."""
    data, chooser = cell.dataset, cast(Selector, cell.components["selector"])
    stride = data.stride if chooser.windows == "evaluation" else half(data.patch)
    settings = SelectSettings(
        split=with_unlabelled(data),
        patch=data.patch,
        stride=stride,
        keep="certainty" if chooser.unit == "crop" else "labels",
    )
    return Asked(settings, {"prepare": "prepare", "retrain": "retrain"}, gets=("backbone",))


def cost(node: Costed) -> Work | None:
    """A label of one byte for each voxel, and where it is kept a certainty of two."""
    told, data = cast(SelectSettings, node.settings), node.extent
    have = node.counts(told.split)
    if have is None or data is None:
        return None
    each = node.by_segmenter(told.patch, told.stride)
    kept = 3 if told.keep == "certainty" else 1
    return whole_volumes(have.unlabelled, data, each, kept, node.precision("backbone"))


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=SelectSettings,
    inputs={"prepare": ("prepare",), "retrain": ("retrain",)},
    needs=Needs(accelerator=True, network=True, cores=4, memory="medium"),
    cost=cost,
    named="never",  # rounds ask for it
)
