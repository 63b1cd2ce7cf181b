"""Every estimator and exact formula of floor 1 on a table, or a law, where the answer is known.

A function that is added to any module of that floor fails `test_nothing_goes_without_an_oracle` until it has one here
or in `continuous_oracles.py`; an estimator of the KL from log-ratios is found by its argument and run without that.
"""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from contracts import continuous_oracles
from contracts.continuous_oracles import agrees
from contracts.implementations import modules_of_floor, public_functions

from synthetic_rm import divergences, finite_support
from synthetic_rm.environments.tabular import Tabular
from synthetic_rm.finite_support import expected, kl_divergence

WORLD = Tabular(num_prompts=1, vocab=12, response_tokens=1)
RNG = np.random.default_rng(0)
POLICY, REFERENCE = RNG.dirichlet(np.ones(12), size=2)
PROXY, GOLD = RNG.normal(size=(2, 12))
DRAWS = 40_000
FILES = {"weights", "packing", "checkpoints", "snapshots", "filling"}
"""modules of floor 1 that lay out, write and read arrays: they estimate nothing"""
FOUND = public_functions(*modules_of_floor(1, but=FILES))
KL_ESTIMATORS = {name: f for name, f in FOUND.items() if list(inspect.signature(f).parameters) == ["log_ratio"]}
BIASED = {"token_kl.k2": lambda p, q: float(0.5 * p @ np.log(p / q) ** 2)}
"""what an estimator's mean is where it is not the KL"""
TESTS = Path(__file__).resolve().parents[1]
OPTIMISED = {"losses", "policy_losses", "recalibration"}
"""modules of what is minimised: each function is held to loops, gradients or a grid in the tests of its module"""
NO_MEAN = {"token_kl.masked_sum", "estimators.ns_grid", "advantages.whiten"}
"""a sum, a grid and a rescaling, held likewise"""
ELSEWHERE = NO_MEAN | {name for name in FOUND if name.partition(".")[0] in OPTIMISED}


def draws(seed: int, law: np.ndarray = POLICY, size: Any = DRAWS) -> np.ndarray:
    return np.random.default_rng(seed).choice(12, size, p=law)


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


def has_gradient(weigh: Callable[[np.ndarray], np.ndarray], share: float = 1.0) -> None:
    """d E r / d logits = pi (r - E r), enumerated."""
    found, error = policy_gradient(weigh)
    exact = share * POLICY * (PROXY - POLICY @ PROXY)
    assert (np.abs(found - exact) < 4.5 * error + 1e-6).all()
    assert np.abs(exact).max() > 10 * error.max()


def check_leave_one_out(f: Callable[..., Any]) -> None:
    has_gradient(lambda r: np.asarray(f(jnp.asarray(r))))


def check_group_advantages(f: Callable[..., Any]) -> None:
    """The group's own mean as a baseline shrinks the gradient by (N - 1) / N."""
    has_gradient(lambda r: np.asarray(f(jnp.asarray(r), scaled=False)), share=3 / 4)


def check_gae(f: Callable[..., Any]) -> None:
    """A value that depends on the prompt alone, however wrong, leaves the gradient as it is."""

    def weigh(rewards: np.ndarray) -> np.ndarray:
        flat = jnp.asarray(rewards.reshape(-1, 1))
        told = f(
            flat, jnp.full_like(flat, 0.7), jnp.ones(flat.shape, bool), lam=jnp.float32(0.95), gamma=jnp.float32(1)
        )
        return np.asarray(told[0]).reshape(rewards.shape)

    has_gradient(weigh)


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


ORACLES = {
    name.removeprefix("check_"): check
    for name, check in (*globals().items(), *vars(continuous_oracles).items())
    if name.startswith("check_")
}


@pytest.mark.parametrize("name", sorted(name for name in FOUND if name.rpartition(".")[2] in ORACLES))
def test_a_function_agrees_with_its_oracle(name: str) -> None:
    ORACLES[name.rpartition(".")[2]](FOUND[name])


def test_nothing_goes_without_an_oracle() -> None:
    without = {name for name in FOUND if name.rpartition(".")[2] not in ORACLES}
    unknown = without - set(KL_ESTIMATORS) - ELSEWHERE
    assert unknown == set(), "give each a check_<its name> that holds it to a known answer, here or beside"
    named = {name.rpartition(".")[2] for name in FOUND}
    assert set(ORACLES) <= named and set(FOUND) >= ELSEWHERE, "of functions that are gone"
    assert {"token_kl.k1", "token_kl.k2", "token_kl.k3"} <= set(KL_ESTIMATORS)
    assert {"tails.tail_index", "quantile_policies.nodes", "losses.token_loss"} <= set(FOUND)


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_what_is_held_to_an_answer_elsewhere_is_tested_there(name: str) -> None:
    module, _, function = name.partition(".")
    told = (TESTS / f"test_{module}.py").read_text(encoding="utf-8")
    assert re.search(rf"\b{function}\(", told), f"tests/test_{module}.py never calls {function}"
