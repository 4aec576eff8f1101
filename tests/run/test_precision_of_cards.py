"""What a card must not be asked for is refused with the reason, and what it runs stands in the record."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from sfrbench.cli import main
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Component
from sfrbench.components.finetune.lora import Lora
from sfrbench.components.finetune.sam3d_adapter import Sam3dAdapter
from sfrbench.components.foundation.sam_med3d import SamMed3d
from sfrbench.components.foundation.sam_vit import SamVit
from sfrbench.components.ssl.mean_teacher import MeanTeacher
from sfrbench.components.stitch.grid import GridStitch
from sfrbench.errors import NotReadyError
from sfrbench.machine import driver, selfcheck
from sfrbench.machine.card import Card, card_of, dotted
from sfrbench.machine.selfcheck import SelfCheck
from sfrbench.machine.selfcheck_fault import Fault, Shapes
from sfrbench.run.executors.precision import Settler
from sfrbench.stages.finetune.recipe import FinetuneSettings
from sfrbench.stages.predict.recipe import PredictSettings
from sfrbench.stages.settings import SplitSettings, StageSettings

TOLD = StageSettings()
OFF = Fault(
    precision="bf16",
    operation="convolution 3, 16 to 16, of 112x112x80",
    part="the result is",
    off=0.31,
    limit=0.1,
)


def result(*faults: Fault) -> SelfCheck:
    return SelfCheck(facts={}, checked=9, seconds=0.5, faults=faults)


def never(*_: object) -> SelfCheck:
    raise AssertionError("must not be checked here")


def parts(precision: str) -> dict[str, Component]:
    return {"backbone": VNet.model_validate({"precision": precision}), "ssl": MeanTeacher()}


def sam(precision: str, *, volumetric: bool = False) -> dict[str, Component]:
    tune = Sam3dAdapter() if volumetric else Lora()
    return {"foundation": SamVit(precision=precision), "finetune": tune, "stitch": GridStitch()}


def card(name: str = "NVIDIA A100", capability: tuple[int, int] = (8, 0), **facts: Any) -> Card:
    return Card(name, capability, **{"torch": "2.8.0+cu128", "cudnn": 91500, **facts})


def on(given: Card, *faults: Fault) -> Settler:
    """Decides for a card, whose self-check finds ``faults``."""
    settler = Settler("cuda", never, never, lambda device, card, used: result(*faults))
    settler.card = given
    settler.attention = lambda device: f"by its own kernel on {device}"
    return settler


def test_a_card_runs_what_is_asked_and_the_record_names_it() -> None:
    for precision in ("fp32", "tf32", "bf16"):
        settled = on(card()).settle("retrain", parts(precision), TOLD)
        assert settled.components == parts(precision)
        assert settled.tf32 is (precision == "tf32")  # bf16 leaves in float32 what it leaves
        facts = {"card": "NVIDIA A100", "capability": "8.0", "torch": "2.8.0+cu128", "cudnn": "9.15.0"}
        assert settled.record == {"precision": {"backbone": precision}, "card": facts}


def test_the_record_says_how_sam_attends_in_bf16() -> None:
    settled = on(card()).settle("finetune", sam("bf16"), TOLD)
    assert settled.record["attention"] == "by its own kernel on cuda"
    assert "attention" not in on(card()).settle("finetune", sam("tf32"), TOLD).record


def test_a_card_without_tf32_runs_fp32_and_the_record_says_so() -> None:
    settled = on(card("Tesla V100", (7, 0))).settle("finetune", sam("tf32"), TOLD)
    assert settled.record["precision"] == {"foundation": "fp32"}
    assert settled.record["precision_asked"] == {"foundation": "tf32"}
    assert not settled.tf32


def test_in_a_re_training_the_segmenter_says_what_is_tf32() -> None:
    """A frozen SAM that labels in its loop has another precision around its own passes."""
    both = {**sam("fp32"), **parts("tf32")}
    settled = on(card()).settle("retrain", both, TOLD)
    assert settled.tf32
    assert settled.record["precision"] == {"backbone": "tf32", "foundation": "fp32"}


def test_the_check_of_a_card_is_of_the_node_s_shapes() -> None:
    seen: list[Shapes] = []

    def check(device: str, given: Card | None, used: Shapes) -> SelfCheck:
        seen.append(used)
        return result()

    settler = Settler("cuda:1", never, never, check)
    settler.card = card()
    told = FinetuneSettings(split=SplitSettings(), patch=(112, 112, 80), rot_flip=True)
    settler.settle("finetune", sam("bf16"), told)
    settler.settle("retrain", parts("bf16"), told)
    assert seen == [Shapes(canvas=1024), Shapes(patch=(112, 112, 80), filters=16)]


REFUSED: dict[str, tuple[Settler, dict[str, Component], str]] = {
    "emulated": (
        on(card("Tesla T4", (7, 5))),
        parts("bf16"),
        "backbone.precision  Tesla T4 (compute capability 7.5) has no bf16 and emulates it, slower than "
        "fp32\n"
        "    set backbone.precision to fp32; bf16 and tf32 begin with compute capability 8.0",
    ),
    "emulated for SAM": (
        on(card("NVIDIA GeForce GTX 1080 Ti", (6, 1))),
        sam("bf16"),
        "foundation.precision  NVIDIA GeForce GTX 1080 Ti (compute capability 6.1) has no bf16 and emulates "
        "it, slower than fp32\n"
        "    set foundation.precision to fp32; bf16 and tf32 begin with compute capability 8.0",
    ),
    "cuDNN": (
        on(card(cudnn=91002)),
        parts("bf16"),
        "backbone.precision  cuDNN 9.10.2 computes 3D convolutions in bf16 wrongly, as 9.8 to 9.14 do\n"
        "    set backbone.precision to tf32, or install cuDNN 9.15 or later "
        "(package nvidia-cudnn-cu12, or -cu13)",
    ),
    "cuDNN that torch goes around": (
        on(card(cudnn=90800, torch="2.9.1+cu130")),
        sam("bf16", volumetric=True),
        "foundation.precision  cuDNN 9.8.0 computes 3D convolutions in bf16 wrongly, as 9.8 to 9.14 do; "
        "torch 2.9.1+cu130 goes around it, by kernels that are slow and take much memory\n"
        "    set foundation.precision to tf32, or install cuDNN 9.15 or later "
        "(package nvidia-cudnn-cu12, or -cu13)",
    ),
    "cuDNN, for a foundation that is 3D": (
        on(card(cudnn=91002)),
        {"foundation": SamMed3d(precision="bf16")},
        "foundation.precision  cuDNN 9.10.2 computes 3D convolutions in bf16 wrongly, as 9.8 to 9.14 do\n"
        "    set foundation.precision to tf32, or install cuDNN 9.15 or later "
        "(package nvidia-cudnn-cu12, or -cu13)",
    ),
    "bf16 out of range": (
        on(card(), OFF),
        parts("bf16"),
        "backbone.precision  NVIDIA A100 (torch 2.8.0+cu128, cuDNN 9.15.0) computes bf16 wrongly: "
        "convolution 3, 16 to 16, of 112x112x80 in bf16 against fp32: the result is off by 0.31 (limit 0.1)\n"
        "    ask for fp32 there, or try another version of torch or cuDNN",
    ),
    "tf32 out of range": (
        on(card(), OFF.model_copy(update={"precision": "tf32", "off": None, "limit": 0.01})),
        parts("tf32"),
        "backbone.precision  NVIDIA A100 (torch 2.8.0+cu128, cuDNN 9.15.0) computes tf32 wrongly: "
        "convolution 3, 16 to 16, of 112x112x80 in tf32 against fp32: the result is not a number\n"
        "    ask for fp32 there, or try another version of torch or cuDNN",
    ),
    "fp32 that is TF32": (
        on(card(), OFF.model_copy(update={"precision": "fp32", "off": 3.1e-4, "limit": 1e-4})),
        sam("fp32"),
        "foundation.precision  NVIDIA A100 (torch 2.8.0+cu128, cuDNN 9.15.0) computes fp32 wrongly: "
        "convolution 3, 16 to 16, of 112x112x80 in fp32 against float64: the result is off by 0.00031 "
        "(limit 0.0001)\n"
        "    look for TORCH_ or NVIDIA_ variables in the environment; try another version of torch",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_card_that_does_it_wrongly_is_refused(case: str) -> None:
    settler, components, message = REFUSED[case]
    with pytest.raises(NotReadyError) as refused:
        settler.settle("finetune" if "foundation" in components else "retrain", components, TOLD)
    assert str(refused.value) == message


def test_tf32_that_a_variable_turns_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    with pytest.raises(NotReadyError) as refused:
        on(card()).settle("retrain", parts("tf32"), TOLD)
    assert str(refused.value) == (
        "backbone.precision  NVIDIA_TF32_OVERRIDE=0 turns TF32 off in NVIDIA's libraries, and tf32 is "
        "asked for\n"
        "    unset the variable, or set backbone.precision to fp32"
    )
    assert on(card()).settle("retrain", parts("fp32"), TOLD).record["precision"] == {"backbone": "fp32"}


def test_a_prediction_that_is_refused_names_its_own_field() -> None:
    told = PredictSettings(
        split=SplitSettings(), subset="test", patch=(32, 32, 32), model_stage="retrain", precision="bf16"
    )
    with pytest.raises(NotReadyError, match=r"^protocol.precision  Tesla T4"):
        on(card("Tesla T4", (7, 5))).settle("predict", parts("fp32"), told)


def test_what_is_right_is_not_refused() -> None:
    """2D networks with that cuDNN, its neighbours, and other precisions; what an AMD card's numbers mean."""
    nine_ten = card(cudnn=91002)
    on(nine_ten).settle("finetune", sam("bf16"), TOLD)
    on(nine_ten).settle("retrain", parts("tf32"), TOLD)
    for cudnn in (8902, 90701, 91500, 91900, None):
        on(card(cudnn=cudnn)).settle("retrain", parts("bf16"), TOLD)
    on(card("Tesla T4", (7, 5))).settle("retrain", parts("fp32"), TOLD)
    on(card("AMD Instinct MI250X", (7, 0), cudnn=90900, rocm=True)).settle("retrain", parts("bf16"), TOLD)


# --- a whole run --------------------------------------------------------------------------

SPEC = """\
title: Small
dataset: {name: phantom, labeled: 2, train_cases: 4, test_cases: 1, shape: [32, 32, 16]}
protocol: strict
base: {stitch: grid, foundation: sam_toy, finetune: lora, backbone: vnet, ssl: supervised}
arms: [{name: sfr, pseudo: offline}]
"""


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Torch tells of a card that is not there: enough to be refused, not to compute on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    told = SimpleNamespace(name="Tesla T4", total_memory=2**34, major=7, minor=5)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: told)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    monkeypatch.setattr(driver, "may_be_here", lambda: True)


@pytest.mark.usefixtures("pretended")
def test_a_run_is_refused_before_its_first_node(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SPEC)
    common = [
        str(tmp_path / "small.yaml"),
        "--profile=smoke",
        f"--workspace={tmp_path}",
        "--tracking-uri=none",
    ]
    sets = ["--set", "backbone.precision=bf16", "--set", "foundation.precision=bf16"]
    done = CliRunner().invoke(main, ["run", *common, *sets])
    assert done.exit_code == 2
    told = [line for line in done.stderr.splitlines() if "Tesla T4" in line]
    assert [line.split()[0] for line in told] == ["foundation.precision", "backbone.precision"]
    assert all(
        line.endswith("(compute capability 7.5) has no bf16 and emulates it, slower than fp32")
        for line in told
    )
    assert not (tmp_path / "store").exists()


def test_the_card_as_torch_tells_of_it(pretended: None) -> None:
    assert card_of("cuda") == Card("Tesla T4", (7, 5), torch.__version__, 91002)
    assert card_of("cpu") is None
    assert [dotted(number) for number in (8902, 90800, 91002, 91500)] == [
        "8.9.2",
        "9.8.0",
        "9.10.2",
        "9.15.0",
    ]


@pytest.mark.usefixtures("pretended")
def test_doctor_says_what_a_card_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = SimpleNamespace(name="NVIDIA A100", total_memory=40 * 2**30, major=8, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: sound)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    monkeypatch.setattr(selfcheck, "run", lambda device: result())
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 0, done.output
    assert "cuDNN     9.10.2\n" in done.output
    assert "GPU 0     NVIDIA A100, 40 GiB, sm_80\n          refused in a run: cuDNN" in done.output
    assert "refused in a run: cuDNN 9.10.2 computes 3D convolutions in bf16 wrongly" in done.output
