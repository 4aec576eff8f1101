"""A run on a processor that fails its self-check goes on in fp32 and says so; doctor shows it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Component
from sfrbench.components.ssl.mean_teacher import MeanTeacher
from sfrbench.machine import selfcheck, selfcheck_ops
from sfrbench.machine.selfcheck import SelfCheck
from sfrbench.machine.selfcheck_fault import Fault
from sfrbench.run.executors.precision import Settled, Settler
from sfrbench.stages.finder import recipes
from sfrbench.stages.predict import recipe as predict
from sfrbench.stages.settings import SplitSettings, StageSettings
from tests.support.runs import QUIET, here

FAULT = Fault(
    precision="bf16", operation="convolution 3", part="the gradient of input 2 is", off=None, limit=0.1
)
WORSE = Fault(precision="fp32", operation="linear", part="the result is", off=0.5, limit=1e-3)
TOLD = StageSettings()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def result(*faults: Fault) -> SelfCheck:
    return SelfCheck(facts=selfcheck.facts(), checked=9, seconds=0.5, faults=faults)


def parts(precision: str) -> dict[str, Component]:
    return {"backbone": VNet.model_validate({"precision": precision}), "ssl": MeanTeacher()}


def never(*_: object) -> SelfCheck:
    raise AssertionError("must not be checked here")


def test_a_failing_check_sends_bf16_to_fp32(caplog: pytest.LogCaptureFixture) -> None:
    settler = Settler("cpu", lambda: result(FAULT), never)
    given = parts("bf16")
    with caplog.at_level(logging.WARNING, "sfrbench"):
        for _ in range(2):
            settled = settler.settle("retrain", given, TOLD)
    assert settled.components["backbone"] == given["backbone"].model_copy(update={"precision": "fp32"})
    assert settled.components["ssl"] is given["ssl"]
    assert settled.record["precision"] == {"backbone": "fp32"}
    assert settled.record["precision_asked"] == {"backbone": "bf16"}
    assert settled.record["self_check_faults"] == [str(FAULT)]
    (warning,) = caplog.messages  # once
    assert "fp32 is used in its place" in warning
    assert "convolution 3 in bf16 against fp32: the gradient of input 2 is not a number" in warning


def test_a_sound_machine_runs_what_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    given = parts("bf16")
    settled = Settler("cpu", result, never).settle("retrain", given, TOLD)
    assert settled == Settled(given, {"precision": {"backbone": "bf16"}}, tf32=False)
    assert not caplog.messages


def test_fp32_that_is_wrong_is_said_loudly(caplog: pytest.LogCaptureFixture) -> None:
    settler = Settler("cpu", never, lambda: result(FAULT, WORSE))
    settled = settler.settle("predict", parts("fp32"), TOLD)
    assert settled.components == parts("fp32")
    told = {"precision": {"backbone": "fp32"}, "self_check_faults": [str(FAULT), str(WORSE)]}
    assert settled.record == told
    (warning,) = caplog.messages
    assert "results are not to be trusted" in warning
    assert "linear in fp32 against float64: the result is off by 0.5 (limit 0.001)" in warning


def test_who_is_not_checked() -> None:
    settler = Settler("cpu", never, never, never)
    assert settler.settle("prepare", parts("bf16"), TOLD).record == {}
    assert settler.settle("retrain", {"ssl": MeanTeacher()}, TOLD).record == {}
    known = Settler("cpu", never, lambda: None).settle("retrain", parts("fp32"), TOLD)
    assert known.record == {"precision": {"backbone": "fp32"}}


def test_tf32_on_a_processor_is_fp32_and_the_record_says_so() -> None:
    settled = Settler("cpu", never, lambda: None).settle("retrain", parts("tf32"), TOLD)
    assert settled.components["backbone"] == VNet(precision="fp32")
    assert settled.record == {"precision": {"backbone": "fp32"}, "precision_asked": {"backbone": "tf32"}}
    assert not settled.tf32


def test_a_prediction_may_have_a_precision_of_its_own() -> None:
    told = predict.PredictSettings(
        split=SplitSettings(), subset="test", patch=(32, 32, 32), model_stage="retrain", precision="bf16"
    )
    settled = Settler("cpu", result, never).settle("predict", parts("fp32"), told)
    assert settled.components["backbone"] == VNet(precision="bf16")
    assert settled.record == {"precision": {"backbone": "bf16"}}


def test_every_stage_that_runs_a_network_is_known() -> None:
    without = {stage for stage, recipe in recipes().items() if not recipe.needs.network}
    assert without == {"prepare", "evaluate", "canvases", "external"}


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


def test_doctor_names_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault(precision="fp32", operation="linear", part="the result is", off=0.5, limit=0.001)
    monkeypatch.setattr(selfcheck_ops, "check", lambda device: (58, 0.5, [fault]))
    said = here("doctor", cwd=tmp_path).stdout
    assert "WRONG   linear in fp32 against float64: the result is off by 0.5" in said
    assert "not to be trusted" in said


# --- a whole run --------------------------------------------------------------------------

SPEC = """\
title: Small
dataset: {name: phantom, labeled: 2, train_cases: 4, test_cases: 1, shape: [32, 32, 16]}
protocol: strict
base: {stitch: grid, foundation: sam_toy, finetune: lora, backbone: vnet, ssl: supervised}
arms: [{name: mt}]
"""


def test_the_record_says_what_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in bf16 on a processor that fails: it warns, goes on, and gives what fp32 gives."""
    (tmp_path / "small.yaml").write_text(SPEC)
    fault = Fault(precision="bf16", operation="convolution", part="the result is", off=None, limit=0.1)
    monkeypatch.setattr(selfcheck_ops, "check", lambda device: (58, 0.5, [fault]))
    records: dict[str, dict[str, Any]] = {}
    for precision in ("bf16", "fp32"):
        done = here(
            "run", "small.yaml", "--profile", "smoke", "--workspace", precision, *QUIET,
            "--device", "cpu", "--set", f"backbone.precision={precision}", cwd=tmp_path,
        )  # fmt: skip
        assert ("fp32 is used in its place" in done.stderr) is (precision == "bf16")
        (path,) = (tmp_path / precision / "store" / "retrain").glob("*/record.json")
        records[precision] = json.loads(path.read_text())
    one, other = records["bf16"], records["fp32"]
    assert one["precision"] == other["precision"] == {"backbone": "fp32"}
    assert one["precision_asked"] == {"backbone": "bf16"}
    assert "precision_asked" not in other
    assert "convolution in bf16 against fp32: the result is not a number" in one["self_check_faults"][0]
    assert one["components"]["backbone"]["precision"] == "bf16"  # what the key stands for
    held = {"tf32_products": False, "tf32_convolutions": False, "repeatable_convolutions": True}
    assert one["arithmetic"] == other["arithmetic"] == held
    weights = {name: entry["sha256"] for name, entry in one["files"].items() if name == "model.safetensors"}
    assert weights == {"model.safetensors": other["files"]["model.safetensors"]["sha256"]}
