"""The memory in a node's record is that of the node."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sfrbench.run.executors import node


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the high-water mark is reset on Linux only")
def test_what_earlier_nodes_freed_does_not_count() -> None:
    node._keep_freed_memory()  # as every worker does: freed blocks stay with the process
    node._reset_peak()
    before = node._peak_mb()
    arrays = [np.ones(4_000_000) for _ in range(10)]  # 305 MB
    during = node._peak_mb()
    del arrays
    node._reset_peak()
    assert during > before + 250
    assert node._peak_mb() < before + 100
