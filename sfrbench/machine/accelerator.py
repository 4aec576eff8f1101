"""What torch says of the accelerators here: asked by ``run``, ``search`` and ``doctor``, kept for the others.

An answer holds for an interpreter, a torch, the variables that hide cards and what the system shows of
drivers and cards. It is kept in the user's cache folder, so that commands that import no torch can read it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from sfrbench.machine import driver
from sfrbench.machine.driver import Driver
from sfrbench.machine.kept import Kept

#: Raised when an answer has other fields: older ones are then asked anew.
VERSION = 1
CUDA_HIDES, HIP_HIDES, ROCR_HIDES = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
#: What decides which cards torch sees, and which libraries it finds.
VARIABLES = (
    CUDA_HIDES,
    HIP_HIDES,
    ROCR_HIDES,
    "GPU_DEVICE_ORDINAL",
    "CUDA_DEVICE_ORDER",
    "HSA_OVERRIDE_GFX_VERSION",
    "LD_LIBRARY_PATH",
)


class Card(BaseModel):
    """A GPU as torch sees it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int  # torch's: cuda:0
    visible: str  # what CUDA_VISIBLE_DEVICES calls it
    name: str
    memory: int  # bytes
    capability: tuple[int, int]  # (9, 0); of ROCm, what HIP says
    arch: str  # as in a build's list: sm_90, gfx90a

    def __str__(self) -> str:
        return f"{self.name}, {self.memory / 2**30:.0f} GiB, {self.arch}"


class Answer(Kept):
    """What torch said."""

    folder: ClassVar[str] = "accelerator"

    torch: str = ""  # its version; empty: it cannot be imported
    build: Literal["cpu", "cuda", "rocm"] = "cpu"
    version: str = ""  # of the CUDA or ROCm that it is built for
    archs: tuple[str, ...] = ()  # that it is built for
    cudnn: int | None = None  # as torch tells it, 91002 for 9.10.2; of ROCm, MIOpen's number
    cards: tuple[Card, ...] = ()
    mps: bool = False
    driver: Driver = Driver()
    fault: str = ""  # why torch cannot be imported, or CUDA not be initialised

    def runs(self, card: Card) -> bool:
        """Whether this torch has code for a card."""
        return fits(card.arch, self.archs)

    @property
    def usable(self) -> tuple[Card, ...]:
        """The cards that it has code for."""
        return tuple(card for card in self.cards if self.runs(card))

    def card(self, device: str) -> Card | None:
        """The card that ``auto``, ``cuda`` or ``cuda:N`` means; none where there is no such card."""
        if device == "auto":
            return next(iter(self.usable), None)
        kind, _, number = device.partition(":")
        index = int(number or 0)
        return self.cards[index] if kind == "cuda" and index < len(self.cards) else None

    def device(self, asked: str) -> str:
        """torch's name of the device that is meant by ``auto``; of any other, that one."""
        if asked != "auto":
            return asked
        card = self.card(asked)
        if card is None:
            return "cpu"
        return "cuda" if card.index == 0 else f"cuda:{card.index}"

    @property
    def kind(self) -> str:
        """This build, for people."""
        if self.build == "cpu":
            return "a build for Apple's GPUs" if self.mps else "a CPU build"
        return f"built for {'CUDA' if self.build == 'cuda' else 'ROCm'} {self.version}"


def ask() -> Answer:
    """Ask torch, and keep what it says; not of one that is broken, which nothing shows to be mended later.
    Imports torch."""
    answer = read()
    if answer.torch:
        answer.keep()
    return answer


def read() -> Answer:
    """Ask torch. Imports it; an answer without a version says why it cannot be imported."""
    here = facts()
    try:
        import torch
    except Exception as error:  # a broken installation raises OSError, RuntimeError and others
        return Answer(facts=here, driver=driver.look(), fault=f"{type(error).__name__}: {error}")
    hip, cuda = getattr(torch.version, "hip", None), torch.version.cuda
    build: Literal["cpu", "cuda", "rocm"] = "rocm" if hip else "cuda" if cuda else "cpu"
    found: dict[str, Any] = {"torch": str(torch.__version__), "build": build, "version": hip or cuda or ""}
    with warnings.catch_warnings():  # what is wrong is in the answer
        warnings.simplefilter("ignore")
        if build != "cpu":
            found |= _cards(torch, build)
        mps = bool(torch.backends.mps.is_available())
    return Answer(facts=here, mps=mps, driver=driver.look(), **found)


def _cards(torch: ModuleType, build: str) -> dict[str, Any]:
    """Cards and libraries of a torch that is built for them."""
    cudnn = _cudnn(torch)
    try:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            torch.cuda.init()  # says why
        cards = [_card(torch, build, index, name) for index, name in enumerate(_visible(build, count))]
    except (RuntimeError, AssertionError) as error:
        return {"cudnn": cudnn, "fault": str(error).partition("\n")[0]}
    return {"cudnn": cudnn, "cards": tuple(cards), "archs": tuple(torch.cuda.get_arch_list())}


def _card(torch: ModuleType, build: str, index: int, visible: str) -> Card:
    properties = torch.cuda.get_device_properties(index)
    major, minor = int(properties.major), int(properties.minor)
    own = str(getattr(properties, "gcnArchName", "")).partition(":")[0]
    return Card(
        index=index,
        visible=visible,
        name=str(properties.name),
        memory=int(properties.total_memory),
        capability=(major, minor),
        arch=own if build == "rocm" and own else f"sm_{major}{minor}",
    )


def _cudnn(torch: ModuleType) -> int | None:
    """As torch tells it; none where there is none, or another one than torch was built with."""
    try:
        number = torch.backends.cudnn.version()
    except RuntimeError:
        return None
    return None if number is None else int(number)


def _visible(build: str, count: int) -> list[str]:
    """What the variable that hides cards calls the ones that are seen, in torch's order."""
    names = (HIP_HIDES, CUDA_HIDES) if build == "rocm" else (CUDA_HIDES,)
    given = next((os.environ[name] for name in names if os.environ.get(name)), "")
    parts = [part.strip() for part in given.split(",") if part.strip()]
    return [parts[index] if index < len(parts) else str(index) for index in range(count)]


def alone(card: str) -> dict[str, str]:
    """The variables of a process that sees one card, by the name that it has for this one."""
    hides = [CUDA_HIDES, *([HIP_HIDES] if os.environ.get(HIP_HIDES) else [])]
    return dict.fromkeys(hides, card)


def fits(arch: str, archs: Sequence[str]) -> bool:
    """Whether code for ``archs`` runs on a card of ``arch``; without a list nothing is known against it.

    NVIDIA: machine code (``sm_80``) runs on the same major version from its minor version on, an ``a`` on
    that version alone; PTX (``compute_80``) is compiled for any newer one. AMD: the very name.
    """
    own = codes([arch])
    if not own or not archs:
        return not archs or arch in archs
    major, minor = own[0].version
    for code in codes(archs):
        if code.suffix == "a":
            if code.version == (major, minor):
                return True
        elif code.kind == "compute" and not code.suffix:
            if code.version <= (major, minor):
                return True
        elif code.version[0] == major and code.version[1] <= minor:
            return True
    return False


class Code(NamedTuple):
    """One entry of a build's list: machine code (``sm``) or PTX (``compute``)."""

    kind: str
    version: tuple[int, int]
    suffix: str


def codes(archs: Sequence[str]) -> list[Code]:
    """NVIDIA's entries of a build's list."""
    found = (re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch) for arch in archs)
    return [Code(each[1], (int(each[2]), int(each[3])), each[4]) for each in found if each]


def kept() -> Answer | None:
    """What torch said under these facts before; None if there is no sound file of it. Imports no torch."""
    return Answer.under(facts())


def facts() -> dict[str, str]:
    """Everything that the answer depends on. Imports no torch."""
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {"list": str(VERSION), "prefix": sys.prefix, **_installed(), **driver.traces(), **variables}


def _installed() -> dict[str, str]:
    """Version and build of the torch that is installed, read off its files."""
    try:
        there = importlib.metadata.distribution("torch")
    except importlib.metadata.PackageNotFoundError:
        return {"torch": "not installed"}
    try:
        build = Path(str(there.locate_file("torch/version.py"))).read_bytes()
    except OSError:
        build = b""
    return {"torch": there.version, "build": hashlib.sha256(build).hexdigest()[:16]}
