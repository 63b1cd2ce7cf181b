"""Everything public in `environments.analytic` against draws, steps or limits: no closed form is its own judge.

Laws of the error and spreads of it are found and run by themselves. Any other class or function that is added fails
`test_nothing_goes_without_an_answer` until it has one here.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import numpy as np
import pytest
from contracts.continuous_oracles import agrees
from contracts.implementations import modules_of, public_functions
from scipy.integrate import quad

from synthetic_rm.environments import analytic
from synthetic_rm.environments.analytic.error_laws import TAILS, Spread, Tail, normal
from synthetic_rm.environments.analytic.iterated import simulate_rounds
from synthetic_rm.environments.analytic.proxy_error import ProxyError
from synthetic_rm.environments.analytic.quantile import QuantileWorld
from synthetic_rm.estimators import best_of_n_curve
from synthetic_rm.quantile_policies import FAMILIES

MODULES = modules_of(analytic)
FUNCTIONS = {name.rpartition(".")[2]: function for name, function in public_functions(*MODULES).items()}
CLASSES = {
    name: value
    for module in MODULES
    for name, value in vars(module).items()
    if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
}
LAWS = {name: make for name, make in FUNCTIONS.items() if get_type_hints(make).get("return") is Tail}
SPREADS = [value for module in MODULES for value in vars(module).values() if isinstance(value, Spread)]
RECORDS = {name for name, value in CLASSES.items() if issubclass(value, tuple)} | {"Tail"}
"""what worlds are made of and what they return"""
ANSWERLESS = {"family_named", "require_positive"}
"""a look-up and a refusal"""
NS = np.array([1, 2, 5, 30])


@pytest.mark.parametrize("name", sorted(LAWS))
def test_a_law_of_the_error_is_what_it_says(name: str) -> None:
    tail = LAWS[name]()
    drawn = np.asarray(tail.law.rvs(size=400_000, random_state=np.random.default_rng(0)))
    if np.isfinite(tail.law.var()):
        agrees(drawn, 0.0)
    assert tail.heavy == (tail.cumulant is None) == (tail.slope is None)
    if tail.cumulant is not None and tail.slope is not None:
        for lam in (0.3, 1.0):
            mean = float(np.exp(tail.cumulant(np.array(lam))))
            agrees(np.exp(lam * drawn), mean)
            agrees(drawn * np.exp(lam * drawn), mean * float(tail.slope(np.array(lam))))
    far = np.array([10.0, 1e4])
    near_rate, far_rate = -tail.law.logsf(far) / far
    assert (far_rate < 0.1 * near_rate) == tail.heavy  # slower than any exponential
    bounded = tail.xi < 0  # then its quantiles end where digits do
    steps = np.diff(tail.law.isf([1e-2, 1e-4, 1e-6] if bounded else [1e-60, 1e-62, 1e-64]))
    assert np.log(steps[1] / steps[0]) / np.log(100) == pytest.approx(tail.xi, abs=0.08)  # quantiles run like p^-xi


def test_every_law_is_in_the_table_that_other_tests_run_over() -> None:
    assert LAWS == TAILS, "add the new law to error_laws.TAILS"


def proxy_errors() -> Iterator[tuple[Any, ...]]:
    """Independent error, and error that spreads in every way that is offered."""
    rng = np.random.default_rng(1)
    for spread in SPREADS:
        world = ProxyError(normal(), slope=0.8, scale=0.7, spread=spread)
        yield world.best_of_n(NS), *world.sample(rng, (300, 400))


def quantile_worlds() -> Iterator[tuple[Any, ...]]:
    """Gold in a curve is less that of the reference: here E u^2 = 1/3."""
    world = QuantileWorld("square", np.square)
    proxy, gold = world.sample(np.random.default_rng(2), (300, 400))
    yield world.curve(FAMILIES["best_of_n"], NS), proxy, gold - 1 / 3


WORLDS = {"ProxyError": proxy_errors, "QuantileWorld": quantile_worlds}
"""class -> (exact best-of-n curve at `NS`, proxy and gold scores of drawn responses [pools, N]) of some of it"""


@pytest.mark.parametrize("name", sorted(set(CLASSES) & set(WORLDS)))
def test_the_curves_of_a_world_are_those_of_drawn_responses(name: str) -> None:
    for exact, *drawn in WORLDS[name]():
        for found, wanted in zip(best_of_n_curve(*drawn, NS), (exact.proxy, exact.gold), strict=True):
            for column in range(len(NS)):
                agrees(found[:, column], float(wanted[0, column]))
        np.testing.assert_allclose(exact.kl, np.log(NS) - (NS - 1) / NS, atol=1e-7)


def check_simulate_rounds(f: Callable[..., Any]) -> None:
    """Unequal rounds, the slope of each integrated."""
    found = f(0.6, 0.2, [1.0, 3.0])
    gains = [quad(lambda e: 0.6 - 0.2 - 0.2 * np.log(e), 0, span)[0] for span in (1.0, 3.0)]
    np.testing.assert_allclose(found.gold[found.started[1]], gains[0], atol=1e-3)
    np.testing.assert_allclose(found.gold[-1], sum(gains), atol=1e-3)


def check_iterated_gold(f: Callable[..., Any]) -> None:
    for rounds in (1, 3, 8):
        walked = simulate_rounds(0.6, 0.2, np.full(rounds, 9.0 / rounds)).gold[-1]
        assert float(f(9.0, 0.6, 0.2, rounds)) == pytest.approx(walked, abs=2e-3)


def check_best_distance(f: Callable[..., Any]) -> None:
    """The best of walks of many lengths."""
    distance, top = f(0.6, 0.2, 3)
    lengths = distance * np.linspace(0.8, 1.2, 41)
    gold = [simulate_rounds(0.6, 0.2, np.full(3, d / 3)).gold[-1] for d in lengths]
    assert lengths[int(np.argmax(gold))] == pytest.approx(distance, rel=0.03)
    assert max(gold) == pytest.approx(top, rel=2e-3)


def check_peaked(f: Callable[..., Any]) -> None:
    """Highest at 1, and E g = n / (C (n + p)(n + p + 1)) over the best of n draws."""
    world, largest = f(3.0), 0.75**3 / 4
    assert world.gold(np.linspace(0, 1, 1001)).max() == pytest.approx(1, abs=1e-5)
    for n in (2, 9):
        best = np.random.default_rng(n).random((40_000, n)).max(1)
        agrees(world.gold(best), n / (largest * (n + 3) * (n + 4)))


def check_best_n(f: Callable[..., Any]) -> None:
    """d E g / d n by its score, from the best of n draws: 0 there, above 0 before it, below 0 behind it."""
    slopes = []
    for n in f(12.0) * np.array([0.7, 1.0, 1.4]):
        best = np.random.default_rng(3).random(400_000) ** (1 / n)
        told = best**12 * (1 - best) * (1 / n + np.log(best))
        slopes.append(told.mean() / (told.std() / np.sqrt(told.size)))
    assert slopes[0] > 20 and abs(slopes[1]) < 4.5 and slopes[2] < -20


ANSWERS = {name.removeprefix("check_"): check for name, check in globals().items() if name.startswith("check_")}


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) & set(ANSWERS)))
def test_a_function_agrees_with_its_answer(name: str) -> None:
    ANSWERS[name](FUNCTIONS[name])


def test_nothing_goes_without_an_answer() -> None:
    functions = set(FUNCTIONS) - set(LAWS) - set(ANSWERS) - ANSWERLESS
    assert functions == set(), "give each a check_<its name> that holds it to draws, steps or a limit"
    assert set(CLASSES) - RECORDS - set(WORLDS) == set(), "give each draws and an exact curve in WORLDS"
    assert set(ANSWERS) | ANSWERLESS <= set(FUNCTIONS) and set(CLASSES) >= set(WORLDS), "of what is gone"
