"""How much memory a computation takes at most, without doing it: fake tensors have shapes and no numbers.

Every storage counts from its first use to its end, in blocks of 512 bytes as on a GPU. Not counted: what
kernels work in (cuDNN's convolutions above all), pieces into which free memory falls, and the context of
CUDA; ``machine.training_memory`` says how much is to be left for these.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

_ATEN = torch.ops.aten
_BLOCK = 512
#: The number that stands in for one that depends on data: a seed, a count, a loss.
_ANY = 1


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of all storages that operations have made, ``now`` and at most, ``peak``.

    Where the size of a result depends on numbers, it is the largest that it can be: a mask takes all.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def hold(self, *tensors: torch.Tensor) -> None:
        """Count tensors that are there already."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage not in self._known:
                size = -(-storage.nbytes() // _BLOCK) * _BLOCK
                self._known.add(storage)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._let_go, size)

    def _let_go(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        of_numbers = _OF_NUMBERS.get(func.overloadpacket)
        kwargs = kwargs or {}
        result = func(*args, **kwargs) if of_numbers is None else of_numbers(func, *args, **kwargs)
        self.hold(*(part for part in tree_iter(result) if isinstance(part, torch.Tensor)))
        return result


def _scalar(func: Any, value: torch.Tensor) -> Any:
    return {torch.bool: True}.get(value.dtype, _ANY if not value.dtype.is_floating_point else float(_ANY))


def _nonzero(func: Any, mask: torch.Tensor) -> torch.Tensor:
    return mask.new_zeros((mask.numel(), mask.ndim), dtype=torch.int64)


def _masked(func: Any, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return value.expand_as(mask).flatten().clone() if value.ndim <= mask.ndim else value.flatten()


def _indexed(func: Any, value: torch.Tensor, indices: Any, *more: Any) -> Any:
    """Masks as the numbers of all their places."""
    places: list[torch.Tensor | None] = []
    for index in indices:
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            places.append(index)
        else:
            places += [index.new_zeros((index.numel(),), dtype=torch.int64) for _ in index.shape]
    return func(value, places, *more)


def _counted(func: Any, value: torch.Tensor, weights: Any = None, minlength: int = 0) -> torch.Tensor:
    return value.new_zeros((max(minlength, 1),), dtype=torch.int64)


def _unique(func: Any, value: torch.Tensor, *more: Any, **named: Any) -> tuple[torch.Tensor, ...]:
    whole = value.new_empty((value.numel(),))
    return whole, *(value.new_empty(value.shape, dtype=torch.int64) for _ in range(2))


def _equal(func: Any, one: torch.Tensor, other: torch.Tensor) -> bool:
    return True


_OF_NUMBERS: dict[Any, Callable[..., Any]] = {
    _ATEN._local_scalar_dense: _scalar,
    _ATEN.nonzero: _nonzero,
    _ATEN.masked_select: _masked,
    _ATEN.index: _indexed,
    _ATEN.index_put_: _indexed,
    _ATEN.index_put: _indexed,
    _ATEN._index_put_impl_: _indexed,
    _ATEN.bincount: _counted,
    _ATEN._unique2: _unique,
    _ATEN.equal: _equal,
}


@contextmanager
def shapes_only() -> Iterator[None]:
    """Within it new tensors are fake. On the way to numpy they become zeros, and are whole again on the way
    back."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        FakeTensor.numpy = _zeros  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            del FakeTensor.numpy


def materialise(network: nn.Module) -> None:
    """Give a network on "meta" new tensors, as those that are made here and now are (in place)."""
    for part in network.modules():
        for name, value in part._parameters.items():
            if value is not None:
                new = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
                part._parameters[name] = nn.Parameter(new, value.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty_strided(buffer.shape, buffer.stride(), dtype=buffer.dtype)


def _zeros(tensor: torch.Tensor, *, force: bool = False) -> np.ndarray:
    with unset_fake_temporarily():
        return torch.zeros(tensor.shape, dtype=tensor.dtype).numpy()
