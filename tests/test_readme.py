"""The README's worked examples are run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def block(start: str) -> str:
    """The fenced block of the README whose first line begins with ``start``."""
    blocks = re.findall(r"```\w*\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return next(text for text in blocks if text.startswith(start))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(block("# mine.yaml"))
    (tmp_path / "my_stitch.py").write_text(block("# my_stitch.py"))
    card = tmp_path / "my_registry" / "stitch" / "reversed.yaml"
    card.parent.mkdir(parents=True)
    card.write_text(block("# my_registry/stitch/reversed.yaml"))
    return tmp_path


def sfrbench(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "sfrbench", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_own_experiment(folder: Path) -> None:
    assert "sound, 9 cells" in sfrbench(folder, "validate", "mine.yaml", "--profile", "cpu")


def test_the_first_own_component(folder: Path) -> None:
    shown = sfrbench(folder, "show", "stitch/reversed", "--registry", "my_registry")
    assert "Stitch (reversed)" in shown
    assert "step = 1" in shown
    text = (folder / "mine.yaml").read_text()
    arms = '  - {name: rev, pseudo: offline, stitch: reversed}\n  - {name: r4, label: "SFR_MT, r = 4"}\n'
    text = text.split("arms:")[0] + "arms:\n" + arms + "seeds: [0]\n"
    (folder / "mine.yaml").write_text(text)
    output = sfrbench(folder, "run", "mine.yaml", "--profile", "smoke", "--registry", "my_registry")
    assert "0 failed" in output
    assert "report:" in output
    planned = sfrbench(folder, "plan", "mine.yaml", "--profile", "smoke", "--registry", "my_registry")
    assert "to run" in planned
    assert "no effect" not in planned
