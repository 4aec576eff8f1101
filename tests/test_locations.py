"""Where data are looked for, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.errors import InputError, NotReadyError
from sfrbench.places.locations import config, data_root


def test_data_root_asks_option_then_environment_then_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {name: tmp_path / name for name in ("cli", "shelf/la", "shelf/mine", "conf")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    half = LeftAtrium(folder="la")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("SFRBENCH_DATA", raising=False)
    assert data_root("la_half", half.folder, {}) is None
    config = tmp_path / "xdg" / "sfrbench" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(f"data:\n  la: {folders['conf']}\n")
    assert data_root("la_half", half.folder, {}) == folders["conf"]
    monkeypatch.setenv("SFRBENCH_DATA", str(tmp_path / "shelf"))
    assert data_root("la_half", half.folder, {}) == folders["shelf/la"]
    assert data_root("mine", half.folder, {}) == folders["shelf/mine"]
    assert data_root("la_half", half.folder, {"la": folders["cli"]}) == folders["cli"]
    assert data_root("other", LeftAtrium().folder, {"la": folders["cli"]}) is None
    with pytest.raises(InputError, match="--data la="):
        data_root("la_half", half.folder, {"la": tmp_path / "nowhere"})
    config.write_text(f"data:\n  other: {tmp_path / 'nowhere'}\n")
    with pytest.raises(InputError, match=r"config\.yaml: data\.other"):
        data_root("other", LeftAtrium().folder, {})
    monkeypatch.setenv("SFRBENCH_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(NotReadyError, match="SFRBENCH_DATA"):
        data_root("la_half", half.folder, {})


def test_config_section_must_be_a_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "sfrbench").mkdir()
    (tmp_path / "sfrbench" / "config.yaml").write_text("data: /somewhere\n")
    assert config("weights") == {}
    with pytest.raises(InputError, match=r"config\.yaml:1:1 .*must be a mapping"):
        config("data")
