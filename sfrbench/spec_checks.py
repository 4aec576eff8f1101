"""References between the sections of a specification: to axes, arms and metrics."""

from __future__ import annotations

from collections.abc import Sequence

from sfrbench.errors import did_you_mean
from sfrbench.spec import METRICS, Arm, Axis, Exclusion, ReportItem
from sfrbench.spec_sections import Reader
from sfrbench.yamlio import Where


def check_exclusions(
    reader: Reader, exclude: Sequence[Exclusion], arms: Sequence[Arm], axes: Sequence[Axis]
) -> None:
    """Exclusions name axes and arms that there are."""
    known = ["arm", *(path for axis in axes for path in axis.paths)]
    for index, entry in enumerate(exclude):
        for path in entry.when:
            if path not in known:
                reader.fault(("exclude", index, "when", path), f"no axis '{path}'", did_you_mean(path, known))
        names = entry.when.get("arm", [])
        for name in [names] if isinstance(names, str) else names:
            if name not in [arm.name for arm in arms]:
                at = ("exclude", index, "when", "arm")
                reader.fault(at, f"no arm '{name}'", did_you_mean(str(name), [arm.name for arm in arms]))


def check_report(
    reader: Reader, items: Sequence[ReportItem], arms: Sequence[Arm], axes: Sequence[Axis]
) -> None:
    """Items of the report name axes, arms and metrics that there are."""
    paths = [path for axis in axes for path in axis.paths]
    names = [arm.name for arm in arms]
    for index, item in enumerate(items):
        at: Where = ("report", index)
        if item.rows not in ("arm", *paths):
            reader.fault(
                (*at, "rows"), f"rows: no axis '{item.rows}'", did_you_mean(item.rows, ["arm", *paths])
            )
        if item.curve is not None:
            if item.curve["x"] not in paths:
                x = item.curve["x"]
                reader.fault((*at, "curve", "x"), f"curve: no axis '{x}'", did_you_mean(x, paths))
            if item.curve["y"] not in METRICS:
                y = item.curve["y"]
                reader.fault((*at, "curve", "y"), f"curve: no metric '{y}'", did_you_mean(y, METRICS))
        for pair in item.pairs or ():
            for name in pair:
                if name not in names:
                    reader.fault((*at, "pairs"), f"pairs: no arm '{name}'", did_you_mean(name, names))
