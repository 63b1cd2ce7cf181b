"""Every estimator and exact formula of the low floors on a table where the answer is known.

A function that is added to these modules fails `test_nothing_goes_without_an_oracle` until it has one here; an
estimator of the KL from log-ratios is found by its argument and run without that.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from contracts.implementations import public_functions

from synthetic_rm import advantages, divergences, estimators, finite_support, token_kl
from synthetic_rm.environments.tabular import Tabular
from synthetic_rm.finite_support import expected, kl_divergence

WORLD = Tabular(num_prompts=1, vocab=12, response_tokens=1)
RNG = np.random.default_rng(0)
POLICY, REFERENCE = RNG.dirichlet(np.ones(12), size=2)
PROXY, GOLD = RNG.normal(size=(2, 12))
DRAWS = 40_000
FOUND = public_functions(token_kl, divergences, estimators, advantages, finite_support)
KL_ESTIMATORS = {name: f for name, f in FOUND.items() if list(inspect.signature(f).parameters) == ["log_ratio"]}
BIASED = {"token_kl.k2": lambda p, q: float(0.5 * p @ np.log(p / q) ** 2)}
"""what an estimator's mean is where it is not the KL"""
ELSEWHERE = {
    "token_kl.masked_sum": "a sum",
    "estimators.ns_grid": "a grid of n",
    "advantages.whiten": "a rescaling; tests/test_advantages.py",
}


def draws(seed: int, law: np.ndarray = POLICY, size: Any = DRAWS) -> np.ndarray:
    return np.random.default_rng(seed).choice(12, size, p=law)


def agrees(sample: Any, exact: float) -> None:
    values = np.asarray(sample, np.float64)
    assert abs(values.mean() - exact) < 4.5 * values.std() / np.sqrt(values.size) + 1e-6
    assert values.std() / np.sqrt(values.size) < 0.1 * max(abs(exact), 0.2)  # the check can fail


@pytest.mark.parametrize("name", sorted(KL_ESTIMATORS))
def test_an_estimator_of_the_kl_has_the_enumerated_mean(name: str) -> None:
    exact = BIASED.get(name, lambda p, q: float(kl_divergence(p, q)))(POLICY, REFERENCE)
    agrees(KL_ESTIMATORS[name](jnp.asarray(np.log(POLICY / REFERENCE)[draws(1)])), exact)


def best_of(n: int) -> tuple[float, float]:
    law = divergences.best_of_n_distribution(REFERENCE, PROXY, n)
    return float(expected(law, PROXY)), float(expected(law, GOLD))


def check_per_token_kl(f: Callable[..., Any]) -> None:
    assert float(f(jnp.log(POLICY), jnp.log(REFERENCE))) == pytest.approx(
        float(kl_divergence(POLICY, REFERENCE)), rel=1e-5
    )


def check_token_kl(f: Callable[..., Any]) -> None:
    rows = [jnp.broadcast_to(jnp.log(jnp.asarray(x)), (3, 2, 12)) for x in (POLICY, REFERENCE)]
    found = f(*rows, jnp.array([[1, 1], [1, 0], [0, 0]]))
    np.testing.assert_allclose(found, np.array([2, 1, 0]) * kl_divergence(POLICY, REFERENCE), rtol=1e-5)


def check_best_of_n_kl(f: Callable[..., Any]) -> None:
    fine = np.full(5000, 1 / 5000)
    for n in (1, 2, 9):
        law = divergences.best_of_n_distribution(fine, np.arange(5000), n)
        assert f(n) == pytest.approx(float(kl_divergence(law, fine)), abs=1e-4)


def check_chi_squared_best_of_n(f: Callable[..., Any]) -> None:
    fine = np.full(5000, 1 / 5000)
    for n in (1, 2, 9):
        law = divergences.best_of_n_distribution(fine, np.arange(5000), n)
        assert f(n) == pytest.approx(float(finite_support.chi_squared(law, fine)), rel=2e-3)


def check_best_of_n_distribution(f: Callable[..., Any]) -> None:
    tried = draws(2, REFERENCE, (DRAWS, 3))
    best = np.take_along_axis(tried, PROXY[tried].argmax(1)[:, None], 1)[:, 0]
    shares, law = np.bincount(best, minlength=12) / DRAWS, f(REFERENCE, PROXY, 3)
    assert (np.abs(shares - law) < 4.5 * np.sqrt(law / DRAWS) + 1e-4).all()


def check_best_of_n_kl_finite(f: Callable[..., Any]) -> None:
    for n in (1, 4, 50):
        law = divergences.best_of_n_distribution(REFERENCE, PROXY, n)
        assert f(REFERENCE, PROXY, [n])[0] == pytest.approx(float(kl_divergence(law, REFERENCE)), rel=1e-9)


def check_best_of_n_kl_gap_bound(f: Callable[..., Any]) -> None:
    for n in (1, 2, 5):
        gap = divergences.best_of_n_kl(n) - divergences.best_of_n_kl_finite(REFERENCE, PROXY, [n])[0]
        assert gap >= -1e-12 and gap <= f(n, REFERENCE) + 1e-12


def check_pool_kl(f: Callable[..., Any]) -> None:
    """Of a large pool it is the KL on the support itself."""
    pool = draws(3, REFERENCE, (1, DRAWS))
    found = f(PROXY[pool], pool, [1, 4, 20])[0]
    np.testing.assert_allclose(
        found, divergences.best_of_n_kl_finite(REFERENCE, PROXY, [1, 4, 20]), rtol=0.03, atol=1e-12
    )


def check_best_of_n_curve(f: Callable[..., Any]) -> None:
    """Unbiased over pools: every pool is a draw, and the mean of 2,000 small ones is the enumerated one."""
    pools = draws(4, REFERENCE, (2000, 12))
    proxy, gold = f(PROXY[pools], GOLD[pools], [1, 3, 8])
    for column, n in enumerate((1, 3, 8)):
        for found, exact in zip((proxy, gold), best_of(n), strict=True):
            agrees(found[:, column], exact)


def check_best_of_n_weights(f: Callable[..., Any]) -> None:
    """What an order statistic of 6 draws weighs: their weighted mean is the enumerated score of the best of 4."""
    pools = np.sort(PROXY[draws(5, REFERENCE, (20_000, 6))], axis=1)
    agrees(pools @ f(6, 4), best_of(4)[0])


def check_best_of_n_sample(f: Callable[..., Any]) -> None:
    rng = np.random.default_rng(6)
    pools = draws(6, REFERENCE, (5000, 8))
    agrees([GOLD[pool[f(PROXY[pool], 3, rng)]] for pool in pools], best_of(3)[1])


def policy_gradient(weigh: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(mean of A (e_y - pi) over drawn groups, its standard error), [12]; `weigh`: rewards [groups, 4] -> A."""
    drawn = draws(7, POLICY, (DRAWS, 4))
    advantage = weigh(PROXY[drawn])
    terms = (advantage[..., None] * (np.eye(12)[drawn] - POLICY)).mean(1)
    return terms.mean(0), terms.std(0) / np.sqrt(DRAWS)


def check_gradient(weigh: Callable[[np.ndarray], np.ndarray], share: float = 1.0) -> None:
    """d E r / d logits = pi (r - E r), enumerated."""
    found, error = policy_gradient(weigh)
    exact = share * POLICY * (PROXY - POLICY @ PROXY)
    assert (np.abs(found - exact) < 4.5 * error + 1e-6).all()
    assert np.abs(exact).max() > 10 * error.max()


def check_leave_one_out(f: Callable[..., Any]) -> None:
    check_gradient(lambda r: np.asarray(f(jnp.asarray(r))))


def check_group_advantages(f: Callable[..., Any]) -> None:
    """The group's own mean as a baseline shrinks the gradient by (N - 1) / N."""
    check_gradient(lambda r: np.asarray(f(jnp.asarray(r), scaled=False)), share=3 / 4)


def check_gae(f: Callable[..., Any]) -> None:
    """A value that depends on the prompt alone, however wrong, leaves the gradient as it is."""

    def weigh(rewards: np.ndarray) -> np.ndarray:
        flat = jnp.asarray(rewards.reshape(-1, 1))
        told = f(
            flat, jnp.full_like(flat, 0.7), jnp.ones(flat.shape, bool), lam=jnp.float32(0.95), gamma=jnp.float32(1)
        )
        return np.asarray(told[0]).reshape(rewards.shape)

    check_gradient(weigh)


def check_expected(f: Callable[..., Any]) -> None:
    agrees(PROXY[draws(8)], float(f(POLICY, PROXY)))


def check_kl_divergence(f: Callable[..., Any]) -> None:
    agrees(np.log(POLICY / REFERENCE)[draws(9)], float(f(POLICY, REFERENCE)))


def check_chi_squared(f: Callable[..., Any]) -> None:
    agrees((POLICY / REFERENCE)[draws(10, REFERENCE, 400_000)] ** 2 - 1, float(f(POLICY, REFERENCE)))


def check_win_rate(f: Callable[..., Any]) -> None:
    won = 0.5 + 0.5 * np.sign(PROXY[draws(11)] - PROXY[draws(12, REFERENCE)])
    agrees(won, float(f(POLICY, REFERENCE, PROXY)))


def check_kl_optimum(f: Callable[..., Any]) -> None:
    best = f(REFERENCE, PROXY, 0.4)
    log_ratio = np.log(best / REFERENCE)
    np.testing.assert_allclose(PROXY - 0.4 * log_ratio, (PROXY - 0.4 * log_ratio)[0], rtol=1e-9)  # stationary


def check_chi_squared_optimum(f: Callable[..., Any]) -> None:
    best = f(REFERENCE, PROXY, 0.4)
    slope = PROXY - 0.4 * best / REFERENCE
    kept = best > 0
    np.testing.assert_allclose(slope[kept], slope[kept][0], rtol=1e-9)
    assert (slope[~kept] <= slope[kept][0] + 1e-12).all() and 1 < kept.sum() < 12


ORACLES = {name.removeprefix("check_"): check for name, check in globals().items() if name.startswith("check_")}


@pytest.mark.parametrize("name", sorted(set(FOUND) - set(KL_ESTIMATORS) - set(ELSEWHERE)))
def test_a_function_agrees_with_its_oracle(name: str) -> None:
    ORACLES[name.rpartition(".")[2]](FOUND[name])


def test_nothing_goes_without_an_oracle() -> None:
    without = {name for name in FOUND if name.rpartition(".")[2] not in ORACLES}
    unknown = without - set(KL_ESTIMATORS) - set(ELSEWHERE)
    assert unknown == set(), "give each a check_<its name> here, or say in ELSEWHERE where it is held to an answer"
    assert set(ELSEWHERE) <= set(FOUND)
    assert {"token_kl.k1", "token_kl.k2", "token_kl.k3"} <= set(KL_ESTIMATORS)
