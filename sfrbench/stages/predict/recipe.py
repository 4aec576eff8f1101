"""predict: label maps of test or validation cases, by a re-trained 3D segmenter or the fine-tuned SAM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, cast

from sfrbench.components.base import Protocol
from sfrbench.components.core import Precision
from sfrbench.stages.cost import Costed, Work, whole_volumes
from sfrbench.stages.recipe import SAM, Asked, Chosen, Fault, Link, Needs, Recipe, Score
from sfrbench.stages.settings import Size, SplitSettings, StageSettings, half, sam_stride

STAGE = "predict"
#: Fields of the protocol that say how windows are laid and put together.
MANNER = ("windows", "window_weights", "window_mean", "mirror")


class PredictSettings(StageSettings):
    """``stride`` and ``checkpoint`` are given for a segmenter, ``sam_stride`` for the fine-tuned SAM. With
    ``precision`` the network predicts in another one than it was trained in."""

    later_fields: ClassVar[Mapping[str, Any]] = {
        **dict.fromkeys(("stride", "checkpoint", "sam_stride", "precision")),
        **{name: Protocol.later_fields[name] for name in MANNER},
    }

    split: SplitSettings
    subset: Score
    patch: Size
    model_stage: Literal["retrain", "finetune"]  # the stage that trained the model
    stride: Size | None = None
    checkpoint: Literal["last", "best_val"] | None = None
    sam_stride: Size | None = None
    precision: Precision | None = None
    windows: Literal["stride", "half"] = "stride"  # these four as in ``Protocol``
    window_weights: Literal["uniform", "gaussian"] = "uniform"
    window_mean: Literal["probabilities", "logits"] = "probabilities"
    mirror: Literal["none", "all"] = "none"

    @property
    def by_sam(self) -> bool:
        """Whether the fine-tuned SAM predicts, and no 3D segmenter."""
        return self.model_stage == "finetune"

    @property
    def window_stride(self) -> Size:
        """The stride of the windows, voxels."""
        stride = self.sam_stride if self.by_sam else self.stride
        assert stride is not None
        return stride


def asked(cell: Chosen) -> Asked:
    data, protocol = cell.dataset, cell.protocol
    # test cases do not depend on the labelled ones; validation cases only on how many there are
    split = SplitSettings(max_test=data.max_test) if cell.score == "test" else SplitSettings(val=data.val)
    manner: Mapping[str, Any] = {name: getattr(protocol, name) for name in MANNER}
    by_half = half(data.patch) if protocol.windows == "half" else None
    if "retrain" in cell.stages:
        settings = PredictSettings(
            split=split,
            subset=cell.score,
            patch=data.patch,
            model_stage="retrain",
            stride=by_half or protocol.stride or data.stride,
            checkpoint=protocol.checkpoint,
            precision=protocol.precision,
            **manner,
        )
        inputs = {"prepare": "prepare", "model": "retrain"}
        return Asked(settings, inputs, gets=("backbone", "protocol"))
    settings = PredictSettings(
        split=split,
        subset=cell.score,
        patch=data.patch,
        model_stage="finetune",
        sam_stride=by_half or protocol.sam_stride or sam_stride(data),
        precision=protocol.precision,
        **{**manner, "window_mean": "probabilities"},
    )
    inputs = {"prepare": "prepare", "model": "finetune"}
    return Asked(settings, inputs, gets=(*SAM, "protocol"))


def joins(cell: Chosen, nodes: Mapping[str, Link]) -> Mapping[str, Asked]:
    return {STAGE: asked(cell)} if STAGE in cell.stages else {}


def faults(cell: Chosen) -> Iterator[Fault]:
    """Nothing that could predict."""
    if STAGE in cell.stages and not {"retrain", "finetune"} & set(cell.stages):
        yield (
            f"no stage here trains a model that stage {STAGE} could use",
            "add retrain or finetune to 'stages'",
        )


def cost(node: Costed) -> Work | None:
    """A label of one byte for each voxel."""
    told, data = cast(PredictSettings, node.settings), node.extent
    have = node.counts(told.split)
    if have is None or data is None:
        return None
    cases = have.test if told.subset == "test" else have.val
    by = node.by_sam if told.by_sam else node.by_segmenter
    precision = told.precision or node.precision("foundation" if told.by_sam else "backbone")
    each = by(told.patch, told.window_stride)
    if each is not None and told.mirror == "all":
        each *= 8
    return whole_volumes(cases, data, each, 1, precision)


RECIPE = Recipe(
    STAGE,
    version=1,
    settings=PredictSettings,
    inputs={"prepare": ("prepare",), "model": ("retrain", "finetune")},
    joins=joins,
    faults=faults,
    needs=Needs(accelerator=True, network=True, cores=4, memory="medium"),
    cost=cost,
    named="by default",
)
