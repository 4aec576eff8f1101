"""How a worker of a search is told to end, by whoever started it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Ending:
    """Whether this worker was told to end: within a trial it goes on to the next step and leaves a
    checkpoint, elsewhere it ends at once; both by ``KeyboardInterrupt``, after which its trial is put in line
    again. Once told, it hears no more: a scheduler tells whole groups of processes, some of them twice."""

    def __init__(self) -> None:
        self._told = False
        self._at_work = False

    def listen(self) -> None:
        """From now on SIGTERM tells it. Ctrl-C is for who started it, and SIGUSR2 for the job around it."""
        signal.signal(signal.SIGTERM, self._hear)
        for number in (signal.SIGINT, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)

    def is_near(self) -> bool:
        return self._told

    def check(self) -> None:
        """Ends the worker where it was told so."""
        if self._told:
            raise KeyboardInterrupt

    @contextmanager
    def after_a_step(self) -> Iterator[None]:
        """Here, whoever works looks at ``is_near`` after each step."""
        self._at_work = True
        try:
            yield
        finally:
            self._at_work = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        before, self._told = self._told, True
        if not before and not self._at_work:
            raise KeyboardInterrupt
