"""pseudolabel: every unlabelled training case is labelled once, offline, by SAM or by a segmenter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from sfrbench.stages.cost import Costed, Work, whole_volumes
from sfrbench.stages.finetune.recipe import unchanged
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


def cost(node: Costed) -> Work | None:
    """A probability of two bytes for each voxel and foreground class. Labels of a SAM that a round has left
    as it was are those of before, and take nothing."""
    told, data = cast(PseudolabelSettings, node.settings), node.extent
    have = node.counts(told.split)
    if have is None or data is None:
        return None
    by_sam = "finetune" in node.inputs
    if by_sam and unchanged(node.inputs["finetune"].selector):
        return Work(0.0, 0.0, 0)
    by = node.by_sam if by_sam else node.by_segmenter
    precision = node.precision("foundation" if by_sam else "backbone")
    each, bytes_each = by(told.patch, told.window_stride), 2 * (data.classes - 1)
    return whole_volumes(have.unlabelled, data, each, bytes_each, precision)


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=PseudolabelSettings,
    inputs={"prepare": ("prepare",), "finetune": ("finetune",)},
    round_inputs={"retrain": ("retrain",)},
    joins=joins,
    needs=Needs(accelerator=True, network=True, cores=4, memory="medium"),
    cost=cost,
)
