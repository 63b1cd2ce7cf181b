"""What formulas of `quantile_policies` and `tails` are held to: draws of laws whose answer is known in closed form.

Each `check_<name>` is run on the function of that name by test_estimators.py.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from synthetic_rm.divergences import best_of_n_kl
from synthetic_rm.quantile_policies import FAMILIES, best_of_n, integral, nodes

U = nodes()[0]
DRAWS = 40_000


def agrees(sample: Any, exact: float) -> None:
    """The mean of the sample is the exact value, up to its standard error, which is small enough to tell."""
    values = np.asarray(sample, np.float64)
    assert abs(values.mean() - exact) < 4.5 * values.std() / np.sqrt(values.size) + 1e-6
    assert values.std() / np.sqrt(values.size) < 0.1 * max(abs(exact), 0.2)  # the check can fail


def check_nodes(f: Callable[..., Any]) -> None:
    u, weight = f()
    for power in (0.0, 0.5, 7.0, 1e4):
        np.testing.assert_allclose(weight @ u**power, 1 / (power + 1), rtol=1e-7)


def check_integral(f: Callable[..., Any]) -> None:
    agrees(np.sin(3 * np.random.default_rng(0).random(DRAWS)), f(np.sin(3 * U)))


def check_kl(f: Callable[..., Any]) -> None:
    best = np.random.default_rng(1).random((DRAWS, 6)).max(1)
    agrees(np.log(best_of_n(best, 6.0)), f(best_of_n(U, 6.0)))
    np.testing.assert_allclose(f(best_of_n(U, 6.0)), best_of_n_kl(6), rtol=1e-7)


def holds(density: np.ndarray, drawn: np.ndarray) -> None:
    """The density [M] at the nodes is that of the quantiles drawn."""
    for moment in (lambda u: u, lambda u: u**2, lambda u: u**8, np.log):
        agrees(moment(drawn), integral(moment(U) * density))


def softly_chosen(n: int, lam: float) -> np.ndarray:
    """One of n uniform draws each, with probability proportional to exp(lam u): [DRAWS]."""
    rng = np.random.default_rng(2)
    u = rng.random((DRAWS, n))
    return np.take_along_axis(u, (lam * u + rng.gumbel(size=u.shape)).argmax(1)[:, None], 1)[:, 0]


def check_best_of_n(f: Callable[..., Any]) -> None:
    holds(f(U, 6.0), np.random.default_rng(3).random((DRAWS, 6)).max(1))


def check_soft_best_of_n(f: Callable[..., Any]) -> None:
    for n, lam in ((64, 5.0), (8, 12.0)):
        holds(f(U, lam, n), softly_chosen(n, lam))


def check_best_of_poisson(f: Callable[..., Any]) -> None:
    rng = np.random.default_rng(4)
    holds(f(U, 4.0), rng.random(DRAWS) ** (1 / (1 + rng.poisson(4.0, DRAWS))))


def check_tilting(f: Callable[..., Any]) -> None:
    """Uniform draws are kept with probability exp(lam (u - 1))."""
    rng = np.random.default_rng(5)
    u = rng.random(20 * DRAWS)
    holds(f(U, 7.0), u[rng.random(u.size) < np.exp(7.0 * (u - 1))])


def check_gold_slope(f: Callable[..., Any]) -> None:
    """The score-function estimate of d E g / d n from the best of 6 draws."""
    best = np.random.default_rng(6).random((DRAWS, 6)).max(1)
    agrees(np.sin(3 * best) * (1 / 6 + np.log(best)), f(FAMILIES["best_of_n"], lambda u: np.sin(3 * u), 6.0))


def check_normal_maxima(f: Callable[..., Any]) -> None:
    agrees(np.random.default_rng(7).normal(size=(DRAWS, 30)).max(1), float(f([30])[0]))


def check_tail_index(f: Callable[..., Any]) -> None:
    """Log-excesses of a Pareto law are exponential: Hill's mean is xi itself, whatever k."""
    found = f(np.random.default_rng(8).pareto(2.0, (2000, 400)) + 1, 40)
    agrees(found.hill, 0.5)
    np.testing.assert_allclose(found.hill.std(), found.hill_se.mean(), rtol=0.1)


def check_pool_tail(f: Callable[..., Any]) -> None:
    """Prompts of Frechet scores, P(score <= s) = exp(-s^-2), each at a level of its own."""
    rng = np.random.default_rng(9)
    scores = -1 / np.log(rng.random((200, 8192)))
    found = f(np.sqrt(scores) + rng.normal(size=(200, 1)))
    assert abs(found["hill"] - 0.5) < 0.12 and abs(found["tail_moment"] - 0.5) < 0.06
    assert 0.5 < found["hill_se"] / (found["hill"] / np.sqrt(found["tail_k"] * 200)) < 2


def check_maxima_index(f: Callable[..., Any]) -> None:
    """Means of maxima of drawn Frechet scores, of xi 1/2: one more draw is the largest of n, divided by n^xi."""
    ns = np.array([16, 256, 4096])
    drawn = np.random.default_rng(10).random((3, 400_000))
    means = (ns[:, None] / -np.log(drawn)) ** 0.5
    assert abs(f(ns, means.mean(1)) - 0.5) < 0.02
