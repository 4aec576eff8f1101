"""The machine's self-check sees a wrong kernel, and what it found is kept with care."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfrbench.machine import selfcheck, selfcheck_ops
from sfrbench.machine.selfcheck import SelfCheck
from sfrbench.machine.selfcheck_fault import Fault


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sfrbench" / "selfcheck"


# --- what it sees ---------------------------------------------------------------------


class Broken(torch.autograd.Function):
    """The identity, with the gradient that ``spoil`` makes of the right one."""

    spoil: Callable[[Tensor], Tensor]

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return Broken.spoil(grads[0])


def fault_of(call: Callable[..., Tensor], precision: selfcheck.Precision = "bf16") -> Fault | None:
    operation = selfcheck_ops.Operation("linear", call, ((4, 8), (6, 8), (6,)))
    return selfcheck_ops.compare(operation, precision, "cpu", torch.Generator().manual_seed(0))


def in_bf16(spoil: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A linear layer whose weight gradient is spoilt in bf16 alone."""

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        Broken.spoil = staticmethod(spoil)
        return torch.nn.functional.linear(
            x, Broken.apply(weight) if x.dtype == torch.bfloat16 else weight, bias
        )

    return call


@pytest.mark.parametrize(
    ("spoil", "off"),
    [
        (lambda g: g * torch.nan, None),
        (lambda g: 2 * g, 1.0),
        (torch.zeros_like, 1.0),
        (lambda g: 0.8 * g, 0.2),
    ],
)
def test_a_wrong_gradient_is_found(spoil: Callable[[Tensor], Tensor], off: float | None) -> None:
    fault = fault_of(in_bf16(spoil))
    assert fault is not None
    assert fault.part == "the gradient of input 2 is"
    assert fault.off == (None if off is None else pytest.approx(off, abs=0.02))
    assert str(fault).startswith("linear in bf16 against fp32: the gradient of input 2 is ")


def test_a_right_gradient_is_no_fault() -> None:
    assert fault_of(in_bf16(lambda g: g)) is None
    assert fault_of(torch.nn.functional.linear, "fp32") is None


def test_fp32_that_is_computed_in_less_is_found() -> None:
    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        product = (x + 1 / 3).to(torch.bfloat16 if x.dtype == torch.float32 else x.dtype).to(x.dtype)
        return torch.nn.functional.linear(product, weight, bias)

    fault = fault_of(call, "fp32")
    assert fault is not None
    assert fault.off is not None
    assert 1e-3 < fault.off < 1e-2


def test_memory_that_nobody_wrote_is_nan() -> None:
    """What a kernel would read: without NaN in the heap the fault goes unseen."""
    selfcheck_ops.leave_nan("cpu")
    assert any(torch.empty(size).isnan().any() for size in selfcheck_ops._BLOCKS)


def test_an_operation_that_a_processor_refuses_is_a_fault() -> None:
    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if x.dtype == torch.bfloat16:
            raise RuntimeError("DNNL does not support bf16/f16 backward on the platform with avx2_vnni_2")
        return torch.nn.functional.linear(x, weight, bias)

    fault = fault_of(call)
    assert fault is not None
    assert "avx2_vnni_2" in str(fault)


def test_small_maps_are_checked_in_fp32_alone() -> None:
    for operation in selfcheck_ops.operations():
        if "convolution" in operation.name and min(operation.shapes[0][2:]) <= 2:
            assert not operation.bf16, operation.name
    assert sum(not operation.bf16 for operation in selfcheck_ops.operations()) >= 5


def test_it_leaves_no_trace() -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    found = selfcheck.run("cpu")
    assert torch.equal(torch.rand(3), expected)
    assert found.checked >= 50


# --- how it is kept --------------------------------------------------------------------

FAULT = Fault(
    precision="bf16", operation="convolution 3", part="the gradient of input 2 is", off=None, limit=0.1
)


def result(*faults: Fault) -> SelfCheck:
    return SelfCheck(facts=selfcheck.facts(), checked=9, seconds=0.5, faults=faults)


def test_it_is_asked_once_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(selfcheck, "run", lambda device: asked.append(device) or result(FAULT))
    assert selfcheck.kept() is None
    assert selfcheck.on_cpu() == selfcheck.on_cpu() == selfcheck.kept() == result(FAULT)
    assert asked == ["cpu"]
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("name", selfcheck.VARIABLES)
def test_other_instructions_ask_anew(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    selfcheck.keep(result())
    monkeypatch.setenv(name, "AVX2")
    assert selfcheck.kept() is None


def test_other_threads_and_another_torch_ask_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    selfcheck.keep(result())
    assert selfcheck.kept() is not None
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 64)
        assert selfcheck.kept() is None
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "9.9")
        assert selfcheck.kept() is None
    with monkeypatch.context() as patch:
        patch.setattr(selfcheck, "processor", lambda: {"model name": "another"})
        assert selfcheck.kept() is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "null",
        lambda text: text.replace('"checked": 9', '"checked": "nine"'),
        lambda text: text.replace('"threads"', '"thread"'),
        lambda text: json.dumps({**json.loads(text), "faults": [{"operation": "x"}]}),
        lambda text: json.dumps({**json.loads(text), "more": 1}),
        lambda text: "\x00\xff",
    ],
)
def test_a_damaged_file_is_absent(cache: Path, spoil: Callable[[str], str]) -> None:
    selfcheck.keep(result(FAULT))
    (path,) = cache.iterdir()
    path.write_text(spoil(path.read_text()), encoding="latin-1")
    assert selfcheck.kept() is None
    selfcheck.keep(result(FAULT))
    assert selfcheck.kept() == result(FAULT)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    selfcheck.keep(result())
    assert selfcheck.kept() is None
    monkeypatch.setattr(selfcheck, "run", lambda device: result(FAULT))
    assert selfcheck.on_cpu() == result(FAULT)


def test_the_processor_as_linux_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(
        "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2\n\n"
        "processor\t: 1\nmodel name\t: AMD EPYC\n"
    )
    found = selfcheck.processor(path)
    assert found["model name"] == "AMD EPYC"
    path.write_text(path.read_text().replace("avx2", "avx512f"))
    assert selfcheck.processor(path)["instructions"] != found["instructions"]
    assert selfcheck.processor(tmp_path / "none").keys() == {"processor"}
