"""Attention over a grid by our kernel: right where it runs, and torch's own where it does not.

Triton's interpreter runs it on a CPU, in float16, in processes of its own: it is chosen before the import.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from sfrbench.components.foundation import _grid

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="there is no Triton (it comes with torch for CUDA)",
)


def in_python(program: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


EXACT = """
import torch
from sfrbench.components.foundation import _grid
from sfrbench.components.foundation._attention import attend

for n, h, w, c in [(1, 8, 32, 80), (2, 4, 16, 8)]:
    draw = torch.Generator().manual_seed(n)
    shapes = [(n, h * w, c)] * 3 + [(n, h * w, h), (n, h * w, w)]
    parts = [torch.randn(shape, generator=draw).half().requires_grad_() for shape in shapes]
    assert _grid.suits(parts[0], parts[3], parts[4])
    found = _grid.by_rows(parts[0] * c**-0.5, *parts[1:])
    exact = [part.detach().double().requires_grad_() for part in parts]
    wanted = attend(*exact)
    grad = torch.randn(found.shape, generator=draw).half()
    pairs = [(found, wanted)]
    own = torch.autograd.grad(wanted, exact, grad.double())
    pairs += zip(torch.autograd.grad(found, parts, grad), own, strict=True)
    for ours, own in pairs:
        assert ours.dtype == torch.float16
        assert (ours.double() - own).abs().max() < 0.005 * own.abs().max()
print(_grid.holds("cpu", torch.float16))
"""


@needs_triton
def test_values_and_gradients_are_those_in_float64() -> None:
    assert in_python(EXACT, TRITON_INTERPRET="1") == "True"


WRONG = """
import logging, torch
from sfrbench.components.foundation import _grid, _grid_kernel

_grid_kernel._LOG2E = 1.0
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("sfrbench").addHandler(handler)
print(_grid.holds("cpu", torch.float16), said[-1])
"""


@needs_triton
def test_a_kernel_that_is_wrong_is_not_used() -> None:
    said = in_python(WRONG, TRITON_INTERPRET="1")
    assert said.startswith("False attention on cpu goes through torch's kernel, for ours fails: it is ")


@needs_triton
def test_a_kernel_that_does_not_run_is_not_used() -> None:
    program = WRONG.replace("_grid_kernel._LOG2E = 1.0", "")
    said = in_python(program, TRITON_INTERPRET="0")  # there is no card to compile for
    assert said.startswith("False attention on cpu goes through torch's kernel, for ours fails: ")


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sfrbench.components.foundation import _grid_kernel

GIVEN = ["q", "k", "v", "on_rows", "on_columns"]
KERNELS = {
    "_forward": ["mixed", "log_sum"],
    "_backward_queries": ["grad", "log_sum", "inner", "dq", "d_rows", "d_columns"],
    "_backward_keys": ["grad", "log_sum", "inner", "dk", "dv"],
}
for name, more in KERNELS.items():
    for c, warps in ((64, 4), (80, 8)):
        known = {"h": 64, "w": 64, "c": c, "wide": 64 if c == 64 else 128, "count": 64, "log2e": 1.44}
        types = {each: "*fp32" if each in ("log_sum", "inner") else "*bf16" for each in GIVEN + more}
        source = ASTSource(
            fn=getattr(_grid_kernel, name),
            signature=types | dict.fromkeys(known, "constexpr"),
            constexprs=known,
            attrs={(index,): [["tt.divisibility", 16]] for index in range(len(types))},
        )
        options = {"num_warps": warps, "num_stages": 2}
        made = triton.compile(source, target=GPUTarget("cuda", 86, 32), options=options)
        print(made.metadata.shared)
"""


@needs_triton
def test_it_compiles_for_a_card_and_fits_into_its_shared_memory() -> None:
    sizes = in_python(COMPILED, TRITON_INTERPRET="0").split()
    assert len(sizes) == 6
    assert max(map(int, sizes)) <= 99 * 1024  # of a block on sm_86 and sm_89


@pytest.mark.parametrize(
    ("dtype", "h", "w", "suits"),
    [
        (torch.bfloat16, 64, 64, True),  # a global block at 1024 pixels
        (torch.bfloat16, 32, 32, True),
        (torch.bfloat16, 14, 14, False),  # a window
        (torch.bfloat16, 62, 64, True),
        (torch.bfloat16, 3, 16, False),
        (torch.float32, 64, 64, False),
    ],
)
def test_what_it_is_made_for(dtype: torch.dtype, h: int, w: int, suits: bool) -> None:
    q, rows, columns = (torch.empty(1, h * w, size, dtype=dtype, device="meta") for size in (64, h, w))
    assert _grid.suits(q, rows, columns) is suits


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFRBENCH_ATTENTION", "fused")
    monkeypatch.setattr(_grid, "distance", lambda *_: 0.0)
    _grid.holds.cache_clear()
    assert not _grid.holds("cuda:7", torch.bfloat16)
    assert _grid.used("cpu") == "pieces"
    assert _grid.used("cuda:7") == "fused"
    _grid.holds.cache_clear()
