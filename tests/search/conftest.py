"""Where searches of these tests run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.searches import SPEC


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a command runs in, with a specification that has a search."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SPEC)
    return tmp_path
