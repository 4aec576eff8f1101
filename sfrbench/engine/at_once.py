"""How many windows go through a network at once: one on a CPU, on a GPU what its free memory holds.

The mean over windows does not depend on it: they are added one by one, in their order. On a GPU the kernels
that a batch of another size gets may have other last digits; hence powers of two, which a little more or less
of free memory seldom changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from sfrbench.errors import short_of_memory

#: Windows that keep any card busy.
MOST = 16
#: Of the free memory, for windows: kernels want some to work in, and free memory comes in pieces.
SHARE = 0.7


def that_fit(free: int, each: int) -> int:
    """The most windows of ``each`` bytes for ``free`` bytes of memory: a power of two, from 1 to ``MOST``."""
    fit = int(free * SHARE) // max(each, 1)
    return min(1 << max(fit.bit_length() - 1, 0), MOST)


class AtOnce:
    """``now`` windows at once. On a GPU that is settled after the first window, by what it took, and again
    for each volume; it is halved where the memory does not suffice after all."""

    def __init__(self, now: int = 1, gpu: str | None = None) -> None:
        self.now = now
        self._gpu, self._most, self._each = gpu, MOST, 0

    @classmethod
    def on(cls, device: str) -> AtOnce:
        """For a device as torch knows it."""
        return cls(gpu=device if device.startswith("cuda") else None)

    def run(
        self, forward: Callable[[torch.Tensor], torch.Tensor], windows: Sequence[torch.Tensor]
    ) -> Iterator[torch.Tensor]:
        """``forward`` of all windows (X, Y, Z) of a volume, (K, X, Y, Z) for each in their order."""
        if self._each:
            self._settle()
        done = 0
        while done < len(windows):
            results = self._some(forward, windows[done : done + self.now])
            yield from results
            done += len(results)

    def _some(
        self, forward: Callable[[torch.Tensor], torch.Tensor], windows: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """``forward`` of as many of these as the memory allows."""
        while True:
            try:
                return self._measured(forward, torch.stack(list(windows[: self.now])))
            except RuntimeError as error:
                if self._gpu is None or self.now == 1 or not short_of_memory(error):
                    raise
            self._most = self.now = self.now // 2
            torch.cuda.empty_cache()

    def _measured(
        self, forward: Callable[[torch.Tensor], torch.Tensor], windows: torch.Tensor
    ) -> torch.Tensor:
        if self._gpu is None or self._each:
            return forward(windows)
        before = torch.cuda.memory_allocated(self._gpu)
        results = forward(windows)
        self._each = max(torch.cuda.max_memory_allocated(self._gpu) - before, 1)
        self._settle()
        return results

    def _settle(self) -> None:
        assert self._gpu is not None
        cached = torch.cuda.memory_reserved(self._gpu) - torch.cuda.memory_allocated(self._gpu)
        self.now = min(that_fit(torch.cuda.mem_get_info(self._gpu)[0] + cached, self._each), self._most)
