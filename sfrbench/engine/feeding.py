"""Batches made while the step before them runs, and their way to the device.

What a batch draws depends on a seed and its step's number alone, so that a thread that makes it earlier gives
the same bits. It must leave torch's global generator alone: that is seeded for the step that runs meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Generic, TypeVar

import torch

Made = TypeVar("Made")


def ahead_on(device: str) -> int:
    """Batches made ahead of their step: one beside an accelerator; on the CPU a step has all cores."""
    return 0 if device == "cpu" else 1


def pinned(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """In memory that CUDA copies from without the host; as it is for other devices."""
    return tensor.pin_memory() if device.startswith("cuda") else tensor


def moved(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """On the device. The host goes on at once where the tensor is ``pinned``."""
    return tensor.to(device, non_blocking=device.startswith("cuda"))


@contextmanager
def feed(make: Callable[[int], Made], steps: range, ahead: int) -> Iterator[Iterator[Made]]:
    """Gives ``make(step)`` for each of ``steps``, in order, ``ahead`` of them made before they are asked for.

    With 0 each is made when it is asked for. Else a thread makes them; what it raises is raised where that
    batch is asked for. The thread ends, after the batch that it is making, when the block is left.
    """
    if ahead < 1:
        yield map(make, steps)
        return
    thread = _Feeder(make, steps, ahead)
    thread.start()
    try:
        yield iter(thread)
    finally:
        thread.stop()


class _Feeder(Thread, Generic[Made]):
    """Makes batches as long as there is room for them."""

    def __init__(self, make: Callable[[int], Made], steps: range, ahead: int) -> None:
        super().__init__(name="feed", daemon=True)  # a second Ctrl-C need not wait for a slow disk
        self._make, self._steps = make, steps
        self._room, self._made = Semaphore(ahead), SimpleQueue[tuple[Made] | BaseException]()
        self._stopped = False

    def run(self) -> None:
        try:
            for step in self._steps:
                self._room.acquire()
                if self._stopped:
                    return
                self._made.put((self._make(step),))
        except BaseException as error:  # raised again in the training's own thread
            self._made.put(error)

    def __iter__(self) -> Iterator[Made]:
        for _ in self._steps:
            made = self._made.get()
            if isinstance(made, BaseException):
                raise made
            self._room.release()
            yield made[0]

    def stop(self) -> None:
        self._stopped = True
        self._room.release()
        self.join()
