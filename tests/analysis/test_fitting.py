"""Least squares against known coefficients, a certified regression, and the ways in which fits fail."""

import numpy as np
import pytest
from analysis.simulated_curves import DISTANCE, KL
from hypothesis import given
from hypothesis import strategies as st

from synthetic_rm.analysis.fitting import compare_forms, fit_curve, fit_shared, held_out_error
from synthetic_rm.analysis.forms import FORMS
from synthetic_rm.errors import InputError

LINEAR = [name for name, form in FORMS.items() if form.coefficients == 2 and not form.free_exponent]


@pytest.mark.parametrize("form", LINEAR)
@given(alpha=st.floats(-2, 2), beta=st.floats(-2, 2))
def test_exact_curves_give_their_coefficients_back(form: str, alpha: float, beta: float) -> None:
    gold = FORMS[form].curve(DISTANCE, alpha, beta)
    fit = fit_curve(KL, gold, form)
    assert (fit.alpha, fit.beta) == (pytest.approx(alpha, abs=1e-9), pytest.approx(beta, abs=1e-9))
    assert fit.rmse < 1e-10
    np.testing.assert_allclose(fit.predict(KL), gold, atol=1e-9)
    assert (fit.peak_distance, fit.peak_gold) == tuple(map(float, FORMS[form].peak(fit.alpha, fit.beta)))


@pytest.mark.parametrize("gamma", [0.1, 0.7, 2.5])
def test_the_exponent_is_found(gamma: float) -> None:
    gold = FORMS["power"].curve(DISTANCE, 0.6, 0.1, gamma)
    fit = fit_curve(KL, gold, "power")
    assert (fit.gamma, fit.alpha, fit.beta) == (
        pytest.approx(gamma, abs=1e-3),
        pytest.approx(0.6, abs=1e-3),
        pytest.approx(0.1, abs=1e-3),
    )
    np.testing.assert_allclose(fit.predict(KL), gold, atol=1e-5)


def test_certified_regression_through_the_origin() -> None:
    # NIST StRD NoInt1: y = b x, certified b, its standard deviation, and the residual standard deviation
    x, y = np.arange(60.0, 71.0), np.arange(130.0, 141.0)
    fit = fit_curve(x**2, y, "linear")
    assert fit.alpha == pytest.approx(2.07438016528926, rel=1e-13)
    assert fit.alpha_se == pytest.approx(0.0165289256198347, rel=1e-12)
    assert fit.rmse * np.sqrt(11 / 10) == pytest.approx(3.56753034006338, rel=1e-12)
    assert (fit.beta, fit.beta_se) == (0, 0)


def test_standard_errors_are_the_scatter_of_repeated_fits() -> None:
    rng = np.random.default_rng(0)
    truth = FORMS["rl"].curve(DISTANCE, 0.5, 0.15)
    fits = [fit_curve(KL, truth + 0.05 * rng.normal(size=KL.size), "rl") for _ in range(1500)]
    for name, true in (("alpha", 0.5), ("beta", 0.15)):
        values = np.array([getattr(fit, name) for fit in fits])
        errors = np.array([getattr(fit, f"{name}_se") for fit in fits])
        assert values.mean() == pytest.approx(true, abs=4 * values.std() / np.sqrt(1500))
        assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.08)


def test_a_weight_of_k_is_k_copies_of_the_point() -> None:
    rng = np.random.default_rng(1)
    gold, copies = rng.normal(size=KL.size), rng.integers(0, 4, size=KL.size)
    weighted = fit_curve(KL, gold, "bon", copies)
    repeated = fit_curve(np.repeat(KL, copies), np.repeat(gold, copies), "bon")
    for name in ("alpha", "beta", "r2", "rmse", "peak_gold"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name), rel=1e-9)
    scaled = fit_curve(KL, gold, "bon", 10 * copies)
    assert (scaled.alpha_se, scaled.beta_se) == pytest.approx((weighted.alpha_se, weighted.beta_se), rel=1e-9)


def test_r2_of_a_perfect_and_of_a_useless_fit() -> None:
    assert fit_curve(KL, FORMS["bon"].curve(DISTANCE, 0.5, 0.1), "bon").r2 == pytest.approx(1)
    assert fit_curve(KL, 1 - np.exp(-20 * DISTANCE), "linear").r2 < 0.5
    two = fit_curve([1.0, 4.0], [0.4, 0.6], "bon")
    assert two.r2 == pytest.approx(1)
    assert np.isnan(two.alpha_se)


def test_shared_alpha_is_recovered_and_is_the_joint_least_squares() -> None:
    rng = np.random.default_rng(2)
    betas = {3e3: 0.17, 1e4: 0.15, 3e4: 0.12}
    curves = {}
    for index, (size, beta) in enumerate(betas.items()):
        kl = np.linspace(1, 80, 15 + 5 * index)  # groups of different lengths
        curves[size] = (kl, FORMS["rl"].curve(np.sqrt(kl), 0.35, beta) + 0.01 * rng.normal(size=kl.size))
    joint = fit_shared(curves, "rl")
    assert joint.value == pytest.approx(0.35, abs=4 * joint.value_se)
    for size, beta in betas.items():
        assert joint.fits[size].alpha == joint.value
        assert joint.fits[size].beta == pytest.approx(beta, abs=0.01)
    # given alpha, each beta is the least-squares one of its group; another alpha makes the total worse

    def total(alpha: float) -> float:
        misfit = 0.0
        for kl, gold in curves.values():
            column = -FORMS["rl"].curve(np.sqrt(kl), 0.0, -1.0)
            rest = gold - alpha * np.sqrt(kl)
            beta = column @ rest / (column @ column)
            misfit += np.sum((rest - beta * column) ** 2)
        return misfit

    best = total(joint.value)
    assert joint.rmse == pytest.approx(np.sqrt(best / joint.num_points))
    assert min(total(joint.value - 1e-4), total(joint.value + 1e-4)) > best
    swapped = fit_shared(curves, "rl", shared="beta")
    assert len({fit.beta for fit in swapped.fits.values()}) == 1
    assert len({fit.alpha for fit in swapped.fits.values()}) == 3
    single = fit_shared({"only": curves[3e3]}, "rl").fits["only"]
    assert single.beta == pytest.approx(fit_curve(*curves[3e3], "rl").beta)


def test_held_out_error_sees_only_what_lies_below_the_cut() -> None:
    truth = FORMS["bon"].curve(DISTANCE, 0.5, 0.1)
    assert held_out_error(KL, truth, "bon") < 1e-12
    off = np.where(KL > 6, truth + 0.3, truth)
    assert held_out_error(KL, off, "bon") == pytest.approx(0.3)
    assert np.isnan(held_out_error(KL, truth, "bon", cut=8.0))
    few = np.array([0.0, 1.0, 2.0, 7.0])
    assert np.isnan(held_out_error(few, few, "bon"))
    assert held_out_error([0.0, 1.0, 2.0, 6.0, 7.0], np.zeros(5), "bon") == 0
    assert np.isnan(held_out_error([0.0, 1.0, 2.0, 6.0, 7.0], np.zeros(5), "power"))


@pytest.mark.parametrize("form", [name for name in FORMS if name != "power"])
def test_the_true_form_predicts_best(form: str) -> None:
    gold = FORMS[form].curve(DISTANCE, 0.5, 0.1 if FORMS[form].coefficients == 2 else 0.0)
    table = compare_forms(KL, gold, forms=["bon", "rl", "log1p", "quadratic", "linear"])
    errors = table.set_index("form")["held_out_rmse"]
    assert errors[form] < 1e-10
    assert table["held_out_rmse"].is_monotonic_increasing
    rivals = errors.drop(form) if form != "linear" else errors.loc[["quadratic"]]  # the others contain "linear"
    assert rivals.min() > 1e-3


@pytest.mark.parametrize(
    ("kl", "gold", "form", "weights", "message"),
    [
        ([1, 2, 3], [1, 2], "bon", None, "one length"),
        ([1, 2, np.nan], [1, 2, 3], "bon", None, "kl must be finite"),
        ([1, 2, -1], [1, 2, 3], "bon", None, "non-negative"),
        ([1, 2, 3], [1, 2, np.inf], "bon", None, "gold must be finite"),
        ([1, 2, 3], [1, 2, 3], "bon", [1, -1, 1], "weights"),
        ([0, 2, 2], [0, 1, 1], "bon", None, "distinct distances"),
        ([1, 2, 3], [1, 2, 3], "bon", [1, 0, 0], "distinct distances"),
        ([1, 2, 3], [1, 2, 3], "sine", None, "form must be one of"),
    ],
)
def test_bad_input_is_named(
    kl: list[float], gold: list[float], form: str, weights: list[float] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fit_curve(kl, gold, form, weights)


def test_what_cannot_be_shared_is_named() -> None:
    for arguments, message in (
        (({}, "bon"), "at least one group"),
        (({1: (KL, KL)}, "power"), "no alpha to share"),
        (({1: (KL, KL)}, "bon", "gamma"), "alpha or beta, got 'gamma'"),
    ):
        with pytest.raises(InputError, match=message):
            fit_shared(*arguments)
