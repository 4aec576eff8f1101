"""Lines on a terminal are broken between words; elsewhere they stay as they are."""

from __future__ import annotations

import io

import pytest

from sfrbench.files.terminal import echo, folded

LONG = "    bring sam_vit_b_01ec64.pth from Meta's release into the folder that SFRBENCH_WEIGHTS names"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_what_goes_on_stands_further_in() -> None:
    assert folded(f"what\n{LONG}", 60).splitlines() == [
        "what",
        "    bring sam_vit_b_01ec64.pth from Meta's release into the",
        "      folder that SFRBENCH_WEIGHTS names",
    ]


def test_paths_and_aligned_columns_stay_whole() -> None:
    path = "/a/path-with-hyphens/" * 6
    assert folded(f"weights are in none of: {path}", 50).splitlines() == [
        "weights are in none of:",
        f"  {path}",
    ]
    row = "stage        nodes  reused   time"
    assert folded(row, 50) == row
    assert folded(LONG, 30) == LONG  # too narrow to be of help


def test_only_terminals_fold_and_only_prose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for stream, fold, lines in ((Terminal(), True, 2), (Terminal(), False, 1), (io.StringIO(), True, 1)):
        monkeypatch.setattr("sys.stderr", stream)
        echo(LONG, err=True, fold=fold)
        assert len(stream.getvalue().splitlines()) == lines
        assert stream.getvalue().split() == LONG.split()
