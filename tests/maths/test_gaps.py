"""Distances of groups of cases: equal to scipy's, and cases, not voxels, are what is drawn anew."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sfrbench.maths.gaps import CaseSample, Groups, bandwidth, group_sample


def case(name: str, values: np.ndarray, voxels: int | None = None) -> CaseSample:
    return CaseSample(name, ((np.asarray(values, float), len(values) if voxels is None else voxels),))


def normal(seed: int, means: list[float], n: int = 40, mark: str = "") -> list[CaseSample]:
    rng = np.random.default_rng(seed)
    return [
        case(f"{mark}{seed}_{i}", rng.normal(mean, 1, n), voxels=n * (i + 1)) for i, mean in enumerate(means)
    ]


def pooled(cases: list[CaseSample]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([c.values for c in cases]), np.concatenate([c.weights for c in cases])


@pytest.mark.parametrize(("n", "tolerance"), [(40, 1e-12), (1000, 5e-3)])
def test_the_distance_is_scipys(n: int, tolerance: float) -> None:
    first, second = normal(0, [0.0, 0.5], n), normal(1, [0.2, 1.0, -0.3], n)
    groups = Groups(first, second, 100)
    (a, wa), (b, wb) = pooled(first), pooled(second)
    expected = stats.wasserstein_distance(a, b, wa, wb)
    w1, relative, overlap = groups.observed()
    assert w1 == pytest.approx(expected, abs=tolerance)
    spread = [np.sqrt(np.cov(values, aweights=weights, ddof=0)) for values, weights in ((a, wa), (b, wb))]
    assert relative == pytest.approx(w1 / np.sqrt((spread[0] ** 2 + spread[1] ** 2) / 2))
    assert groups.spread == pytest.approx(w1 / relative)
    grid = np.linspace(-8, 8, 500)
    curves = [
        (w[None] * stats.norm.pdf(grid[:, None], x[None], bandwidth(100, s))).sum(1) / w.sum()
        for (x, w), s in zip(((a, wa), (b, wb)), spread, strict=True)
    ]
    assert overlap == pytest.approx(np.trapezoid(np.minimum(*curves), grid), abs=2e-3)


def test_equal_groups_and_groups_that_share_nothing() -> None:
    cases = normal(3, [0.0, 1.0])
    w1, relative, overlap = Groups(cases, cases, 50).observed()
    assert (w1, relative) == pytest.approx((0, 0), abs=1e-12)
    assert overlap == pytest.approx(1, abs=1e-6)
    far = [case(f"far{i}", c.values + 50) for i, c in enumerate(cases)]
    w1, _, overlap = Groups([case(c.name, c.values) for c in cases], far, 50).observed()
    assert w1 == pytest.approx(50)
    assert overlap == pytest.approx(0, abs=1e-9)


def test_a_change_of_scale_changes_the_distance_and_not_its_share_of_the_spread() -> None:
    first, second = normal(0, [0.0]), normal(1, [1.0])
    scaled = [[case(c.name, 7 * c.values, c.voxels) for c in group] for group in (first, second)]
    old, new = Groups(first, second, 50).observed(), Groups(*scaled, 50).observed()
    np.testing.assert_allclose(new, [7 * old[0], old[1], old[2]], rtol=1e-9)


def test_features_that_are_all_equal_have_no_scale() -> None:
    flat = [case("a", np.ones(5)), case("b", np.ones(5))]
    w1, relative, overlap = Groups(flat[:1], flat[1:], 5).observed()
    assert w1 == 0
    assert np.isnan([relative, overlap]).all()


def test_a_case_without_voxels_weighs_nothing() -> None:
    first, second = normal(0, [0.0]), normal(1, [1.0])
    with_empty = Groups([*first, case("none", np.empty(0))], second, 50)
    np.testing.assert_allclose(with_empty.observed(), Groups(first, second, 50).observed())
    assert np.isnan(with_empty.bootstrapped(200)).any()  # the empty case drawn twice


def test_cases_are_drawn_anew_and_voxels_are_not() -> None:
    tight = Groups(normal(0, [0.0] * 10, 200), normal(1, [1.0] * 10, 200), 500).bootstrapped(400)
    loose = Groups(normal(0, list(range(10)), 200), normal(1, list(range(1, 11)), 200), 500).bootstrapped(400)
    assert tight[:, 0].std() < 0.1 < 0.5 < loose[:, 0].std()
    single = Groups(normal(0, [0.0]), normal(1, [1.0]), 40)
    np.testing.assert_allclose(single.bootstrapped(5), np.tile(single.observed(), (5, 1)))


def test_draws_follow_from_the_names_so_networks_are_paired() -> None:
    names = [normal(0, [0.0, 1.0, 2.0]), normal(1, [1.0, 2.0, 3.0])]
    other = [[case(c.name, 2 * c.values + 5, c.voxels) for c in group] for group in names]
    a, b = Groups(*names, 50).bootstrapped(100), Groups(*other, 50).bootstrapped(100)
    np.testing.assert_allclose(b[:, 1], a[:, 1], rtol=1e-9)
    strangers = [[case(f"x{c.name}", c.values, c.voxels) for c in group] for group in names]
    assert (
        abs(
            np.corrcoef(
                Groups(*strangers, 50).bootstrapped(300)[:, 1], Groups(*names, 50).bootstrapped(300)[:, 1]
            )[0, 1]
        )
        < 0.3
    )


def test_dealing_says_what_chance_gives() -> None:
    alike = Groups(normal(0, [0.0] * 12), normal(1, [0.0] * 12), 100)
    apart = Groups(normal(0, [0.0] * 12), normal(1, [2.0] * 12), 100)
    assert (alike.permuted(300)[:, 1] >= alike.observed()[1]).mean() > 0.05
    assert (apart.permuted(300)[:, 1] >= apart.observed()[1]).mean() < 0.01
    one = Groups(normal(0, [0.0]), normal(1, [0.0] * 6), 100)
    assert len(np.unique(one.permuted(300)[:, 0].round(12))) == 7  # each of seven cases alone


def test_a_sample_is_one_of_all_voxels_of_the_group() -> None:
    rng = np.random.default_rng(0)
    everything = {"a": np.arange(100.0), "b": np.arange(1000, 1300.0), "c": np.empty(0)}
    hits = np.zeros(1300)
    for _ in range(600):
        cases = [case(name, rng.permutation(values)[:50], values.size) for name, values in everything.items()]
        taken = group_sample(cases, 50, rng)
        values = np.concatenate([values for _, values in taken])
        assert len(np.unique(values)) == 50
        assert all(set(v) <= set(everything["abc"[at]]) for at, v in taken)
        hits[values.astype(int)] += 1
    assert hits.sum() == 600 * 50
    share = hits[:100].sum() / hits.sum()
    assert share == pytest.approx(0.25, abs=0.02)  # by voxels, not by cases
    every = np.concatenate([hits[:100], hits[1000:]])
    assert every.std() / every.mean() < 0.12  # 600 * 50 / 400 = 75 each
