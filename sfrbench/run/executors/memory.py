"""Memory of a process and of its GPU: what a node took at most, for its record."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

from sfrbench.engine.context import StageContext
from sfrbench.errors import short_of_memory
from sfrbench.machine.memory_advice import GpuMemoryError, advice, counter
from sfrbench.stages.settings import StageSettings

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MB = 2**20
#: What a record says of memory; of a GPU only where the node ran on one: what tensors took at most, and what
#: torch had taken for them.
MEASURED = ("peak_memory_mb", "peak_gpu_memory_mb", "reserved_gpu_memory_mb")


def keep_freed() -> None:
    """Let glibc keep large freed blocks instead of giving them back to the kernel after every layer.

    Otherwise each activation above 32 MB is page-faulted anew: a tenth to a quarter of a SAM step on a CPU.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            library.mallopt(option, 2**31 - 1)


def reset_peaks(device: str) -> None:
    """Start the high-water marks anew, of the process and, where the device is one, of the GPU."""
    _reset_own()
    if device.startswith("cuda"):
        import torch

        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # else it has no marks yet
            torch.cuda.reset_peak_memory_stats(device)


def peaks(device: str) -> dict[str, float]:
    """Megabytes (2^20 bytes) at most since ``reset_peaks``."""
    found = {"peak_memory_mb": _own_mb()}
    if device.startswith("cuda"):
        import torch

        found["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / _MB, 1)
        found["reserved_gpu_memory_mb"] = round(torch.cuda.max_memory_reserved(device) / _MB, 1)
    return found


def explained(error: RuntimeError, stage: str, ctx: StageContext[StageSettings]) -> GpuMemoryError | None:
    """What helps where a node found no room on its GPU; none where the error is another one."""
    if not ctx.device.startswith("cuda") or not short_of_memory(error):
        return None
    import torch

    from sfrbench.engine.volumes import Volumes

    count = counter(stage, ctx.settings, len(Volumes(ctx.inputs["prepare"]).classes))
    return advice(stage, ctx.components, torch.cuda.mem_get_info(ctx.device)[1], count)


def _reset_own() -> None:
    """Start the process's memory high-water mark anew (Linux); elsewhere it covers the whole run.

    What earlier nodes have freed is given back first, since it would count as this node's.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as stream:
            stream.write("5")
    except OSError:
        return


def _own_mb() -> float:
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MB, 1)
