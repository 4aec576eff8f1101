"""Results of rounds of SFR+."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sfrbench.report.facts.info import ReportInfo, Round

CONFIDENCE = {"a": 0.99, "b": 0.97, "c": 0.90}


def info(rounds: list[Round]) -> ReportInfo:
    return ReportInfo(
        experiment="e", title="T", profile="smoke", protocol="strict", arms=[("plus", "SFR+")], seeds=[0, 1],
        items=[], rounds=rounds,
    )  # fmt: skip


def a_round(seed: int, confident: set[str], threshold: float = 0.95) -> Round:
    return Round(
        "plus", {}, seed, f"cell{seed}", 1, threshold, CONFIDENCE, frozenset(confident), f"key{seed}"
    )


def frame(dice: dict[tuple[int, str], float]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = [
        {
            "arm": "plus",
            "seed": seed,
            "cell": f"cell{seed}",
            "key": f"key{seed}",
            "subset": "round 1",
            "case": case,
            "class": name,
            "metric": "dice",
            "value": value,
            "empty_pred": False,
            "empty_gt": False,
        }
        for (seed, case), value in dice.items()
        for name in ("one", "two")
    ]
    return pd.DataFrame(rows)
