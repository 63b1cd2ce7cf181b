"""Exact quantities on a finite support: against loops, sampling, and direct maximisation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from synthetic_rm.divergences import best_of_n_distribution, best_of_n_kl_finite, chi_squared_best_of_n
from synthetic_rm.errors import InputError
from synthetic_rm.finite_support import (
    chi_squared,
    chi_squared_optimum,
    expected,
    kl_divergence,
    kl_optimum,
    win_rate,
)

PROMPTS, RESPONSES = 3, 6


def world(seed: int, *lead: int, responses: int = RESPONSES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """policy, reference, scores"""
    rng = np.random.default_rng(seed)
    policy, reference = rng.dirichlet(np.ones(responses), size=(2, *lead))
    return policy, reference, rng.normal(size=(*lead, responses))


def test_sums_over_responses_equal_plain_loops() -> None:
    policy, reference, scores = world(0, PROMPTS)
    for p in range(PROMPTS):
        kl = chi = mean = wins = 0.0
        for y, mass in enumerate(policy[p]):
            kl += mass * np.log(mass / reference[p, y])
            chi += (mass - reference[p, y]) ** 2 / reference[p, y]
            mean += mass * scores[p, y]
            for other, theirs in enumerate(reference[p]):
                wins += mass * theirs * (1.0 if scores[p, y] > scores[p, other] else 0.5 * (y == other))
        found = kl_divergence(policy, reference)[p], chi_squared(policy, reference)[p], expected(policy, scores)[p]
        np.testing.assert_allclose(found, (kl, chi, mean), rtol=1e-12)
        assert win_rate(policy, reference, scores)[p] == pytest.approx(wins, rel=1e-12)


def test_sampling_agrees_with_the_sums() -> None:
    policy, reference, scores = world(1)
    rng = np.random.default_rng(2)
    ours, theirs = rng.choice(RESPONSES, 200_000, p=policy), rng.choice(RESPONSES, 200_000, p=reference)
    log_ratio = np.log(policy / reference)[ours]
    won = 0.5 + 0.5 * np.sign(scores[ours] - scores[theirs])
    ratio = (policy / reference)[ours] - 1
    for sample, exact in (
        (log_ratio, kl_divergence(policy, reference)),
        (scores[ours], expected(policy, scores)),
        (won, win_rate(policy, reference, scores)),
        (ratio, chi_squared(policy, reference)),
    ):
        assert abs(sample.mean() - exact) < 4 * sample.std() / np.sqrt(sample.size)


def test_what_the_reference_cannot_say_is_infinitely_far() -> None:
    assert kl_divergence([0.5, 0.5], [1.0, 0.0]) == chi_squared([0.5, 0.5], [1.0, 0.0]) == np.inf
    assert kl_divergence([1.0, 0.0], [0.5, 0.5]) == pytest.approx(np.log(2))
    assert kl_divergence([1.0, 0.0], [1.0, 0.0]) == chi_squared([1.0, 0.0], [1.0, 0.0]) == 0


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_best_of_n_is_the_law_of_the_best_of_n_draws(n: int) -> None:
    _, reference, scores = world(3)
    exact = best_of_n_distribution(reference, scores, n)
    draws = np.random.default_rng(n).choice(RESPONSES, (100_000, n), p=reference)
    best = np.take_along_axis(draws, scores[draws].argmax(1)[:, None], 1)[:, 0]
    shares = np.bincount(best, minlength=RESPONSES) / best.size
    assert (np.abs(shares - exact) <= 4.5 * np.sqrt(exact * (1 - exact) / best.size)).all()
    assert best_of_n_kl_finite(reference, scores, [n])[0] == pytest.approx(float(kl_divergence(exact, reference)))


def test_best_of_n_on_many_responses_comes_to_the_continuous_forms() -> None:
    responses, n = 20_000, 12
    reference, scores = np.full(responses, 1 / responses), np.arange(responses) / responses
    policy = best_of_n_distribution(reference, scores, n)
    assert chi_squared(policy, reference) == pytest.approx(chi_squared_best_of_n(n), rel=1e-3)
    assert policy @ (scores + 0.5 / responses) == pytest.approx(n / (n + 1), abs=1e-6)  # the win rate, without R x R


def test_the_win_rate_of_best_of_n_is_n_of_n_plus_one_at_most() -> None:
    _, reference, scores = world(4, responses=400)
    for n in (1, 3, 20):
        rate = float(win_rate(best_of_n_distribution(reference, scores, n), reference, scores))
        assert n / (n + 1) - 0.02 < rate <= n / (n + 1) + 1e-12
    tied = np.zeros(400)
    assert win_rate(best_of_n_distribution(reference, tied, 20), reference, tied) == pytest.approx(0.5)


def penalties(beta: float) -> dict:
    """of each optimum: (the optimum, its objective)"""
    return {
        "kl": (kl_optimum, lambda p, q, r: p @ r - beta * np.sum(p * np.log(np.maximum(p, 1e-300) / q))),
        "chi": (chi_squared_optimum, lambda p, q, r: p @ r - beta / 2 * np.sum((p - q) ** 2 / q)),
    }


@pytest.mark.parametrize("kind", ["kl", "chi"])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), beta=st.floats(0.02, 20), ties=st.booleans())
def test_nothing_near_or_far_is_better_than_the_optimum(kind: str, seed: int, beta: float, ties: bool) -> None:
    _, reference, scores = world(seed)
    scores = np.round(scores) if ties else scores
    solve, objective = penalties(beta)[kind]
    best = solve(reference, scores, beta)
    assert best.sum() == pytest.approx(1) and (best >= 0).all()
    top = objective(best, reference, scores)
    rng = np.random.default_rng(seed + 1)
    for other in (*rng.dirichlet(np.ones(RESPONSES), 20), *np.eye(RESPONSES), reference):
        for share in (1e-3, 0.1, 1.0):
            assert objective((1 - share) * best + share * other, reference, scores) <= top + 1e-9 * max(1, beta)


@pytest.mark.parametrize("kind", ["kl", "chi"])
def test_a_general_maximiser_finds_the_same_policy(kind: str) -> None:
    _, reference, scores = world(8)
    solve, objective = penalties(0.7)[kind]
    found = minimize(
        lambda p: -objective(p, reference, scores),
        reference,
        bounds=[(1e-12, 1)] * RESPONSES,
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    ).x
    np.testing.assert_allclose(solve(reference, scores, 0.7), found, atol=2e-5)


def test_the_kl_optimums_value_is_the_log_partition_function() -> None:
    _, reference, scores = world(9, PROMPTS)
    best = kl_optimum(reference, scores, 0.3)
    value = expected(best, scores) - 0.3 * kl_divergence(best, reference)
    np.testing.assert_allclose(value, 0.3 * np.log((reference * np.exp(scores / 0.3)).sum(-1)), rtol=1e-12)


@pytest.mark.parametrize("solve", [kl_optimum, chi_squared_optimum])
def test_optima_run_from_the_reference_to_the_best_response(solve) -> None:  # type: ignore[no-untyped-def]
    _, reference, scores = world(10, PROMPTS)
    np.testing.assert_allclose(solve(reference, scores, 1e9), reference, atol=1e-8)
    np.testing.assert_allclose(solve(reference, scores, 1e-9), scores == scores.max(-1, keepdims=True), atol=1e-12)
    np.testing.assert_allclose(solve(reference, scores + 50, 0.5), solve(reference, scores, 0.5), rtol=1e-9)
    row = solve(reference[1], scores[1], 0.5)
    np.testing.assert_array_equal(row, solve(reference, scores, 0.5)[1])
    never = np.array([0.0, 0.4, 0.6])
    assert solve(never, np.array([5.0, 1.0, 0.0]), 0.1)[0] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kl_divergence([0.5, 0.6], [0.5, 0.5]), "policy must sum to 1"),
        (lambda: kl_divergence([0.5, 0.5], [1.0]), "one shape"),
        (lambda: chi_squared([1.5, -0.5], [0.5, 0.5]), "non-negative"),
        (lambda: expected([0.5, 0.5], [0.0, np.nan]), "finite"),
        (lambda: win_rate([1.0], [1.0], [[0.0]]), "shape"),
        (lambda: kl_optimum([1.0], [0.0], 0.0), "beta=0.0"),
        (lambda: chi_squared_optimum([1.0], [0.0], np.inf), "beta=inf"),
    ],
)
def test_what_cannot_be_is_refused_on_one_line(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
