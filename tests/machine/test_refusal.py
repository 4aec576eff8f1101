"""A run that wants an accelerator gets one, or one message that says which part is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from sfrbench.cli.commands import main
from sfrbench.machine.driver import Driver
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
