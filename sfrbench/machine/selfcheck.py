"""Whether this machine computes what our networks need rightly; asked once, then kept.

bf16 and TF32 are compared with float32 and float32 with float64, forward and backward, for the operations in
``selfcheck_ops``. What was found is kept in the user's cache folder for a processor, the variables that
choose its instructions, the number of threads and the version of torch; of a GPU for its name, the versions
of torch and cuDNN, and the shapes in use. Imports no torch at its top.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from sfrbench.components.core import Precision
from sfrbench.machine.card import Card
from sfrbench.machine.kept import Kept
from sfrbench.machine.selfcheck_fault import Fault, Shapes

#: Raised when the list of operations changes: what older lists found is then asked again.
VERSION = 1
#: What decides which kernels run.
VARIABLES = (
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ATEN_CPU_CAPABILITY",
)
OF_CARDS = ("NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG")


class SelfCheck(Kept):
    """What the check found on one machine."""

    folder: ClassVar[str] = "selfcheck"

    checked: int = Field(ge=1)
    seconds: float = Field(ge=0)
    faults: tuple[Fault, ...] = ()

    def of(self, precision: Precision) -> list[Fault]:
        """The faults of one precision."""
        return [fault for fault in self.faults if fault.precision == precision]

    def __str__(self) -> str:
        wrong = f"{len(self.faults)} wrong" if self.faults else "all right"
        return f"{self.checked} comparisons of bf16 with fp32 and fp32 with float64, {wrong}"


def on_device(device: str, card: Card | None, used: Shapes) -> SelfCheck:
    """What was found on a GPU or another device at the shapes ``used`` before, or is found now. Imports
    torch."""
    import torch

    variables = {name: os.environ[name] for name in OF_CARDS if name in os.environ}
    named = {"device": device.partition(":")[0], "torch": torch.__version__} if card is None else card.facts
    here = {"list": str(VERSION), **named, "shapes": str(used), **variables}
    checked = kept(here)
    if checked is None:
        from sfrbench.machine.selfcheck_ops import check

        precisions: list[Precision] = ["fp32"]
        if card is None or card.has_tf32:
            precisions += ["bf16"] if card is None else ["tf32", "bf16"]
        count, seconds, faults = check(device, precisions, used)
        torch.cuda.empty_cache()  # of what the large shapes took
        checked = SelfCheck(facts=here, checked=count, seconds=round(seconds, 3), faults=tuple(faults))
        checked.keep()
    return checked


def on_cpu() -> SelfCheck:
    """What was found on this processor before, or is found now. Imports torch."""
    checked = kept()
    if checked is None:
        checked = run("cpu")
        checked.keep()
    return checked


def run(device: str) -> SelfCheck:
    """Check a processor now. Imports torch."""
    from sfrbench.machine.selfcheck_ops import check

    checked, seconds, faults = check(device)
    return SelfCheck(facts=facts(), checked=checked, seconds=round(seconds, 3), faults=tuple(faults))


def kept(here: Mapping[str, str] | None = None) -> SelfCheck | None:
    """What was found under these facts before, by default the processor's; None if there is no sound file of
    it. Imports torch."""
    return SelfCheck.under(facts() if here is None else here)


def facts() -> dict[str, str]:
    """Everything that what is found depends on. Imports torch."""
    import torch

    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {
        "list": str(VERSION),
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        **processor(),
        **variables,
    }


def processor(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Model and instruction sets of the processor, as far as the system reports them."""
    named = {"processor": platform.processor() or platform.machine()}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return named
    told = [line.partition(":") for line in lines]
    first: Mapping[str, str] = {name.strip(): value.strip() for name, _, value in reversed(told)}
    names = ("vendor_id", "cpu family", "model", "model name", "stepping", "CPU implementer", "CPU part")
    named |= {name: first[name] for name in names if name in first}
    flags = first.get("flags") or first.get("Features")
    return {**named, "instructions": hashlib.sha256(flags.encode()).hexdigest()[:16]} if flags else named
