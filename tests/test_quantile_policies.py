"""Densities over the proxy's quantile: their limits, one another, and closed forms; simulated in tests/contracts."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expi

from synthetic_rm.divergences import best_of_n_kl, chi_squared_best_of_n
from synthetic_rm.quantile_policies import (
    FAMILIES,
    Family,
    best_of_n,
    best_of_poisson,
    gold_slope,
    integral,
    kl,
    nodes,
    soft_best_of_n,
    tilting,
)

U = nodes()[0]


@pytest.fixture(params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[str(request.param)]


def test_integrals_of_powers_and_logarithms_are_exact() -> None:
    for power in (0, 0.5, 3, 1e3, 1e9):
        assert integral(U**power) == pytest.approx(1 / (power + 1), rel=1e-7)
    assert integral(np.log(U)) == pytest.approx(-1, rel=1e-9)
    assert integral(np.log1p(-U)) == pytest.approx(-1, rel=1e-9)


@pytest.mark.parametrize("theta", [1.0, 3.0, 40.0])
def test_densities_are_densities_and_pressure_moves_them_up(family: Family, theta: float) -> None:
    q, more = family.density(U, theta), family.density(U, 1.5 * theta)
    assert integral(q) == pytest.approx(1, rel=1e-6) and (q >= 0).all()
    below = q.max() * 1e-7 < q
    assert (np.diff((more / np.where(below, q, 1))[below]) > -1e-6).all()  # the likelihood ratio rises
    assert kl(more) > kl(q) - 1e-12


def test_at_the_least_pressure_they_are_the_reference(family: Family) -> None:
    np.testing.assert_allclose(family.density(U, family.least), 1, atol=2e-3)
    assert kl(family.density(U, family.least)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("theta", [1.5, 4.0, 30.0])
def test_a_score_is_the_derivative_of_the_log_density(family: Family, theta: float) -> None:
    h = 1e-4 * theta
    u = np.linspace(0.05, 0.999, 50)
    u = u[family.density(u, theta) > 1e-4]
    numeric = (np.log(family.density(u, theta + h)) - np.log(family.density(u, theta - h))) / (2 * h)
    np.testing.assert_allclose(family.score(u, theta), numeric, rtol=1e-3, atol=1e-6)
    assert u.size > 10 and integral(family.score(U, theta) * family.density(U, theta)) == pytest.approx(0, abs=1e-5)


def test_soft_best_of_n_lies_between_its_limits() -> None:
    np.testing.assert_allclose(
        soft_best_of_n(U, 3000.0, 4.0)[U < 0.99], best_of_n(U, 4.0)[U < 0.99], rtol=0.01, atol=1e-3
    )
    np.testing.assert_allclose(soft_best_of_n(U, 5.0, 1e6), tilting(U, 5.0), rtol=1e-3)
    np.testing.assert_allclose(soft_best_of_n(U, 5.0, 1.0), 1.0, rtol=1e-6)
    two = np.exp(2 * U)[:, None] / (np.exp(2 * U)[:, None] + np.exp(2 * U)[None])  # n = 2, by quadrature
    np.testing.assert_allclose(soft_best_of_n(U, 2.0, 2.0), 2 * two @ nodes()[1], rtol=1e-6)


def test_divergences_have_their_closed_forms() -> None:
    for n in (1, 2, 17.5, 1e6):
        assert kl(best_of_n(U, n)) == pytest.approx(best_of_n_kl(n), abs=1e-7)
    for n in (1, 2, 17.5):
        assert integral(best_of_n(U, n) ** 2) - 1 == pytest.approx(chi_squared_best_of_n(n), abs=1e-8)
    for lam in (0.3, 5.0, 80.0):
        mean = 1 / -np.expm1(-lam) - 1 / lam
        assert kl(tilting(U, lam)) == pytest.approx(lam * (mean - 1) + np.log(lam / -np.expm1(-lam)), abs=1e-9)
    for mu in (0.5, 6.0, 60.0):  # int s ln s e^s ds = (s - 1) e^s ln s - e^s + Ei(s)
        ends = [(s - 1) * np.exp(s) * np.log(s) - np.exp(s) + expi(s) for s in (1.0, mu + 1.0)]
        expected = (ends[1] - ends[0]) * np.exp(-1 - mu) / mu + mu * (integral(U * best_of_poisson(U, mu)) - 1)
        assert kl(best_of_poisson(U, mu)) == pytest.approx(expected, abs=1e-9)


def test_best_of_poisson_costs_hardly_more_than_tilting() -> None:
    """The gap in KL at the same mean quantile: below 8e-4 nats (Khalaf et al. 2025)."""
    gaps = []
    for mu in np.geomspace(0.05, 300, 25):
        q = best_of_poisson(U, mu)
        mean = integral(U * q)
        lam = brentq(lambda x, m=mean: integral(U * tilting(U, x)) - m, 1e-3, 2e3)
        gaps.append(kl(q) - kl(tilting(U, lam)))
    assert min(gaps) > -1e-9 and 3e-4 < max(gaps) < 8e-4


def test_no_family_gets_more_of_the_proxy_for_its_kl_than_tilting(family: Family) -> None:
    for theta in (1.5, 6.0, 40.0):
        q = family.density(U, theta)
        lam = brentq(lambda x, q=q: kl(tilting(U, x)) - kl(q), 1e-6, 1e5)
        assert integral(U * q) <= integral(U * tilting(U, lam)) + 1e-8


def test_the_slope_of_gold_is_its_derivative(family: Family) -> None:
    theta, h = 5.0, 1e-3

    def gold(u: np.ndarray) -> np.ndarray:
        return np.sin(3 * u)

    numeric = (integral(gold(U) * family.density(U, theta + h)) - integral(gold(U) * family.density(U, theta - h))) / (
        2 * h
    )
    assert gold_slope(family, gold, theta) == pytest.approx(numeric, rel=1e-3)
