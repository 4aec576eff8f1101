"""A run that wants an accelerator gets one, or one message that says which part is missing."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sfrbench.cli.commands import main
from sfrbench.errors import InputError, NotReadyError
from sfrbench.machine import accelerator
from sfrbench.machine.driver import Driver
from sfrbench.machine.needs import Machine
from sfrbench.machine.refusal import UNTESTED
from sfrbench.run.executors.choice import Chosen, How, choose
from sfrbench.run.executors.slurm.job import Ending, Task, _Job
from sfrbench.run.executors.slurm.sbatch import Sent
from sfrbench.run.experiment import DEFAULT
from tests.support.torches import (
    CPU,
    GTX_1080,
    H200,
    MIDDLE,
    NEW,
    OLD,
    RTX_4090,
    RTX_5090,
    Torch,
    answer_of,
    install,
)  # fmt: skip

MESSAGES = Path(__file__).parents[1] / "golden" / "refusals.txt"


@dataclass(frozen=True)
class Refusal:
    """A torch, a machine and a command; what a user then reads stands in ``golden/refusals.txt``."""

    torch: Torch
    driver: Driver
    options: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


ONE = Torch(cards=[H200])
TWO = Torch(cards=[H200, RTX_4090])
ROCM = Torch(version="2.9.1+rocm6.4", cuda=None, hip="6.4.4", archs=("gfx90a", "gfx1100"))
AMD = Driver(amd="here")
MI50 = ("AMD Instinct MI50", 32, (9, 0))

REFUSALS = {
    "CPU build, new driver": Refusal(CPU, NEW),
    "CPU build, old driver": Refusal(CPU, OLD, ("--device", "cuda")),
    "CPU build, no driver": Refusal(CPU, Driver()),
    "CPU build, AMD's driver": Refusal(CPU, AMD),
    "torch does not import": Refusal(Torch(broken="libtorch_cpu.so: cannot open shared object file"), NEW),
    "no driver": Refusal(Torch(), Driver()),
    "driver does not answer": Refusal(Torch(), Driver(fault="Driver/library version mismatch")),
    "driver too old": Refusal(Torch(), MIDDLE),
    "no card": Refusal(Torch(), Driver(version="580.65.06", cuda="13.0", cards=0)),
    "all hidden": Refusal(Torch(), NEW, variables={"CUDA_VISIBLE_DEVICES": ""}),
    "hidden by a wrong number": Refusal(Torch(), NEW, variables={"CUDA_VISIBLE_DEVICES": "7"}),
    "another fault of CUDA, by number": Refusal(Torch(), NEW, variables={"CUDA_VISIBLE_DEVICES": "0"}),
    "another fault of CUDA": Refusal(Torch(fault="CUDA unknown error - this may be due to …"), NEW),
    "no such index": Refusal(ONE, NEW, ("--device", "cuda:3")),
    "no such card of --gpus": Refusal(TWO, NEW, ("--gpus", "0,5")),
    "--gpus of hidden cards": Refusal(ONE, NEW, ("--gpus", "0"), {"CUDA_VISIBLE_DEVICES": "1"}),
    "--gpus without a driver": Refusal(Torch(), Driver(), ("--gpus", "0")),
    "card too old": Refusal(Torch(cards=[GTX_1080]), NEW),
    "card too new": Refusal(
        Torch("2.6.0+cu118", "11.8", cards=[RTX_5090], archs=("sm_80", "sm_90", "compute_90a")), NEW
    ),
    "one of two too old": Refusal(Torch(cards=[H200, GTX_1080]), NEW, ("--gpus", "0,1")),
    "no MPS": Refusal(CPU, Driver(), ("--device", "mps")),
    "ROCm, no driver": Refusal(ROCM, Driver()),
    "ROCm, NVIDIA's card": Refusal(ROCM, NEW),
    "ROCm, no right": Refusal(ROCM, Driver(amd="closed")),
    "ROCm, all hidden": Refusal(ROCM, AMD, variables={"ROCR_VISIBLE_DEVICES": "-1"}),
    "ROCm, no code": Refusal(
        Torch("2.9.1+rocm6.4", None, "6.4.4", [MI50], ("gfx90a", "gfx1100"), gfx=("gfx906",)), AMD
    ),
    "CUDA build, AMD's card": Refusal(Torch(), AMD),
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def messages() -> dict[str, str]:
    parts = MESSAGES.read_text(encoding="utf-8").split("## ")[1:]
    return {name: text.strip("\n") for name, _, text in (part.partition("\n") for part in parts)}


def said(folder: Path, command: str, *options: str, profile: str = "paper") -> tuple[int, str]:
    where = ["--profile", profile, "--workspace", str(folder / "runs")]
    done = CliRunner().invoke(main, [command, "quickstart", *where, *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize("name", REFUSALS)
def test_a_run_is_refused_by_one_message(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = REFUSALS[name]
    install(monkeypatch, case.torch, case.driver, **case.variables)
    status, output = said(tmp_path, "run", *case.options)
    assert (status, output) == (2, f"not ready here:\n{messages()[name]}\n")
    assert not (tmp_path / "runs").exists()


def test_every_message_is_of_a_case() -> None:
    assert list(messages()) == list(REFUSALS)


# --- what is not refused ------------------------------------------------------------------


def taken(
    patch: pytest.MonkeyPatch, torch: Torch, here: Driver, how: How = DEFAULT, device: str = "auto",
    profile: str = "paper", **variables: str,
) -> Chosen:  # fmt: skip
    install(patch, torch, here, **variables)
    return choose(how, Machine(Path("runs"), device=device), profile)


def test_a_container_with_the_second_card_alone_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its /dev has nvidia1 and no nvidia0."""
    install(monkeypatch, ONE, NEW)
    monkeypatch.setattr(accelerator.driver, "traces", lambda: {"devices": "nvidia1"})
    chosen = choose(How(), Machine(Path("runs")), "paper")
    assert (chosen.executor, chosen.machine.device, chosen.gpu) == ("local", "cuda", "cuda:0")
    alone = choose(How(workers=1), Machine(Path("runs")), "paper")
    assert (alone.executor, alone.machine.device, alone.gpu) == ("inline", "auto", "cuda:0")
    assert choose(How(), Machine(Path("runs"))).executor == "inline", "a profile that needs no GPU"
    assert Machine(Path("runs")).torch_device("paper") == "cuda"


def test_rocm_is_cuda_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = replace(ROCM, cards=[("AMD Instinct MI250X", 64, (9, 0))], gfx=("gfx90a",), cudnn=3003000)
    assert taken(monkeypatch, torch, AMD).gpu == "cuda:0"
    several = replace(torch, cards=torch.cards * 2, gfx=torch.gfx * 2)
    chosen = taken(monkeypatch, several, AMD, HIP_VISIBLE_DEVICES="4,6", CUDA_VISIBLE_DEVICES="0")
    assert (chosen.executor, chosen.cards) == ("local", ("4", "6"))
    assert accelerator.alone("6") == {"HIP_VISIBLE_DEVICES": "6", "CUDA_VISIBLE_DEVICES": "6"}


def test_mps_is_taken_where_a_gpu_is_needed_and_said_to_be_untested(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = Torch(version="2.9.1", cuda=None, archs=(), cudnn=None, mps=True)
    chosen = taken(monkeypatch, mac, Driver())
    assert (chosen.machine.device, chosen.gpu, chosen.notes) == ("mps", "mps", (UNTESTED,))
    assert chosen.machine.torch_device() == "mps"
    assert taken(monkeypatch, mac, Driver(), device="mps", profile="").notes == (UNTESTED,)
    small = taken(monkeypatch, mac, Driver(), profile="")
    assert (small.machine.device, small.machine.torch_device()) == ("auto", "cpu"), "profiles of a processor"


def test_a_card_that_this_torch_has_no_code_for_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = Torch(cards=[GTX_1080, H200, RTX_4090])
    assert taken(monkeypatch, mixed, NEW).cards == ("1", "2")
    monkeypatch.setattr(accelerator.driver, "traces", lambda: {})
    assert Machine(Path("runs")).torch_device("paper") == "cuda:1"


def test_nobody_is_refused_who_insists_on_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that is here and left alone is told of; where none is here, torch is not even asked."""
    chosen = taken(monkeypatch, CPU, NEW, profile="")
    assert (chosen.executor, chosen.machine.device, chosen.gpu) == ("inline", "auto", "")
    assert chosen.notes[0].startswith("the processor computes, as no GPU can be used: torch 2.9.1+cpu is a")
    assert taken(monkeypatch, CPU, NEW, device="cpu").notes == ()
    monkeypatch.setattr(accelerator, "ask", lambda: pytest.fail("asked"))
    assert taken(monkeypatch, CPU, Driver(), profile="").notes == ()
    with pytest.raises(InputError, match="--device cpu uses no GPU"):
        taken(monkeypatch, ONE, NEW, How(gpus=("0",)), "cpu")


# --- clusters: their jobs ask ---------------------------------------------------------------


def test_a_login_node_without_a_card_submits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "ask", lambda: pytest.fail("asked"))
    assert taken(monkeypatch, CPU, Driver(), How("slurm")).executor == "slurm"
    chosen = taken(monkeypatch, CPU, Driver(), How("ray"), RAY_ADDRESS="head:6379")
    assert (chosen.executor, chosen.machine.device) == ("ray", "cuda"), "its tasks do not fall back"


def test_a_job_says_what_its_machine_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = answer_of(Torch(), Driver(version="580.65.06", cuda="13.0", cards=0))
    monkeypatch.setattr(accelerator, "read", lambda: missing)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    sent = Sent("token", tmp_path, {})
    task = Task(sent, Machine(tmp_path), tmp_path / "store", "paper", "run", 1, 1.0, True)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGCONT)]
    try:
        with pytest.raises(NotReadyError) as caught:
            _Job(task, Ending())._worker()
        assert _Job(replace(task, wants_gpu=False), Ending())._worker().device == "cpu"
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGUSR2, signal.SIGCONT), before, strict=True):
            signal.signal(number, handler)
    assert str(caught.value).startswith(
        "job 17 on n1  gpu: profile 'paper' needs a GPU: the NVIDIA driver 580.65.06 (CUDA 13.0 at most) is "
        "here, but no card\n"
    )
    assert "see 'gres' and 'setup' of executors.slurm" in str(caught.value)


# --- commands that do not import torch -------------------------------------------------------


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_plan_and_validate_say_what_torch_said(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, CPU, NEW)
    status, output = said(tmp_path, command)
    who = "profile 'paper' needs a GPU: not known yet whether torch sees one here; 'sfrbench doctor' asks it"
    assert (status, f"note: {who}" in output, "not ready" in output) == (0, True, False)
    accelerator.ask()
    monkeypatch.setattr(accelerator, "read", lambda: pytest.fail("asked"))
    status, output = said(tmp_path, command)
    shown = "\n".join(f"  {line}" for line in messages()["CPU build, new driver"].split("\n")[:1])
    assert (status, f"not ready here:\n{shown}\n" in output, "not known" in output) == (0, True, False)
    assert "GPU: " not in said(tmp_path, command, profile="cpu")[1]
    assert "needs a GPU" not in said(tmp_path, command, "--device", "cpu")[1]


def test_a_card_that_needs_a_gpu_is_shown_with_the_one_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(name: str) -> str:
        return CliRunner().invoke(main, ["show", name]).output

    install(monkeypatch, ONE, NEW)
    assert "  gpu     not known yet; 'sfrbench doctor' asks torch\n" in shown("foundation/sam_vit_b")
    accelerator.ask()
    assert "  gpu     NVIDIA H200\n" in shown("foundation/sam_vit_b")
    assert "  gpu  " not in shown("foundation/lite_medsam")
    install(monkeypatch, CPU, Driver())
    accelerator.ask()
    assert "  gpu     none: torch 2.9.1+cpu is a CPU build, and no driver" in shown("foundation/sam_vit_b")


def test_a_note_says_how_long_the_processor_takes(tmp_path: Path) -> None:
    """The refusal of --max-hours comes after it, so that nothing runs."""
    status, output = said(tmp_path, "run", "--device", "cpu", "--max-hours", "0.1")
    assert status == 2
    assert "note: profile 'paper' is for a GPU; with --device cpu it takes about" in output
    assert "as 'plan' forecasts" in output
    assert "with --device cpu" not in said(tmp_path, "run", "--device", "cpu", "--dry-run", profile="cpu")[1]


def test_a_search_is_refused_before_its_workers_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("started"))
    install(monkeypatch, CPU, NEW)
    options = ["--profile", "paper", "--workspace", str(tmp_path / "runs"), "--workers", "2"]
    done = CliRunner().invoke(main, ["search", "search_tau_lambda", *options])
    assert done.exit_code == 2
    assert messages()["CPU build, new driver"] in done.output
    assert not (tmp_path / "runs").exists()
