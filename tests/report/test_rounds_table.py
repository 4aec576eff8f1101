"""The table of rounds: counts, confidences and the quality of what was chosen."""

from __future__ import annotations

from dataclasses import replace

from sfrbench.report.items.rounds.table import rounds_table
from tests.support.rounds import a_round, frame, info


def test_counts_and_quality_are_means_over_seeds() -> None:
    scores = {(0, "a"): 80.0, (0, "b"): 60.0, (0, "c"): 40.0, (1, "a"): 50.0, (1, "b"): 60.0, (1, "c"): 70.0}
    given = info([a_round(0, {"a", "b"}), a_round(1, {"a"})])
    (table,), rows = rounds_table(frame(scores), given, "rounds")
    texts = dict(zip(table.columns, (entry.text for entry in table.rows[0]), strict=True))
    assert texts["Method"] == "SFR+"
    assert texts["Confident"] == "1.5 of 3"
    assert texts["Threshold"] == "0.950"
    assert texts["C"] == "0.953 (0.900–0.990)"
    assert texts["Dice (%) confident"] == "60.00"  # (70 + 50) / 2
    assert texts["Dice (%) others"] == "52.50"  # (40 + 65) / 2
    assert texts["Spearman C, Dice"] == "0.00"  # 1 and -1
    assert rows[0].behind()["select"] == ["key0", "key1"]


def test_nothing_to_say_is_a_dash() -> None:
    given = info([a_round(0, set(), float("inf"))])
    (table,), _ = rounds_table(frame({(0, "a"): 80.0}), given, "rounds")
    texts = dict(zip(table.columns, (entry.text for entry in table.rows[0]), strict=True))
    assert texts["Threshold"] == texts["Dice (%) confident"] == texts["Spearman C, Dice"] == "—"
    assert rounds_table(frame({(0, "a"): 80.0}), replace(given, rounds=[]), "rounds") == ([], [])
