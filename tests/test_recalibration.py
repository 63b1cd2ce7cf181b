"""The factor undoes a known scale, is the best of a grid, and is NaN where there is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthetic_rm.recalibration import recalibration_factor

MARGINS = np.random.default_rng(0).normal(0, 1.3, 4_000)


@pytest.mark.parametrize("scale", [0.01, 0.4, 1.0, 30.0])
def test_recalibration_undoes_a_known_scale(scale: float) -> None:
    assert recalibration_factor(scale * MARGINS, MARGINS) == pytest.approx(1 / scale, rel=1e-3)
    proxy, gold = (x.reshape(-1, 4) for x in (scale * MARGINS, MARGINS))
    assert recalibration_factor(proxy, gold) == pytest.approx(1 / scale, rel=1e-3)


def test_recalibration_is_the_best_of_a_grid() -> None:
    proxy = 0.7 * MARGINS + np.random.default_rng(1).normal(0, 1, MARGINS.size)
    target = 1 / (1 + np.exp(-MARGINS))

    def cross_entropy(factor: float) -> float:
        return float(np.mean(np.logaddexp(0, factor * proxy) - target * factor * proxy))

    grid = np.linspace(0.05, 2, 400)
    best = grid[int(np.argmin([cross_entropy(s) for s in grid]))]
    found = recalibration_factor(proxy, MARGINS)
    assert found == pytest.approx(best, abs=0.006)
    assert 0.1 < found < 0.9  # a noisy proxy is sure of less


def test_a_proxy_against_gold_gets_a_negative_factor() -> None:
    noise = np.random.default_rng(2).normal(0, 1, MARGINS.size)
    forward, turned = (recalibration_factor(sign * (MARGINS + noise), MARGINS) for sign in (1, -1))
    assert forward > 0.1 and turned == pytest.approx(-forward, rel=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("spoiled", [0, 1])
def test_a_margin_that_is_not_finite_gives_no_factor(value: float, spoiled: int) -> None:
    margins = [MARGINS.copy(), MARGINS.copy()]
    margins[spoiled][17] = value
    assert np.isnan(recalibration_factor(*margins))


@given(st.floats(-1e6, 1e6), st.integers(1, 50))
def test_a_proxy_that_tells_nothing_apart_gets_no_factor(margin: float, count: int) -> None:
    assert np.isnan(recalibration_factor(np.full(count, margin), np.resize(MARGINS, count)))


def test_gold_that_tells_nothing_apart_makes_any_proxy_worth_nothing() -> None:
    assert recalibration_factor(MARGINS, np.zeros_like(MARGINS)) == pytest.approx(0, abs=1e-4)
