"""Numbers, as people read them."""

from __future__ import annotations

import pytest

from sfrbench.files.units import counted


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (0, ("case",), "0 cases"),
        (1, ("case",), "1 case"),
        (2, ("patch", "patches"), "2 patches"),
        (1.0, ("CPU",), "1 CPU"),
        (0.5, ("CPU",), "0.5 CPUs"),
    ],
)
def test_one_of_something_and_several(count: float, words: tuple[str, ...], said: str) -> None:
    assert counted(count, *words) == said
