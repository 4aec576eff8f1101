"""The memory in a node's record is that of the node, of the process and of the GPU."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from sfrbench.run.executors import memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the high-water mark is reset on Linux only")
def test_what_earlier_nodes_freed_does_not_count() -> None:
    memory.keep_freed()  # as every worker does: freed blocks stay with the process
    memory.reset_peaks("cpu")
    before = memory.peaks("cpu")["peak_memory_mb"]
    arrays = [np.ones(4_000_000) for _ in range(10)]  # 305 MB
    during = memory.peaks("cpu")["peak_memory_mb"]
    del arrays
    memory.reset_peaks("cpu")
    assert during > before + 250
    assert memory.peaks("cpu")["peak_memory_mb"] < before + 100


class Card:
    """The counters of a GPU as torch keeps them, in bytes."""

    def __init__(self) -> None:
        self.held = self.peak = 0

    def put_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        facts = {
            "is_initialized": lambda: self.peak > 0,
            "max_memory_allocated": lambda device: self.peak,
            "max_memory_reserved": lambda device: 2 * self.peak,
            "reset_peak_memory_stats": self.reset,
        }
        for name, answer in facts.items():
            monkeypatch.setattr(torch.cuda, name, answer)

    def reset(self, device: str) -> None:
        assert device == "cuda:1"
        self.peak = self.held

    def take(self, count: int) -> None:
        self.held += count
        self.peak = max(self.peak, self.held)


def test_the_peak_of_a_gpu_is_that_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card()
    card.put_in(monkeypatch)
    memory.reset_peaks("cuda:1")  # nothing has run there yet
    card.take(3 * 2**30)
    card.take(-(2**31))
    memory.reset_peaks("cuda:1")
    card.take(2**29)
    found = memory.peaks("cuda:1")
    assert (found["peak_gpu_memory_mb"], found["reserved_gpu_memory_mb"]) == (1536, 3072)
    assert set(found) == set(memory.MEASURED)


def test_a_node_on_a_cpu_says_nothing_of_a_gpu() -> None:
    memory.reset_peaks("cpu")
    assert set(memory.peaks("cpu")) == {"peak_memory_mb"}
