"""Edited code of one's own: since keys hold versions, it is said that what is reused is older."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.runs import QUIET, cli

SPEC = """\
title: Mine
dataset: {name: phantom, labeled: 2, train_cases: 3, test_cases: 1, shape: [32, 32, 16]}
protocol: strict
base: {backbone: vnet, ssl: mine}
"""
CODE = """\
from typing import ClassVar

from sfrbench.components.ssl.mean_teacher import MeanTeacher


class Mine(MeanTeacher):
    version: ClassVar[int] = 1
"""


@pytest.mark.slow
def test_edited_code_is_told_until_its_version_rises(tmp_path: Path) -> None:
    card = tmp_path / "cards" / "ssl" / "mine.yaml"
    card.parent.mkdir(parents=True)
    card.write_text("target: mine_changed:Mine\nsummary: Mine.\nlabel: Mine\n")
    (tmp_path / "mine.yaml").write_text(SPEC)
    code = tmp_path / "mine_changed.py"
    code.write_text(CODE)
    command = ("run", "mine.yaml", "--profile", "smoke", "--registry", "cards", *QUIET)
    first = cli(*command, cwd=tmp_path)
    assert "has changed since" not in first.stdout
    assert "has changed since" not in cli(*command, cwd=tmp_path).stdout
    code.write_text(CODE + "\n    pass\n")
    for again in (cli("plan", *command[1:6], cwd=tmp_path), cli(*command, cwd=tmp_path)):
        assert f"warning: {code} has changed since 1 results that are reused were made" in again.stdout
        assert "raise 'version' of Mine" in again.stdout
    code.write_text(CODE.replace("= 1", "= 2"))
    done = cli(*command, cwd=tmp_path)
    assert "has changed since" not in done.stdout
    assert "version 1 → 2" in done.stdout
