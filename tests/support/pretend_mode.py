"""The rules of the pretended device: what each call of torch gives there, refuses, and waits for.

Known of PyTorch's CUDA backend: a copy from the host waits unless it is pinned and ``non_blocking``; reading
a value waits, and so does what has to know one for the size of its result; a 0-dim tensor of the host is a
plain number to pointwise functions alone.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)

#: Functions that read values of the device, or whose result has a size that depends on values.
READS = {
    "item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__complex__", "__contains__",
    "__repr__", "__format__", "is_nonzero", "equal", "allclose", "nonzero", "argwhere", "masked_select",
    "unique", "_unique2", "unique_consecutive", "unique_dim", "bincount", "histc",
}  # fmt: skip
_ARITHMETIC = {"add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"}
#: Pointwise functions, without the underscores of their forms: these take a 0-dim tensor of the host.
POINTWISE = (
    _ARITHMETIC
    | {f"{form}{name}" for form in "ri" for name in _ARITHMETIC}
    | {"true_divide", "rsub", "lerp", "where", "maximum", "minimum", "clamp", "masked_fill"}
    | {"addcmul", "addcdiv", "eq", "ne", "lt", "le", "gt", "ge", "isclose", "fill"}
    | {"logical_and", "logical_or", "bitwise_and", "bitwise_or"}
    | {"foreach_add", "foreach_mul", "foreach_div", "foreach_pow"}
)


class MixedDevicesError(RuntimeError):
    """Tensors of the host and of the device in one call."""


@dataclass
class Seen:
    """What the device was asked for, by the line of the package that asked."""

    waits: Counter[str] = field(default_factory=Counter)  # "item at stages/retrain/run.py:94" -> times
    sent: Counter[str] = field(default_factory=Counter)  # bytes from the host to the device, by line

    def wait(self, what: str) -> None:
        self.waits[f"{what} at {_line()}"] += 1

    def clear(self) -> None:
        self.waits.clear()
        self.sent.clear()


def place(tensor: torch.Tensor) -> torch.device:
    """Where a tensor pretends to lie."""
    found: torch.device = getattr(tensor, "_place", CPU)
    return found


def put(value: Any, device: torch.device) -> Any:
    """The same value, all its tensors labelled as lying on ``device``."""
    for tensor in tensors_in(value):
        tensor._place = device  # type: ignore[attr-defined]
    return value


class Card(TorchFunctionMode):
    """Sees every call of torch in its thread; within it the mode is off."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", str(func))
        own = getattr(self, f"_{name.strip('_')}") if name in _OWN else self._call
        return own(func, args, dict(kwargs or {}))

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Any function that has no rule of its own."""
        name = func.__name__
        given = tensors_in((args, kwargs))
        if kwargs.get("device") is not None:
            return self._made(func, args, kwargs)
        here = self._common(name, given)
        if here == CARD and name in READS:
            self.seen.wait(name)
        if here == CARD and name == "where" and len(args) + len(kwargs) == 1:
            self.seen.wait("where of a condition alone")
        if here == CARD and name == "where" and any(place(one) == CPU for one in given):
            self.seen.wait("copy of a number to the device")
        if here == CARD and name == "repeat_interleave" and len(given) > 1 and "output_size" not in kwargs:
            self.seen.wait(name)
        self._match(kwargs, here)
        out = func(*args, **kwargs)
        in_place = name.endswith("_") and not name.endswith("__")
        return put(out, place(given[0]) if in_place else here) if given else out

    def _common(self, name: str, given: list[torch.Tensor]) -> torch.device:
        """The one device of the tensors of a call."""
        strange = [one for one in given if place(one) == CPU]
        if len(strange) == len(given):
            return CPU
        if strange and not (name.strip("_") in POINTWISE and all(one.ndim == 0 for one in strange)):
            shapes = [tuple(one.shape) for one in strange][:3]
            raise MixedDevicesError(f"{name} at {_line()}: {shapes} on the host, others on the device")
        return CARD

    def _match(self, kwargs: dict[str, Any], device: torch.device) -> None:
        generator = kwargs.get("generator")
        if generator is not None and generator.device != device:
            raise MixedDevicesError(f"at {_line()}: a generator on {generator.device}, values on {device}")

    def _made(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A factory with ``device=``: values of the host travel, a filling or a draw is made there."""
        there = torch.device(kwargs.pop("device"))
        if there.type not in ("cpu", "cuda"):
            return func(*args, **kwargs, device=there)
        device = CARD if there.type == "cuda" else CPU
        self._match(kwargs, device)
        out = func(*args, **kwargs)
        if device == CARD and func.__name__ in ("tensor", "as_tensor", "asarray"):
            self._send(func.__name__, out, waits=True)
        return put(out, device)

    def _send(self, what: str, tensor: torch.Tensor, waits: bool) -> None:
        self.seen.sent[_line()] += tensor.numel() * tensor.element_size()
        if waits:
            self.seen.wait(f"{what} to the device")

    # functions with a rule of their own

    def _to(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensor, *rest = args
        copy, like = kwargs.pop("copy", False), kwargs.pop("other", None)
        if rest and isinstance(rest[0], torch.Tensor):
            like = rest.pop(0)
        if like is not None:
            rest = [like.dtype, *rest]
        device, dtype, non_blocking, layout = torch._C._nn._parse_to(*rest, **kwargs)
        if device is not None and device.type not in ("cpu", "cuda"):
            return func(*args, **kwargs)
        there = place(tensor) if device is None else CARD if device.type == "cuda" else CPU
        there = there if like is None else place(like)
        moved = there != place(tensor)
        shape = {} if layout is None else {"memory_format": layout}
        out = func(tensor, dtype=dtype or tensor.dtype, copy=copy or moved, **shape)
        if moved:
            self._moved(tensor, out, there, non_blocking)
        return put(out, there)

    def _moved(self, old: torch.Tensor, new: torch.Tensor, there: torch.device, non_blocking: bool) -> None:
        if there == CARD:
            self._send("copy", new, waits=not (non_blocking and getattr(old, "_pinned", False)))
        elif non_blocking:
            raise MixedDevicesError(f"at {_line()}: the host reads a copy that may not have arrived yet")
        else:
            self.seen.wait("copy to the host")

    def _cpu(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._to(torch.Tensor.to, (args[0], "cpu"), {})

    def _cuda(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._to(torch.Tensor.to, (args[0], "cuda"), kwargs)

    def _type_as(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._to(torch.Tensor.to, args, kwargs)

    def _copy(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        into, source = args[:2]
        if place(into) != place(source):
            self._moved(source, into, place(into), kwargs.get("non_blocking", False))
        return put(func(*args, **kwargs), place(into))

    def _numpy(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if place(args[0]) == CARD:
            raise TypeError(f"at {_line()}: can't convert cuda:0 device type tensor to numpy")
        return func(*args, **kwargs)

    _array = _numpy

    def _has_compatible_shallow_copy_type(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Asked of a parameter before and after a move."""
        return func(*args, **kwargs)

    def _get(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A property of a tensor."""
        name, tensor = func.__self__.__name__, args[0]
        if name in ("device", "is_cuda", "is_cpu"):
            there = place(tensor)
            return there if name == "device" else there.type == name.removeprefix("is_")
        return put(func(*args, **kwargs), place(tensor))

    def _set(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, (tensor, value) = func.__self__.__name__, args
        if name == "grad" and value is not None and place(value) != place(tensor):
            raise MixedDevicesError(f"at {_line()}: a gradient on another device than its tensor")
        func(*args, **kwargs)
        if name == "data":
            put(tensor, place(value))

    def _getitem(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._index(args[0], args[1])
        return put(func(*args, **kwargs), place(args[0]))

    def _setitem(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensor, index, value = args
        self._index(tensor, index)
        if isinstance(value, torch.Tensor) and place(value) != place(tensor) and value.ndim:
            self._moved(value, value, place(tensor), False)
        func(*args, **kwargs)

    def _index(self, tensor: torch.Tensor, index: Any) -> None:
        """What finding the elements of an index costs."""
        keys = index if isinstance(index, tuple) else (index,)
        if place(tensor) == CPU:
            if any(isinstance(key, torch.Tensor) and place(key) == CARD for key in keys):
                raise MixedDevicesError(f"at {_line()}: an index of the device into a tensor of the host")
            return
        for key in keys:
            if isinstance(key, list | np.ndarray) or (isinstance(key, torch.Tensor) and place(key) == CPU):
                self.seen.wait("copy of an index to the device")
            elif isinstance(key, torch.Tensor) and key.dtype in (torch.bool, torch.uint8):
                self.seen.wait("index by a mask")
            elif isinstance(key, torch.Tensor) and key.ndim == 0:
                self.seen.wait("index by a value of the device")

    def _deepcopy(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return put(func(*args, **kwargs), place(args[0]))

    def _reduce_ex(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Stored tensors are plain ones: a label would be part of the file."""
        labels, args[0].__dict__ = dict(args[0].__dict__), {}
        try:
            return func(*args, **kwargs)
        finally:
            args[0].__dict__.update(labels)


_OWN = {
    "to", "cpu", "cuda", "type_as", "copy_", "numpy", "__array__", "__get__", "__set__", "__getitem__",
    "__setitem__", "__deepcopy__", "__reduce_ex__", "_has_compatible_shallow_copy_type",
}  # fmt: skip


def tensors_in(value: Any) -> list[torch.Tensor]:
    """All tensors in nested tuples, lists and mappings, in order."""
    found: list[torch.Tensor] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[torch.Tensor]) -> None:
    kind = _kind(type(value))
    if kind is torch.Tensor:
        found.append(value)
    elif kind is not None:
        for each in value.values() if kind is dict else value:
            _collect(each, found)


@cache  # asked for every argument of every call
def _kind(cls: type) -> type | None:
    return next((kind for kind in (torch.Tensor, list, tuple, dict) if issubclass(cls, kind)), None)


def _line() -> str:
    """The line of the package that is at work, from its top folder."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        _, found, path = frame.f_code.co_filename.rpartition("/sfrbench/")
        if found:
            return f"{path}:{frame.f_lineno}"
        frame = frame.f_back
    return "a test"
