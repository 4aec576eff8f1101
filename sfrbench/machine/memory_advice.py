"""What to do where a GPU's memory does not suffice: which fields help, and how much each leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sfrbench.components.base import Backbone, Component, Finetune, Foundation, Ssl, Stitch
from sfrbench.errors import SfrbenchError
from sfrbench.stages.settings import CropSettings, StageSettings

Parts = Mapping[str, Component]
#: Bytes that a training takes with these components at most.
Count = Callable[[Parts], int]
_GB = 2**30
_SAME = "the same numbers and keys, more time"
_OTHER = "other numbers, another key"


class GpuMemoryError(SfrbenchError):
    """The memory of a GPU does not suffice for a node."""


@dataclass(frozen=True)
class Way:
    """Fields of a component that make a training smaller, and their price."""

    kind: str
    fields: Mapping[str, Any]
    price: str

    def taken(self, parts: Parts) -> Parts | None:
        """The components with these fields; none where there are no such fields or nothing changes."""
        part = parts.get(self.kind)
        have = {name: getattr(part, name, None) for name in self.fields}
        if part is None or None in have.values() or have == self.fields:
            return None
        return {**parts, self.kind: part.model_copy(update=dict(self.fields))}

    def __str__(self) -> str:
        return " ".join(f"--set {self.kind}.{name}={str(v).lower()}" for name, v in self.fields.items())


#: For the stages that train or prompt, the cheapest first.
WAYS = {
    "finetune": (
        Way("foundation", {"checkpointing": True}, _SAME),
        Way("foundation", {"precision": "bf16"}, _OTHER),
        Way("finetune", {"batch": 1}, _OTHER),
    ),
    "retrain": (
        Way("backbone", {"checkpointing": True}, _SAME),
        Way("backbone", {"precision": "bf16"}, _OTHER),
        Way("ssl", {"batch_labeled": 1, "batch_unlabeled": 1}, _OTHER),
    ),
    "interact": (Way("foundation", {"precision": "bf16"}, _OTHER),),
}


def advice(stage: str, parts: Parts, total: int, count: Count | None) -> GpuMemoryError:
    """The error to show. ``total``: bytes of the GPU; ``count``: none where it is not known what is taken."""

    def known(those: Parts) -> int | None:
        try:
            return None if count is None else count(those)
        except Exception:  # a component of the user's that cannot be counted; the message goes without
            return None

    now = known(parts)
    what = f"the GPU's memory of {total / _GB:.1f} GB does not suffice for {stage}"
    if now is not None:
        what += f", which takes about {now / _GB:.1f} GB and what CUDA itself needs"
    lines = []
    for way in WAYS.get(stage, ()):
        other = way.taken(parts)
        left = None if other is None or now is None else known(other)
        if left is not None and now is not None:
            lines.append(f"{way}: {left / _GB:.1f} GB, {(now - left) / _GB:.1f} less; {way.price}")
        elif other is not None:
            lines.append(f"{way}: {way.price}")
    lines.append("or a card that nothing else uses (see nvidia-smi), or a larger one")
    return GpuMemoryError(what, hint="\n    ".join(lines))


def counter(stage: str, settings: StageSettings, classes: int) -> Count | None:
    """How the bytes of a training are counted; none for a stage that trains nothing."""
    if not isinstance(settings, CropSettings) or stage not in WAYS:
        return None
    patch, pseudo = settings.patch, getattr(settings, "pseudo", "none") != "none"

    def count(parts: Parts) -> int:
        from sfrbench.machine import training_memory

        if stage == "finetune":
            foundation, finetune = cast(Foundation, parts["foundation"]), cast(Finetune, parts["finetune"])
            canvases = cast(Stitch, parts["stitch"]).canvas_count(patch, foundation.canvas) or 1
            return training_memory.fine_tuning(foundation, finetune, classes, canvases)
        ssl, backbone = cast(Ssl, parts["ssl"]), cast(Backbone, parts["backbone"])
        return training_memory.retraining(ssl, backbone, classes, patch, pseudo=pseudo)

    return count
