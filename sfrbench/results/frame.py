"""The tidy frame: one row per cell, case, class and metric, read from the store."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sfrbench.components.base import Protocol
from sfrbench.maths.metric_names import LARGER
from sfrbench.plan.build import Cell
from sfrbench.plan.graph import Link
from sfrbench.results.subsets import subset_of_role
from sfrbench.run.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "experiment", "profile", "arm", "label", "seed", "cell", "subset", "case", "class", "metric",
    "value", "unit", "empty_pred", "empty_gt", "key",
)  # fmt: skip


def load_frame(experiment: Experiment) -> pd.DataFrame:
    """Every score of the experiment that is in the store.

    Dice, Jaccard and NSD are in percent, distances in the protocol's ``unit``; a value that the protocol
    does not score is missing (NaN). ``subset`` is 'test', 'val', or 'unlabelled' for scored pseudo-labels:
    SAM's first ones, 'unlabelled round N' for those of round N of SFR+ or self-training. 'round N' are the
    segmenter's labels of unlabelled cases that round N of SFR+ chooses from.
    Each axis with several values has a column named by its path.
    """

    read: dict[Link, pd.DataFrame] = {}
    parts = []
    axes = list(experiment.plan.spec.told)
    for cell in experiment.plan.cells:
        for role, link in cell.nodes.items():
            if link[0] != "evaluate" or not experiment.store.has(*link):
                continue
            if link not in read:
                protocol = cast(Protocol, cell.components["protocol"].component)
                read[link] = scores(experiment.store.get(*link).path("scores.csv"), protocol.spacing)
            parts.append(read[link].assign(**_facts(experiment, cell, role, link)))
    return tidy(parts, axes)


def tidy(parts: Sequence[pd.DataFrame], axes: Sequence[str]) -> pd.DataFrame:
    """The rows of all cells with their columns in order."""
    import pandas as pd

    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    return frame[[*COLUMNS, *(path for path in axes if path in frame.columns)]]


def scores(path: Path, spacing: str) -> pd.DataFrame:
    """The rows of one scores.csv; ``spacing`` is the unit of its distances."""
    import pandas as pd

    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    frame = pd.DataFrame(rows, columns=["case", "class", "metric", "value", "empty_pred", "empty_gt"])
    frame["value"] = pd.to_numeric(frame["value"])
    for name in ("empty_pred", "empty_gt"):
        frame[name] = frame[name].isin(["1", "True", "true"])
    percent = frame["metric"].isin(LARGER)
    frame.loc[percent, "value"] *= 100
    frame["unit"] = percent.map({True: "%", False: spacing})
    return frame


def _facts(experiment: Experiment, cell: Cell, role: str, link: Link) -> dict[str, Any]:
    return {
        "experiment": experiment.name,
        "profile": experiment.profile,
        "arm": cell.arm,
        "label": cell.label,
        "seed": cell.seed,
        "cell": cell.id,
        "subset": subset_of_role(role, str(cell.score)),
        "key": link[1],
        **cell.axes,
    }
