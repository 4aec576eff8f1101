"""Which device a forecast is for, and how fast it is where no record says so."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache

from sfrbench.components.core import Precision
from sfrbench.errors import InputError, did_you_mean
from sfrbench.files.units import counted
from sfrbench.machine import accelerator, driver
from sfrbench.machine.needs import Machine, cores

#: Dense peaks in TFLOP/s by NVIDIA's data sheets: fp32, and bf16 with fp32 sums (fp32's where it has none).
CARDS = {
    "RTX 3080": (29.8, 59.5),
    "RTX 3090": (35.6, 71.0),
    "RTX 4070": (29.1, 58.3),
    "RTX 4080": (48.7, 97.5),
    "RTX 4090": (82.6, 165.2),
    "RTX 5090": (104.8, 209.5),
    "RTX A4000": (19.2, 76.7),
    "RTX A5000": (27.8, 111.1),
    "RTX A6000": (38.7, 154.8),
    "RTX 6000 Ada": (91.1, 364.2),
    "T4": (8.1, 8.1),
    "V100": (15.7, 15.7),
    "L4": (30.3, 121.0),
    "L40S": (91.6, 362.0),
    "A10": (31.2, 125.0),
    "A40": (37.4, 149.7),
    "A100": (19.5, 312.0),
    "H100": (66.9, 989.0),
    "H200": (66.9, 989.0),
}
#: The share of a card's peak that training reaches, and that of bf16, whose passes over memory cost more.
SHARE = 0.4
#: The card that a profile for GPUs is forecast for on a machine without one.
USUAL = "RTX 4090"
#: GFLOP/s of one usual core in convolutions and products, fp32 and bf16.
CORE = (40.0, 60.0)


@dataclass(frozen=True)
class Target:
    """A device: ``name`` as records have it, without its number; ``threads`` of a processor."""

    name: str
    threads: int = 1
    here: bool = True  # false: assumed, or asked for

    @property
    def is_gpu(self) -> bool:
        return not self.name.startswith("cpu")

    def flops(self, precision: Precision) -> float | None:
        """FLOP/s that networks are expected to run at; none for a card that is not in the table."""
        if not self.is_gpu:
            return CORE[precision == "bf16"] * 1e9 * self.threads
        card = known_card(self.name)
        return None if card is None else peak(card, precision) * 1e12 * SHARE

    @property
    def told(self) -> str:
        """In words."""
        if not self.is_gpu:
            return f"{counted(self.threads, 'thread')} of this processor"
        return self.name


def peak(card: str, precision: Precision) -> float:
    """TFLOP/s of an entry of ``CARDS``; TF32 has half of bf16's by every data sheet, fp32's without it."""
    fp32, bf16 = CARDS[card]
    return {"fp32": fp32, "tf32": max(fp32, bf16 / 2), "bf16": bf16}[precision]


@cache
def known_card(name: str) -> str | None:
    """The entry of ``CARDS`` that a device's name means; the longest where several would do."""
    found = [card for card in CARDS if re.search(rf"\b{re.escape(card)}\b", name, re.IGNORECASE)]
    return max(found, key=len, default=None)


def device_of(recorded: str) -> str:
    """The device of a record without its number: ``cuda:0 NVIDIA H200`` is a ``NVIDIA H200``."""
    return re.sub(r"^cuda(:\d+)? ", "", recorded)


def same_device(recorded: str, name: str) -> bool:
    """Whether a record is of the device that a target names, which may be as the table has it."""
    one, other = device_of(recorded), device_of(name)
    return one == other or (known_card(one) is not None and known_card(one) == known_card(other))


def target(machine: Machine, *, wants_gpu: bool, on: str = "", workers: int = 1) -> Target:
    """The device that each of the ``workers`` of a run on ``machine`` has: the GPU, or a share of the cores;
    a card of the table with ``on``, or, where a profile wants a GPU and none is here, the usual one. Raises
    ``InputError`` for a name that is not in the table."""
    if on:
        card = known_card(on)
        if card is None:
            hint = f"{did_you_mean(on, CARDS)} known: {', '.join(CARDS)}".strip()
            raise InputError(f"no speed is known of a card '{on}'", where=f"--on {on}", hint=hint)
        return Target(card, here=False)
    card = None if machine.device == "cpu" else _card_here(machine.device)
    if card:
        return Target(card)
    if wants_gpu and machine.device == "auto":
        return Target(USUAL, here=False)
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0] if workers == 1 else ""
    threads = int(given) if given.isdigit() and int(given) else max(1, cores() // workers)
    return Target(f"cpu x{os.cpu_count()}", threads)


def _card_here(device: str) -> str:
    """The card that a run takes, as torch has said, or else as the driver names its first; empty: none."""
    answer = accelerator.kept()
    if answer is None:
        return driver.first_card() or ("" if device == "auto" else "GPU")
    card = answer.card(device)
    if card is not None:
        return card.name
    return "" if device == "auto" else "GPU"
