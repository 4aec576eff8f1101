"""What torch says of accelerators is asked rightly, and kept for as long as it holds."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sfrbench.machine import accelerator, card, driver
from sfrbench.machine.driver import Driver
from tests.support.runs import environment
from tests.support.torches import ARCHS, H200, NEW, RTX_4090, Torch, answer_of, install


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_is_asked() -> None:
    answer = answer_of(Torch(cards=[H200, RTX_4090]), NEW, CUDA_VISIBLE_DEVICES="GPU-aa,MIG-bb")
    assert (answer.torch, answer.build, answer.version, answer.archs) == (
        "2.9.1+cu130",
        "cuda",
        "13.0",
        ARCHS,
    )
    assert (answer.cudnn, card.dotted(91002), card.dotted(8902)) == (91002, "9.10.2", "8.9.2")
    first, second = answer.cards
    assert (first.name, first.memory, first.capability, first.arch) == (
        "NVIDIA H200",
        140 * 2**30,
        (9, 0),
        "sm_90",
    )
    assert (second.index, second.visible) == (1, "MIG-bb")
    assert answer.driver == NEW
    assert answer.card("cuda:1") == answer.card("cuda:01") == second
    assert answer.card("cuda:2") is answer.card("cpu") is None
    assert [answer.device(asked) for asked in ("auto", "cpu", "cuda:7", "mps")] == [
        "cuda",
        "cpu",
        "cuda:7",
        "mps",
    ]


def test_this_torch_answers() -> None:
    """The real one, of whatever build it is, on whatever machine."""
    import torch

    answer = accelerator.read()
    assert (answer.torch, answer.mps) == (torch.__version__, torch.backends.mps.is_available())
    assert answer.build == ("rocm" if torch.version.hip else "cuda" if torch.version.cuda else "cpu")
    assert len(answer.cards) == torch.cuda.device_count() * torch.cuda.is_available()


@pytest.mark.parametrize(
    ("arch", "archs", "runs"),
    [
        ("sm_90", ["sm_80", "sm_90"], True),
        ("sm_86", ["sm_80"], True),  # machine code of the same major version
        ("sm_80", ["sm_86"], False),  # but not of a later minor one
        ("sm_120", ["sm_90", "compute_90"], True),  # PTX is compiled for newer cards
        ("sm_70", ["sm_75", "compute_75"], False),
        ("sm_90", ["sm_90a"], True),
        ("sm_100", ["sm_90a", "compute_90a"], False),  # an "a" is for that card alone
        ("sm_103", ["sm_100f"], True),  # an "f" for the family
        ("sm_121", ["sm_100f", "compute_100f"], False),
        ("sm_61", ["sm_50", "sm_60"], True),
        ("sm_90", [], True),  # nothing is known against it
        ("gfx90a", ["gfx90a", "gfx1100"], True),
        ("gfx1101", ["gfx1100"], False),
    ],
)
def test_which_code_runs_on_which_card(arch: str, archs: list[str], runs: bool) -> None:
    """By NVIDIA's CUDA C++ programming guide, "Application Compatibility"."""
    assert accelerator.fits(arch, archs) is runs


# --- kept -----------------------------------------------------------------------------------


def _write(text: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(text, encoding="utf-8")


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        _write("{"),
        _write("[1]"),
        _write('{"facts": {}}'),
        _write(json.dumps({"facts": {}, "torch": "2.6", "cards": [{"index": 0}]})),
        _folder,
    ],
    ids=["missing", "cut short", "a list", "of other facts", "of another shape", "a folder"],
)
def test_an_answer_that_cannot_be_read_is_none(
    spoil: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, Torch(cards=[H200]), NEW)
    asked = accelerator.ask()
    assert accelerator.kept() == asked
    (file,) = (tmp_path / "cache" / "sfrbench" / "accelerator").iterdir()
    spoil(file)
    assert accelerator.kept() is None
    accelerator.ask()
    assert accelerator.kept() == (None if spoil is _folder else asked)


@pytest.mark.parametrize("change", ["variable", "driver", "card", "torch", "interpreter"])
def test_an_answer_holds_for_what_it_was_asked_of(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Torch(cards=[H200]), NEW)
    asked, shown = accelerator.ask(), {**driver.traces()}
    with monkeypatch.context() as patch:
        if change == "variable":
            patch.setenv("CUDA_VISIBLE_DEVICES", "1")
        elif change == "driver":
            patch.setattr(driver, "traces", lambda: {**shown, "driver": "590.1"})
        elif change == "card":
            patch.setattr(driver, "traces", lambda: {**shown, "devices": "nvidia0 nvidia1"})
        elif change == "torch":
            other = SimpleNamespace(version="2.13.0", locate_file=lambda _: Path("nowhere"))
            patch.setattr(accelerator.importlib.metadata, "distribution", lambda _: other)
        else:
            patch.setattr(sys, "prefix", "/opt/other")
        assert accelerator.kept() is None
        (replaced := accelerator.read()).keep()
        assert accelerator.kept() == replaced
    assert accelerator.kept() == asked, "each environment has its own"


def test_a_cache_that_cannot_be_written_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file")
    install(monkeypatch, Torch(cards=[H200]), NEW)
    assert accelerator.ask().cards
    assert accelerator.kept() is None


def test_of_a_torch_that_does_not_import_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Torch(broken="libcudart.so.13: cannot open shared object file"), NEW)
    assert accelerator.ask().fault.endswith("libcudart.so.13: cannot open shared object file")
    assert accelerator.kept() is None


# --- drivers --------------------------------------------------------------------------------


class Library:
    """NVML or CUDA's driver library: functions that fill what they are given a reference to."""

    def __init__(self, code: int = 0, **gives: Any) -> None:
        self.nvmlErrorString = _Text(b"Driver/library version mismatch")
        self.nvmlInit_v2 = lambda: code
        self.nvmlShutdown = lambda: 0
        for name, value in gives.items():
            setattr(self, name, lambda reference, *_, value=value: _fill(reference, value))


class _Text:
    restype: Any = None

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __call__(self, code: int) -> bytes:
        return self.text


def _fill(reference: Any, value: Any) -> int:
    target = reference if isinstance(value, bytes) else reference._obj
    target.value = value
    return 0


NVML = Library(
    nvmlSystemGetDriverVersion=b"580.65.06", nvmlSystemGetCudaDriverVersion_v2=13000, nvmlDeviceGetCount_v2=8
)


@pytest.mark.parametrize(
    ("libraries", "said"),
    [
        ({}, Driver()),
        ({"libnvidia-ml.so.1": NVML}, Driver(version="580.65.06", cuda="13.0", cards=8)),
        ({"libnvidia-ml.so.1": Library(9)}, Driver()),  # the module of the kernel is not loaded
        ({"libnvidia-ml.so.1": Library(18)}, Driver(fault="Driver/library version mismatch")),
        ({"libcuda.so.1": Library(cuDriverGetVersion=12060)}, Driver(cuda="12.6")),  # Jetson
    ],
    ids=["none", "NVML", "not loaded", "mismatch", "Jetson"],
)
def test_what_the_driver_says(
    libraries: dict[str, Library], said: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> Library:
        if name in libraries:
            return libraries[name]
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert driver.look(tmp_path) == said


def test_the_driver_of_amd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_nvml", lambda: (-1, {}))
    monkeypatch.setattr(driver, "_cuda_version", lambda: "")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "kfd").touch()
    assert driver.look(tmp_path).amd == "here"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert driver.look(tmp_path).amd == "closed"


def test_what_a_system_shows(tmp_path: Path) -> None:
    assert driver.traces(tmp_path) == {}
    files = {
        "proc/driver/nvidia/version": "NVRM version: 580.65.06\nGCC version: 12\n",
        "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t NVIDIA H200\nGPU UUID: GPU-a\n",
        "dev/nvidia1": "",
        "dev/nvidiactl": "",
        "dev/kfd": "",
        "sys/class/kfd/kfd/topology/nodes/0/gpu_id": "0\n",  # a processor
        "sys/class/kfd/kfd/topology/nodes/1/gpu_id": "51000\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert driver.traces(tmp_path) == {
        "driver": "NVRM version: 580.65.06",
        "cards": "NVIDIA H200 GPU-a",
        "amd cards": "51000",
        "devices": "kfd nvidia1",
    }


# --- doctor ---------------------------------------------------------------------------------

#: Has the process that it is put before take a torch on a machine with cards for its own.
PRETEND = """\
import sys, pytest
import torch as real
from sfrbench.cli import doctor
from sfrbench.cli.commands import main
from tests.support import torches
from tests.support.torches import *
doctor._checked = lambda: None
install(pytest.MonkeyPatch(), {torch}, NEW, **{variables})
fake = sys.modules["torch"]
fake.get_num_threads, fake.backends.cpu = real.get_num_threads, real.backends.cpu
for options in ([], ["--json"]):
    try:
        main(["doctor", *options])
    except SystemExit as ended:
        print("{cut}" if not ended.code else ended)
"""
CUT = "-- asked again --"


def doctor(torch: str, **variables: str) -> tuple[str, Any]:
    """What it says, and the same as JSON, from one process."""
    program = PRETEND.format(torch=torch, variables=variables, cut=CUT)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, found, _ = done.stdout.split(f"{CUT}\n")
    return said, json.loads(found)


def test_doctor_shows_cards_and_keeps_the_answer(tmp_path: Path) -> None:
    two = "Torch(cards=[H200, GTX_1080])"
    said, found = doctor(two, CUDA_VISIBLE_DEVICES="2,3")
    lines = said.splitlines()
    assert "driver    NVIDIA driver 580.65.06 (CUDA 13.0 at most)" in lines
    assert "cuDNN     9.10.2" in lines
    assert "GPU 0     NVIDIA H200, 140 GiB, sm_90 (2 in CUDA_VISIBLE_DEVICES)" in lines
    last = "GPU 1     NVIDIA GeForce GTX 1080, 8 GiB, sm_61 (3 in CUDA_VISIBLE_DEVICES), NOT USABLE"
    assert f"{last} by this torch" in lines
    assert len(list((tmp_path / "cache" / "sfrbench" / "accelerator").iterdir())) == 1
    assert [card["capability"] for card in found["accelerator"]["cards"]] == [[9, 0], [6, 1]]
    assert (found["accelerator"]["usable"], found["accelerator"]["auto"]) == ([0], "cuda")
    assert {"weights", "data", "packages", "numbers", "free_bytes"} <= found.keys()


def test_doctor_says_what_is_missing() -> None:
    said, answer = doctor("CPU")
    assert "torch     2.9.1+cpu, a CPU build; " in said
    assert "GPU       none: profiles cpu and smoke run here, paper and released need a GPU\n" in said
    what = (
        "torch 2.9.1+cpu is a CPU build; the NVIDIA driver 580.65.06 (CUDA 13.0 at most) is here, with 1 card"
    )
    assert f"          {what}\n          pip uninstall -y torch && pip install " in said
    found = answer["accelerator"]
    assert (found["lacks"], found["auto"], found["cards"]) == (what, "cpu", [])
