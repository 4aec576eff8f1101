"""What a foundation needs and this machine has not: found before anything runs."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from sfrbench.components.foundation.sam2 import Sam2, Sam2Toy
from sfrbench.components.foundation.toy import SamToy
from sfrbench.machine import needs
from sfrbench.machine.needs import Machine, lacks_of


def test_a_package_and_a_weight_file_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFRBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (missing,) = lacks_of(Sam2(release="sam2", size="small"))
    assert "sam2_hiera_small.pt" in str(missing)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "5.2.0")
    old, file = lacks_of(Sam2(release="sam2", size="small"))
    assert "SAM 2 needs transformers 5.24 or later; here: 5.2.0" in str(old)
    assert "pip install 'sfrbench[sam2]'" in str(old)
    assert file == missing
    assert len(lacks_of(Sam2Toy())) == 1
    assert lacks_of(SamToy()) == []


@pytest.mark.parametrize(
    ("flags", "said"), [(os.ST_RDONLY, "Read-only file system"), (0, "Permission denied")]
)
def test_why_a_workspace_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: int, said: str
) -> None:
    assert Machine(tmp_path / "runs").lacks_place() == []
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flags))
    (problem,) = Machine(tmp_path / "runs").lacks_place()
    assert (problem.where, problem.what) == (str(tmp_path), said)
    assert "--workspace" in problem.hint


def test_a_checkout_on_a_machine_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(needs, "BESIDE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert needs.git_state() == {}
