"""The machine's self-check sees a wrong kernel, is kept with care, and sends runs to fp32."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfrbench import selfcheck, selfcheck_ops
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Component
from sfrbench.components.ssl.mean_teacher import MeanTeacher
from sfrbench.executors.precision import NETWORKS, Precision
from sfrbench.graph import STAGE_VERSIONS
from sfrbench.selfcheck import Fault, SelfCheck


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
WORSE = Fault(precision="fp32", operation="linear", part="the result is", off=0.5, limit=1e-3)


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


# --- what a run makes of it -------------------------------------------------------------


def parts(precision: str) -> dict[str, Component]:
    return {"backbone": VNet.model_validate({"precision": precision}), "ssl": MeanTeacher()}


def never() -> SelfCheck:
    raise AssertionError("must not be checked here")


def test_a_failing_check_sends_bf16_to_fp32(caplog: pytest.LogCaptureFixture) -> None:
    precision = Precision("cpu", lambda: result(FAULT), never)
    given = parts("bf16")
    with caplog.at_level(logging.WARNING, "sfrbench"):
        for _ in range(2):
            settled, record = precision.settle("retrain", given)
    assert settled["backbone"] == given["backbone"].model_copy(update={"precision": "fp32"})
    assert settled["ssl"] is given["ssl"]
    assert record["precision"] == {"backbone": "fp32"}
    assert record["precision_asked"] == {"backbone": "bf16"}
    assert record["self_check_faults"] == [str(FAULT)]
    (warning,) = caplog.messages  # once
    assert "fp32 is used in its place" in warning
    assert "convolution 3 in bf16 against fp32: the gradient of input 2 is not a number" in warning


def test_a_sound_machine_runs_what_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    given = parts("bf16")
    settled, record = Precision("cpu", result, never).settle("retrain", given)
    assert settled == given
    assert record == {"precision": {"backbone": "bf16"}}
    assert not caplog.messages


def test_fp32_that_is_wrong_is_said_loudly(caplog: pytest.LogCaptureFixture) -> None:
    settled, record = Precision("cpu", never, lambda: result(FAULT, WORSE)).settle("predict", parts("fp32"))
    assert settled == parts("fp32")
    assert record == {"precision": {"backbone": "fp32"}, "self_check_faults": [str(FAULT), str(WORSE)]}
    (warning,) = caplog.messages
    assert "results are not to be trusted" in warning
    assert "linear in fp32 against float64: the result is off by 0.5 (limit 0.001)" in warning


def test_who_is_not_checked() -> None:
    assert Precision("cpu", never, never).settle("prepare", parts("bf16"))[1] == {}
    assert Precision("cpu", never, never).settle("retrain", {"ssl": MeanTeacher()})[1] == {}
    on_gpu = Precision("cuda", never, never).settle("retrain", parts("bf16"))
    assert on_gpu == (parts("bf16"), {"precision": {"backbone": "bf16"}})
    assert Precision("cpu", never, lambda: None).settle("retrain", parts("fp32"))[1] == {
        "precision": {"backbone": "fp32"}
    }


def test_every_stage_that_runs_a_network_is_known() -> None:
    assert set(STAGE_VERSIONS) - NETWORKS == {"prepare", "evaluate", "canvases"}


# --- doctor -----------------------------------------------------------------------------


def doctor(folder: Path, before: str) -> subprocess.CompletedProcess[str]:
    program = f"{before}\nfrom sfrbench.cli.commands import main\nmain(['doctor'])"
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )


def test_doctor_without_a_torch_that_imports(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libtorch_cpu.so: cannot open shared object file')")
    done = doctor(tmp_path, "import sys; sys.path.insert(0, '.')")
    assert done.returncode == 0, done.stderr
    assert "torch     cannot be imported: OSError: libtorch_cpu.so" in done.stdout
    assert "weights" in done.stdout
    assert "Traceback" not in done.stderr


def test_doctor_names_what_is_wrong(tmp_path: Path) -> None:
    planted = (
        "from sfrbench import selfcheck, selfcheck_ops\n"
        "fault = selfcheck.Fault(precision='fp32', operation='linear', part='the result is',"
        " off=.5, limit=.001)\n"
        "selfcheck_ops.check = lambda device: (58, 0.5, [fault])\n"
    )
    done = doctor(tmp_path, planted)
    assert done.returncode == 0, done.stderr
    assert "WRONG   linear in fp32 against float64: the result is off by 0.5" in done.stdout
    assert "not to be trusted" in done.stdout


# --- a whole run --------------------------------------------------------------------------

SPEC = """\
title: Small
dataset: {name: phantom, labeled: 2, train_cases: 4, test_cases: 1, shape: [32, 32, 16]}
protocol: strict
base: {stitch: grid, foundation: sam_toy, finetune: lora, backbone: vnet, ssl: supervised}
arms: [{name: mt}]
"""


def test_the_record_says_what_ran(tmp_path: Path) -> None:
    """A run in bf16 on a processor that fails: it warns, goes on, and gives what fp32 gives."""
    (tmp_path / "small.yaml").write_text(SPEC)
    planted = (
        "from sfrbench import selfcheck, selfcheck_ops\n"
        "fault = selfcheck.Fault(precision='bf16', operation='convolution', part='the result is',"
        " off=None, limit=.1)\n"
        "selfcheck_ops.check = lambda device: (58, 0.5, [fault])\n"
        "from sfrbench.cli.commands import main\n"
        "main(['run', 'small.yaml', '--profile', 'smoke', '--workspace', {!r}, '--tracking-uri', 'none',"
        " '--device', 'cpu', '--set', 'backbone.precision={}'])\n"
    )
    records: dict[str, dict[str, Any]] = {}
    for precision in ("bf16", "fp32"):
        done = subprocess.run(
            [sys.executable, "-c", planted.format(precision, precision)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("fp32 is used in its place" in done.stderr) is (precision == "bf16")
        (path,) = (tmp_path / precision / "store" / "retrain").glob("*/record.json")
        records[precision] = json.loads(path.read_text())
    one, other = records["bf16"], records["fp32"]
    assert one["precision"] == other["precision"] == {"backbone": "fp32"}
    assert one["precision_asked"] == {"backbone": "bf16"}
    assert "precision_asked" not in other
    assert "convolution in bf16 against fp32: the result is not a number" in one["self_check_faults"][0]
    assert one["components"]["backbone"]["precision"] == "bf16"  # what the key stands for
    weights = {name: entry["sha256"] for name, entry in one["files"].items() if name == "model.safetensors"}
    assert weights == {"model.safetensors": other["files"]["model.safetensors"]["sha256"]}
