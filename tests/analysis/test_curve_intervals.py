"""Intervals of forecasts, of highest points and of means over runs hold what they are intervals of."""

import numpy as np
import pandas as pd
import pytest
from analysis.simulated_curves import DISTANCE, KL, NS, crossed_gold
from scipy import stats

from synthetic_rm.analysis.bootstrap import bootstrap_fits
from synthetic_rm.analysis.curve_intervals import forecast_bands, highest_points, mean_over_runs, student_interval
from synthetic_rm.analysis.curves import SettingCurves
from synthetic_rm.analysis.forms import find_form

TRUTH = DISTANCE * (0.8 - 0.25 * DISTANCE)
CUT = 3.0


def entry(rng: np.random.Generator) -> SettingCurves:
    gold = crossed_gold(rng, TRUTH, seeds=4, prompts=20, seed_effect=0.1, prompt_effect=0.1, noise=0.3)
    return SettingCurves({"proxy_params": 2000}, NS.astype(float), KL, gold, gold)


def test_a_forecast_holds_the_truth_beyond_its_cut_as_often_as_said_and_grows_wider() -> None:
    """60 worlds at level 0.9: fewer than 47 would be below by more than three deviations."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(60):
        band = forecast_bands([entry(rng)], "bon", CUT, rng=rng, level=0.9)
        end = band.iloc[-1]
        inside += end["gold_lo"] <= TRUTH[-1] <= end["gold_hi"]
    assert 47 <= inside < 60
    width = band["gold_hi"] - band["gold_lo"]
    assert band["kl"].iloc[-1] == pytest.approx(KL.max()) and width.iloc[-1] > 1.5 * width.iloc[len(width) // 2] > 0


def test_a_forecast_sees_nothing_beyond_its_cut() -> None:
    one = entry(np.random.default_rng(1))
    seen = one.kl <= CUT
    fit = bootstrap_fits(one.kl[seen], one.gold[:, seen], "bon", num_resamples=1000, rng=np.random.default_rng(2))
    band = forecast_bands([one], "bon", CUT, rng=np.random.default_rng(2))
    ends = find_form("bon").curve(np.sqrt(band["kl"].iloc[-1]), fit.draws[:, 0], fit.draws[:, 1])
    assert band["gold_lo"].iloc[-1] == np.quantile(ends, 0.025, method="lower")


def test_the_highest_point_is_that_of_the_mean_curve_with_the_kl_of_others_that_may_be_it() -> None:
    one = entry(np.random.default_rng(3))
    told, mean = highest_points([one], rng=np.random.default_rng(0)).iloc[0], one.gold.mean(axis=(0, 2))
    assert told["peak_kl"] == KL[mean.argmax()] and told["peak_gold"] == pytest.approx(mean.max())
    assert {told["peak_kl_lo"], told["peak_kl_hi"]} <= set(KL) and told["last_kl"] == KL[-1]
    assert told["peak_kl_lo"] <= told["peak_kl"] <= told["peak_kl_hi"] and told["peak_kl_lo"] < told["peak_kl_hi"]
    assert told["peak_gold_lo"] < told["peak_gold"] < told["peak_gold_hi"]


def test_means_over_runs_have_students_interval_until_the_first_ends() -> None:
    rng = np.random.default_rng(4)
    history = pd.concat(
        [
            pd.DataFrame({"run": f"r{i}", "step": np.arange(n), "kl": rng.normal(size=n)})
            for i, n in enumerate((9, 6, 7))
        ]
    )
    history.loc[(history["run"] == "r0") & (history["step"] == 3), "kl"] = np.nan
    told = mean_over_runs(history.sample(frac=1, random_state=0), "kl", 0.9)
    assert list(told["step"]) == [0, 1, 2, 4, 5]
    for _, row in told.iterrows():
        values = history.loc[history["step"] == row["step"], "kl"]
        low, high = stats.t.interval(0.9, 2, values.mean(), stats.sem(values))
        assert (row["mean"], row["lo"], row["hi"]) == pytest.approx((values.mean(), low, high))
    assert np.isnan(student_interval(np.ones((1, 2)), 0.9)).all()
