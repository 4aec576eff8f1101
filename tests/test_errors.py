"""The wish to stop is no failure, whatever a library makes of it."""

from __future__ import annotations

import pytest

from sfrbench.errors import Problem, by_place
from sfrbench.errors import stopped as is_stopped


def raised(*chain: type[BaseException]) -> BaseException:
    """The last of some errors, each raised while the one before is handled."""
    error: BaseException | None = None
    for kind in chain:
        try:
            try:
                if error is not None:
                    raise error
            finally:
                raise kind("x")
        except BaseException as one:
            error = one
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("chain", "stopped"),
    [
        ([RuntimeError], False),
        ([OSError, RuntimeError], False),
        ([KeyboardInterrupt, RuntimeError], True),
        ([KeyboardInterrupt, RuntimeError, ValueError], True),
    ],
)
def test_what_a_library_makes_of_a_stop_is_seen(chain: list[type[BaseException]], stopped: bool) -> None:
    assert is_stopped(raised(*chain)) is stopped


def test_torch_stopped_while_it_writes() -> None:
    """What it raises then has the stop behind it, whichever error that is."""
    import io

    import torch

    class Stopped(io.BytesIO):
        def write(self, *_: object) -> int:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, RuntimeError)) as caught:
        torch.save({"weight": torch.zeros(1000)}, Stopped())
    assert isinstance(caught.value, KeyboardInterrupt) or is_stopped(caught.value)


def test_problems_are_told_from_the_top_of_a_file_to_its_end() -> None:
    told = [
        Problem(where, "x")
        for where in ("b.yaml:10:2", "", "b.yaml:9", "a:1.yaml:3:1", "b.yaml:10:1", "b.yaml:9")
    ]
    assert [problem.where for problem in by_place(told)] == [
        "a:1.yaml:3:1",
        "b.yaml:9",
        "b.yaml:10:1",
        "b.yaml:10:2",
        "",
    ]
