"""What every component is: a frozen group of fields with a version, and the fields of an optimiser."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticKnownError

PACKAGE = __name__.partition(".")[0]
#: What a network computes in. ``fp32``: float32, and TF32 nowhere. ``tf32``: products and
#: convolutions in TF32, on a card that has it; elsewhere it is fp32, to the bit. ``bf16``: autocast, and what
#: that leaves in float32 is as in fp32.
Precision = Literal["fp32", "tf32", "bf16"]
PRECISION = "of forward and backward passes: float32, TF32 on a GPU that has it, or bf16 by autocast"
#: How images are brought onto a foundation's input scale.
Norm = Literal["zscore", "unit", "minmax"]
NORM = (
    "input scale: 'zscore' per volume (the authors' recipe), 'unit' for [0, 1] by the volume's percentiles, "
    "'minmax' for [0, 1] by these and then by each canvas's own darkest and brightest pixel (MedSAM's)"
)
#: What 'minmax' makes of the darkest voxel before a canvas is stitched: padding alone is 0 there.
FLOOR = 1e-3
#: What of a network ``torch.compile`` turns into code of its own.
Compile = Literal["none", "blocks"]
COMPILE = (
    "'blocks': the transformer's blocks run through torch.compile, which takes a minute or more at the start "
    "of each node: another key, for other last digits"
)
#: What a method may ask of a backbone's network beside logits (see ``backbone/interface.py``).
Part = Literal["parts", "scales", "decoder", "upsampling", "sizes"]
#: What is said of a network that lacks it.
LACKING: Mapping[Part, str] = {
    "parts": "it cannot be taken apart into encoder, decoder and head",
    "scales": "it does not give the maps of its coarser decoder levels",
    "decoder": "its decoder does not stand alone",
    "upsampling": "its upsampling is more than a transposed convolution that another layer can stand for",
    "sizes": "it takes patches of the training's size alone",
}
#: All that a method may ask for.
ALL_PARTS: frozenset[Part] = frozenset(LACKING)
KINDS = (
    "dataset",
    "stitch",
    "foundation",
    "finetune",
    "backbone",
    "ssl",
    "selector",
    "prompter",
    "protocol",
)


class Settings(BaseModel):
    """A frozen group of fields; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    #: Fields added later, each with the value that means the old behaviour; left out of keys at that value.
    later_fields: ClassVar[Mapping[str, Any]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """``true`` is not 1 and ``"4"`` not 4, which pydantic takes them for."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        wanted = _number_wanted(annotation, value)
        if wanted is not None:
            raise PydanticKnownError("int_type" if wanted is int else "float_type")
        return value

    def without_later(self, fields: dict[str, Any]) -> dict[str, Any]:
        """``fields`` (this group's, JSON types) less those that mean the old behaviour, nested ones too."""
        kept = {name: value for name, value in fields.items() if not self._means_old(name, value)}
        inner = {name: value for name, value in self if name in kept and isinstance(value, Settings)}
        return {**kept, **{name: group.without_later(kept[name]) for name, group in inner.items()}}

    def _means_old(self, name: str, value: Any) -> bool:
        return name in self.later_fields and value == self.later_fields[name]


def _number_wanted(annotation: Any, value: Any) -> type | None:
    """``int`` or ``float``, where the annotation asks for one, here or in a list, and the value is a boolean
    or text; None if it may be that, or is a number."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    origin, inner = get_origin(annotation), get_args(annotation)
    if isinstance(value, (list, tuple)):
        if origin in (Union, UnionType):
            found = [_number_wanted(one, value) for one in inner if get_origin(one) in (list, tuple)]
            return found[0] if len(found) == 1 else None
        if origin not in (list, tuple):
            return None
        kinds = inner[:1] * len(value) if origin is list or inner[1:] == (...,) else inner
        return next((one for one in map(_number_wanted, kinds, value) if one is not None), None)
    if not isinstance(value, (bool, str)):
        return None
    plain = set(inner) if origin in (Union, UnionType) else {annotation}
    literals = [choice for one in plain if get_origin(one) is Literal for choice in get_args(one)]
    if Any in plain or type(value) in plain or type(value) in map(type, literals):
        return None
    return next((kind for kind in (float, int) if kind in plain), None)


class Component(Settings):
    """Settings plus behaviour. ``version`` is raised when the behaviour changes."""

    #: What it is, one of ``KINDS``; the base class of each kind says it.
    kind: ClassVar[str]
    version: ClassVar[int] = 1
    #: Components that a profile may replace by one stand-in, which runs their own code; "": of none.
    family: ClassVar[str] = ""
    #: Fields that belong to the component that is chosen, such as weights of its own; a stand-in has none.
    own_fields: ClassVar[frozenset[str]] = frozenset()
    #: Fields that cannot change a result, such as the time between checkpoints; never part of a key.
    unkeyed_fields: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def identity(cls) -> str:
        """How keys, records and exports call the class: ``kind/Name`` where it is ours, so that its file may
        move, and ``module:Name`` where it comes from outside.

        A class of ours that is renamed keeps its old name there by ``known_as = "OldName"`` in its body.
        """
        if cls.__module__.partition(".")[0] == PACKAGE:
            return f"{cls.kind}/{vars(cls).get('known_as', cls.__name__)}"
        return f"{cls.__module__}:{cls.__qualname__}"

    @classmethod
    def code_file(cls) -> Path | None:
        """The file of a class from outside; none for ours, whose versions the tests watch, or without one."""
        if cls.__module__.partition(".")[0] == PACKAGE:
            return None
        name = getattr(sys.modules.get(cls.__module__), "__file__", None)
        return Path(name) if name else None

    def key_settings(self) -> dict[str, Any]:
        """What a node's key holds of this component: class, version and every field (JSON types)."""
        cls = type(self)
        fields = self.without_later(self.model_dump(mode="json", exclude=set(cls.unkeyed_fields)))
        return {"class": cls.identity(), "version": cls.version, **fields}

    def settled(self, cell: Mapping[str, Component]) -> Component:
        """The same with what it takes from the others of a cell (kind -> component) written into its fields:
        what runs, and what stands in keys, is the result. Fields that cannot be filled stay as they are, and
        ``conflicts`` says why."""
        return self

    def check_installed(self) -> None:
        """Raises ``NotReadyError`` where a package of an extra is missing that it needs. Imports nothing."""

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        """Why this component cannot work with the others of a cell (kind -> component); empty: it can."""
        return []


class Optim(Settings):
    """Optimiser and learning-rate schedule, shared by fine-tuning and re-training."""

    later_fields: ClassVar[Mapping[str, Any]] = {"step_from": 0, "nesterov": False, "hold": 1}

    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(0.01, gt=0, le=1, description="initial learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD only")
    nesterov: bool = Field(False, description="SGD only: Nesterov's momentum")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam and AdamW only")
    weight_decay: float = Field(1e-4, ge=0, le=1)
    schedule: Literal["constant", "step", "poly", "cosine"] = "step"
    step_every: int = Field(2500, ge=1, description="'step': steps between decays")
    step_from: int = Field(0, ge=0, description="'step': the step from which decays are counted")
    gamma: float = Field(0.1, gt=0, le=1, description="'step': factor of each decay")
    power: float = Field(0.9, gt=0, description="'poly': exponent of (1 - t/T)")
    hold: int = Field(
        1, ge=1, description="'poly' and 'cosine': steps for which a rate is held (nnU-Net: an epoch of 250)"
    )
    warmup: int = Field(0, ge=0, description="linear warm-up, in steps")
    clip: float | None = Field(None, gt=0, description="largest gradient norm; none: no clipping")

    @field_validator("betas")
    @classmethod
    def _decays(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"both must be 0 or more and below 1, got {list(betas)}")
        return betas

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Optim:
        if self.nesterov and self.optimiser == "sgd" and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    def lr_at(self, step: int, total: int) -> float:
        """Learning rate of step ``step`` (0-based) of ``total``."""
        import math

        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "step":
            return float(self.lr * self.gamma ** (max(step - self.step_from, 0) // self.step_every))
        since = step - self.warmup
        done = (since - since % self.hold) / max(total - self.warmup, 1)
        if self.schedule == "poly":
            return float(self.lr * (1 - done) ** self.power)
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * done))
        return self.lr
