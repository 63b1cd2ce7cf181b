"""Best-of-n divergences against integrals, enumeration of every draw, and exact decimal arithmetic."""

from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, Decimal, localcontext
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from synthetic_rm.divergences import (
    best_of_n_distribution,
    best_of_n_kl,
    best_of_n_kl_finite,
    best_of_n_kl_gap_bound,
    chi_squared_best_of_n,
    pool_kl,
)
from synthetic_rm.errors import InputError

Support = tuple[np.ndarray, np.ndarray]


@st.composite
def supports(draw: st.DrawFn, distinct: bool = False) -> Support:
    """(probabilities, scores) of up to 6 responses, with ties unless `distinct`."""
    masses = np.array(draw(st.lists(st.integers(1, 20), min_size=1, max_size=6)), float)
    scores = draw(
        st.permutations(range(masses.size))
        if distinct
        else st.lists(st.integers(0, 3), min_size=masses.size, max_size=masses.size)
    )
    return masses / masses.sum(), np.array(scores, float)


def enumerated(probabilities: np.ndarray, scores: np.ndarray, n: int) -> np.ndarray:
    """Law of the best of n draws, from all len(p)^n of them; ties go to each tied draw alike."""
    law = np.zeros(len(probabilities))
    for draw in product(range(len(probabilities)), repeat=n):
        drawn = list(draw)
        best = [index for index in drawn if scores[index] == max(scores[drawn])]
        for index in best:
            law[index] += np.prod(probabilities[drawn]) / len(best)
    return law


@pytest.mark.parametrize("n", [1, 2, 10, 1000, 60_000])
def test_closed_forms_are_the_integrals_over_the_winning_quantile(n: int) -> None:
    # the winner's quantile u has density n u^(n-1); s = u^n is uniform
    def density(s: float) -> float:
        return n * s ** ((n - 1) / n)

    assert best_of_n_kl(n) == pytest.approx(quad(lambda s: np.log(density(s)), 0, 1)[0], abs=1e-8)
    assert chi_squared_best_of_n(n) == pytest.approx(quad(density, 0, 1)[0] - 1, rel=1e-8, abs=1e-12)


def test_closed_form_values_and_types() -> None:
    assert best_of_n_kl(1) == 0.0
    assert best_of_n_kl(1000) == pytest.approx(5.9088, abs=1e-4)
    assert best_of_n_kl(60_000) == pytest.approx(10.0021, abs=1e-4)
    assert type(best_of_n_kl(7)) is float
    assert best_of_n_kl(np.array([[1, 2], [3, 4]])).shape == (2, 2)
    assert best_of_n_kl(1 + 1e-9) == pytest.approx(5e-19, rel=1e-6)


@given(supports(), st.integers(1, 4))
def test_finite_support_equals_enumeration_of_every_draw(support: Support, n: int) -> None:
    probabilities, scores = support
    law = enumerated(probabilities, scores, n)
    np.testing.assert_allclose(best_of_n_distribution(probabilities, scores, n), law, atol=1e-14)
    kl = np.sum(law[law > 0] * np.log(law[law > 0] / probabilities[law > 0]))
    assert best_of_n_kl_finite(probabilities, scores, [n])[0] == pytest.approx(kl, abs=1e-13)


@given(supports(distinct=True), st.integers(1, 10**6))
def test_finite_support_stays_within_its_bounds(support: Support, n: int) -> None:
    probabilities, scores = support
    kl = best_of_n_kl_finite(probabilities, scores, [n])[0]
    gap = best_of_n_kl(n) - kl
    assert -1e-12 <= gap <= best_of_n_kl_gap_bound(n, probabilities) + 1e-12
    assert -1e-15 <= kl <= -np.log(probabilities[np.argmax(scores)]) + 1e-12


@pytest.mark.parametrize("n", [1, 2, 1000, 10**6])
@pytest.mark.parametrize(
    "probabilities",
    [[1e-12, 0.3, 0.7 - 3e-12, 2e-12], [1e-6, 0.3, 0.7 - 3e-6, 2e-6], [1 - 1e-9, 1e-9], [1e-9, 1 - 1e-9]],
    ids=str,
)
def test_rare_best_and_rare_worst_responses_keep_their_digits(n: int, probabilities: list[float]) -> None:
    with localcontext(prec=60, Emin=MIN_EMIN, Emax=MAX_EMAX):
        masses = [Decimal(mass) for mass in probabilities]
        masses = [mass / sum(masses) for mass in masses]
        below, exact = Decimal(0), Decimal(0)
        for mass in masses:
            won = (below + mass) ** n - below**n
            exact += won * (won / mass).ln()
            below += mass
    kl = best_of_n_kl_finite(probabilities, np.arange(len(probabilities)), [n])[0]
    assert kl == pytest.approx(float(exact), rel=1e-9, abs=1e-25)


def test_gap_bound_is_the_collision_probability_of_the_draws() -> None:
    assert best_of_n_kl_gap_bound(5, [0.5, 0.3, 0.2]) == pytest.approx(2 * 5 * 4 * 0.38)
    np.testing.assert_allclose(best_of_n_kl_gap_bound([1, 10], np.full(1000, 1e-3)), [0, 0.18])


def test_many_distinct_responses_approach_the_closed_form() -> None:
    size = 100_000
    kl = best_of_n_kl_finite(np.full(size, 1 / size), np.random.default_rng(0).normal(size=size), [1, 10, 100])
    np.testing.assert_allclose(kl, best_of_n_kl([1, 10, 100]), atol=1e-6)


def test_only_the_order_of_the_scores_counts_and_ties_cost_divergence() -> None:
    rng = np.random.default_rng(1)
    probabilities, scores, ns = rng.dirichlet(np.ones(30)), rng.normal(size=30), [2, 16, 128]
    kl = best_of_n_kl_finite(probabilities, scores, ns)
    np.testing.assert_allclose(best_of_n_kl_finite(probabilities, np.exp(scores), ns), kl, rtol=1e-12)
    assert (best_of_n_kl_finite(probabilities, np.round(scores), ns) < kl).all()
    impossible = best_of_n_kl_finite([*probabilities, 0.0], [*scores, 99.0], ns)
    np.testing.assert_allclose(impossible, kl, rtol=1e-12)
    assert best_of_n_distribution([*probabilities, 0.0], [*scores, 99.0], 5)[-1] == 0


def test_pool_merges_repeated_responses() -> None:
    rng = np.random.default_rng(2)
    identity = np.sort(rng.integers(0, 12, size=(3, 50)), axis=1)
    scores = rng.normal(size=(3, 12))[np.arange(3)[:, None], identity]
    ns = [1, 4, 40]
    expected = []
    for row, ids in zip(scores, identity, strict=True):
        names = sorted(set(ids))
        counts = np.array([np.sum(ids == name) for name in names])
        expected.append(best_of_n_kl_finite(counts / 50, [row[ids == name][0] for name in names], ns))
    np.testing.assert_allclose(pool_kl(scores, identity, ns), expected, rtol=1e-12, atol=1e-15)
    order = rng.permutation(50)
    np.testing.assert_allclose(pool_kl(scores[:, order], 7 - identity[:, order], ns), expected, rtol=1e-12, atol=1e-15)
    distinct = pool_kl(rng.normal(size=(1, 50)), np.arange(50)[None], ns)[0]
    assert (np.array(expected)[:, 1:] < distinct[1:]).all()
    assert (distinct[1:] < best_of_n_kl(ns)[1:]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: best_of_n_kl(0), "at least 1, got 0"),
        (lambda: best_of_n_kl([4, 0.5]), "got 0.5"),
        (lambda: chi_squared_best_of_n(float("nan")), "got nan"),
        (lambda: best_of_n_kl("many"), "must be a number"),
        (lambda: best_of_n_kl_finite([0.5, 0.4], [0, 1], [2]), "sum to 1, got 0.9"),
        (lambda: best_of_n_kl_finite([1.5, -0.5], [0, 1], [2]), "non-negative"),
        (lambda: best_of_n_kl_finite([0.5, 0.5], [0, np.nan], [2]), "finite"),
        (lambda: best_of_n_kl_finite([0.5, 0.5], [0, 1, 2], [2]), "one length"),
        (lambda: best_of_n_kl_finite([0.5, 0.5], [0, 1], 2), "one-dimensional"),
        (lambda: pool_kl([[0.0, 1.0]], [[0.5, 1.0]], [2]), "integers"),
        (lambda: pool_kl([[0.0, 1.0, 2.0]], [[3, 3, 4]], [2]), "prompt 0"),
        (lambda: pool_kl([0.0, 1.0], [0, 1], [2]), r"\[prompts, samples\]"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
