"""How far apart two groups of cases lie in one number a voxel, and what follows from having these cases.

Voxels of one case are alike, so the case is what is drawn anew. A group is the mixture of its cases, each
with the share of voxels that it has; drawing cases anew only changes their weights, so every quantity here is
a function of the weights of cases: ``Groups.measure``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DRAWS = 2000
KNOTS = 1024
GRID = 512
#: Columns of what ``measure`` gives: Wasserstein-1, the same in pooled standard deviations, overlap.
W1, RELATIVE, OVERLAP = range(3)


@dataclass(frozen=True)
class CaseSample:
    """Values of one case, in random order within each stratum, and how many voxels each stands for.

    ``strata`` holds (values, voxels) of each class: ``values`` are a random sample of that many voxels.
    """

    name: str
    strata: tuple[tuple[Array, int], ...]

    @property
    def values(self) -> Array:
        return np.concatenate([np.empty(0), *(values for values, _ in self.strata)])

    @property
    def weights(self) -> Array:
        each = (np.full(values.size, count / max(values.size, 1)) for values, count in self.strata)
        return np.concatenate([np.empty(0), *each])

    @property
    def voxels(self) -> int:
        return sum(count for _, count in self.strata)


def bandwidth(n: int, spread: float) -> float:
    """Half of Scott's rule, as seaborn's ``bw_adjust=0.5``: n^(-1/5) times the standard deviation, halved."""
    return 0.5 * spread / float(n ** (1 / 5))


def group_sample(cases: Sequence[CaseSample], size: int, rng: np.random.Generator) -> list[tuple[int, Array]]:
    """``size`` voxels drawn without replacement from all voxels of all cases: (index of the case, values).

    Exact although only a part of each case is stored: how many fall into a stratum is drawn first, and its
    stored values are a random sample of it. ``size`` is at most what the fullest stratum stores.
    """
    strata = [
        (index, values, count) for index, case in enumerate(cases) for values, count in case.strata if count
    ]
    ends = np.cumsum([count for *_, count in strata])
    hits = np.searchsorted(ends, rng.choice(int(ends[-1]), size, replace=False), side="right")
    taken = np.bincount(hits, minlength=len(strata))
    return [(index, values[:k]) for (index, values, _), k in zip(strata, taken, strict=True) if k]


class Groups:
    """Two groups of cases, ready to be weighed anew. Both have at least one voxel.

    ``size`` is the number of voxels that the bandwidth of the densities is made for.
    """

    def __init__(self, first: Sequence[CaseSample], second: Sequence[CaseSample], size: int) -> None:
        cases = [*first, *second]
        self.names = tuple(case.name for case in cases)
        self.first = np.arange(len(cases)) < len(first)
        self.mass = np.array([case.voxels for case in cases], dtype=np.float64)
        values, weights = [case.values for case in cases], [case.weights for case in cases]
        every = np.sort(np.concatenate(values))
        self.centre = float(every.mean())
        knots = np.unique(every)
        if knots.size > KNOTS:
            knots = knots[np.linspace(0, knots.size - 1, KNOTS).round().astype(int)]
        self._knots = knots
        self._cdfs = np.stack([_cdf(v, w, knots) for v, w in zip(values, weights, strict=True)])
        self._moments = np.stack([_moments(v - self.centre, w) for v, w in zip(values, weights, strict=True)])
        self.spreads = tuple(
            float(np.sqrt(self._variance(side[None].astype(float)))[0]) for side in (self.first, ~self.first)
        )
        self._step, self._densities = self._smooth(values, weights, size)

    @property
    def spread(self) -> float:
        """The pooled standard deviation: the root of the mean of both groups' variances."""
        return float(np.sqrt(np.mean(np.square(self.spreads))))

    def measure(self, first: Array, second: Array) -> Array:
        """(B, 3) from weights (B, cases) of both groups, columns ``W1``, ``RELATIVE``, ``OVERLAP``;
        NaN where a group has no voxel.

        Wasserstein-1 is the area between both distribution functions: exact up to ``KNOTS`` different values,
        beyond that to within a 1 / ``KNOTS`` of their range. It is then divided by the pooled standard
        deviation, since each network has a scale of its own. Overlap is the area under the lower of both
        densities: 1 for equal ones, 0 for those that share nothing.
        """
        a, b = self._shares(first), self._shares(second)
        between = np.abs(a @ self._cdfs - b @ self._cdfs)
        w1 = between[:, :-1] @ np.diff(self._knots)
        spread = np.sqrt((self._variance(first) + self._variance(second)) / 2)
        relative = np.divide(w1, spread, out=np.full(len(w1), np.nan), where=spread > 0)
        overlap = np.minimum(a @ self._densities, b @ self._densities).sum(axis=1) * self._step
        return np.stack([w1, relative, overlap], axis=1)

    def observed(self) -> Array:
        """(3,) of the groups as they are."""
        first = self.first[None].astype(float)
        return np.asarray(self.measure(first, 1 - first)[0])

    def bootstrapped(self, draws: int = DRAWS) -> Array:
        """(B, 3) from bootstrap samples of the cases of each group; a group of one case keeps it.

        The draws follow from the names of the cases, so two networks that saw the same cases are paired. In
        simulations with 16 or 32 cases a group, 92 to 95 % of the 95 % percentile intervals held the true
        distance where it was 0.28 sd or more, and none where it was 0, since drawn groups always lie apart:
        whether there is a gap at all is asked of ``permuted``.
        """
        weights = [np.zeros((draws, self.first.size)) for _ in range(2)]
        for side, weight in zip((self.first, ~self.first), weights, strict=True):
            names = [name for name, here in zip(self.names, side, strict=True) if here]
            n = len(names)
            weight[:, side] = _rng(names).multinomial(n, np.full(n, 1 / n), size=draws)
        return self.measure(*weights)

    def permuted(self, draws: int = DRAWS) -> Array:
        """(B, 3) with all cases permuted at random into two groups of the same sizes: what chance gives."""
        rng, n = _rng(sorted(self.names)), self.first.size
        order = rng.permuted(np.tile(np.arange(n), (draws, 1)), axis=1)
        side = (order < self.first.sum()).astype(np.float64)
        return self.measure(side, 1 - side)

    def _shares(self, weights: Array) -> Array:
        mass = weights * self.mass
        total = mass.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(mass, total, out=np.full(mass.shape, np.nan), where=total > 0))

    def _variance(self, weights: Array) -> Array:
        mean, square = (self._shares(weights) @ self._moments).T
        return np.asarray(np.maximum(square - mean**2, 0))

    def _smooth(self, values: list[Array], weights: list[Array], size: int) -> tuple[float, Array]:
        """Step of an even grid and the density (cases, grid) of each case, smoothed as its group's."""
        first, second = (bandwidth(size, spread) for spread in self.spreads)
        if not min(first, second) > 0:
            return np.nan, np.full((len(values), 1), np.nan)
        margin = 4 * max(first, second)
        edges = np.linspace(self._knots[0] - margin, self._knots[-1] + margin, GRID + 1)
        step = float(edges[1] - edges[0])
        places = np.arange(GRID, dtype=np.float64) * step
        apart = places[:, None] - places
        kernels = {width: _gauss(apart, width) for width in (first, second)}
        shares = [
            np.histogram(v, edges, weights=w)[0] / max(w.sum(), 1e-12)
            for v, w in zip(values, weights, strict=True)
        ]
        widths = np.where(self.first, first, second)
        return step, np.stack([share @ kernels[w] for share, w in zip(shares, widths, strict=True)])


def _cdf(values: Array, weights: Array, knots: Array) -> Array:
    """The share of a case's mass at or below each knot; 0 everywhere for a case without any."""
    order = np.argsort(values)
    below = np.concatenate([[0.0], np.cumsum(weights[order])])
    return np.asarray(below[np.searchsorted(values[order], knots, side="right")] / max(below[-1], 1e-12))


def _moments(values: Array, weights: Array) -> Array:
    total = max(float(weights.sum()), 1e-12)
    return np.array([weights @ values, weights @ values**2]) / total


def _gauss(apart: Array, width: float) -> Array:
    return np.asarray(np.exp(-0.5 * (apart / width) ** 2) / (width * np.sqrt(2 * np.pi)))


def _rng(names: Sequence[str]) -> np.random.Generator:
    return np.random.default_rng(
        int.from_bytes(hashlib.sha256("\n".join(names).encode()).digest()[:8], "big")
    )
