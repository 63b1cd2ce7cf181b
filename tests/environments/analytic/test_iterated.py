"""Iterated RLHF: rounds walked step by step against the paper's formula, and what the formula implies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthetic_rm.analysis.fitting import fit_curve
from synthetic_rm.analysis.forms import FORMS
from synthetic_rm.environments.analytic.iterated import best_distance, iterated_gold, simulate_rounds
from synthetic_rm.errors import InputError

ALPHA, BETA = 0.6, 0.2


@pytest.mark.parametrize("rounds", [1, 2, 5, 16])
@pytest.mark.parametrize(("alpha", "beta"), [(0.6, 0.2), (0.1, 0.3), (0.5, 0.0)])
def test_rounds_walked_step_by_step_end_where_the_formula_says(alpha: float, beta: float, rounds: int) -> None:
    for distance in (0.3, 3.0, 20.0):
        walked = simulate_rounds(alpha, beta, np.full(rounds, distance / rounds))
        assert walked.distance[-1] == pytest.approx(distance)
        assert walked.gold[-1] == pytest.approx(
            float(iterated_gold(distance, alpha, beta, rounds)), abs=2e-4 * distance
        )


def test_every_point_on_the_way_is_the_sum_of_whole_rounds_and_one_under_way() -> None:
    walked = simulate_rounds(ALPHA, BETA, [1.0, 2.0, 0.5])
    assert walked.distance[walked.started].tolist() == pytest.approx([0.0, 1.0, 3.0])
    for d in (0.4, 1.0, 2.2, 3.3):
        parts = [min(max(d - start, 0.0), span) for start, span in ((0, 1.0), (1, 2.0), (3, 0.5))]
        expected = sum(float(FORMS["rl"].curve(part, ALPHA, BETA)) for part in parts if part > 0)
        assert np.interp(d, walked.distance, walked.gold) == pytest.approx(expected, abs=3e-3)


def test_one_round_is_the_papers_rl_form_and_its_fit_finds_the_coefficients_again() -> None:
    d = np.linspace(0.1, 8, 40)
    np.testing.assert_allclose(iterated_gold(d, ALPHA, BETA, 1), FORMS["rl"].curve(d, ALPHA, BETA), rtol=1e-12)
    for rounds in (1, 4):
        walked = np.array([simulate_rounds(ALPHA, BETA, np.full(rounds, x / rounds)).gold[-1] for x in d])
        fit = fit_curve(d**2, walked, "rl")
        assert (fit.alpha, fit.beta) == pytest.approx((ALPHA + BETA * np.log(rounds), BETA), abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(shares=st.lists(st.floats(0.05, 1), min_size=2, max_size=6), total=st.floats(0.5, 20))
def test_equal_rounds_are_best(shares: list[float], total: float) -> None:
    """The single-round curve is concave: Jensen."""
    lengths = np.array(shares) / sum(shares) * total
    uneven = sum(float(iterated_gold(x, ALPHA, BETA, 1)) for x in lengths)
    assert uneven <= float(iterated_gold(total, ALPHA, BETA, len(shares))) + 1e-9


@pytest.mark.parametrize("rounds", [1, 3, 10])
def test_the_best_distance_is_where_gold_is_highest(rounds: int) -> None:
    distance, top = best_distance(ALPHA, BETA, rounds)
    grid = np.linspace(0.5, 1.5, 2001) * distance
    gold = iterated_gold(grid, ALPHA, BETA, rounds)
    assert grid[gold.argmax()] == pytest.approx(distance, rel=1e-3) and gold.max() == pytest.approx(top)
    assert distance == pytest.approx(rounds * best_distance(ALPHA, BETA, 1)[0])


def test_the_gain_of_k_rounds_is_beta_d_ln_k() -> None:
    d, k = np.array([[0.0], [1.0], [7.0]]), np.array([1, 2, 9])
    gain = iterated_gold(d, ALPHA, BETA, k) - iterated_gold(d, ALPHA, BETA, 1)
    np.testing.assert_allclose(gain, BETA * d * np.log(k), atol=1e-12)


def test_what_cannot_be_is_refused_on_one_line() -> None:
    for call, message in (
        (lambda: iterated_gold(-1.0, 1, 1, 1), "distance"),
        (lambda: iterated_gold(1.0, 1, 1, 0), "rounds"),
        (lambda: best_distance(1.0, 0.0, 1), "beta=0.0"),
        (lambda: simulate_rounds(1, 1, [1.0, 0.0]), "lengths"),
        (lambda: simulate_rounds(1, 1, [1.0], steps=1), "steps=1"),
    ):
        with pytest.raises(InputError, match=message):
            call()
