"""Workers of a search as processes of this machine, each with a card or a share of the cores."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Collection, Iterable, Sequence

from sfrbench.run.executors.local import GRACE_S, Place, ended_by, environment_of
from sfrbench.search.workers.order import Gone, Order

_LOOK_S = 0.1


class LocalCrew:
    """One process at each of these places."""

    def __init__(self, order: Order, places: Iterable[Place]) -> None:
        self._order = order
        self._free = list(places)
        self._there: dict[str, tuple[subprocess.Popen[bytes], Place]] = {}

    def come_back(self) -> Collection[str]:
        return ()  # they end with who has started them

    def start(self, count: int) -> Collection[str]:
        started = {}
        for _ in range(count):
            place = self._free.pop(0)
            process = self._order.start(["--within=local"], environment_of(place))
            started[str(process.pid)] = (process, place)
        self._there |= started
        return started

    def wait(self, seconds: float) -> Sequence[Gone]:
        until = time.monotonic() + seconds
        while not (gone := self._gone()) and time.monotonic() < until:
            time.sleep(_LOOK_S)
        return gone

    def _gone(self) -> list[Gone]:
        found = []
        for name, (process, place) in list(self._there.items()):
            status = process.poll()
            if status is not None:
                del self._there[name]
                self._free.append(place)
                found.append(Gone(name, status, ended_by(status)))
        return found

    def close(self) -> None:
        left = [process for process, _ in self._there.values()]
        self._there.clear()
        for process in left:
            process.terminate()
        until = time.monotonic() + GRACE_S
        try:
            for process in left:
                process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return
        finally:  # also where Ctrl-C comes once more
            for process in left:
                if process.poll() is None:
                    process.kill()
                    process.wait()
