"""The best-of-n estimator against every subset, big integers, and what may change nothing."""

from fractions import Fraction
from itertools import combinations
from math import comb
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthetic_rm import estimators
from synthetic_rm.errors import InputError
from synthetic_rm.estimators import best_of_n_curve, best_of_n_sample, best_of_n_weights, ns_grid

Pool = tuple[np.ndarray, np.ndarray]


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """(proxy, gold) [2, N] of up to 7 samples; few levels of the proxy, so that ties are common."""
    size = draw(st.integers(1, 7))
    levels = draw(st.sampled_from([2, 4, 1000]))
    proxy = draw(st.lists(st.integers(0, levels), min_size=2 * size, max_size=2 * size))
    gold = draw(st.lists(st.integers(-50, 50), min_size=2 * size, max_size=2 * size))
    return np.reshape(proxy, (2, size)) / 8.0, np.reshape(gold, (2, size)) / 4.0


def enumerated(proxy: np.ndarray, gold: np.ndarray, n: int) -> tuple[float, float]:
    """Mean over all subsets of size n of (best proxy, mean gold of those that reach it)."""
    subsets = [list(subset) for subset in combinations(range(len(proxy)), n)]
    best = [max(proxy[subset]) for subset in subsets]
    winners = [np.mean([gold[i] for i in subset if proxy[i] == top]) for subset, top in zip(subsets, best, strict=True)]
    return np.mean(best), np.mean(winners)


@given(pools())
def test_equals_the_mean_over_every_subset(pool: Pool) -> None:
    proxy, gold = pool
    ns = np.arange(1, proxy.shape[1] + 1)
    proxy_n, gold_n = best_of_n_curve(proxy, gold, ns)
    expected = [[enumerated(p, g, n) for n in ns] for p, g in zip(proxy, gold, strict=True)]
    np.testing.assert_allclose(np.stack([proxy_n, gold_n], axis=-1), expected, atol=1e-12)


@given(pools(), st.randoms(use_true_random=False))
def test_neither_order_nor_a_monotone_transform_matters(pool: Pool, random: Random) -> None:
    proxy, gold = pool
    ns = np.arange(1, proxy.shape[1] + 1)
    gold_n = best_of_n_curve(proxy, gold, ns)[1]
    order = random.sample(range(proxy.shape[1]), proxy.shape[1])
    shuffled = best_of_n_curve(proxy[:, order], gold[:, order], ns)[1]
    np.testing.assert_allclose(shuffled, gold_n, atol=1e-12)
    transformed = best_of_n_curve(np.exp(proxy / 50) - 3, gold, ns)[1]
    np.testing.assert_allclose(transformed, gold_n, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 100, 1000, 30_000, 59_999, 60_000])
def test_weights_equal_big_integers_at_60000_samples(n: int) -> None:
    samples = 60_000
    weights = best_of_n_weights(samples, n)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    # from the largest weight to those near the smallest float64
    depths = {min(int(step * samples / n), samples - n) for step in (0, 0.3, 1, 3, 10, 30, 100, 300, 600)}
    for rank in sorted(samples - depth for depth in depths):
        exact = Fraction(comb(rank - 1, n - 1), comb(samples, n))
        if exact > Fraction(1, 10**290):
            assert abs(Fraction(float(weights[rank - 1])) / exact - 1) < Fraction(1, 10**10)
    assert (weights[: n - 1] == 0).all()


def test_ends_of_the_curve() -> None:
    rng = np.random.default_rng(0)
    proxy, gold = rng.normal(size=(5, 300)), rng.normal(size=(5, 300))
    proxy_n, gold_n = best_of_n_curve(proxy, gold, [1, 7, 300])
    np.testing.assert_allclose(gold_n[:, 0], gold.mean(axis=1), atol=1e-13)
    np.testing.assert_array_equal(gold_n[:, -1], gold[np.arange(5), proxy.argmax(axis=1)])
    np.testing.assert_array_equal(proxy_n[:, -1], proxy.max(axis=1))
    assert (np.diff(proxy_n, axis=1) > 0).all()


def test_is_unbiased_for_fresh_draws() -> None:
    # proxy uniform: the best of n is n / (n + 1) on average
    rng = np.random.default_rng(1)
    uniform = rng.random((4000, 64))
    proxy_n, gold_n = best_of_n_curve(uniform, np.square(uniform), [1, 8, 64])
    for n, proxy, gold in zip([1, 8, 64], proxy_n.T, gold_n.T, strict=True):
        assert proxy.mean() == pytest.approx(n / (n + 1), abs=4 * proxy.std() / 4000**0.5)
        assert gold.mean() == pytest.approx(n / (n + 2), abs=4 * gold.std() / 4000**0.5)


def test_chunks_and_memory_maps_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    proxy, gold = rng.integers(0, 40, size=(9, 50)).astype(np.float32), rng.normal(size=(9, 50)).astype("f4")
    whole = best_of_n_curve(proxy, gold, [1, 5, 50])
    for name, scores in (("proxy", proxy), ("gold", gold)):
        np.save(tmp_path / f"{name}.npy", scores)
    maps = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("proxy", "gold")]
    monkeypatch.setattr(estimators, "CHUNK_ELEMENTS", 120)
    for part, expected in zip(best_of_n_curve(*maps, [1, 5, 50]), whole, strict=True):
        assert part.dtype == np.float64
        np.testing.assert_allclose(part, expected, rtol=1e-13)


def test_sampled_winners_follow_the_weights() -> None:
    rng = np.random.default_rng(3)
    proxy = np.array([0.3, 2.0, -1.0, 2.0, 0.5])
    draws = [best_of_n_sample(proxy, 3, rng) for _ in range(4000)]
    frequency = np.bincount(draws, minlength=5) / 4000
    expected = best_of_n_curve(np.tile(proxy, (5, 1)), np.eye(5), [3])[1][:, 0]
    assert expected[1] == expected[3]
    np.testing.assert_allclose(frequency, expected, atol=4 * np.sqrt(0.25 / 4000))
    assert frequency[2] == 0


@given(st.integers(1, 100_000), st.integers(2, 60))
def test_grid_rises_from_one_to_all_samples_in_even_ratios(samples: int, points: int) -> None:
    grid = ns_grid(samples, points)
    assert len(grid) == min(points, samples)
    assert grid[0] == 1
    assert grid[-1] == samples
    assert (np.diff(grid) > 0).all()
    coarse = grid[grid > 50]
    if len(coarse) > 2:
        steps = np.diff(np.log(coarse))
        assert steps.max() < steps.min() + 0.05


@pytest.mark.parametrize(
    ("ns", "message"),
    [
        ([0], "N = 4 samples, got n = 0"),
        ([1, 5], "N = 4 samples, got n = 5"),
        ([2.5], "whole number from 1 to N = 4, got n = 2.5"),
        ([True], "whole number"),
        ([np.nan], "whole number"),
        ([], "at least one n"),
        (3, "at least one n"),
    ],
)
def test_impossible_n_is_named(ns: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        best_of_n_curve(np.zeros((2, 4)), np.zeros((2, 4)), ns)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["proxy", "gold"])
def test_scores_that_are_not_finite_are_named(bad: float, where: str) -> None:
    scores = {"proxy": np.zeros((3, 4)), "gold": np.zeros((3, 4))}
    scores[where][2, 1] = bad
    with pytest.raises(InputError, match=f"{where} scores must be finite.*prompt 2"):
        best_of_n_curve(scores["proxy"], scores["gold"], [1])


def test_shapes_that_do_not_fit_are_named() -> None:
    for proxy, gold in (
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(3), np.zeros(3)),
        (np.zeros((0, 3)),) * 2,
    ):
        with pytest.raises(InputError, match=r"\[prompts, samples\]"):
            best_of_n_curve(proxy, gold, [1])
    for call in (lambda: ns_grid(0, 5), lambda: ns_grid(10, 1)):
        with pytest.raises(InputError, match="must be at least"):
            call()
