"""Published tables against made-up results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from sfrbench.report.facts.info import ReportInfo, Setup
from sfrbench.report.items.published.rows import Own
from sfrbench.report.items.published.tables import published_part
from sfrbench.report.render.tables import Table
from tests.support.demos import rows_of

ORGANS = ("liver", "kidneys", "spleen", "pancreas")


FACTS = {
    "foundation": "lite_medsam in the place of sam_vit_b",
    "backbone": "V-Net",
    "patch": "96 × 96 × 96",
    "window": "stride 16, 16, 16",
    "average": "the plain mean over the organs",
    "training": "400 steps, AdamW 0.002, poly",
}


def made(
    item: dict[str, Any], lines: dict[str, tuple[str, Setup]], rows: list[dict[str, Any]], **changes: Any
) -> dict[str, Table]:
    """The tables of one item by name, from arms with their labels and setups."""
    info = ReportInfo(
        experiment="demo",
        title="Demonstration",
        profile="cpu",
        protocol="paper",
        arms=tuple(dict.fromkeys((setup.arm, label) for label, setup in lines.values())),
        seeds=(0, 1),
        items=(item,),
        setups=tuple(setup for _, setup in lines.values()),
    )
    columns = rows_of("none", 0, 0, cases=1)[0]
    frame = pd.DataFrame(rows, columns=None if rows else list(columns))
    own = Own(item.get("rows", {}), item.get("unbuilt", {}))
    tables, behind = published_part(
        frame, replace(info, **changes), item["published"], own, item.get("metrics", ()), item["published"]
    )
    assert set(behind) == {table.name for table in tables if not table.prose}
    return {table.name: table for table in tables}


def setup(arm: str, labeled: int, dataset: str = "la", **more: Any) -> tuple[str, Setup]:
    return arm.upper(), Setup(arm, more.pop("axes", {}), dataset, labeled, **more)
