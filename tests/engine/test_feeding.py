"""Batches made ahead: in order, no further than told, with their errors, and gone when the training is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from sfrbench.engine.feeding import ahead_on, feed
from sfrbench.errors import DataError


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_batches_come_in_order(ahead: int) -> None:
    with feed(lambda step: 10 * step, range(3, 8), ahead) as made:
        assert list(made) == [30, 40, 50, 60, 70]


def test_without_a_thread_a_batch_is_made_when_it_is_asked_for() -> None:
    asked: list[int] = []
    with feed(asked.append, range(5), 0) as made:
        assert asked == []
        next(made)
        assert asked == [0]


@pytest.mark.parametrize("ahead", [1, 2])
def test_no_more_are_made_ahead_than_told(ahead: int) -> None:
    started: list[int] = []
    reached = threading.Event()

    def make(step: int) -> int:
        started.append(step)
        if step == ahead:
            reached.set()
        return step

    with feed(make, range(9), ahead) as made:
        assert next(made) == 0
        assert reached.wait(30)  # made while the step of batch 0 runs
        time.sleep(0.05)
        assert started == list(range(ahead + 1))


def test_a_batch_is_made_while_a_step_runs() -> None:
    with feed(lambda step: threading.get_ident(), range(2), 1) as made:
        assert set(made) != {threading.get_ident()}


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_an_error_is_raised_where_its_batch_is_asked_for(ahead: int) -> None:
    def make(step: int) -> int:
        if step == 2:
            raise DataError("the file is gone", where="case a", hint="bring it back")
        return step

    with feed(make, range(9), ahead) as made:
        assert [next(made), next(made)] == [0, 1]
        with pytest.raises(DataError, match="the file is gone"):
            next(made)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_the_thread_ends_with_the_training(error: type[BaseException]) -> None:
    thread: list[threading.Thread] = []

    def make(step: int) -> int:
        thread.append(threading.current_thread())
        return step

    def train() -> None:
        with feed(make, range(1000), 2) as made:
            next(made)
            raise error

    with pytest.raises(error):
        train()
    assert not thread[0].is_alive()
    assert len(thread) <= 4


def test_an_unused_feed_ends() -> None:
    with feed(lambda step: step, range(5), 1):
        pass
    with feed(lambda step: step, range(0), 1) as made:
        assert list(made) == []


def test_only_beside_an_accelerator() -> None:
    assert ahead_on("cpu") == 0
    assert {ahead_on(device) for device in ("cuda", "cuda:1", "mps")} == {1}
