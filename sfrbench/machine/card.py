"""The GPU that networks run on: what decides its numbers, and the precisions it must not be asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sfrbench.components.core import Precision
from sfrbench.errors import Problem
from sfrbench.machine import accelerator
from sfrbench.machine.accelerator import Answer

#: cuDNN from 9.8 up to 9.14 computes 3D convolutions of bf16 wrongly (pytorch#163539; fixed in 9.15). Torch
#: goes around it since 2.9, by kernels without cuDNN (pytorch#163581, pytorch#166643).
WRONG_3D = range(90800, 91500)
GOES_AROUND = (2, 9)
#: The first compute capability with bf16 and TF32 (Ampere). Older cards take bf16 and emulate it.
AMPERE = (8, 0)


@dataclass(frozen=True)
class Card:
    """``cudnn`` as torch tells it: 91002 is 9.10.2; none: torch has no cuDNN. Of AMD's cards the numbers mean
    something else, so that only the self-check judges them."""

    name: str
    capability: tuple[int, int]
    torch: str
    cudnn: int | None
    rocm: bool = False

    @property
    def has_tf32(self) -> bool:
        """Whether ``tf32`` differs from ``fp32`` on it, as far as its generation says."""
        return self.rocm or self.capability >= AMPERE

    @property
    def facts(self) -> dict[str, str]:
        """For records, and for what was found on it before."""
        major, minor = self.capability
        cudnn = "none" if self.cudnn is None else dotted(self.cudnn)
        return {"card": self.name, "capability": f"{major}.{minor}", "torch": self.torch, "cudnn": cudnn}


def cards_of(answer: Answer) -> list[Card]:
    """What torch has said of the GPUs here, in torch's order."""
    rocm = answer.build == "rocm"
    return [Card(one.name, one.capability, answer.torch, answer.cudnn, rocm) for one in answer.cards]


def card_of(device: str) -> Card | None:
    """The GPU behind a name of torch's such as ``cuda:1``; none for other devices. Imports torch."""
    if not device.startswith("cuda"):
        return None
    answer = accelerator.read()
    seen = answer.card(device)
    return None if seen is None else cards_of(answer)[seen.index]


def refusal(card: Card, precision: Precision, where: str, *, in_3d: bool) -> Problem | None:
    """Why a card must not be asked for ``precision`` by the field ``where``; none: nothing is known against
    it. ``in_3d``: for a network with 3D convolutions."""
    if card.rocm:
        return None
    major, minor = card.capability
    if precision == "bf16" and card.capability < AMPERE:
        what = (
            f"{card.name} (compute capability {major}.{minor}) has no bf16 and emulates it, slower than fp32"
        )
        return Problem(where, what, f"set {where} to fp32; bf16 and tf32 begin with compute capability 8.0")
    if precision == "bf16" and in_3d and card.cudnn is not None and card.cudnn in WRONG_3D:
        what = f"cuDNN {dotted(card.cudnn)} computes 3D convolutions in bf16 wrongly, as 9.8 to 9.14 do"
        if version(card.torch) >= GOES_AROUND:
            what += f"; torch {card.torch} goes around it, by kernels that are slow and take much memory"
        newer = "install cuDNN 9.15 or later (package nvidia-cudnn-cu12, or -cu13)"
        return Problem(where, what, f"set {where} to tf32, or {newer}")
    if precision == "tf32" and card.has_tf32 and os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        what = "NVIDIA_TF32_OVERRIDE=0 turns TF32 off in NVIDIA's libraries, and tf32 is asked for"
        return Problem(where, what, f"unset the variable, or set {where} to fp32")
    return None


def dotted(cudnn: int) -> str:
    """91002 as 9.10.2, and 8902 as 8.9.2."""
    unit = 10_000 if cudnn >= 90_000 else 1000
    return f"{cudnn // unit}.{cudnn % unit // 100}.{cudnn % 100}"


def version(torch: str) -> tuple[int, int]:
    """2.13.0+cu130 as (2, 13)."""
    major, minor = torch.split(".")[:2]
    return int(major), int(minor)
