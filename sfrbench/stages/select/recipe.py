"""select: how confident the 3D segmenter is of each unlabelled case (eq. 8), for the rounds of SFR+."""

from __future__ import annotations

from typing import cast

from sfrbench.components.base import Selector
from sfrbench.stages.cost import Costed, Work, whole_volumes
from sfrbench.stages.recipe import Asked, Chosen, Needs, Recipe
from sfrbench.stages.settings import Size, SplitSettings, StageSettings, half, with_unlabelled

STAGE = "select"


class SelectSettings(StageSettings):
    split: SplitSettings
    patch: Size
    stride: Size


def asked(cell: Chosen) -> Asked:
    """No selector is in the key: all thresholds share the confidences of the same windows."""
    data, chooser = cell.dataset, cast(Selector, cell.components["selector"])
    stride = data.stride if chooser.windows == "evaluation" else half(data.patch)
    settings = SelectSettings(split=with_unlabelled(data), patch=data.patch, stride=stride)
    return Asked(settings, {"prepare": "prepare", "retrain": "retrain"}, gets=("backbone",))


def cost(node: Costed) -> Work | None:
    """A label of one byte and a certainty of two for each voxel."""
    told, data = cast(SelectSettings, node.settings), node.extent
    have = node.counts(told.split)
    if have is None or data is None:
        return None
    each = node.by_segmenter(told.patch, told.stride)
    return whole_volumes(have.unlabelled, data, each, 3, node.precision("backbone"))


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=SelectSettings,
    inputs={"prepare": ("prepare",), "retrain": ("retrain",)},
    needs=Needs(accelerator=True, network=True, cores=4, memory="medium"),
    cost=cost,
    named="never",  # rounds ask for it
)
