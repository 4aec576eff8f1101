"""Which metrics there are, what they are called and in which direction they are better; computes none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

#: Shares in 0..1 of which more is better; reports give them in percent.
Share = Literal["dice", "jaccard", "nsd"]
#: Distances in the protocol's unit, of which less is better.
Distance = Literal["asd", "asd_rev", "assd", "hd95"]
MetricName = Literal[Share, Distance]
LARGER = frozenset(get_args(Share))
DISTANCES = frozenset(get_args(Distance))


@dataclass(frozen=True)
class Metric:
    """``label`` is its name in tables and figures; ``larger``: higher is better, and the unit is percent."""

    label: str
    larger: bool


_LABELS: Mapping[MetricName, str] = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "asd": "ASD",
    "asd_rev": "ASD reverse",
    "assd": "ASSD",
    "hd95": "95HD",
    "nsd": "NSD",
}
#: Every metric, in the order in which a case's scores are written.
METRICS: Mapping[str, Metric] = {name: Metric(label, name in LARGER) for name, label in _LABELS.items()}


def flatters(metric: str, value: float) -> bool:
    """Whether an empty prediction of a class that is there gets the best possible distance, 0, or is left out
    (NaN). What holds such a score is never called best in that metric."""
    return value != value or (metric not in LARGER and value == 0)
