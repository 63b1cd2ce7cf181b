"""Every exact optimizer on random tables: what pushing harder against a proxy must and must not do."""

import inspect

import numpy as np
import pytest

from synthetic_rm.divergences import best_of_n_kl
from synthetic_rm.finite_support import expected, kl_divergence, kl_optimum
from synthetic_rm.optimizers.exact import EXACT, exact_curve, exact_policies

PRESSURES = np.geomspace(1.0, 300.0, 12)
RNG = np.random.default_rng(0)
REFERENCE = RNG.dirichlet(np.ones(40), size=3)
PROXY, GOLD = RNG.normal(size=(2, 3, 40))


@pytest.fixture(params=sorted(EXACT))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def policies(name: str, proxy: np.ndarray = PROXY, pressures: np.ndarray = PRESSURES) -> np.ndarray:
    return exact_policies(EXACT[name], REFERENCE, proxy, pressures)


def rises(values: np.ndarray) -> bool:
    """Strictly at first, and nowhere falling, up to rounding where only the best response is left."""
    steps = np.diff(values, axis=-1)
    return bool((steps > -1e-12).all() and (steps[..., :3] > 1e-3).all())


def test_policies_are_distributions(name: str) -> None:
    found = policies(name)
    assert found.shape == (12, 3, 40) and (found >= 0).all()
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-12)


def test_more_pressure_raises_proxy_and_kl(name: str) -> None:
    curve = exact_curve(policies(name), REFERENCE, PROXY, GOLD, PRESSURES)
    assert rises(curve.kl) and rises(curve.proxy)
    assert curve.gold.shape == (3, 12)
    best = PROXY.max(-1)
    assert (curve.proxy <= best[:, None] + 1e-12).all()
    hardest = policies(name, pressures=np.array([1e6]))[0]
    np.testing.assert_allclose(expected(hardest, PROXY), best, atol=1e-5)


def test_little_pressure_leaves_the_reference(name: str) -> None:
    least = 1.0 if name == "best_of_n" else 1e-9
    np.testing.assert_allclose(policies(name, pressures=np.array([least]))[0], REFERENCE, atol=1e-7)


def test_a_constant_on_the_proxy_of_a_prompt_changes_nothing(name: str) -> None:
    moved = PROXY + np.array([[0.0], [7.0], [-3.0]])
    np.testing.assert_allclose(policies(name, moved), policies(name), rtol=1e-6, atol=1e-12)


def test_prompts_do_not_touch_each_other(name: str) -> None:
    alone = exact_policies(EXACT[name], REFERENCE[1:2], PROXY[1:2], PRESSURES)
    np.testing.assert_allclose(policies(name)[:, 1:2], alone, rtol=1e-12)


def test_gold_is_out_of_reach_and_a_perfect_proxy_raises_it(name: str) -> None:
    assert list(inspect.signature(EXACT[name]).parameters)[:2] == ["reference", "proxy"]
    assert len(inspect.signature(EXACT[name]).parameters) == 3
    curve = exact_curve(policies(name, GOLD), REFERENCE, GOLD, GOLD, PRESSURES)
    assert rises(curve.gold)


def test_none_gets_more_proxy_for_its_kl_than_the_tilted_reference(name: str) -> None:
    """The KL optimum maximises E r - beta KL, whatever beta: no policy lies above any of its tangents."""
    for policy in policies(name):
        for beta in (0.05, 0.3, 2.0):
            best = kl_optimum(REFERENCE, PROXY, beta)
            top = expected(best, PROXY) - beta * kl_divergence(best, REFERENCE)
            assert (expected(policy, PROXY) - beta * kl_divergence(policy, REFERENCE) <= top + 1e-9).all()


def test_best_of_n_stays_under_its_closed_form_and_ends_at_the_best_responses_surprise() -> None:
    curve = exact_curve(policies("best_of_n"), REFERENCE, PROXY, GOLD, PRESSURES)
    assert (curve.kl <= best_of_n_kl(PRESSURES) + 1e-12).all()
    end = kl_divergence(policies("best_of_n", pressures=np.array([1e6]))[0], REFERENCE)
    best = np.take_along_axis(REFERENCE, PROXY.argmax(-1)[:, None], 1)[:, 0]
    np.testing.assert_allclose(end, -np.log(best), rtol=1e-6)
