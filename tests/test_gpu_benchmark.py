"""The measurements of a card, in miniature on the CPU: every part gives rows, none of them a fault."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from sfrbench.engine.compiling import lack
from tests.support.loaded import Process
from tests.support.places import BENCHMARKS
from tests.support.runs import ended, environment

SCRIPT = BENCHMARKS / "gpu.py"


def gpu(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return ended(Process(*options, script=SCRIPT, cwd=folder, env=environment()))


@pytest.mark.slow
def test_each_part_measures_what_it_says(tmp_path: Path) -> None:
    parts = "attention,networks,lora,windows,idle"
    done = gpu(tmp_path, "--device", "cpu", "--only", parts, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["about"]["miniature"] is True
    tables = found["tables"]
    assert list(tables) == parts.split(",")
    faults = [row for rows in tables.values() for row in rows if "fault" in row]
    assert [row for row in faults if row.get("compiled") != "blocks" or lack("cpu") is None] == []
    assert "blocks" in [row["compiled"] for row in tables["lora"]]
    assert float(tables["attention"][1]["off"]) < 1e-5
    assert [row["precision"] for row in tables["networks"]] == ["fp32", "tf32", "bf16"]
    assert float(tables["networks"][0]["logits off"]) == 0.0, "the CPU against itself"
    assert 0 < float(tables["networks"][2]["logits off"]) < 0.1
    assert all(row["ms a step"] > 0 for row in tables["lora"] if "fault" not in row)
    assert float(tables["windows"][1]["off"]) < 1e-5
    text = (tmp_path / "gpu.md").read_text()
    assert "## lora" in text
    assert text.count("| bf16 |") >= 3


def test_a_part_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = gpu(tmp_path, "--only", "speed")
    assert done.returncode == 1
    assert "no part speed; there are: attention, " in done.stderr


def test_a_device_that_is_not_there_is_said(tmp_path: Path) -> None:
    for device, told in (("nonsense", "no device 'nonsense'"), ("cuda:x", "no device 'cuda:x'")):
        done = gpu(tmp_path, "--device", device)
        assert done.returncode == 1
        assert told in done.stderr
