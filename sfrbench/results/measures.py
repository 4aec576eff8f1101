"""What the values of a metric can be, and where empty predictions make them look better than they are."""

from __future__ import annotations

import math

import pandas as pd

from sfrbench.maths.intervals import Bounds
from sfrbench.maths.metric_names import LARGER
from sfrbench.results.lines import Line


def bounds_of(metric: str) -> Bounds:
    """The range of a metric in the frame: shares in percent, distances without an end."""
    return Bounds(100.0 if metric in LARGER else math.inf)


def flattered(line: Line, metric: str, cls: str | None = None) -> pd.DataFrame:
    """The line's rows with empty predictions that make a metric (of one class) look better than it is."""
    own = line.flattered.get(metric, line.frame.iloc[:0])
    return own if cls is None else own[own["class"] == cls]


def flattery(line: Line, metric: str, cls: str | None = None) -> str:
    """Why a line is never called best in a metric; empty where it may be."""
    if metric not in line.flattered or (own := flattered(line, metric, cls)).empty:
        return ""
    left_out = bool(own["value"].isna().any())
    if len(own) == 1:
        return "1 empty prediction " + (
            "is left out" if left_out else "counts as distance 0, the best possible"
        )
    return f"{len(own)} empty predictions " + (
        "are left out" if left_out else "count as distance 0, the best possible"
    )
