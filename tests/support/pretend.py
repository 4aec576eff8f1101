"""A CUDA device that is not there: tensors of the CPU that say they lie on ``cuda:0``, and who waits for it.

Within ``pretended`` every call of torch passes ``Card``. A tensor made on or moved to "cuda" is an ordinary
one with a label; what is computed from it has the label too. A call that mixes devices raises as torch does.
``Seen`` counts where the host would wait for the device, and the bytes that travel to it. The numbers are
those of the CPU: what is wrong on a real device beside its place, such as its own kernels, is not seen.
Another thread is outside of the mode: what it makes lies on the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

from tests.support.pretend_mode import CARD, CPU, Card, Seen, place, put, tensors_in

#: Where optimisers ask the device whether it records a graph; by torch's versions.
CAPTURE = ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check")


@contextmanager
def pretended() -> Iterator[Seen]:
    """ "cuda" is there, and is the CPU in truth."""
    seen = Seen()
    enabled, dtype, grad = torch.is_autocast_enabled, torch.get_autocast_dtype, torch.autograd.grad
    deepcopy, group = torch.nn.Parameter.__deepcopy__, torch._C._group_tensors_by_device_and_dtype

    def copied(old: torch.nn.Parameter, memo: Any) -> Any:
        return put(deepcopy(old, memo), place(old))

    def grads(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        found = grad(outputs, inputs, *args, **kwargs)
        for gradient, of in zip(found, tensors_in(inputs), strict=True):
            put(gradient, place(of))
        return found

    def grouped(lists: Any, *args: Any) -> Any:
        found = group(lists, *args)
        return {(place(each[0][0][0]), key[1]): each for key, each in found.items()}

    optimiser = torch.optim.Optimizer
    unasked = {name: lambda _: None for name in CAPTURE if hasattr(optimiser, name)}
    with (
        patch.multiple(optimiser, **unasked),  # a torch for CUDA would ask a driver that is not there
        patch.object(torch._C, "_group_tensors_by_device_and_dtype", grouped),
        patch.object(torch, "Generator", _Generator),
        patch.object(torch, "autocast", _Autocast),
        patch.object(torch, "is_autocast_enabled", lambda device="cpu": enabled(_real(device))),
        patch.object(torch, "get_autocast_dtype", lambda device: dtype(_real(device))),
        patch.object(torch.autograd, "grad", grads),
        patch.object(torch.cuda, "is_available", lambda: True),
        patch.object(torch.cuda, "get_device_name", lambda *_: "Pretended"),
        patch.object(torch.cuda, "mem_get_info", lambda *_: (2**33, 2**34)),
        patch.object(torch.nn.Parameter, "__deepcopy__", copied),
        patch.object(torch.Tensor, "pin_memory", _pinned),
        patch.object(torch.Tensor, "is_pinned", lambda tensor, *_: getattr(tensor, "_pinned", False)),
        Card(seen),
    ):
        yield seen


class _Generator(torch.Generator):
    """A generator of the CPU that may say that it is the device's."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made = super().__new__(cls)
        made._place = CARD if torch.device(device).type == "cuda" else CPU
        return made

    @property
    def device(self) -> torch.device:
        return self._place


class _Autocast(torch.autocast):
    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(_real(device_type), *args, **kwargs)


def _real(device_type: str) -> str:
    return "cpu" if device_type == "cuda" else device_type


def _pinned(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
    copy = tensor.clone()
    copy._pinned = True  # type: ignore[attr-defined]
    return copy
