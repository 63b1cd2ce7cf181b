"""Quantile worlds: best-of-n's optimum in closed form, thresholds as maxima of the curves, and the four regimes."""

import numpy as np
import pytest

from synthetic_rm.environments.analytic.quantile import QuantileWorld, best_n, family_named, peaked
from synthetic_rm.errors import InputError
from synthetic_rm.estimators import best_of_n_curve
from synthetic_rm.quantile_policies import FAMILIES, Family


@pytest.fixture(params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[str(request.param)]


@pytest.mark.parametrize("power", [0.5, 2.0, 12.0, 200.0])
def test_best_of_n_has_its_closed_form_and_its_optimum(power: float) -> None:
    world, ns = peaked(power), np.array([1.0, 2.0, 12.5, 400.0])
    top = (power / (power + 1)) ** power / (power + 1)
    start = 1 / (top * (1 + power) * (2 + power))
    curve = world.curve(FAMILIES["best_of_n"], ns)
    np.testing.assert_allclose(curve.gold[0] + start, ns / (top * (ns + power) * (ns + power + 1)), rtol=1e-7)
    np.testing.assert_allclose(curve.proxy[0], ns / (ns + 1), rtol=1e-9)
    regime = world.regime(FAMILIES["best_of_n"])
    if best_n(power) < 1:  # below one draw there is nothing to turn back to
        assert regime.kind == "falls" and np.isnan(regime.threshold)
    else:
        assert regime.kind == "rises, then falls"
        assert regime.threshold == pytest.approx(np.sqrt(power * (power + 1)), rel=1e-8)


def test_the_paper_peaks_at_twelve_and_a_half() -> None:
    assert best_n(12.0) == pytest.approx(12.49, abs=0.005)
    assert peaked(12.0).gold(np.array([12 / 13]))[0] == pytest.approx(1)


def test_a_threshold_is_where_the_curve_is_highest(family: Family) -> None:
    regime = peaked(12.0).regime(family)
    assert regime.kind == "rises, then falls"
    around = regime.threshold * np.array([0.9, 0.999, 1.0, 1.001, 1.1])
    gold = peaked(12.0).curve(family, around).gold[0]
    assert gold.argmax() == 2 and gold[2] > gold[[0, 4]].max() + 1e-4


def test_all_four_regimes_are_found(family: Family) -> None:
    worlds = {
        "rises": lambda u: u**3,
        "falls": lambda u: -u,
        "rises, then falls": lambda u: u**5 * (1 - u),
        "falls, then rises": lambda u: -(u**5) * (1 - u),
    }
    for kind, gold in worlds.items():
        found = QuantileWorld(kind, gold).regime(family, largest=300.0)
        assert found.kind == kind and np.isnan(found.threshold) == ("then" not in kind)
    wave = QuantileWorld("wave", lambda u: np.sin(2.5 * np.log(1.0001 - u)))
    assert wave.regime(family, largest=300.0) == pytest.approx(("turns more than once", np.nan), nan_ok=True)


def test_drawn_responses_agree_with_the_curve() -> None:
    world = peaked(3.0)
    quantile = np.random.default_rng(0).random((400, 300))
    proxy, gold = best_of_n_curve(quantile, world.gold(quantile), [1, 4, 40])
    curve = world.curve(FAMILIES["best_of_n"], [1, 4, 40])
    start = float(world.curve(FAMILIES["best_of_n"], [1]).gold[0, 0])
    assert start == pytest.approx(0, abs=1e-12)
    mean = 1 / ((0.75**3 / 4) * 4 * 5)
    for found, exact in ((proxy, curve.proxy[0]), (gold - mean, curve.gold[0])):
        assert (np.abs(found.mean(0) - exact) < 4.5 * found.std(0) / 20).all()


def test_what_cannot_be_is_refused_on_one_line() -> None:
    with pytest.raises(InputError, match="power=0"):
        peaked(0)
    with pytest.raises(InputError, match=r"largest=0\.5"):
        peaked(1).regime(FAMILIES["best_of_n"], largest=0.5)
    with pytest.raises(InputError, match="family='bon': allowed are best_of_n"):
        family_named("bon")
