"""A short run of ``benchmarks/broken_volumes.py``: whatever is wrong with what users bring is one message."""

from __future__ import annotations

from collections import Counter

from benchmarks import broken_volumes


def test_mutated_volumes_and_manifests_are_read_or_refused() -> None:
    made = [broken_volumes.one(number, seed=11) for number in range(40)]
    assert [(told, fault) for _, told, _, _, fault in made if fault] == []
    counts = Counter((kind, code) for kind, _, code, _, _ in made)
    assert {kind for kind, _ in counts} == set(broken_volumes.MUTATORS)
    assert {code for _, code in counts} == {0, 1, 2}  # some are read, some refused, of either sort
