"""The interface of protocols: the rules that make numbers comparable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from sfrbench.components.base_data import Dataset
from sfrbench.components.core import Component, Precision


class Protocol(Component):
    """The rules that make numbers comparable. ``predict`` reads the first group, ``evaluate`` the second."""

    kind: ClassVar[str] = "protocol"

    predict_fields: ClassVar[frozenset[str]] = frozenset(
        {
            "checkpoint",
            "stride",
            "sam_stride",
            "precision",
            "windows",
            "window_weights",
            "window_mean",
            "mirror",
        }
    )
    later_fields: ClassVar[Mapping[str, Any]] = {
        "precision": None,
        "windows": "stride",
        "window_weights": "uniform",
        "window_mean": "probabilities",
        "mirror": "none",
        "dice": "volume",
        "dice_thresholds": [0.1, 0.3, 0.5, 0.7, 0.9],
        "dice_slices": "labelled",
    }

    checkpoint: Literal["last", "best_val"] = "last"
    stride: tuple[int, int, int] | None = Field(None, description="window stride; none: the dataset's")
    sam_stride: tuple[int, int, int] | None = Field(None, description="the same for the fine-tuned SAM")
    precision: Precision | None = Field(
        None, description="of predictions: fp32, tf32 or bf16; none: as the model was trained"
    )
    windows: Literal["stride", "half"] = Field(
        "stride", description="'half': spread evenly, at most half the patch apart, as in nnU-Net"
    )
    window_weights: Literal["uniform", "gaussian"] = Field(
        "uniform", description="of voxels in a window; 'gaussian': sigma an eighth of its side, as in nnU-Net"
    )
    window_mean: Literal["probabilities", "logits"] = Field(
        "probabilities", description="what windows are averaged as; SAM's are always probabilities"
    )
    mirror: Literal["none", "all"] = Field(
        "none",
        description="'all': each window also mirrored along all axes, 8 passes; for networks that were "
        "trained so, and only where 'dataset.rot_flip' allows it",
    )

    largest_component: bool = Field(False, description="keep each class's largest 26-connected component")
    spacing: Literal["voxel", "mm"] = Field("voxel", description="unit of surface distances")
    empty: Literal["paper_zero", "skip", "worst"] = Field(
        "worst",
        description="a class empty in prediction or truth: 0 for all, left out, or the image diagonal",
    )
    absent: Literal["score", "skip"] = Field(
        "skip", description="class absent from truth: scored or left out"
    )
    asd: Literal["pred_to_gt", "gt_to_pred"] = Field("pred_to_gt", description="direction of ASD")
    nsd_tolerance: float = Field(1.0, gt=0, description="NSD tolerance, in the spacing unit")
    dice: Literal["volume", "slice_mean"] = Field(
        "volume",
        description="'volume': of a class's voxels; 'slice_mean': a mean over slices and thresholds on the "
        "logits of each object by itself, 1 where slice and object are empty (Medical SAM 2); for stage "
        "'interact' alone, which keeps what it needs",
    )
    dice_thresholds: tuple[float, ...] = Field(
        (0.1, 0.3, 0.5, 0.7, 0.9), min_length=1, max_length=255, description="'slice_mean': on logits"
    )
    dice_slices: Literal["labelled", "first_quarter"] = Field(
        "labelled",
        description="'slice_mean': from the first to the last slice that holds any class, or a quarter of "
        "these, from the first",
    )

    @field_validator("dice_thresholds")
    @classmethod
    def _ascend(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if list(thresholds) != sorted(set(thresholds)) or thresholds[0] < 0:
            raise ValueError(f"they must ascend from 0 or more, got {list(thresholds)}")
        return thresholds

    @model_validator(mode="after")
    def _one_stride(self) -> Protocol:
        if self.windows == "half" and (self.stride or self.sam_stride):
            raise ValueError("windows 'half' sets the strides: leave out stride and sam_stride")
        return self

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        """Mirrored windows of anatomy that must not be mirrored."""
        dataset = cell.get("dataset")
        if self.mirror == "all" and isinstance(dataset, Dataset) and not dataset.rot_flip:
            return ["mirror is 'all', and the dataset must not be mirrored (rot_flip false): set it to none"]
        return []

    @property
    def logit_thresholds(self) -> tuple[float, ...] | None:
        """The thresholds on logits that scoring asks for; none: label maps are enough."""
        return self.dice_thresholds if self.dice == "slice_mean" else None
