"""Confidence against quality: what the figure shows, and when there is nothing to show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from sfrbench.report.build import build_report
from sfrbench.report.facts.info import ReportInfo, Round
from sfrbench.report.items.kde.confidence import confidence_figure
from tests.support.captions import faults
from tests.support.rounds import a_round, frame, info

SCORES = {(0, "a"): 80.0, (0, "b"): 60.0, (0, "c"): 40.0, (1, "a"): 60.0, (1, "b"): 70.0, (1, "c"): 50.0}


def given(rounds: list[Round] | None = None) -> ReportInfo:
    both = [a_round(0, {"a", "b"}), a_round(1, {"a"})]
    return info(both if rounds is None else rounds)


def test_the_notes_give_the_rank_correlation_of_each_round(tmp_path: Path) -> None:
    figure, rows = confidence_figure(frame(SCORES), given(), "confidence", tmp_path)
    assert figure is not None
    assert "SFR+, round 1: ρ 0.75 ± 0.35 (2 seeds)" in figure.notes[0]  # 1 and 0.5
    assert not faults(figure.caption)
    assert [path.name for path in figure.files] == ["confidence.png", "confidence.svg"]
    svg = (tmp_path / "confidence.svg").read_text(encoding="utf-8")
    assert "SFR+, round 1" in svg
    assert "confident: update SAM" in svg
    assert rows[0].behind()["select"] == ["key0", "key1"]


def test_an_unscored_round_is_left_out(tmp_path: Path) -> None:
    later = replace(a_round(0, {"a"}), number=2)
    figure, rows = confidence_figure(frame(SCORES), given([a_round(0, set()), later]), "c", tmp_path)
    assert figure is not None
    assert [row.number for row in rows] == [1]
    assert "round 2" not in figure.notes[0]


@pytest.mark.parametrize("rounds", [[], [a_round(0, {"a"})]])
def test_nothing_to_show_is_said(tmp_path: Path, rounds: list[Round]) -> None:
    nothing: pd.DataFrame = frame({(5, "a"): 1.0})
    assert confidence_figure(nothing, given(rounds), "c", tmp_path) == (None, [])
    build_report(nothing, replace(given(rounds), items=[{"kde": "confidence"}]), tmp_path)
    assert "No round of SFR+ has run." in (tmp_path / "index.html").read_text(encoding="utf-8")
