"""The regressional identity where the error is bounded by delta: paper, section 4.2, case (b).

E[X | X + Z = c] = (c - E Z) Var X / (Var X + Var Z) + o(Var Z) as delta falls; of normal error, case (a), nothing is
left over (test_proxy_error.py).
"""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from synthetic_rm.environments.analytic.error_laws import Tail, bounded
from synthetic_rm.environments.analytic.proxy_error import ProxyError

SCORES = np.array([-1.5, -0.4, 0.7, 2.0])
SCALES = 0.5 ** np.arange(6)
SKEWED = Tail("skewed", stats.beta(1, 3, loc=0.5, scale=4), heavy=False)
"""bounded, its mean not 0"""
LAWS = {"uniform": bounded(), "skewed": SKEWED}


def line(world: ProxyError, score: np.ndarray) -> np.ndarray:
    """What the identity says without its remainder."""
    mean, variance = world.scale * world.error.law.mean(), world.scale**2 * world.error.law.var()
    return np.asarray((score - mean) / (1 + variance))


def test_of_uniform_error_the_mean_is_that_of_a_truncated_normal() -> None:
    """X given X + Z = c is normal on [c - delta, c + delta]."""
    for scale in SCALES:
        delta = scale * np.sqrt(3)
        low, high = SCORES - delta, SCORES + delta
        closed = (stats.norm.pdf(low) - stats.norm.pdf(high)) / (stats.norm.cdf(high) - stats.norm.cdf(low))
        np.testing.assert_allclose(ProxyError(bounded(), scale=scale).at(SCORES)[1], closed, rtol=1e-9)


@pytest.mark.parametrize("tail", LAWS.values(), ids=LAWS)
def test_the_mean_is_the_ratio_of_integrals_over_the_error(tail: Tail) -> None:
    """int (c - z) f_X(c - z) f_Z(z) dz / int f_X(c - z) f_Z(z) dz, from the proof of the identity."""
    for scale in (1.0, 0.25):
        for c, given in zip(SCORES, ProxyError(tail, scale=scale).at(SCORES)[1], strict=True):
            ends = c - scale * np.array(tail.law.support())

            def joint(x: float, power: int, c: float = c, scale: float = scale) -> float:
                """x to a power times the density of X = x with Z such that they sum to c"""
                return float(x**power * stats.norm.pdf(x) * tail.law.pdf((c - x) / scale))

            top, bottom = (quad(joint, *ends[::-1], args=(power,))[0] for power in (1, 0))
            assert given == pytest.approx(top / bottom, rel=1e-6)


@pytest.mark.parametrize(("name", "order"), [("uniform", 4), ("skewed", 3)])
def test_what_is_left_over_falls_faster_than_the_variance_of_the_error(name: str, order: int) -> None:
    """Like the first moment of the error that a normal law would not have: the fourth, or the third of a skewed one."""
    left = []
    for scale in SCALES:
        world = ProxyError(LAWS[name], scale=scale)
        left.append(np.abs(world.at(SCORES)[1] - line(world, SCORES)).max())
    share = np.array(left) / (SCALES**2 * LAWS[name].law.var())
    assert share[0] > 0.05  # of wide error the identity does not hold
    assert (np.diff(share) < 0).all() and share[-1] < 0.1 * share[0]
    assert np.log2(left[-2] / left[-1]) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("tail", LAWS.values(), ids=LAWS)
def test_drawn_responses_lie_about_the_exact_mean_and_about_the_line_once_the_error_is_small(tail: Tail) -> None:
    """In windows of the proxy, X less the mean at its own proxy score is 0 but for the draw."""
    rng = np.random.default_rng(0)
    for scale, on_the_line in ((1.0, False), (0.05, True)):
        world = ProxyError(tail, scale=scale)
        proxy, gold = world.sample(rng, 400_000)
        told = []
        for c in SCORES:
            near = np.abs(proxy - c) < 0.1
            grid = np.linspace(c - 0.1, c + 0.1, 21)
            exact = np.interp(proxy[near], grid, world.at(grid)[1])
            told.append([gold[near] - mean for mean in (exact, line(world, proxy[near]))])
        z = np.array([[x.mean() / (x.std() / np.sqrt(x.size)) for x in pair] for pair in told])
        assert (np.abs(z[:, 0]) < 4.5).all()
        assert bool((np.abs(z[:, 1]) < 4.5).all()) is on_the_line
