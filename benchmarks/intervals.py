"""How often the intervals of a report hold, and how often a table calls a difference that is not there.

    python benchmarks/intervals.py [--tables 2000] [--draws 300] [--only grid|family]

**grid.** Two arms, 2, 3 and 5 seeds x 4, 8 and 20 cases, in the middle of the range and near its ends
(``worlds``). In percent: "mean" and "diff" are the 95 % intervals of an arm's mean and of the paired
difference that hold the truth; an interval that is not given (a dash with its reason, "dash" of 100) counts
as met. "width" is the median width of those given. A cell below 93 is marked !, one above 97.5 with +. Worlds
called "rare" have failures that many a table does not show: no interval knows of them.

An interval that is not given would mostly have held: judged by its limits instead, a cell changes by about a
point at most. But dashes go to the tables that vary most, so where nearly all have one, the few intervals
given hold less often.

**family.** Five arms of equal worth, four compared with the first: tables in which at least one difference is
called real at 0.05 after Holm's correction, by the p that goes with the interval, by Satterthwaite's degrees
of freedom in its place, and by Wilcoxon's signed-rank test on one difference per case. "boot" is how often
the plain two-level percentile bootstrap holds.

The error of simulation is about 0.5 points for 2,000 tables.
"""

# ruff: noqa: E402 (the environment comes before numpy)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy import stats as scipy_stats

from sfrbench.maths import intervals, stats
from sfrbench.maths.intervals import Array, Bounds

PERCENT, DISTANCE = Bounds(100.0), Bounds(np.inf)
GRID = [(seeds, cases) for seeds in (2, 3, 5) for cases in (4, 8, 20)]
ARMS = 5


@dataclass(frozen=True)
class World:
    """Two arms whose scores are normal on the scale without a bound: log odds, or the log of a distance.

    ``a`` and ``b`` are their centres (none: 0 for every case); the others standard deviations of a case's
    difficulty, of what an arm makes of it, of a training, and of the rest. ``dead`` is the share of an arm's
    cases that score 0 in all its trainings, ``luck`` that of single scores of 0. Of a ``collapsed`` arm a the
    first training scores a fiftieth.
    """

    name: str
    a: float
    b: float | None
    case: float = 0.8
    of_case: float = 0.4
    training: float = 0.2
    rest: float = 0.3
    dead: float = 0.0
    luck: float = 0.0
    collapsed: bool = False
    bounds: Bounds = PERCENT

    def scores(self, count: int, seeds: int, cases: int, seed: int = 1) -> Array:
        """(count, 2, S, C)."""
        rng = np.random.default_rng(seed)
        x = self.case * rng.normal(size=(count, 1, 1, cases))
        x = x + self.of_case * rng.normal(size=(count, 2, 1, cases))
        x = x + self.training * rng.normal(size=(count, 2, seeds, 1))
        x = x + self.rest * rng.normal(size=(count, 2, seeds, cases))
        x = self._score(x + np.array([self.a, self.b or 0.0])[:, None, None])
        x = np.where(rng.random((count, 2, 1, cases)) < self.dead, 0, x)
        x = np.where(rng.random(x.shape) < self.luck, 0, x)
        if self.collapsed:
            x[:, 0, 0] /= 50
        if self.b is None:
            x[:, 1] = 0
        return np.asarray(x)

    def truth(self, seeds: int) -> tuple[float, float]:
        """The true means of both arms, by Gauss and Hermite."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        sd = np.sqrt(self.case**2 + self.of_case**2 + self.training**2 + self.rest**2)
        means = [
            float((self._score(centre + sd * nodes) * weights).sum() / weights.sum())
            for centre in (self.a, self.b or 0.0)
        ]
        alive = (1 - self.dead) * (1 - self.luck)
        fallen = 1 - 0.98 / seeds if self.collapsed else 1.0
        return means[0] * alive * fallen, 0.0 if self.b is None else means[1] * alive

    def _score(self, x: Array) -> Array:
        return np.asarray(100 * special.expit(x) if self.bounds is PERCENT else np.exp(x))


def worlds() -> Iterator[World]:
    skewed = {"case": 1.2, "of_case": 0.6}
    yield World("middle", 0.8, 0.5)
    yield World("near 100", 3.5, 3.0)
    yield World("near 0", -3.5, -3.0)
    yield World("near 100 against near 0", 3.0, -3.0)
    yield World("near 100, skewed", 3.5, 3.0, **skewed)
    yield World("near 100, skewed, equal", 3.5, 3.5, **skewed)
    yield World("near 100, skewed, against 0", 3.5, None, **skewed)
    yield World("near 0 against 0", -3.0, None)
    yield World("a tenth of scores dead", 2.0, 2.0, luck=0.1)
    yield World("a quarter of scores dead", 2.0, 2.0, luck=0.25)
    yield World("a third of cases dead", 2.0, 2.0, dead=0.35)
    yield World("one training collapsed", 2.0, 2.0, collapsed=True)
    yield World("trainings fall apart", 1.0, 1.0, training=1.0)
    yield World("distances", 1.0, 1.0, bounds=DISTANCE)
    yield World("distances, one arm worse", 1.0, 2.0, bounds=DISTANCE)
    yield World("distances against 0", 1.0, None, bounds=DISTANCE)
    yield World("rare: a quarter of cases dead", 2.0, 2.0, dead=0.25)
    yield World("rare: a tenth of cases dead", 2.0, 2.0, dead=0.1)
    yield World("rare: distances, a long tail", 1.0, 2.0, case=0.9, of_case=0.6, bounds=DISTANCE)


@dataclass(frozen=True)
class Held:
    """Percent that hold the truth or are not given, percent that are not given, and the width of the
    others."""

    held: float
    dash: float
    width: float

    @classmethod
    def of(cls, low: Array, high: Array, none: Array, truth: float) -> Held:
        slack = 1e-9 * (1 + abs(truth))
        met = (low <= truth + slack) & (high >= truth - slack)
        given = (high - low)[~none]
        width = float(np.median(given)) if given.size else np.nan
        return cls(float(100 * (met | none).mean()), float(100 * none.mean()), width)

    @property
    def texts(self) -> list[str]:
        mark = "!" if self.held < 93 else "+" if self.held > 97.5 else ""
        width = "—" if np.isnan(self.width) else f"{self.width:.1f}"
        return [f"{self.held:.1f}{mark}", f"{self.dash:.0f}", width]


def cell(world: World, count: int, seeds: int, cases: int) -> tuple[Held, Held]:
    """Mean of arm a, and a - b."""
    scores = world.scores(count, seeds, cases)
    a, b = world.truth(seeds)
    bounds = world.bounds
    spread = intervals.crossed(scores[:, 0])
    low, high = intervals.of_mean(spread, seeds, cases, bounds)
    mean = Held.of(low, high, intervals.mean_is_open(low, high, bounds) | ~spread.varies, a)
    gap = intervals.Difference.of(scores[:, 0], scores[:, 1])
    low, high = gap.interval(seeds, cases, bounds)
    outside = max(float(np.max(-bounds.high - low)), float(np.max(high - bounds.high)))
    assert outside <= 0, f"{world.name}: an interval leaves the range"
    return mean, Held.of(low, high, gap.is_open(low, high, bounds), a - b)


def grid(count: int) -> None:
    print("| world | seeds | cases | true mean | mean | dash | width | true diff | diff | dash | width |")
    print(f"|---|{'---:|' * 10}")
    least: list[tuple[float, str]] = []
    for world in worlds():
        for seeds, cases in GRID:
            a, b = world.truth(seeds)
            mean, gap = cell(world, count, seeds, cases)
            texts = [world.name, str(seeds), str(cases), f"{a:.1f}", *mean.texts, f"{a - b:.1f}", *gap.texts]
            print(f"| {' | '.join(texts)} |", flush=True)
            where = f"{world.name}, {seeds} seeds, {cases} cases"
            least += [(mean.held, f"mean, {where}"), (gap.held, f"difference, {where}")]
    print("\nLowest first:")
    for rare in (False, True):
        known = sorted(entry for entry in least if ("rare" in entry[1]) == rare)
        print("\n".join(f"  {held:.1f}  {where}" for held, where in known[:12]))
    plain = [held for held, where in least if "rare" not in where]
    print(f"above 97.5: {sum(held > 97.5 for held in plain)} of {len(plain)} cells that are not rare\n")


#: Draws of mean 0 and standard deviation 1.
KINDS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed": lambda rng, shape: 1 - rng.exponential(size=shape),  # a few cases fail badly
    "heavy": lambda rng, shape: rng.standard_t(3, size=shape) / np.sqrt(3),
}


@dataclass(frozen=True)
class Family:
    """Five arms of equal worth: 50 in the middle, or ``near`` 100, where the same is done to log odds.

    A case's difficulty has sd 5, the rest 3; given are those of what an arm makes of a case and of the luck
    of a training. ``lost`` is the share of scores that the protocol leaves out.
    """

    seeds: int
    cases: int
    of_case: float = 2.0
    training: float = 1.5
    kind: str = "normal"
    lost: float = 0.0
    near: bool = False

    def tables(self, count: int) -> Array:
        """Scores (count, arms, S, C)."""
        rng = np.random.default_rng(1)
        draw, s, c = KINDS[self.kind], self.seeds, self.cases
        scores = 5 * draw(rng, (count, 1, 1, c)) + self.of_case * draw(rng, (count, ARMS, 1, c))
        scores = scores + self.training * rng.normal(size=(count, ARMS, s, 1))
        scores = scores + 3 * draw(rng, (count, ARMS, s, c))
        scores = 100 * special.expit(3 + scores / 6) if self.near else np.clip(50 + scores, 0, 100)
        return np.asarray(np.where(rng.random(scores.shape) < self.lost, np.nan, scores))


def families() -> Iterator[Family]:
    for seeds, cases in ((3, 4), (3, 8), (3, 20), (3, 80), (5, 8), (5, 20), (2, 20)):
        for of_case in (0.0, 2.0, 5.0):
            yield Family(seeds, cases, of_case)
    yield Family(3, 20, training=0)
    yield Family(3, 20, training=3)
    for cases in (8, 20):
        yield Family(3, cases, kind="skewed")
        yield Family(3, cases, kind="heavy")
        yield Family(3, cases, near=True)
    yield Family(3, 20, lost=0.1)
    yield Family(1, 20, training=0)
    yield Family(1, 20)


def satterthwaite_p(table: Array) -> Array:
    """The p of (n, S, C) with Satterthwaite's degrees of freedom: what ours is held against."""
    seeds, cases = table.shape[1:]
    gap = table - table.mean(axis=(1, 2), keepdims=True)
    by_seed, by_case = gap.mean(axis=2), gap.mean(axis=1)
    rest = gap - by_seed[:, :, None] - by_case[:, None, :]
    of_seeds = cases * (by_seed**2).sum(axis=1) / (seeds - 1)
    of_cases = seeds * (by_case**2).sum(axis=1) / (cases - 1)
    left = (rest**2).sum(axis=(1, 2)) / ((seeds - 1) * (cases - 1))
    total = np.maximum(np.maximum(of_seeds, of_cases), of_seeds + of_cases - left)
    parts = of_seeds**2 / (seeds - 1) + of_cases**2 / (cases - 1) + left**2 / ((seeds - 1) * (cases - 1))
    freedom = np.maximum(total**2 / parts, min(seeds, cases) - 1)
    off = np.abs(table.mean(axis=(1, 2))) / np.sqrt(total / (seeds * cases))
    return np.asarray(2 * special.stdtr(freedom, -off))


def called(p: Array) -> float:
    """Percent of the tables (tables, comparisons) in which Holm's correction leaves one below 0.05."""
    return float(100 * (p.min(axis=1) * p.shape[1] < intervals.LEVEL).mean())


def compared(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """Low, high and p of a - b, (n, S, C) each, as in ``stats.difference``."""
    seeds, cases = a.shape[1:]
    if np.isnan(a).any():
        pairs = zip(a[..., None], b[..., None], strict=True)
        found = [stats.difference(one, other, PERCENT) for one, other in pairs]
        rows = [(-100 if g.why else g.low, 100 if g.why else g.high, p) for g, p in found]
        low, high, p = np.array(rows, dtype=np.float64).T
        return low, high, p
    gap = intervals.Difference.of(a, b)
    return *gap.interval(seeds, cases, PERCENT), gap.p(seeds, cases, PERCENT)


def measure(world: Family, count: int, draws: int) -> dict[str, float]:
    """The columns of one row of the table of families."""
    scores = world.tables(count)
    shape = (count, ARMS - 1)
    flat = (-1, world.seeds, world.cases)
    a = scores[:, 1:].reshape(flat)
    b = np.broadcast_to(scores[:, :1], scores[:, 1:].shape).reshape(flat)
    low, high, p = compared(a, b)
    some = (a - b)[:: ARMS - 1][:500]
    boot = np.array([stats.bootstrap(one[:, :, None], draws) for one in some], dtype=np.float64)
    rank_p = scipy_stats.wilcoxon(stats.nanmean(a - b, axis=1), axis=1, nan_policy="omit").pvalue
    whole = world.seeds > 1 and world.lost == 0
    return {
        "diff": float(100 * ((low <= 0) & (high >= 0)).mean()),
        "width": float(np.median(high - low)),
        "diff boot": float(100 * ((boot[:, 0] <= 0) & (boot[:, 1] >= 0)).mean()),
        "family": called(p.reshape(shape)),
        "family Satt.": called(satterthwaite_p(a - b).reshape(shape)) if whole else np.nan,
        "family Wilcoxon": called(rank_p.reshape(shape)),
    }


def family(count: int, draws: int) -> None:
    head = ("seeds", "cases", "arm x case", "training", "kind")
    for index, world in enumerate(families()):
        row = measure(world, count, draws)
        if index == 0:
            print(f"| {' | '.join((*head, *row))} |\n|{'---:|' * (len(head) + len(row))}")
        kind = f"{world.kind}, {world.lost:.0%} lost" if world.lost else world.kind
        kind += ", near 100" if world.near else ""
        names = (world.seeds, world.cases, world.of_case, world.training, kind)
        values = ("—" if value != value else f"{value:.1f}" for value in row.values())
        print(f"| {' | '.join((*map(str, names), *values))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--only", choices=("grid", "family"))
    options = parser.parse_args()
    began = time.perf_counter()
    if options.only != "family":
        grid(options.tables)
    if options.only != "grid":
        family(options.tables, options.draws)
    print(f"\n{options.tables} tables a row, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
