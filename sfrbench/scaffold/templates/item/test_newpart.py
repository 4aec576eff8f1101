"""The table of the report item 'newpart'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from sfrbench.report.facts.info import ReportInfo
from sfrbench.report.item import Context, made
from sfrbench.report.items import item_of
from sfrbench.report.render.tables import Table


def rows(arm: str, metric: str, values: list[float]) -> list[dict[str, Any]]:
    """The scores of one arm in two seeds, a case for each value; the second seed is 2 larger."""
    facts: dict[str, Any] = {"arm": arm, "class": "organ", "metric": metric, "subset": "test"}
    facts |= {"unit": "mm", "empty_pred": False, "empty_gt": False}
    return [
        {**facts, "seed": seed, "case": f"case{number}", "value": value + 2 * seed}
        | {"cell": f"{arm}-{seed}", "key": f"key-{arm}-{seed}"}
        for seed in (0, 1)
        for number, value in enumerate(values)
    ]


def table(entry: dict[str, str]) -> Table:
    """What the item shows of two arms with results and one without."""
    scores = [*rows("mt", "dice", [70, 50, 90]), *rows("sfr", "dice", [80, 85, 75])]
    scores += [*rows("mt", "hd95", [3, 9, 4]), *rows("sfr", "hd95", [2, 1, 8])]
    arms = (("mt", "MT"), ("sfr", "SFR_MT"), ("late", "Late"))
    info = ReportInfo("demo", "Demo", "cpu", "strict", arms, (0, 1), ())
    part = made(item_of(entry), Context(pd.DataFrame(scores), info, Path()))
    (found,) = part.tables
    assert [line.behind()["arm"] for line in part.behind[found.name]] == ["mt", "sfr", "late"]
    return found


def test_the_least_of_a_share_is_worst() -> None:
    found = table({"newpart": "dice"})
    texts = [tuple(entry.text for entry in row) for row in found.rows]
    assert texts == [("MT", "case1", "51.00"), ("SFR_MT", "case2", "76.00"), ("Late", "—", "—")]


def test_the_largest_of_a_distance_is_worst() -> None:
    found = table({"newpart": "hd95"})
    assert [row["case"] for row in found.data] == ["case1", "case2", "—"]
    assert found.columns[-1] == "95HD (mm) ↓"
