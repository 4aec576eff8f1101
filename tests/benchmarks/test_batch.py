"""The ways that a batch is made by give the same bits as plain ones, at a small size."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.places import BENCHMARKS


def test_every_way_is_measured_and_gives_the_same_bits() -> None:
    command = [
        sys.executable,
        BENCHMARKS / "batch.py",
        "--patch",
        "24",
        "20",
        "16",
        "--repeat",
        "1",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    names = ("hardening", "batch", "distances", "parts")
    assert list(found) == [f"{name} {classes}" for classes in (2, 14) for name in names]
    assert all(entry["equal"] is True for entry in found.values())
