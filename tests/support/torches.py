"""A torch of any build on a machine with any cards, as far as sfrbench asks it which there are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sfrbench.machine import accelerator, driver
from sfrbench.machine.accelerator import Answer
from sfrbench.machine.driver import Driver

#: (name, GiB, capability) of some cards.
H200, RTX_4090 = ("NVIDIA H200", 140, (9, 0)), ("NVIDIA GeForce RTX 4090", 24, (8, 9))
RTX_5090, GTX_1080 = ("NVIDIA GeForce RTX 5090", 32, (12, 0)), ("NVIDIA GeForce GTX 1080", 8, (6, 1))
ARCHS = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")

#: Of CUDA 13, of 12, and of 11.
NEW = Driver(version="580.65.06", cuda="13.0", cards=1)
MIDDLE = Driver(version="550.54.14", cuda="12.4", cards=1)
OLD = Driver(version="470.82.01", cuda="11.4", cards=1)


@dataclass(frozen=True)
class Torch:
    """What ``torch.version``, ``torch.cuda`` and ``torch.backends`` say."""

    version: str = "2.9.1+cu130"
    cuda: str | None = "13.0"
    hip: str | None = None
    cards: Sequence[tuple[Any, ...]] = ()
    archs: Sequence[str] = ARCHS
    cudnn: int | None = 91002
    mps: bool = False
    fault: str = "No CUDA GPUs are available"
    broken: str = ""  # it cannot be imported
    gfx: Sequence[str] = field(default=())  # architectures of AMD's cards

    def module(self) -> ModuleType:
        module: Any = ModuleType("torch")
        module.__version__ = self.version
        module.version = SimpleNamespace(cuda=self.cuda, hip=self.hip)
        module.cuda = SimpleNamespace(
            is_available=lambda: bool(self.cards),
            device_count=lambda: len(self.cards),
            get_device_properties=self._properties,
            get_arch_list=lambda: list(self.archs),
            init=self._init,
        )
        module.backends = SimpleNamespace(
            cudnn=SimpleNamespace(version=lambda: self.cudnn),
            mps=SimpleNamespace(is_available=lambda: self.mps),
        )
        return module

    def _properties(self, index: int) -> SimpleNamespace:
        name, gigabytes, (major, minor) = self.cards[index]
        own = {"gcnArchName": f"{self.gfx[index]}:sramecc+:xnack-"} if self.gfx else {}
        return SimpleNamespace(name=name, total_memory=gigabytes * 2**30, major=major, minor=minor, **own)

    def _init(self) -> None:
        raise RuntimeError(self.fault)


CPU = Torch(version="2.9.1+cpu", cuda=None, archs=(), cudnn=None)


class _Broken:
    """An import hook: this torch raises when it is imported."""

    def __init__(self, said: str) -> None:
        self.said = said

    def find_spec(self, name: str, *_: object) -> None:
        if name == "torch":
            raise OSError(self.said)


def install(patch: pytest.MonkeyPatch, torch: Torch, here: Driver, **variables: str) -> None:
    """Have this process import ``torch``, on a machine with this driver and these variables."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        patch.delenv(name, raising=False)
    for name, value in variables.items():
        patch.setenv(name, value)
    shown = {"devices": "nvidia0", "driver": here.version} if here.any else {}
    patch.setattr(driver, "look", lambda: here)
    patch.setattr(driver, "traces", lambda: shown)
    if torch.broken:
        patch.delitem(sys.modules, "torch", raising=False)
        patch.setattr(sys, "meta_path", [_Broken(torch.broken), *sys.meta_path])
    else:
        patch.setitem(sys.modules, "torch", torch.module())


def answer_of(torch: Torch, here: Driver, **variables: str) -> Answer:
    """What sfrbench makes of it."""
    with pytest.MonkeyPatch.context() as patch:
        install(patch, torch, here, **variables)
        return accelerator.read()
