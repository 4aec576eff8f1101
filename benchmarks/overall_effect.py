"""How often the interval of an effect over several methods holds (``sfrbench.maths.effects``).

    python benchmarks/overall_effect.py [--layouts 2000]

Differences of M methods, C cases and S seeds are made with effects of methods, cases and seeds, of a case in
a method, of a training (method and seed), and a rest; the true mean is 0. In percent, how many 95 % intervals
hold it, and their median width:

- "held": ours; below 93 it is marked !, above 97.5 with +;
- "own seeds": the same, with the seeds of different methods taken for unrelated, though methods share the
  fine-tuned SAM of a seed and its initial weights;
- "t over methods": Student's interval over the methods' means, which takes cases and seeds for given.

Where a method "lacks seeds", one of its trainings stands for all. One seed tells nothing of others: where
seeds matter, no interval of one seed holds. The error of simulation is about 0.5 points for 2,000 layouts.
"""

# ruff: noqa: E402 (the environment comes before numpy)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from sfrbench.maths.effects import spread
from sfrbench.maths.intervals import LEVEL, Array

#: Draws of mean 0 and standard deviation 1.
KINDS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed": lambda rng, shape: 1 - rng.exponential(size=shape),  # a few lose much
    "heavy": lambda rng, shape: rng.standard_t(3, size=shape) / np.sqrt(3),
}


@dataclass(frozen=True)
class World:
    """Standard deviations of the effects, in points; ``kind`` is the form of all but those of trainings."""

    name: str
    method: float = 1.5
    case: float = 2.0
    seed: float = 0.0
    case_of_method: float = 2.0
    training: float = 1.5
    case_of_seed: float = 0.0
    rest: float = 3.0
    kind: str = "normal"
    lost: float = 0.0  # the share of methods that lack seeds

    def layouts(self, count: int, methods: int, seeds: int, cases: int) -> Array:
        """Differences (count, M, S, C)."""
        rng, draw = np.random.default_rng(1), KINDS[self.kind]
        m, s, c = methods, seeds, cases
        d = self.method * draw(rng, (count, m, 1, 1)) + self.case * draw(rng, (count, 1, 1, c))
        d = d + self.case_of_method * draw(rng, (count, m, 1, c)) + self.rest * draw(rng, (count, m, s, c))
        d = (
            d
            + self.seed * rng.normal(size=(count, 1, s, 1))
            + self.training * rng.normal(size=(count, m, s, 1))
        )
        d = d + self.case_of_seed * rng.normal(size=(count, 1, s, c))
        for place in range(round(self.lost * m)):  # as ``effects.complete`` fills what is missing
            d[:, place] = d[:, place, place % s][:, None]
        return np.asarray(d)


def worlds() -> Iterator[World]:
    plain = World("all differ")
    yield plain
    yield World("methods alike", method=0)
    yield World("cases alike", case=0)
    yield World("methods and cases alike", method=0, case=0)
    yield World("methods differ much", method=5)
    yield World("cases differ much", case=6)
    yield World("shared seeds matter", seed=1, case_of_seed=1)
    yield World("shared seeds matter much", seed=3, case_of_seed=1)
    yield World("nothing but shared seeds", method=0, case=0, seed=2)
    yield replace(plain, name="a sixth lacks seeds", lost=1 / 6)
    yield World("a third lacks seeds, seeds matter", seed=1, case_of_seed=1, lost=1 / 3)
    for kind in ("skewed", "heavy"):
        yield replace(plain, name=f"all differ, {kind}", kind=kind)
        yield World(f"methods differ much, {kind}", method=5, kind=kind)
        yield World(f"cases differ much, {kind}", case=6, kind=kind)


def held(mean: Array, off: Array) -> str:
    return f"{100 * (np.abs(mean) <= off).mean():.1f}"


def row(world: World, count: int, methods: int, cases: int, seeds: int) -> str:
    d = world.layouts(count, methods, seeds, cases)
    found = spread(d)
    level = np.asarray(LEVEL)
    off = found.off(level)
    own = replace(found, seeds=np.zeros_like(found.seeds)).off(level)
    student = -stdtrit(methods - 1, LEVEL / 2) * np.sqrt(found.methods)
    ours = held(found.mean, off)
    mark = "!" if float(ours) < 93 else "+" if float(ours) > 97.5 else ""
    texts = [world.name, methods, cases, seeds, f"{ours}{mark}", f"{2 * np.median(off):.1f}"]
    return f"| {' | '.join(map(str, [*texts, held(found.mean, own), held(found.mean, student)]))} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layouts", type=int, default=2000)
    count = parser.parse_args().layouts
    began = time.perf_counter()
    print("| world | methods | cases | seeds | held | width | own seeds | t over methods |")
    print(f"|---|{'---:|' * 7}")
    for world in worlds():
        for methods, cases, seeds in ((6, 8, 3), (6, 20, 3), (16, 8, 3), (16, 20, 3), (16, 20, 1)):
            if seeds == 1 and world.lost:
                continue
            print(row(world, count, methods, cases, seeds), flush=True)
    print(f"\n{count} layouts a row, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
