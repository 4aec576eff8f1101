"""pseudolabel: every unlabelled training case is labelled once, offline, by SAM or by a segmenter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sfrbench.stages.recipe import SAM, Asked, Chosen, Link, Needs, Recipe
from sfrbench.stages.settings import Size, SplitSettings, StageSettings, sam_stride, with_unlabelled

STAGE = "pseudolabel"


class PseudolabelSettings(StageSettings):
    """Windows step by ``sam_stride`` where SAM labels, by ``stride`` where a segmenter does."""

    later_fields: ClassVar[Mapping[str, Any]] = {"sam_stride": None, "stride": None}

    split: SplitSettings
    patch: Size
    sam_stride: Size | None = None
    stride: Size | None = None

    @property
    def window_stride(self) -> Size:
        """The stride of the windows, voxels."""
        stride = self.sam_stride or self.stride
        assert stride is not None
        return stride


def asked(cell: Chosen) -> Asked:
    """Labels by the fine-tuned SAM (eq. 3)."""
    data = cell.dataset
    settings = PseudolabelSettings(split=with_unlabelled(data), patch=data.patch, sam_stride=sam_stride(data))
    inputs = {"prepare": "prepare", "finetune": "finetune"}
    return Asked(settings, inputs, gets=SAM)


def by_segmenter(cell: Chosen) -> Asked:
    """Labels by the cell's re-trained segmenter, for self-training."""
    data = cell.dataset
    settings = PseudolabelSettings(split=with_unlabelled(data), patch=data.patch, stride=data.stride)
    return Asked(settings, {"prepare": "prepare", "retrain": "retrain"}, gets=("backbone",))


def joins(cell: Chosen, nodes: Mapping[str, Link]) -> Mapping[str, Asked]:
    return {STAGE: asked(cell)} if "finetune" in cell.components and cell.pseudo == "offline" else {}


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=PseudolabelSettings,
    inputs={"prepare": ("prepare",), "finetune": ("finetune",)},
    round_inputs={"retrain": ("retrain",)},
    joins=joins,
    needs=Needs(accelerator=True, network=True, cores=4, memory="medium"),
)
