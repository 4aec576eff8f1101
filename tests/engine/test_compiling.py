"""A machine without a compiler: who asks for compiled blocks reads so beforehand, and what helps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sfrbench.components.foundation.toy import SamToy
from sfrbench.engine import compiling
from sfrbench.engine.compiling import compiled_code, lack
from sfrbench.errors import NotReadyError
from sfrbench.machine import accelerator, selfcheck
from sfrbench.machine.selfcheck import SelfCheck
from tests.support.runs import QUIET, SPEC, here

WHAT = "compiled blocks need a C++ compiler, and there is no no-such-compiler here"
HINT = (
    "install one (apt install g++), name yours in $CXX, or set foundation.compile: none (another key: other "
    "last digits)"
)
COMMON = ("--profile", "smoke", "--device", "cpu")


@pytest.fixture(autouse=True)
def _without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", "no-such-compiler")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    wanted = SPEC.replace("foundation: sam_toy", "foundation: {name: sam_toy, compile: blocks}")
    (tmp_path / "compiled.yaml").write_text(wanted)
    (tmp_path / "plain.yaml").write_text(SPEC)
    return tmp_path


@pytest.mark.parametrize("command", [["validate"], ["plan"], ["run", "--dry-run"]], ids=" ".join)
def test_what_looks_ahead_says_it(folder: Path, command: list[str]) -> None:
    said = here(command[0], "compiled.yaml", *command[1:], *COMMON, cwd=folder).stdout
    assert f"not ready here:\n  foundation.compile  {WHAT}\n    {HINT}\n" in said
    assert said.count(WHAT) == 1
    assert "not ready" not in here(command[0], "plain.yaml", *command[1:], *COMMON, cwd=folder).stdout


def test_a_run_is_refused_before_anything_is_made(folder: Path) -> None:
    refused = here("run", "compiled.yaml", *COMMON, *QUIET, cwd=folder, check=2)
    assert refused.stderr == f"not ready here:\nfoundation.compile  {WHAT}\n    {HINT}\n"
    assert not (folder / "runs").exists()


def test_a_node_that_begins_all_the_same_is_refused() -> None:
    with pytest.raises(NotReadyError) as caught, compiled_code([SamToy(compile="blocks")], "cpu"):
        pytest.fail("began")
    assert caught.value.problems == (lack("cpu"),)
    with compiled_code([SamToy()], "cpu"):
        pass


def test_doctor_says_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = SelfCheck(facts={}, checked=9, seconds=0.5, faults=())
    monkeypatch.setattr(selfcheck, "run", lambda device: sound)
    monkeypatch.setattr(accelerator.Answer, "device", lambda answer, asked: "cpu")
    assert f"compile   none: {WHAT}\n          {HINT}\n" in here("doctor", cwd=folder).stdout
    assert json.loads(here("doctor", "--json", cwd=folder).stdout)["compile"] is False
    monkeypatch.setattr(compiling.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "compile   blocks\n" in here("doctor", cwd=folder).stdout


def test_a_gpu_needs_triton_and_a_compiler_of_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    found = lack("cuda:1")
    assert found is not None
    assert found.what == "compiled blocks need Triton on a GPU, and it is not installed"
    assert found.hint.startswith("pip install triton, or set foundation.compile: none")
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    found = lack("cuda")
    assert found is not None
    assert found.what == "compiled blocks need a C compiler, and there is no clang or gcc or cc here"
    assert "name yours in $CC," in found.hint
