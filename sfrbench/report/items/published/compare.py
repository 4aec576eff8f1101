"""One number of ours against one of the paper: mean, spread, interval, difference, and why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sfrbench.maths import stats
from sfrbench.paper.form import Column
from sfrbench.paper.tables import Published, Value
from sfrbench.report.items.published.rows import Pairing
from sfrbench.report.render.style import number, signed
from sfrbench.results import dead
from sfrbench.results.lines import Line, Stat
from sfrbench.results.measures import bounds_of, flattery

_NONE = Stat(None, None, 0)


@dataclass(frozen=True)
class Head:
    """A column of the paper's table that is compared."""

    name: str
    column: Column
    dataset: str


@dataclass(frozen=True)
class Compared:
    """What stands in one column for one row.

    ``reason`` says why ours or the difference is missing, ``why`` why our interval is; ``flattery`` which
    empty predictions make ours look better than it is.
    """

    value: Value | None
    ours: Stat = _NONE
    low: float | None = None
    high: float | None = None
    unit: str = ""
    reason: str = ""
    why: str = ""
    flattery: str = ""
    never: str = ""  # which organs ours never finds

    @property
    def difference(self) -> float | None:
        """Ours − the paper's."""
        if self.reason or self.value is None or self.ours.mean is None:
            return None
        return self.ours.mean - self.value.number

    @property
    def texts(self) -> Mapping[str, str]:
        """Every number as printed, a dash for none."""
        interval = f"{number(self.low)} to {number(self.high)}" if self.low is not None else number(None)
        return {
            "mean": number(self.ours.mean),
            "std": number(self.ours.std),
            "interval": interval,
            "paper": self.value.text if self.value else number(None),
            "difference": signed(self.difference),
        }

    @property
    def told(self) -> list[str]:
        """What a reader must know about the paper's number."""
        if self.value is None:
            return []
        said = [] if self.value.found else ["0*: every pixel of the organ was predicted as something else"]
        wrong = self.value.erratum
        if wrong is not None:
            said.append(
                f"the paper contradicts itself: {wrong.printed:g} is printed, {wrong.recomputed:g} "
                f"recomputed ({' '.join(wrong.note.split())}); the difference is to what is printed"
            )
        return said


def heads(table: Published, metrics: Sequence[str]) -> Iterator[Head]:
    """The columns with scores of these metrics (none given: all), in the paper's order."""
    for name, column in table.columns.items():
        dataset = table.dataset_of(name)
        if column.metric != "params" and dataset and (not metrics or column.metric in metrics):
            yield Head(name, column, dataset)


def compare(table: Published, head: Head, pairing: Pairing) -> Compared:
    """The two numbers of a row. The interval is that of our mean, over cases and, with several, seeds."""
    value = pairing.row.values[head.name] if pairing.row else None
    line, metric, organ = pairing.line, head.column.metric, head.column.organ
    if line is None or not line.seeds:
        return Compared(value)
    if organ is not None and organ not in line.classes:
        return Compared(value, reason=f"no class '{organ}' here")
    cube = line.cube(metric)
    if organ is not None:
        index = line.classes.index(organ)
        cube = cube[:, :, index : index + 1]
    interval = stats.mean_interval(cube, bounds_of(metric))
    unit = "/".join(sorted(line.frame.loc[line.frame["metric"] == metric, "unit"].unique()))
    reason = _not_comparable(table, head, pairing, line, unit)
    flat, gone = flattery(line, metric, organ), f"no interval: {interval.why}" if interval.why else ""
    never = dead.note([one for one in line.dead if organ in (None, one.cls)])
    stat = line.stat(metric, organ)
    return Compared(value, stat, interval.low, interval.high, unit, reason, gone, flat, never)


def _not_comparable(table: Published, head: Head, pairing: Pairing, line: Line, unit: str) -> str:
    if unit != head.column.unit:
        return f"ours in {unit}, the paper's in {head.column.unit}: no difference"
    if pairing.setup and pairing.setup.grid:
        return f"ours on other volumes, {pairing.setup.grid}: no difference"
    organs = {column.organ for column in table.columns.values() if column.organ}
    if head.column.average and organs and organs != set(line.classes):
        return f"the paper's mean is over {len(organs)} organs, ours over other classes: no difference"
    return ""


def record(table: Published, head: Head, pairing: Pairing, one: Compared) -> dict[str, Any]:
    """The fields of the CSV that say what is compared, and the numbers; an empty text for none."""
    line, row = pairing.line, pairing.row
    texts = {name: "" if text == number(None) else text for name, text in one.texts.items()}
    return {
        "table": table.table,
        "row": row.label if row else "",
        "dataset": head.dataset,
        "column": head.name,
        "metric": head.column.metric,
        "organ": head.column.organ or "",
        "arm": line.arm if line else "",
        "label": line.label if line else "",
        "ours_mean": texts["mean"],
        "ours_std": texts["std"],
        "low": "" if one.low is None else number(one.low),
        "high": "" if one.high is None else number(one.high),
        "published": texts["paper"],
        "difference": "" if one.difference is None else number(one.difference),
        "unit": head.column.unit,
        "ours_unit": one.unit,
    }
