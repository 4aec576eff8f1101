"""What every component is: frozen settings with behaviour, and the interface of each kind.

A module that defines a component never imports torch at its top: planning and reporting read the
fields of components on machines without a GPU, in milliseconds. Networks stand in neighbouring modules
(``_*.py``) that a method imports when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sfrbench.components.backbone._multiples import misfit
from sfrbench.components.base_data import Case, Dataset, Stitch
from sfrbench.components.base_prompts import Form, Prompter
from sfrbench.components.base_protocol import Protocol
from sfrbench.components.base_ssl import Ssl
from sfrbench.components.core import (
    COMPILE,
    FLOOR,
    KINDS,
    LACKING,
    NORM,
    PRECISION,
    Compile,
    Component,
    Norm,
    Optim,
    Part,
    Precision,
    Settings,
)
from sfrbench.errors import NotReadyError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sfrbench.components.costs.parts import Sam, Segmenter, Size, Tuned
    from sfrbench.components.foundation.prompted import PromptedModel
    from sfrbench.components.foundation.segmenter import SamSegmenter

__all__ = [
    "COMPILE",
    "KINDS",
    "NORM",
    "PRECISION",
    "VIT",
    "Backbone",
    "Case",
    "Compile",
    "Component",
    "Dataset",
    "Finetune",
    "Foundation",
    "Norm",
    "Optim",
    "Part",
    "Precision",
    "Prompter",
    "Protocol",
    "Selector",
    "Settings",
    "Ssl",
    "Stitch",
]


#: The image encoder that most fine-tunings are defined for.
VIT = "segment-anything's ViT"


class Foundation(Component):
    """A model of the SAM family: with a semantic head (K mask tokens, no prompts), with prompts, or both."""

    kind: ClassVar[str] = "foundation"

    family: ClassVar[str] = "sam"
    #: Whether it can be given a semantic head and be fine-tuned.
    semantic: ClassVar[bool] = True
    #: What it understands of what a user says; empty: it takes no prompts.
    takes: ClassVar[frozenset[Form]] = frozenset()
    #: A voxel that two objects claim: that of the larger logit, or of the later class.
    overlap: ClassVar[Literal["larger", "later"]] = "larger"
    #: What its image encoder is, for fine-tunings that are defined for some.
    image_encoder: ClassVar[str] = VIT
    #: Whether its network has 3D convolutions, which some versions of cuDNN compute wrongly in bf16.
    in_3d: ClassVar[bool] = False

    canvas: int = Field(1024, ge=32, le=2048, multiple_of=16, description="side of the square input, pixels")
    norm: Norm = Field("zscore", description=NORM)
    precision: Precision = Field("fp32", description=PRECISION)

    @property
    def weights(self) -> str | None:
        """Weight file as ``sfrbench weights`` knows it; None for models that bring their own numbers."""
        return None

    def check_weights(self) -> None:
        """Raises ``NotReadyError`` where its weight file is known to be of another network. Reads no
        weights."""

    def required(self, weights: Path | None) -> Path:
        """``weights``, or ``NotReadyError``: a pretrained model never starts from random numbers."""
        if weights is None:
            name = str(self.weights).partition("@")[0]
            raise NotReadyError(f"'{name}' has no weight file here", hint=f"sfrbench weights get {name}")
        return weights

    def build(self, classes: int, weights: Path | None) -> SamSegmenter:
        """The pretrained model with a freshly initialised head of ``classes`` mask tokens."""
        raise NotImplementedError

    def untrained(self, classes: int) -> SamSegmenter:
        """The model of ``build`` with random numbers, for what depends on shapes alone."""
        raise NotImplementedError

    @property
    def given_extent(self) -> bool:
        """Whether it is shown the box around the object's truth, beyond what the user says."""
        return False

    def prompted(self, weights: Path | None) -> PromptedModel:
        """The pretrained model with its own prompt encoder, in evaluation mode, on the CPU."""
        raise NotImplementedError

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        """A fine-tuning that it cannot have, and prompts that it does not understand."""
        faults = []
        if "finetune" in cell and not self.semantic:
            faults.append("it segments from prompts only and cannot be fine-tuned here")
        if isinstance(prompter := cell.get("prompter"), Prompter):
            missing = sorted(prompter.forms - self.takes)
            if not self.takes:
                faults.append("it takes no prompts")
            elif missing:
                faults.append(
                    f"it takes {', '.join(sorted(self.takes))}; not understood: {', '.join(missing)}"
                )
        return faults

    def cost(self, classes: int) -> Sam | None:
        """What the model of ``build`` costs for one canvas; none: not stated."""
        return None

    def normalise(self, image: torch.Tensor, value_range: tuple[float, float]) -> torch.Tensor:
        """Scale a z-scored image; ``value_range`` holds its 0.5 and 99.5 percentiles over the volume.

        With 'minmax' to [``FLOOR``, 1]: the model itself brings each canvas to [0, 1], see
        ``SamSegmenter.per_canvas``.
        """
        if self.norm == "zscore":
            return image
        low, high = value_range
        unit = ((image - low) / max(high - low, 1e-6)).clamp(0, 1)
        return FLOOR + (1 - FLOOR) * unit if self.norm == "minmax" else unit


class Finetune(Component):
    """How a foundation model is adapted. ``attach`` decides which parameters train."""

    kind: ClassVar[str] = "finetune"

    unkeyed_fields: ClassVar[frozenset[str]] = frozenset({"checkpoint_every"})
    later_fields: ClassVar[Mapping[str, Any]] = {"loss_on": "full", "short_batch": "repeat"}
    #: Whether the model takes the canvases of one patch together, in order: one slice on each, as one volume.
    #: Training then sees all canvases of a patch, and ``batch`` counts patches.
    volumetric: ClassVar[bool] = False
    #: The image encoders that it is defined for, as foundations call theirs; empty: any.
    encoders: ClassVar[tuple[str, ...]] = ()

    optim: Optim = Optim(optimiser="adamw", lr=1e-3, weight_decay=0.1, schedule="poly")
    steps: int = Field(6000, ge=1, le=1_000_000)
    batch: int = Field(2, ge=1, description="canvases per step; patches, where the method is volumetric")
    short_batch: Literal["repeat", "shrink"] = Field(
        "repeat",
        description="fewer cases than 'batch' left: 'shrink' draws one crop of each (the authors' loader), "
        "'repeat' leaves them out, and repeats a list that is shorter than that from the start",
    )
    ce_weight: float = Field(0.5, ge=0, le=1, description="cross-entropy weight; Dice gets the rest (eq. 5)")
    dice_ignores_padding: bool = Field(
        True, description="false repeats the authors' Dice over padding pixels"
    )
    intensity_augment: bool = Field(False, description="random gain, offset and gamma of each patch (ours)")
    checkpoint_every: int = Field(500, ge=1, description="steps between resumable checkpoints")
    loss_on: Literal["full", "low_res"] = Field(
        "full", description="logits enlarged to the canvas, or SAM's small map and labels shrunk to it"
    )

    def key_settings(self) -> dict[str, Any]:
        """The fields as for any component, without ``short_batch`` where a batch has one case: it has no
        effect there."""
        settings = super().key_settings()
        if self.batch == 1:
            settings.pop("short_batch", None)
        return settings

    @property
    def fixed_views(self) -> int | None:
        """Views of each labelled case that training repeats, so that the encoder sees each once; none: every
        step draws new crops. Only for a method that leaves the image encoder as it is."""
        return None

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        """An image encoder that it is not defined for."""
        foundation = cell.get("foundation")
        if not self.encoders or not isinstance(foundation, Foundation):
            return []
        if foundation.image_encoder in self.encoders:
            return []
        known = " and ".join(self.encoders)
        return [f"it is defined for {known}; this foundation's image encoder is {foundation.image_encoder}"]

    def attach(self, model: SamSegmenter) -> None:
        """Insert adapters and set ``requires_grad`` on exactly the parameters that train (in place)."""
        raise NotImplementedError

    def merge(self, model: SamSegmenter) -> None:
        """Fold adapters into the weights for inference, where the method allows it (in place)."""

    def cost(self, sam: Sam, canvases: int) -> Tuned | None:
        """What the adapted model costs for one of the ``canvases`` of a patch; none: not stated."""
        return None


class Backbone(Component):
    """A small 3D segmenter: the model that is deployed."""

    kind: ClassVar[str] = "backbone"

    #: What its network has for methods that ask for more than logits; none: that shows when it runs.
    parts: ClassVar[frozenset[Part] | None] = None
    #: Every side of the input must be a multiple of this.
    divisor: ClassVar[int] = 16

    @property
    def multiples(self) -> tuple[int, int, int]:
        """The same along x, y and z, for a network that does not shrink all axes alike."""
        return self.divisor, self.divisor, self.divisor

    @property
    def bottleneck(self) -> int:
        """How many voxels it needs where it is deepest: 2 for an instance norm, for one has no variance."""
        return 1

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        """Refuses a patch that the network cannot halve as often as it does, and a method that needs what
        it does not have."""
        dataset, ssl, faults = cell.get("dataset"), cell.get("ssl"), []
        if isinstance(dataset, Dataset):
            fault = misfit(dataset.patch, self.multiples, self.bottleneck)
            faults += [f"patch {list(dataset.patch)} {fault}"] if fault else []
        if isinstance(ssl, Ssl) and self.parts is not None:
            missing = sorted(ssl.asks() - self.parts)
            faults += [f"{type(ssl).__name__} cannot use it: {LACKING[part]}" for part in missing]
        return faults

    def build(self, classes: int, inputs: int = 1) -> nn.Module:
        """A network from (B, inputs, X, Y, Z) to logits (B, K, X, Y, Z), drawn from torch's global RNG."""
        raise NotImplementedError

    def cost(self, patch: Size, classes: int) -> Segmenter | None:
        """What the network of ``build`` costs for one patch; none: not stated."""
        return None

    def deployed(self) -> Backbone:
        """The backbone in float32 and without what only training uses, the heads of coarser levels; its
        weights are a subset of this one's."""
        fields = {"precision": "fp32", "deep_supervision": False}
        own = type(self).model_fields
        return self.model_copy(update={name: value for name, value in fields.items() if name in own})


class Selector(Component):
    """SFR+: which unlabelled cases update SAM and which it labels, and the rounds that alternate the two.

    Given by the paper: C_j, the mean over voxels of the highest class probability (eq. 8), a threshold, and
    that confident cases update SAM while uncertain ones are pseudo-labelled. Rounds, lengths and rates are
    ours. A subclass says where the threshold is.
    """

    kind: ClassVar[str] = "selector"

    #: Fields that stand in the keys of a round as what they make of finetune, ssl, and the inputs.
    round_fields: ClassVar[frozenset[str]] = frozenset(
        {"rounds", "finetune_steps", "finetune_lr", "retrain_steps", "retrain_lr", "windows", "labels"}
    )

    rounds: int = Field(3, ge=1, le=10, description="rounds after the first training of SAM and segmenter")
    over: Literal["all", "foreground"] = Field(
        "all", description="voxels that C averages: all (eq. 8), or those predicted as foreground"
    )
    unit: Literal["case", "crop"] = Field(
        "case", description="what is confident or not: a whole case, or each crop on its own"
    )
    both: bool = Field(False, description="confident cases are pseudo-labelled as well, as a control")
    windows: Literal["evaluation", "half"] = Field(
        "evaluation",
        description="windows that C is averaged over: evaluation's ('dataset.stride'), or fewer that step by "
        "half the patch (ours)",
    )
    labels: Literal["needed", "all"] = Field(
        "needed",
        description="cases that SAM labels in a round: those whose labels re-training reads, or all, so that "
        "all are scored; trainings are the same",
    )
    finetune_steps: int = Field(1000, ge=1, le=1_000_000, description="steps of SAM's update in a round")
    finetune_lr: float = Field(1e-4, gt=0, le=1, description="learning rate of SAM's update, poly")
    retrain_steps: int = Field(2000, ge=1, le=1_000_000, description="steps of re-training in a round")
    retrain_lr: float = Field(
        0.01,
        gt=0,
        le=1,
        description="constant rate of a round as a share of the method's; 0.01: LA's last",
    )

    def threshold(self, confidences: Sequence[float]) -> float:
        """The confidence from which a case counts as confident, given the confidences of all unlabelled
        cases."""
        raise NotImplementedError

    @property
    def labels_all(self) -> bool:
        """Whether SAM labels every unlabelled case in a round, whatever its confidence. Where crops are
        judged one by one, each case may have some that it labels."""
        return self.both or self.labels == "all" or self.unit == "crop"

    def confident_share(self) -> float | None:
        """The share of cases that will be confident, where that is known before; none: it is not."""
        return None

    def updating(self, finetune: Finetune) -> Finetune:
        """SAM's training in a round: a fresh optimiser, one labelled and one confident canvas a step."""
        optim = finetune.optim.model_copy(
            update={"lr": self.finetune_lr, "schedule": "poly", "power": 0.9, "warmup": 0}
        )
        return finetune.model_copy(update={"steps": self.finetune_steps, "batch": 1, "optim": optim})

    def continuing(self, ssl: Ssl) -> Ssl:
        """The segmenter's training in a round."""
        rate = ssl.optim.lr * self.retrain_lr
        optim = ssl.optim.model_copy(update={"lr": rate, "schedule": "constant", "warmup": 0})
        return ssl.model_copy(update={"steps": self.retrain_steps, "optim": optim})
