"""The law over size and data: found where it is put in, its threshold too, with intervals that hold."""

from dataclasses import replace

import numpy as np
import pytest
from analysis.simulated_curves import DISTANCE, KL, NS, crossed_gold
from numpy.typing import NDArray

from synthetic_rm.analysis.curves import SettingCurves
from synthetic_rm.analysis.data_law import left_out_table
from synthetic_rm.analysis.forms import find_form
from synthetic_rm.analysis.left_out import beside_size_laws, leave_one_out, prediction_errors
from synthetic_rm.analysis.planner import plan, plan_lines
from synthetic_rm.analysis.scaling import ScalingLaw, fit_scaling_law
from synthetic_rm.analysis.scaling_terms import Terms, best_terms
from synthetic_rm.errors import InputError

SIZES, COUNTS = (2000, 6000, 20000, 60000), (1000, 4000, 16000, 64000)
THRESHOLD = 1000
LINE = np.array([[0.5, 0.1], [0.12, -0.02], [0.2, 0.03]])
"""[terms, 2] about the means over the grid"""


def coefficients(size: float, count: float, threshold: int = THRESHOLD) -> NDArray[np.float64]:
    x, y = (np.log10(value / np.exp(np.log(known).mean())) for value, known in ((size, SIZES), (count, COUNTS)))
    return np.array([1, x, y]) @ LINE * (count > threshold)


def entry(size: int, count: int, gold: NDArray[np.float64]) -> SettingCurves:
    return SettingCurves({"proxy_params": size, "num_comparisons": count}, NS.astype(float), KL, gold, gold)


def exact(form: str = "bon", threshold: int = THRESHOLD) -> list[SettingCurves]:
    made = []
    for size in SIZES:
        for count in COUNTS:
            alpha, beta = coefficients(size, count, threshold)
            alpha = coefficients(6000, count, threshold)[0] if form == "rl" else alpha
            mean = find_form(form).curve(DISTANCE, alpha, beta)
            made.append(entry(size, count, np.broadcast_to(mean[None, :, None], (2, KL.size, 5)).copy()))
    return made


def noisy(rng: np.random.Generator) -> list[SettingCurves]:
    return [
        replace(one, gold=crossed_gold(rng, one.gold.mean(axis=(0, 2)), seeds=3, prompts=12, seed_effect=0.1,
                                       prompt_effect=0.1, noise=0.2)) for one in exact()
    ]  # fmt: skip


def law_of(entries: list[SettingCurves], form: str = "bon") -> ScalingLaw:
    return fit_scaling_law(entries, form, num_resamples=200, rng=np.random.default_rng(0))


@pytest.mark.parametrize(("form", "threshold"), [("bon", 1000), ("bon", 0), ("bon", 4000), ("rl", 1000)])
def test_a_law_that_is_there_is_found_with_its_threshold(form: str, threshold: int) -> None:
    law = law_of(exact(form, threshold)[::-1], form)
    expected = LINE.copy()
    if form == "rl":
        expected[:2, 0] = LINE[0, 0] + LINE[1, 0] * np.log10(6000 / np.exp(np.log(SIZES).mean())), 0.0
    assert law.terms.threshold == threshold and law.terms.names == ("parameters", "comparisons")
    np.testing.assert_allclose(law.line, expected, atol=1e-9)
    np.testing.assert_allclose([law.scatter, law.chance], 0, atol=1e-9)
    assert law.slope("beta", "comparisons").value == pytest.approx(LINE[2, 1])
    told = law.at(9000, 30000)
    alpha, beta = coefficients(9000, 30000)
    alpha = coefficients(6000, 30000)[0] if form == "rl" else alpha
    distance, top = find_form(form).peak(alpha, beta)
    assert told.peak_kl.value == pytest.approx(distance**2) and told.peak_gold.hi == pytest.approx(float(top))
    assert law.at(9000).comparisons == COUNTS[-1]
    if threshold:
        below = law.at(9000, threshold)
        assert (below.alpha.value, below.beta.value, below.peak_gold.value) == (0, 0, 0) and law.at_chance(threshold)


def test_the_threshold_is_that_of_least_error_by_the_loop() -> None:
    """The shortcut through leverages against fits without each setting in turn."""
    entries = noisy(np.random.default_rng(3))
    sizes, counts = np.repeat(SIZES, len(COUNTS)), np.tile(COUNTS, len(SIZES))
    curves = [(one.kl, one.gold.mean(axis=(0, 2))) for one in entries]
    design = find_form("bon").design(DISTANCE)
    fitted = np.array([np.linalg.lstsq(design, gold, rcond=None)[0] for _, gold in curves])
    errors = {}
    for threshold in (0, *COUNTS[:-2]):
        rows, squares = Terms.of(sizes, counts, threshold).rows(sizes, counts), []
        for place, (_, gold) in enumerate(curves):
            rest = np.arange(len(rows)) != place
            own = rows[place] @ np.linalg.lstsq(rows[rest], fitted[rest], rcond=None)[0]
            squares.append(np.mean(np.square(design @ own - gold)[KL > 0]))
        errors[threshold] = np.mean(squares)
    best = min(errors, key=lambda threshold: errors[threshold])
    assert best_terms(sizes, counts, fitted, curves, "bon").threshold == best == THRESHOLD


def test_a_setting_left_out_has_no_part_in_its_prediction() -> None:
    entries = exact()
    whole = leave_one_out(entries, "bon", num_resamples=20, rng=np.random.default_rng(0))
    np.testing.assert_allclose(whole["gold"], whole["measured"], atol=1e-9)
    assert not whole["outside"].any()
    entries[5] = replace(entries[5], gold=entries[5].gold + 7.0)
    other = leave_one_out(entries, "bon", num_resamples=20, rng=np.random.default_rng(0))
    mine = (whole["proxy_params"] == 6000) & (whole["num_comparisons"] == 4000)
    assert mine.sum() == KL.size
    np.testing.assert_allclose(other.loc[mine, "gold"], whole.loc[mine, "gold"], atol=1e-9)
    assert not np.allclose(other.loc[~mine, "gold"], whole.loc[~mine, "gold"], atol=1e-2)


def test_errors_stand_beside_those_of_laws_over_size_alone() -> None:
    entries = noisy(np.random.default_rng(4))
    errors = beside_size_laws(entries, "bon", rng=np.random.default_rng(0))
    assert len(errors) == len(entries) and (errors["rmse"] < errors["rmse_others"]).all()
    mine = [one for one in entries if one.setting["num_comparisons"] == 16000]
    own = prediction_errors(leave_one_out(mine, "bon", num_resamples=1, rng=np.random.default_rng(0)))
    there = errors["num_comparisons"] == 16000
    np.testing.assert_allclose(errors.loc[there, "rmse_size"], own["rmse"])
    last = left_out_table(errors).iloc[-1]
    assert last["law"] == f"{np.sqrt(np.mean(errors['rmse'] ** 2)):.3f}" and last["params"] == "all"


def test_slopes_lie_in_their_intervals_as_often_as_said() -> None:
    """50 worlds at level 0.9: fewer than 38 within would be below 0.9 by more than three deviations."""
    rng, inside = np.random.default_rng(5), 0
    for _ in range(50):
        law = fit_scaling_law(noisy(rng), "bon", threshold=THRESHOLD, num_resamples=200, rng=rng, level=0.9)
        slope = law.slope("alpha", "comparisons")
        inside += slope.lo <= LINE[2, 0] <= slope.hi
    assert 38 <= inside < 50


def test_the_planner_answers_between_the_settings_and_refuses_beyond() -> None:
    law = law_of(exact())
    answer = plan(law, 9000, 30000)
    alpha, beta = coefficients(9000, 30000)
    assert answer.prediction.peak_kl.value == pytest.approx((alpha / (2 * beta)) ** 2) and not answer.extended
    told = plan_lines(answer, "best_of_n")[0]
    assert "9.0k parameters, 30,000 comparisons" in told and "4 sizes, 2.0k to 60k and 4 numbers of comparisons" in told
    with pytest.raises(InputError, match=r"comparisons=100: .* 1,000 to 64,000 comparisons; beyond .*--extrapolate"):
        plan(law, 9000, 100)
    assert plan(law, 9000, 100000, extrapolate=True).extended
    for bad in (0, -1, float("nan")):
        with pytest.raises(InputError, match="number of comparisons above 0"):
            plan(law, 9000, bad, extrapolate=True)


def test_a_law_over_data_alone_speaks_of_its_size_alone() -> None:
    law = law_of([one for one in exact() if one.setting["proxy_params"] == 6000])
    assert law.terms.names == ("comparisons",)
    assert law.at(6000, 16000).alpha.value == pytest.approx(coefficients(6000, 16000)[0])
    with pytest.raises(InputError, match="size=7000: the law was fitted to 6,000 parameters alone"):
        plan(law, 7000, 16000, extrapolate=True)


def test_what_cannot_be_a_law_over_data_is_refused() -> None:
    entries = exact()
    some = [one for one in entries if one.setting["num_comparisons"] in COUNTS[-2:]]
    with pytest.raises(InputError, match="a law over data needs 3 or more of them, got 2 numbers"):
        law_of(some)
    with pytest.raises(InputError, match="threshold=64000: too few settings above it"):
        fit_scaling_law(entries, "bon", threshold=64000, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="above 0"):
        law_of(entries).at(6000, 0)
