"""Blocks that keep nothing for the backward pass but what goes in, and run anew for it: the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

Parts = Sequence[nn.Module]
#: What a block makes of its parts and of maps.
Block = Callable[..., torch.Tensor]


def again(block: Block, parts: Parts, *maps: torch.Tensor) -> torch.Tensor:
    """``block(parts, *maps)``, of which nothing is kept. Random numbers and running statistics are those of
    one run; what goes in must not change before the backward pass."""
    norms = [one for part in parts for one in part.modules() if isinstance(one, _BatchNorm)]
    tracking = [norm.track_running_stats for norm in norms]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _second_run(norms, tracking)

    result: torch.Tensor = checkpoint(block, parts, *maps, use_reentrant=False, context_fn=contexts)
    return result


@contextmanager
def _second_run(norms: Sequence[_BatchNorm], tracking: Sequence[bool]) -> Iterator[None]:
    """Batch norms do as they did in the first run, and leave their running statistics as that made them."""
    before = [(norm.track_running_stats, dict(norm._buffers)) for norm in norms]
    for norm, tracks in zip(norms, tracking, strict=True):
        norm.track_running_stats = tracks
        norm._buffers.update({name: None if b is None else b.clone() for name, b in norm._buffers.items()})
    try:
        yield
    finally:
        for norm, (tracks, buffers) in zip(norms, before, strict=True):
            norm.track_running_stats = tracks
            norm._buffers.update(buffers)
