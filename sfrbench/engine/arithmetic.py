"""How a GPU computes what is float32: in float32 or in TF32, by kernels that repeat.

Torch's own defaults are TF32 in cuDNN's convolutions and float32 in products, wherever the card has TF32
(ten bits of mantissa; range and sums of float32). A processor knows float32 alone, so both give its bits.
Imports torch when called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sfrbench.components.core import Component
from sfrbench.errors import NotReadyError


def in_tf32(component: Component, device: str) -> bool:
    """Whether the networks of a component compute in TF32 on a device."""
    return getattr(component, "precision", None) == "tf32" and device.startswith("cuda")


@contextmanager
def arithmetic(*, tf32: bool) -> Iterator[dict[str, bool]]:
    """Products and convolutions of float32 in TF32 or in float32, and kernels that repeat.

    Gives what torch says of itself then; all its switches come back as they were. They are the process's, so
    no other thread may compute on the device in another precision meanwhile. Raises ``NotReadyError`` where
    torch does not take them.
    """
    restore = _switches()
    try:
        _set(tf32)
        with repeatable():
            held = now()
            if held != {"tf32_products": tf32, "tf32_convolutions": tf32, "repeatable_convolutions": True}:
                raise NotReadyError(
                    f"torch does not take {'tf32' if tf32 else 'fp32'} here; it says {held}",
                    hint="look for TORCH_ or NVIDIA_ variables in the environment that decide it",
                )
            yield held
    finally:
        restore()


@contextmanager
def repeatable() -> Iterator[None]:
    """cuDNN without trials of kernels, and with those alone that give the same bits again."""
    from torch.backends import cudnn

    names = {"enabled": True, "benchmark": False, "deterministic": True}
    before = {name: getattr(cudnn, name) for name in names}
    try:
        for name, value in names.items():
            setattr(cudnn, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(cudnn, name, value)


def now() -> dict[str, bool]:
    """What torch's switches say."""
    import torch
    from torch.backends import cudnn

    return {
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
        "tf32_convolutions": cudnn.allow_tf32,
        "repeatable_convolutions": cudnn.deterministic and not cudnn.benchmark,
    }


def _words() -> dict[str, Any]:
    """What holds ``fp32_precision`` for a kind of work, by name; empty before torch 2.9."""
    import torch
    from torch.backends import cudnn

    if not hasattr(cudnn, "conv"):
        return {}
    mkldnn: Any = torch.backends.mkldnn
    kinds: dict[str, Any] = {"products": torch.backends.cuda.matmul, "convolutions": cudnn.conv}
    return {**kinds, "recurrences": cudnn.rnn, "processor": mkldnn.matmul}


def _set(tf32: bool) -> None:
    """By torch's old flags, which other libraries read, then by its words, which a default of the user's for
    all work would otherwise overrule."""
    import torch
    from torch.backends import cudnn

    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    cudnn.allow_tf32 = tf32
    for kind, holder in _words().items():
        holder.fp32_precision = "tf32" if tf32 and kind != "processor" else "ieee"


def _switches() -> Callable[[], None]:
    """What sets everything that ``_set`` sets back to what it is now."""
    import torch
    from torch.backends import cudnn

    words = {kind: holder.fp32_precision for kind, holder in _words().items()}
    if words:  # the old flags may not be read where somebody has set the words apart
        products, convolutions = words["products"] == "tf32", words["convolutions"] == "tf32"
        name = ("medium" if words["processor"] == "bf16" else "high") if products else "highest"
    else:
        name, convolutions = torch.get_float32_matmul_precision(), cudnn.allow_tf32

    def restore() -> None:
        torch.set_float32_matmul_precision(name)
        cudnn.allow_tf32 = convolutions
        for kind, holder in _words().items():
            holder.fp32_precision = words[kind]

    return restore
