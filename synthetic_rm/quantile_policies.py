"""F1: policies as densities over u in [0, 1], the quantile of a response's proxy score under the reference.

The reference is uniform in u, so that every divergence and every expectation is one integral (Khalaf et al. 2025).
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.signal import fftconvolve
from scipy.special import exp1, xlogy

from synthetic_rm.errors import require

Floats = NDArray[np.float64]
PANELS, POINTS = 44, 10
STEP = 0.04
"""of the inner integral of `soft_best_of_n`, in ln t"""


@cache
def nodes() -> tuple[Floats, Floats]:
    """u and weights [M] of integrals over [0, 1]: panels that halve towards 0 and 1, where densities are steep.

    Gauss-Legendre with 10 points in each.
    """
    edges = 0.5 ** np.arange(PANELS, 0, -1)
    edges = np.concatenate([[0.0], edges, 1.0 - edges[-2::-1], [1.0]])
    place, weight = np.polynomial.legendre.leggauss(POINTS)
    width = np.diff(edges)[:, None]
    return (edges[:-1, None] + width * 0.5 * (place + 1)).ravel(), (width * 0.5 * weight).ravel()


def integral(values: Floats) -> float:
    """int_0^1 f(u) du of values f at the nodes [M]."""
    return float(nodes()[1] @ values)


def kl(density: Floats) -> float:
    """KL(q || reference) = int q ln q - q + 1 du, in nats: q at the nodes [M]."""
    return integral(xlogy(density, density) - density + 1.0)


def best_of_n(u: Floats, n: float) -> Floats:
    """q(u) = n u^(n - 1): the largest of n uniform quantiles (Khalaf et al. 2025)."""
    return np.asarray(n * u ** (n - 1.0))


def best_of_poisson(u: Floats, mu: float) -> Floats:
    """q(u) = (mu u + 1) exp(mu (u - 1)): best of 1 + Poisson(mu) draws (Khalaf et al. 2025)."""
    return np.asarray((mu * u + 1.0) * np.exp(mu * (u - 1.0)))


def tilting(u: Floats, lam: float) -> Floats:
    """q(u) = lam exp(lam u) / (exp(lam) - 1): the KL-regularised optimum of the reward u (Khalaf et al. 2025)."""
    return np.asarray(lam * np.exp(lam * (u - 1.0)) / -np.expm1(-lam))


def soft_best_of_n(u: Floats, lam: float, n: float = 64.0) -> Floats:
    """q(u) = n int_0^inf e^(-t) M(t e^(-lam u))^(n-1) dt, M(s) = (E_1(s) - E_1(s e^lam)) / lam

    One of n draws, chosen with probability proportional to exp(lam u_i): best-of-n for lam -> inf, the reference for
    lam -> 0, tilting for n -> inf (Verdun et al. 2025). From E[w / (w + W)] = int w e^(-s (w + W)) ds, with
    M(s) = E exp(-s e^(lam U)), E_1 the exponential integral. Computed to about 1e-10 of its largest value.
    """
    low = 37.0 + np.log(n) + lam  # ln t at which t is too little to matter, even for the best response
    log_t = STEP * np.arange(-np.ceil(low / STEP), np.ceil(4.0 / STEP))
    v = STEP * np.arange(np.ceil(lam / STEP) + 2)
    log_s = STEP * np.arange(-np.ceil(low / STEP) - len(v) + 1, np.ceil(4.0 / STEP))
    mean = np.clip((_exponential_integral(log_s) - _exponential_integral(log_s + lam)) / lam, 0.0, 1.0)
    kernel = np.exp(log_t - np.exp(log_t))
    on_grid = n * STEP * fftconvolve(mean ** (n - 1.0), kernel[::-1], mode="valid")[::-1]
    return np.maximum(CubicSpline(v, on_grid)(lam * u), 0.0)


def _exponential_integral(log_x: Floats) -> Floats:
    """E_1(e^x), which is -gamma - x + e^x - ... for small e^x"""
    return np.where(log_x < -35.0, -np.euler_gamma - log_x, exp1(np.exp(np.clip(log_x, -35.0, 7.0))))


def _numeric_score(density: Callable[[Floats, float], Floats], u: Floats, theta: float) -> Floats:
    """d ln q / d theta by a central difference; 0 where q is."""
    h = 1e-3 * theta
    slope, q = (density(u, theta + h) - density(u, theta - h)) / (2 * h), density(u, theta)
    return np.divide(slope, q, out=np.zeros_like(q), where=q > 1e-12)


class Family(NamedTuple):
    """Policies with one parameter, the pressure; more of it moves mass to higher quantiles."""

    name: str
    density: Callable[[Floats, float], Floats]
    """(u, theta) -> q(u)"""
    score: Callable[[Floats, float], Floats]
    """(u, theta) -> d ln q(u) / d theta, up to a constant factor"""
    least: float
    """theta at which it is the reference, or as near as is computed"""


def _tilting_score(u: Floats, lam: float) -> Floats:
    """u - E u, E u = 1 / (1 - e^(-lam)) - 1 / lam"""
    mean = 0.5 + lam / 12 if lam < 1e-4 else -1.0 / np.expm1(-lam) - 1.0 / lam
    return np.asarray(u - mean)


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("best_of_n", best_of_n, lambda u, n: 1.0 / n + np.log(u), 1.0),
        Family("soft_best_of_n", soft_best_of_n, partial(_numeric_score, soft_best_of_n), 1e-3),
        Family("best_of_poisson", best_of_poisson, lambda u, mu: u / (mu * u + 1.0) + (u - 1.0), 1e-9),
        Family("tilting", tilting, _tilting_score, 1e-9),
    )
}
"""Every family by name."""


def gold_slope(family: Family, gold: Callable[[Floats], Floats], theta: float) -> float:
    """E_q[g(u) d ln q / d theta]: its sign is that of the gain from a little more pressure.

    It is d E_q g / d theta up to the constant factor of the score; HedgeTune looks for its root (Khalaf et al. 2025).

    Raises:
        InputError: theta is below the least of the family.
    """
    require(theta >= family.least, f"pressure={theta:g}: allowed for {family.name} is {family.least:g} or more")
    u, _ = nodes()
    return integral(gold(u) * family.score(u, theta) * family.density(u, theta))
