"""FLOPs as torch counts them while a network runs."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

_ATEN = torch.ops.aten


def _added(total: Any, a: Any, b: Any, *args: Any, **kwargs: Any) -> int:
    """``baddbmm_``."""
    return int(2 * prod(a.shape) * b.shape[-1])


def _backward(grad: Any, image: Any, weight: Any, *args: Any, **kwargs: Any) -> int:
    """Of a convolution: torch's own count takes grouped ones for full ones."""
    transposed, mask = args[4], args[7]
    places = image.shape if transposed else grad.shape
    return int(2 * prod(places[2:]) * places[0] * prod(weight.shape) * (mask[0] + mask[1]))


def _attended(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    """By the fused kernel of CPUs."""
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


def _attended_backward(grad: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_backward_flop_count(grad.shape, query.shape, key.shape, value.shape))


#: What torch's registry lacks or has wrong.
_OWN: dict[Any, Callable[..., int]] = {
    _ATEN.baddbmm_: _added,
    _ATEN.convolution_backward: _backward,
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attended,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attended_backward,
}


class _Count(TorchDispatchMode):
    """Adds up what every operation takes."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out, packet = func(*args, **(kwargs or {})), func.overloadpacket
        if packet in _OWN:
            self.total += _OWN[packet](*args, **(kwargs or {}))
        elif packet in flop_registry:
            self.total += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        return out


def flops(run: Callable[[], object]) -> int:
    """FLOPs of what ``run`` does."""
    with _Count() as counter:
        run()
    return counter.total


def size(*networks: nn.Module, trained: bool = False) -> int:
    """Parameters; of those that train, with ``trained``."""
    parts = [part for network in networks for part in network.parameters()]
    return sum(part.numel() for part in parts if part.requires_grad or not trained)
