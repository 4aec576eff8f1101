"""A command that is told to end does, wherever the word reaches it."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from sfrbench.cli.common import hear_signals


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The signals of these tests are none of the others'."""
    term, hook = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    hear_signals()
    yield
    signal.signal(signal.SIGTERM, term)
    sys.unraisablehook = hook


def test_a_signal_in_a_callback_of_the_garbage_collector_is_not_lost() -> None:
    def callback(phase: str, _: object) -> None:
        if phase == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)  # the handler raises here, and Python drops that

    gc.callbacks.append(callback)
    gc.collect()
    gc.callbacks.remove(callback)
    with pytest.raises(KeyboardInterrupt):
        time.sleep(30)


def test_nor_is_one_where_an_object_is_deleted() -> None:
    class Last:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    last = Last()
    del last
    with pytest.raises(KeyboardInterrupt):
        time.sleep(30)


def test_other_faults_are_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))
    hear_signals()

    class Last:
        def __del__(self) -> None:
            raise ValueError

    last = Last()
    del last
    assert told == [ValueError]
