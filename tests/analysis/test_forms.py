"""Every registered form: its peak against a search, its limits, its linearity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthetic_rm.analysis.forms import FORMS, Form, find_form
from synthetic_rm.errors import InputError

every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def gamma_of(form: Form) -> float | None:
    return 0.4 if form.free_exponent else None


@every_form
@pytest.mark.parametrize(("alpha", "beta"), [(0.6, 0.2), (1.0, 1.3), (0.2, 0.3)])
def test_peak_is_the_maximum(form: Form, alpha: float, beta: float) -> None:
    distance = np.linspace(0, 30, 300_001)
    curve = form.curve(distance, alpha, beta if form.coefficients == 2 else 0.0, gamma_of(form))
    peak, top = form.peak(alpha, beta if form.coefficients == 2 else 0.0, gamma_of(form))
    if form.coefficients == 1:
        assert peak == top == np.inf
    else:
        assert peak == pytest.approx(distance[curve.argmax()], abs=2e-4)
        assert top == pytest.approx(curve.max(), rel=1e-7)


@every_form
def test_limits_of_the_peak(form: Form) -> None:
    for alpha, beta in ((0.5, -0.1), (-0.5, -0.1), (0.5, 0.0)):
        assert form.peak(alpha, beta, gamma_of(form)) == (np.inf, np.inf)
    assert form.peak(-0.5, 0.0, gamma_of(form)) == (0, 0)
    if form.name not in ("rl", "linear"):  # "rl" rises from 0 with infinite slope whatever alpha is
        assert form.peak(-0.5, 0.1, gamma_of(form)) == (0, 0)
    distances, tops = form.peak([0.5, 0.5, -0.5], [0.1, -0.1, 0.0], gamma_of(form))
    assert distances.shape == tops.shape == (3,)
    assert form.peak(1.0, 1e-5, gamma_of(form))[1] > 100  # overflow, if any, to inf and silently


@every_form
@given(alpha=st.floats(-3, 3), beta=st.floats(-3, 3))
def test_linear_in_the_coefficients_and_zero_at_the_reference(form: Form, alpha: float, beta: float) -> None:
    distance = np.array([0.0, 0.3, 1.0, 2.7])
    beta = beta if form.coefficients == 2 else 0.0
    curve = form.curve(distance, alpha, beta, gamma_of(form))
    coefficients = np.array([alpha, beta])[: form.coefficients]
    np.testing.assert_allclose(form.design(distance, gamma_of(form)) @ coefficients, curve, atol=1e-12)
    assert curve[0] == 0
    assert form.formula.startswith("R(d) = ")


def test_paper_formulas() -> None:
    assert find_form("bon").curve(2.0, 0.5, 0.1) == pytest.approx(2 * (0.5 - 0.1 * 2))
    assert find_form("rl").curve(2.0, 0.5, 0.1) == pytest.approx(2 * (0.5 - 0.1 * np.log(2)))
    assert find_form("bon").peak(0.5, 0.1) == (pytest.approx(2.5), pytest.approx(0.625))
    assert find_form("rl").peak(0.5, 0.2) == (pytest.approx(np.exp(1.5)), pytest.approx(0.2 * np.exp(1.5)))
    # small exponents tend to the log form: n (x^(1/n) - 1) -> ln x
    d = np.array([0.5, 2.0, 9.0])
    near = find_form("power").curve(d, 0.5 + 0.2 / 1e-6, 0.2 / 1e-6, 1e-6)
    np.testing.assert_allclose(near, find_form("rl").curve(d, 0.5, 0.2), rtol=1e-4)
    with pytest.raises(InputError, match="form must be one of bon, rl"):
        find_form("cubic")
