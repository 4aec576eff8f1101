"""A short form of ``benchmarks/schema_verdicts.py``: mutated specifications, by a seed of its own."""

from __future__ import annotations

from benchmarks.schema_verdicts import campaign


def test_the_schema_never_refuses_what_validate_takes() -> None:
    counts, bad = campaign(40, seed=17)
    assert bad == []
    assert counts["schema refuses, validate refuses"] >= 15
    assert sum(number for name, number in counts.items() if name.startswith("schema passes")) >= 2
