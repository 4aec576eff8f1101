"""How well a forecast that has seen half of the records of a finished run predicts the other half.

    python benchmarks/forecast.py                      a run of quickstart in profile cpu, some ten minutes
    OMP_NUM_THREADS=1 python benchmarks/forecast.py table01_la --profile cpu --workspace runs

Without a workspace the specification is run first. Its nodes are dealt into two halves, again and again; each
time the records of one half alone calibrate, and the nodes of the other half are forecast. Printed, by stage:
the ratio of seconds forecast and taken, of all held-out nodes together (what ``plan`` prints) and of single
ones, as the median and as the worst over the deals. With ``--groups`` nodes that differ in seeds alone are
dealt together, so that more rests on formulas. A workspace must be of this machine, with as many threads.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from sfrbench.cli.console import PlainListener
from sfrbench.machine.needs import Machine
from sfrbench.report.items import kinds
from sfrbench.run.experiment import Experiment, execute, open_experiment
from sfrbench.run.forecast import Forecast
from sfrbench.run.records import tells
from sfrbench.stages.finder import recipes
from sfrbench.stages.recipe import Link
from sfrbench.store.store import Store


class Half(Store):
    """A store whose records of some keys alone are told."""

    def __init__(self, root: Path, keys: Set[str]) -> None:
        super().__init__(root)
        self.keys = keys

    def records(self, stage: str, most: int | None = None) -> Iterator[Mapping[str, Any]]:
        yield from (record for record in super().records(stage, most) if record["key"] in self.keys)


class Ratios:
    """Forecast by taken."""

    def __init__(self) -> None:
        self.sums: list[float] = []
        self.nodes: list[float] = []
        self.hows: Counter[str] = Counter()

    def told(self) -> str:
        hows = ", ".join(f"{how} {count / self.hows.total():.0%}" for how, count in self.hows.most_common())
        return f"{_told(self.sums)}   {_told(self.nodes)}   {hows}"


def _told(ratios: list[float]) -> str:
    worst = max(ratios, key=lambda ratio: abs(math.log(ratio)))
    return f"{statistics.median(ratios):6.2f} {worst:6.2f}"


def deal(
    experiment: Experiment, hands: Sequence[Sequence[Link]], chance: random.Random
) -> tuple[Forecast, list[Link]]:
    """A forecast by one half of the hands of every stage, and the nodes of the other half."""
    known: set[str] = set()
    by_stage: dict[str, list[Sequence[Link]]] = defaultdict(list)
    for hand in hands:
        by_stage[hand[0][0]].append(hand)
    for own in by_stage.values():
        known |= {key for hand in chance.sample(own, math.ceil(len(own) / 2)) for _, key in hand}
    store = Half(experiment.store.root, known)
    left = [link for hand in hands for link in hand if link[1] not in known]
    return Forecast(experiment.plan, store, experiment.machine), left


def measure(experiment: Experiment, deals: int, *, groups: bool) -> dict[str, Ratios]:
    store = experiment.store
    records = {link: store.get(*link).record for link in experiment.plan.nodes if store.has(*link)}
    taken = {link: float(record["seconds"]) for link, record in records.items() if tells(record)}
    hands: dict[object, list[Link]] = defaultdict(list)
    for link in taken:
        hands[experiment.forecast().group(link) if groups else link].append(link)
    found: dict[str, Ratios] = defaultdict(Ratios)
    for seed in range(deals):
        forecast, left = deal(experiment, list(hands.values()), random.Random(seed))
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for link in left:
            cost, stage = forecast.cost(link), found[link[0]]
            stage.hows[cost.how] += 1
            if cost.seconds:
                stage.nodes.append(cost.seconds / taken[link])
                sums[link[0]][0] += cost.seconds
                sums[link[0]][1] += taken[link]
        for name, (told, took) in sums.items():
            found[name].sums.append(told / took)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("spec", nargs="?", default="quickstart")
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--workspace", type=Path, help="of a finished run; it is not changed")
    parser.add_argument("--deals", type=int, default=100)
    parser.add_argument("--groups", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(asked.workspace or Path(folder), device="cpu")
        experiment = open_experiment(asked.spec, asked.profile, machine, items=kinds())
        if asked.workspace is None:
            execute(experiment, PlainListener(), "none")
        found = measure(experiment, asked.deals, groups=asked.groups)
    print(f"{'forecast / taken':<12}   of the stage    of one node    known by")
    print(f"{'stage':<12}   {'median':>6} {'worst':>6}   {'median':>6} {'worst':>6}")
    for stage in recipes():
        if stage in found and found[stage].nodes:
            print(f"{stage:<12}   {found[stage].told()}")


if __name__ == "__main__":
    main()
