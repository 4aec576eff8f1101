"""The machine's self-check sees a wrong kernel, and what it found is kept with care."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfrbench.engine.arithmetic import now
from sfrbench.machine import selfcheck, selfcheck_ops
from sfrbench.machine.card import Card
from sfrbench.machine.selfcheck import SelfCheck
from sfrbench.machine.selfcheck_fault import Fault, Shapes


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


def test_a_full_memory_is_no_fault() -> None:
    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    with pytest.raises(torch.OutOfMemoryError):
        fault_of(call)


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


# --- on a card ------------------------------------------------------------------------

#: Another device than the processor, which torch computes with the processor all the same.
DEVICE = "cpu:0"
USED = Shapes(patch=(48, 32, 32), filters=2, canvas=64)


def rounded(values: Tensor, bits: int) -> Tensor:
    """To so many bits of mantissa, ties to even, as TF32 (10) and bf16 (7) round what is float32."""
    step = 2 ** (23 - bits)
    whole = values.detach().contiguous().view(torch.int32)
    return ((whole + step // 2 - 1 + (whole // step) % 2) // step * step).view(torch.float32)


class Rounded(torch.autograd.Function):
    """A linear layer as a card computes it whose products round float32 to fewer bits."""

    bits: int

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x, weight = rounded(x, Rounded.bits), rounded(weight, Rounded.bits)
        ctx.save_for_backward(x, weight)
        return torch.nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (x, weight), grad = ctx.saved_tensors, rounded(grads[0], Rounded.bits)
        return grad @ weight, grad.T @ x, grads[0].sum(0)


def linear_on_card(bits: int) -> selfcheck_ops.Operation:
    """Only passes that ask for TF32, or that are taken for fp32, are rounded: the reference never is."""
    Rounded.bits = bits

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        low = x.dtype == torch.float32 and (now()["tf32_products"] or not bits)
        return Rounded.apply(x, weight, bias) if low else torch.nn.functional.linear(x, weight, bias)

    return selfcheck_ops.Operation("linear", call, ((64, 32), (48, 32), (48,)))


def on_card(operation: selfcheck_ops.Operation, precision: selfcheck.Precision) -> Fault | None:
    return selfcheck_ops.compare(operation, precision, DEVICE, torch.Generator().manual_seed(0), DEVICE)


def test_tf32_is_right_and_less_than_it_is_found() -> None:
    assert on_card(linear_on_card(10), "tf32") is None
    fault = on_card(linear_on_card(5), "tf32")
    assert fault is not None
    assert fault.off is not None
    assert 0.01 < fault.off < 0.02  # 2^-6 at most, and less on average
    assert str(fault).startswith("linear in tf32 against fp32: the gradient of input ")


def test_tf32_in_the_place_of_fp32_is_found_on_a_card() -> None:
    """By its gradients: the inputs are numbers that TF32 holds."""

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        low = x.dtype == torch.float32
        return Rounded.apply(x, weight, bias) if low else torch.nn.functional.linear(x, weight, bias)

    Rounded.bits = 10
    operation = selfcheck_ops.Operation("linear", call, ((64, 32), (48, 32), (48,)))
    rng = torch.Generator().manual_seed(0)
    fault = selfcheck_ops.compare(operation, "fp32", DEVICE, rng)
    assert fault is not None
    assert fault.off is not None
    assert 1e-4 < fault.off < 1e-3
    assert fault.limit == 1e-4


def test_large_shapes_are_those_of_the_node() -> None:
    names = [operation.name for operation in selfcheck_ops.in_use(Shapes(patch=(112, 112, 80), filters=16))]
    assert "convolution 3, 16 to 16, of 112x112x80" in names
    assert "convolution, contiguous, 3, 16 to 16, of 112x112x80" in names  # cuDNN's kernels go by layout
    assert "convolution 3, 256 to 256, of 7x7x5" in names
    assert not any("linear" in name for name in names)
    shapes = {operation.name: operation.shapes[0] for operation in selfcheck_ops.in_use(Shapes(canvas=1024))}
    assert shapes["fused attention of 4096"] == (1, 2, 4096, 192)
    assert selfcheck_ops.in_use(Shapes()) == []


def test_every_operation_is_right_here_in_every_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole list runs as on a card; a kernel that is wrong at the large shape alone is found."""
    count, _, faults = selfcheck_ops.check(DEVICE, ("fp32", "tf32", "bf16"), USED)
    assert faults == []
    small, large = selfcheck_ops.operations(), selfcheck_ops.in_use(USED)
    low = sum(operation.bf16 for operation in large)
    assert count == 2 * len(small) + sum(operation.bf16 for operation in small) + len(large) + low

    right = torch.nn.functional.conv3d

    def wrong(maps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        found: Tensor = right(maps, *args, **kwargs)
        return found * 0.5 if maps.dtype == torch.bfloat16 and maps.shape[2] == 48 else found

    monkeypatch.setattr(torch.nn.functional, "conv3d", wrong)
    monkeypatch.setattr(selfcheck_ops, "operations", list)
    _, _, faults = selfcheck_ops.check(DEVICE, ("fp32", "tf32", "bf16"), USED)
    assert {fault.precision for fault in faults} == {"bf16"}
    assert "convolution 3, 2 to 2, of 48x32x32 in bf16 against fp32: " in str(faults[1])
    assert str(faults[1]).endswith(" off by 0.5 (limit 0.1)")


def test_a_card_s_check_is_kept_by_what_it_depends_on(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        selfcheck_ops,
        "check",
        lambda *told: asked.append(told) or (9, 0.5, [FAULT] if len(asked) == 1 else []),
    )
    card = Card("NVIDIA A100", (8, 0), "2.8.0", 91500)
    first = selfcheck.on_device("cuda:0", card, USED)
    assert first.faults == (FAULT,)
    assert selfcheck.on_device("cuda:1", card, USED) == first  # another one of the same kind
    assert asked == [("cuda:0", ["fp32", "tf32", "bf16"], USED)]
    selfcheck.on_device("cuda", replace(card, cudnn=91600), USED)
    selfcheck.on_device("cuda", replace(card, torch="2.9.0"), USED)
    selfcheck.on_device("cuda", card, Shapes(canvas=1024))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    selfcheck.on_device("cuda", card, USED)
    assert len(asked) == 5
    assert len(list(cache.iterdir())) == 5
    selfcheck.on_device("cuda", Card("Tesla T4", (7, 5), "2.8.0", 91500), USED)
    assert asked[-1][1] == ["fp32"]  # it has no other
    selfcheck.on_device("mps", None, USED)
    assert asked[-1][:2] == ("mps", ["fp32", "bf16"])


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
    result().keep()
    monkeypatch.setenv(name, "AVX2")
    assert selfcheck.kept() is None


def test_other_threads_and_another_torch_ask_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    result().keep()
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
    result(FAULT).keep()
    (path,) = cache.iterdir()
    path.write_text(spoil(path.read_text()), encoding="latin-1")
    assert selfcheck.kept() is None
    result(FAULT).keep()
    assert selfcheck.kept() == result(FAULT)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    result().keep()
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
