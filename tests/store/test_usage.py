"""What files take on the disk, against ``du``, and what removing them frees, against the file system."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sfrbench.store.usage import Usage


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of several sizes, a hole, hard links within and across folders, links to folders and nowhere."""
    for name, size in {"a/x": 1, "a/b/y": 5000, "c/z": 123_456, "c/empty": 0}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    with (tmp_path / "a" / "hole").open("wb") as stream:
        stream.truncate(10_000_000)
    os.link(tmp_path / "c" / "z", tmp_path / "a" / "z")
    os.link(tmp_path / "c" / "z", tmp_path / "c" / "z2")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "c")
    (tmp_path / "a" / "dangling").symlink_to("nowhere")
    return tmp_path


@pytest.mark.skipif(shutil.which("du") is None, reason="compares with du")
@pytest.mark.parametrize("name", [".", "a", "a/b", "c", "c/z", "a/link"])
def test_bytes_are_those_of_du(tree: Path, name: str) -> None:
    told = subprocess.run(["du", "-s", "--block-size=1", name], cwd=tree, capture_output=True, check=True)
    assert Usage.of(tree / name).bytes == int(told.stdout.split()[0])


def test_what_several_places_share_counts_once(tree: Path) -> None:
    whole = Usage.together([Usage.of(tree / "a"), Usage.of(tree / "c")])
    assert whole.bytes == Usage.of(tree).bytes - tree.lstat().st_blocks * 512


def test_a_file_with_another_name_elsewhere_frees_nothing(tree: Path) -> None:
    big = (tree / "c" / "z").lstat().st_blocks * 512
    assert big > 100_000
    for name in ("a", "c"):
        usage = Usage.of(tree / name)
        assert usage.freed == usage.bytes - big
    both = Usage.together([Usage.of(tree / "a"), Usage.of(tree / "c")])
    assert both.freed == both.bytes


def test_what_is_gone_takes_nothing(tmp_path: Path) -> None:
    assert Usage.of(tmp_path / "nothing").bytes == 0
    assert Usage.of(tmp_path / "nothing").freed == 0
