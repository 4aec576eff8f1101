"""What the drivers of GPUs tell without torch: what is there, how new it is, and why it does not work."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

#: What a driver of GPUs shows under /dev: NVIDIA's, WSL's, AMD's, Jetson's.
_DEVICES = ("nvidia[0-9]*", "dxg", "kfd", "nvhost-gpu", "nvgpu")
_NVML = "libnvidia-ml.so.1"
_CUDA = "libcuda.so.1"
_NO_LIBRARY, _NO_DRIVER = -1, 9  # of our own: not installed; NVML's: the kernel's module is not loaded


class Driver(BaseModel):
    """What the driver says, whatever the environment hides of it. Empty: there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = ""  # of NVIDIA's, such as 580.65.06
    cuda: str = ""  # the newest CUDA that it runs, such as 13.0
    cards: int | None = None  # that it has; none: it does not say
    fault: str = ""  # why NVIDIA's does not answer although it is installed, in its own words
    amd: Literal["", "here", "closed"] = ""  # AMD's; closed: this user may not open it

    @property
    def nvidia(self) -> bool:
        """Whether NVIDIA's driver is here and answers."""
        return bool(self.version or self.cuda)

    @property
    def any(self) -> bool:
        """Whether a driver of GPUs is here."""
        return self.nvidia or bool(self.fault or self.amd)

    def __str__(self) -> str:
        if self.nvidia:
            newest = f" (CUDA {self.cuda} at most)" if self.cuda else ""
            return f"the NVIDIA driver {self.version or 'of this machine'}{newest}"
        if self.fault:
            return f"an NVIDIA driver that does not answer ({self.fault})"
        return "AMD's driver" if self.amd else "no driver of a GPU"


def look(root: Path = Path("/")) -> Driver:
    """Ask the drivers. Starts nothing on a card."""
    kfd = root / "dev" / "kfd"
    amd: Literal["", "here", "closed"] = ""
    if kfd.exists():
        amd = "here" if os.access(kfd, os.R_OK | os.W_OK) else "closed"
    code, told = _nvml()
    if code == 0:
        return Driver(amd=amd, **told)
    cuda = _cuda_version()  # Jetson's has no NVML
    if cuda:
        return Driver(cuda=cuda, amd=amd)
    return Driver(fault="" if code in (_NO_LIBRARY, _NO_DRIVER) else str(told["fault"]), amd=amd)


def traces(root: Path = Path("/")) -> dict[str, str]:
    """What the system shows of drivers and cards, quick to read; what torch answers depends on it.

    ``devices`` are missing where no driver of Linux shows a GPU.
    """
    proc, module = root / "proc/driver/nvidia", root / "sys/module/amdgpu"
    informed = [_text(file) for file in sorted(proc.glob("gpus/*/information"))]
    nodes = sorted((root / "sys/class/kfd/kfd/topology/nodes").glob("*/gpu_id"))
    shown = {
        "driver": _text(proc / "version").partition("\n")[0],
        "amdgpu": _text(module / "version") or _text(module / "srcversion"),
        "cards": " ".join(re.findall(r"^(?:Model|GPU UUID):\s*(.+)$", "\n".join(informed), re.MULTILINE)),
        "amd cards": " ".join(filter(lambda text: text != "0", map(_text, nodes))),
        "devices": " ".join(sorted({path.name for name in _DEVICES for path in (root / "dev").glob(name)})),
    }
    return {name: text for name, text in shown.items() if text}


def may_be_here() -> bool:
    """Whether a GPU may be here: asking torch costs seconds, and most machines without one show none."""
    return "devices" in traces()


def first_card(root: Path = Path("/")) -> str:
    """What NVIDIA's driver calls the first GPU; empty where it does not say."""
    for file in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        found = re.search(r"^Model:\s*(.+)$", _text(file), re.MULTILINE)
        if found:
            return found[1].strip()
    return ""


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _nvml() -> tuple[int, dict[str, Any]]:
    """NVML's status, 0 where it answers, and the fields of a ``Driver``."""
    try:
        nvml = ctypes.CDLL(_NVML)
        nvml.nvmlErrorString.restype = ctypes.c_char_p
        code = int(nvml.nvmlInit_v2())
    except (OSError, AttributeError):
        return _NO_LIBRARY, {}
    if code:
        return code, {"fault": (nvml.nvmlErrorString(code) or b"").decode(errors="replace")}
    try:
        version, cuda, cards = ctypes.create_string_buffer(96), ctypes.c_int(0), ctypes.c_uint(0)
        nvml.nvmlSystemGetDriverVersion(version, len(version))
        nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda))
        counted = nvml.nvmlDeviceGetCount_v2(ctypes.byref(cards)) == 0
    finally:
        nvml.nvmlShutdown()
    told = {"version": version.value.decode(errors="replace"), "cuda": _dotted(cuda.value)}
    return 0, {**told, "cards": cards.value if counted else None}


def _cuda_version() -> str:
    """The newest CUDA that the driver's library runs; empty where there is none."""
    version = ctypes.c_int(0)
    try:
        code = int(ctypes.CDLL(_CUDA).cuDriverGetVersion(ctypes.byref(version)))
    except (OSError, AttributeError):
        return ""
    return "" if code else _dotted(version.value)


def _dotted(version: int) -> str:
    """CUDA's number of a version: 12080 is 12.8."""
    return f"{version // 1000}.{version % 1000 // 10}" if version else ""
