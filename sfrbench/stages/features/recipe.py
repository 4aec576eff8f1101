"""features: decoder features of labelled and unlabelled training cases, one number a voxel (Fig. 10)."""

from __future__ import annotations

from typing import Literal, cast

from sfrbench.stages.cost import Costed, Work, whole_volumes
from sfrbench.stages.recipe import Asked, Chosen, Needs, Recipe
from sfrbench.stages.settings import Size, SplitSettings, StageSettings, with_unlabelled

STAGE = "features"


class FeaturesSettings(StageSettings):
    split: SplitSettings
    patch: Size
    stride: Size
    checkpoint: Literal["last", "best_val"]
    cases: int  # labelled, and unlabelled, at most
    voxels: int  # of each class of a case at most


def asked(cell: Chosen, *, cases: int, voxels: int) -> Asked:
    """Samples of the features of the segmenter that predicts."""
    data, protocol = cell.dataset, cell.protocol
    settings = FeaturesSettings(
        split=with_unlabelled(data),
        patch=data.patch,
        stride=protocol.stride or data.stride,
        checkpoint=protocol.checkpoint,
        cases=cases,
        voxels=voxels,
    )
    return Asked(settings, {"prepare": "prepare", "retrain": "retrain"}, gets=("backbone",))


def cost(node: Costed) -> Work | None:
    told, data = cast(FeaturesSettings, node.settings), node.extent
    have = node.counts(told.split)
    if have is None or data is None:
        return None
    cases = min(have.labelled, told.cases) + min(have.unlabelled, told.cases)
    each, samples = node.by_segmenter(told.patch, told.stride), data.classes * told.voxels * 4
    return whole_volumes(cases, data, each, samples / data.voxels, node.precision("backbone"))


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=FeaturesSettings,
    requested=asked,
    inputs={"prepare": ("prepare",), "retrain": ("retrain",)},
    needs=Needs(accelerator=True, network=True, cores=4, memory="medium"),
    cost=cost,
    named="never",  # reports ask for it
)
