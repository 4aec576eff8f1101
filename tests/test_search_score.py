"""What a trial is judged by."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sfrbench.search.score import flattering


@pytest.mark.parametrize(
    ("metric", "value", "count"),
    [("asd", "0.0", 2), ("asd", "nan", 2), ("asd", "74.0", 0), ("dice", "0.0", 0), ("dice", "nan", 2)],
)
def test_empty_predictions_that_flatter_a_cell(tmp_path: Path, metric: str, value: str, count: int) -> None:
    """Two are empty, one of a class that is absent, one is found and exactly right."""
    rows = [
        f"c{index},organ,{metric},{value},{pred},{gt}"
        for index, (pred, gt) in enumerate([(1, 0), ("True", "False"), (1, 1)])
    ]
    rows += [f"c3,organ,{metric},0.0,0,0", "c0,organ,nsd,0.0,1,0"]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(["case,class,metric,value,empty_pred,empty_gt", *rows]) + "\n")
    store: Any = SimpleNamespace(get=lambda *link: SimpleNamespace(path=lambda name: path))
    cell: Any = SimpleNamespace(nodes={"evaluate": ("evaluate", "key")})
    asked: Any = SimpleNamespace(metric=metric)
    assert flattering(store, cell, asked) == count
