"""pseudolabel: unlabelled training cases are labelled once, offline, by SAM or by a segmenter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, cast

from pydantic import Field

from sfrbench.components.base import Selector, Ssl
from sfrbench.stages.cost import Costed, Work, labelled_share, whole_volumes
from sfrbench.stages.finetune.recipe import unchanged
from sfrbench.stages.recipe import SAM, Asked, Chosen, Link, Needs, Recipe
from sfrbench.stages.settings import Size, SplitSettings, StageSettings, sam_stride, with_unlabelled

STAGE = "pseudolabel"


class PseudolabelSettings(StageSettings):
    """Windows step by ``sam_stride`` where SAM labels, by ``stride`` where a segmenter does, or are as few as
    cover a volume.

    Probabilities were once kept for all methods. Labels are what a method that uses them hard made of them,
    to the bit, so that artefacts of then are as good as those of now.
    """

    later_fields: ClassVar[Mapping[str, Any]] = {
        "sam_stride": None,
        "stride": None,
        "windows": "overlapping",
        "keep": "labels",
    }

    split: SplitSettings
    patch: Size
    sam_stride: Size | None = None
    stride: Size | None = None
    windows: Literal["overlapping", "fewest"] = Field(
        "overlapping", description="as ``Dataset.label_windows``"
    )
    keep: Literal["labels", "probabilities"] = Field("labels", description="what of each voxel is stored")

    @property
    def window_stride(self) -> Size | None:
        """The stride of the windows, voxels; none: as few windows as cover the volume."""
        if self.windows == "fewest":
            return None
        stride = self.sam_stride or self.stride
        assert stride is not None
        return stride


def asked(cell: Chosen, *, in_round: bool = False) -> Asked:
    """Labels by the fine-tuned SAM (eq. 3), of every unlabelled case; ``in_round`` of SFR+ of those that its
    re-training reads, where the selector leaves out others."""
    data = cell.dataset
    overlapping = data.label_windows == "overlapping"
    settings = PseudolabelSettings(
        split=with_unlabelled(data),
        patch=data.patch,
        sam_stride=sam_stride(data) if overlapping else None,
        windows=data.label_windows,
        keep=_kept(cell),
    )
    inputs = {"prepare": "prepare", "finetune": "finetune"}
    if not in_round or cast(Selector, cell.components["selector"]).labels_all:
        return Asked(settings, inputs, gets=SAM)
    keyed = {"selector": cast(Selector, cell.components["selector"]).round_fields}
    return Asked(settings, {**inputs, "select": "select"}, keyed, gets=SAM)


def by_segmenter(cell: Chosen) -> Asked:
    """Labels by the cell's re-trained segmenter, for self-training."""
    data = cell.dataset
    settings = PseudolabelSettings(
        split=with_unlabelled(data), patch=data.patch, stride=data.stride, keep=_kept(cell)
    )
    return Asked(settings, {"prepare": "prepare", "retrain": "retrain"}, gets=("backbone",))


def _kept(cell: Chosen) -> Literal["labels", "probabilities"]:
    """Probabilities for a method that is trained on them; all others, and scores, take labels."""
    soft = "ssl" in cell.components and cast(Ssl, cell.components["ssl"]).pseudo_labels == "soft"
    return "probabilities" if soft else "labels"


def joins(cell: Chosen, nodes: Mapping[str, Link]) -> Mapping[str, Asked]:
    return {STAGE: asked(cell)} if "finetune" in cell.components and cell.pseudo == "offline" else {}


def cost(node: Costed) -> Work | None:
    """A label of one byte for each voxel, or a probability of two for each foreground class. Labels of a SAM
    that a round has left as it was are those of before, and take nothing. Where only a threshold will tell
    how many cases a round labels, it is at most all."""
    told, data = cast(PseudolabelSettings, node.settings), node.extent
    have = node.counts(told.split)
    if have is None or data is None:
        return None
    by_sam = "finetune" in node.inputs
    if by_sam and unchanged(node.inputs["finetune"].selector):
        return Work(0.0, 0.0, 0)
    share = labelled_share(node.components.get("selector"))
    by = node.by_sam if by_sam else node.by_segmenter
    precision = node.precision("foundation" if by_sam else "backbone")
    each, kept = by(told.patch, told.window_stride), 1 if told.keep == "labels" else 2 * (data.classes - 1)
    cases = have.unlabelled if share is None else round(share * have.unlabelled)
    return replace(whole_volumes(cases, data, each, kept, precision), at_most=share is None)


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=PseudolabelSettings,
    inputs={"prepare": ("prepare",), "finetune": ("finetune",)},
    round_inputs={"retrain": ("retrain",), "select": ("select",)},
    joins=joins,
    needs=Needs(accelerator=True, network=True, cores=4, memory="medium"),
    cost=cost,
)
