"""Gradients in bf16 are gradients, whatever kernels the processor chooses, with one thread and with two."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.support.loaded import Process
from tests.support.places import BENCHMARKS
from tests.support.runs import ended

SCRIPT = BENCHMARKS / "bf16_gradients.py"
#: A right kernel is off by 0.04 at most, in biases before a norm whose gradient is nothing but rounding.
LIMIT = 0.2
#: One of each family: the convolutions of their relatives are of the same kinds. The others take minutes.
CARDS = ("vnet", "unet3d")


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["", "AVX2", "AVX512_CORE"])
def test_backbones_at_their_smallest_patches(isa: str, tmp_path: Path) -> None:
    """Every convolution in bf16, forward and backward, against float32, with NaN in freed memory."""
    env = {name: value for name, value in os.environ.items() if "_MAX_CPU_ISA" not in name}
    env["OMP_WAIT_POLICY"] = "PASSIVE"
    if isa:  # as --isa does, which begins anew; it is read at the first convolution
        env["DNNL_MAX_CPU_ISA"] = isa
    options = ["--quick", "--json", "--threads", "1", "2"]
    options += [word for card in CARDS for word in ("--card", card)]
    done = ended(Process(*options, script=SCRIPT, cwd=tmp_path, env=env))
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    cards = Counter(name.partition(" ")[0] for name in found)  # others refuse some patches
    assert all(cards[name] == 2 * 3 for name in CARDS)
    shares = {name: entry["kernel"] for name, entry in found.items()}
    assert all(0 < share < math.inf for share in shares.values()), shares
    assert max(shares.values()) < LIMIT, shares
