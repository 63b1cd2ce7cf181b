"""Runs with points of their own come to common distances; fits with one alpha for all sizes, and their intervals."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from synthetic_rm.analysis.alignment import RunPoints, advancing, align
from synthetic_rm.analysis.bootstrap import (
    bootstrap_fits,
    crossed_bootstrap,
    interval,
    shared_bootstrap_fits,
    summed_bootstrap,
)
from synthetic_rm.analysis.curves import check_curves, overoptimization, setting_curves
from synthetic_rm.analysis.fit_table import fit_table
from synthetic_rm.analysis.fitting import fit_curve, fit_shared, held_out_error, shared_held_out_errors
from synthetic_rm.analysis.forms import FORMS
from synthetic_rm.errors import InputError

ALPHA, BETAS = 0.35, {2000: 0.18, 9000: 0.14, 80000: 0.1}


def straight(distance: list[float], slope: float, prompts: int = 3) -> RunPoints:
    """Scores and steps that are linear in d."""
    d = np.array(distance)
    scores = d[:, None] * (slope + np.arange(prompts))
    return RunPoints(10 * d, d**2, 2 * scores, scores)


def test_what_is_linear_in_the_distance_is_kept_exactly() -> None:
    runs = [straight([0, 0.5, 1.1, 1.9, 3.0], 1.0), straight([0, 0.7, 2.5], 2.0)]
    found = align(runs)
    d = np.sqrt(found.kl)
    np.testing.assert_allclose(d, np.linspace(0, 2.5, len(d)), atol=1e-12)
    assert len(d) == 4  # as many as the run with most points has up to 2.5
    for run, slope in enumerate((1.0, 2.0)):
        np.testing.assert_allclose(found.gold[run], d[:, None] * (slope + np.arange(3)), atol=1e-12)
        np.testing.assert_allclose(found.proxy[run], 2 * found.gold[run], atol=1e-12)
    np.testing.assert_allclose(found.pressure, 10 * d, atol=1e-12)


def test_points_of_a_common_grid_stay_as_they_are() -> None:
    rng = np.random.default_rng(0)
    kl = np.square(np.linspace(0, 4, 9))
    runs = [RunPoints(np.arange(9.0), kl, rng.normal(size=(9, 5)), rng.normal(size=(9, 5))) for _ in range(3)]
    found = align(runs)
    np.testing.assert_allclose(found.kl, kl, atol=1e-12)
    for i, run in enumerate(runs):
        np.testing.assert_allclose(found.gold[i], run.gold, atol=1e-9)


def test_a_run_that_turns_back_counts_where_it_is_further_than_before() -> None:
    kl = np.array([0.0, 1.0, 4.0, 3.0, 4.0, 9.0])
    points = RunPoints(np.arange(6.0), kl, np.arange(6.0)[:, None], np.arange(6.0)[:, None])
    kept = advancing(points)
    assert kept.pressure.tolist() == [0, 1, 2, 5] and kept.gold[:, 0].tolist() == [0, 1, 2, 5]
    assert (np.diff(align([points]).pressure) > 0).all()


def test_between_two_points_lies_their_mean() -> None:
    one = RunPoints(np.array([0.0, 8.0]), np.array([0.0, 4.0]), np.zeros((2, 1)), np.array([[1.0], [3.0]]))
    found = align([one])
    np.testing.assert_allclose(found.gold[0, :, 0], [1, 2, 3])
    np.testing.assert_allclose(found.pressure, [0, 4, 8])


def ragged(sizes: dict[int, float] = BETAS, seeds: int = 3, prompts: int = 12, noise: float = 0.0) -> Any:
    """Arrays of curves_rl.npz and records of runs on d (alpha - beta ln d), each with points of its own."""
    rng = np.random.default_rng(0)
    runs, curves, records = [], [], []
    for size, beta in sizes.items():
        for seed in range(seeds):
            count = 12 + seed
            d = np.concatenate([[0], np.linspace(0.5, 9 + 0.2 * seed, count - 1)])
            gold = (
                FORMS["rl"].curve(d, ALPHA, beta)[:, None]
                + noise * rng.normal(size=(count, prompts)) * (d > 0)[:, None]
            )
            step = np.concatenate([[0], 3 + np.cumsum(rng.integers(1, 4, count - 1))])
            runs.append(f"ppo-{size}-s{seed}")
            curves.append((step, gold))
            named = {"run": runs[-1], "optimizer": "ppo", "mitigation": "none", "proxy_params": size, "kl_coef": 0.0}
            records.append(pd.DataFrame({**named, "proxy_seed": seed, "pressure": step, "kl": d**2}))
    most = max(len(step) for step, _ in curves)
    arrays = {
        "run": np.array(runs),
        "pressure": np.array([np.pad(step, (0, most - len(step)), constant_values=-1) for step, _ in curves]),
        "gold": np.array([np.pad(gold, ((0, most - len(gold)), (0, 0))) for _, gold in curves]),
    }
    return arrays | {"proxy": 2 * arrays["gold"]}, pd.concat(records, ignore_index=True)


def test_settings_of_ragged_runs_have_one_row_of_distances() -> None:
    curves, records = ragged()
    entries = setting_curves(curves, records)
    assert [entry.setting["proxy_params"] for entry in entries] == list(BETAS)
    for entry in entries:
        assert entry.gold.shape == (3, len(entry.kl), 12) and entry.kl[0] == 0
        assert entry.kl[-1] == pytest.approx(81) and (np.diff(entry.pressure) > 0).all()
        near = FORMS["rl"].curve(np.sqrt(entry.kl), ALPHA, BETAS[int(str(entry.setting["proxy_params"]))])
        assert np.abs(entry.gold.mean((0, 2)) - near)[3:].max() < 0.02


def test_runs_against_one_proxy_count_once() -> None:
    """They share what is particular to the proxy; where there is no other proxy, each counts."""
    curves, records = ragged({2000: 0.2}, seeds=6, noise=0.5)
    every = setting_curves(curves, records)[0]
    paired = setting_curves(curves, records.assign(proxy_seed=records["proxy_seed"] // 2))[0]
    assert (every.counts["num_seeds"], paired.counts["num_seeds"]) == (6, 3)
    np.testing.assert_allclose(paired.gold, every.gold.reshape(3, 2, *every.gold.shape[1:]).mean(1), atol=1e-12)
    assert setting_curves(curves, records.assign(proxy_seed=0))[0].counts["num_seeds"] == 6


def test_arrays_that_do_not_fit_are_refused() -> None:
    curves, records = ragged(seeds=2)
    check_curves(curves)
    for bad in (
        {"pressure": curves["pressure"][:2]},
        {"pressure": np.where(curves["pressure"] == 0, 99, curves["pressure"])},
        {"pressure": np.roll(curves["pressure"], 1, axis=1)},
    ):
        with pytest.raises(InputError):
            check_curves(curves | bad)
    with pytest.raises(InputError, match="other pressures"):
        setting_curves(curves, records.iloc[1:])


def test_the_verdict_speaks_of_ragged_runs_too() -> None:
    falling = ragged({2000: 0.6}, noise=0.05)
    table = overoptimization(*falling, rng=np.random.default_rng(0))
    assert table["verdict"].tolist() == ["fell"] and bool(table["rose"].iloc[0])
    assert table["peak_kl"].iloc[0] < 10 and table["last_kl"].iloc[0] == pytest.approx(81)


def test_a_joint_fit_is_that_of_the_means_with_one_alpha() -> None:
    curves, records = ragged(noise=0.3)
    entries = setting_curves(curves, records)
    data = {entry.setting["proxy_params"]: (entry.kl, entry.gold) for entry in entries}
    rng = np.random.default_rng(0)
    fits = shared_bootstrap_fits(data, "rl", num_resamples=400, rng=rng)
    joint = fit_shared({size: (kl, gold.mean((0, 2))) for size, (kl, gold) in data.items()}, "rl")
    for size, fit in fits.items():
        assert fit.alpha == pytest.approx(joint.value, abs=1e-9)
        assert fit.beta == pytest.approx(joint.fits[size].beta, abs=1e-9)
        assert fit.r2 == pytest.approx(joint.fits[size].r2, abs=1e-9)
        assert fit.alpha_lo < ALPHA < fit.alpha_hi and fit.beta_lo < BETAS[size] < fit.beta_hi  # type: ignore[index]
        np.testing.assert_array_equal(fit.draws[:, 0], fits[2000].draws[:, 0])
    alone = shared_bootstrap_fits({1: data[2000]}, "rl", num_resamples=50, rng=np.random.default_rng(3))[1]
    single = bootstrap_fits(*data[2000], "rl", num_resamples=50, rng=np.random.default_rng(3))
    np.testing.assert_allclose(alone.draws, single.draws, atol=1e-9)


def test_a_size_with_fewer_seeds_is_fitted_along_and_other_prompts_are_refused() -> None:
    rng = np.random.default_rng(1)
    kl = np.square(np.linspace(0, 6, 10))
    data: dict[Any, Any] = {s: (kl, rng.normal(size=(s, 10, 7))) for s in (1, 2, 4)}
    fits = shared_bootstrap_fits(data, "rl", num_resamples=50, rng=rng)
    assert [fit.num_seeds for fit in fits.values()] == [1, 2, 4]
    with pytest.raises(InputError, match="same prompts"):
        shared_bootstrap_fits(
            {1: (kl, np.zeros((2, 10, 3))), 2: (kl, np.zeros((2, 10, 4)))}, "rl", num_resamples=9, rng=rng
        )


def test_prompts_in_common_are_not_taken_for_independent() -> None:
    """Two tables whose prompts move together: the spread of the sum is that of the sum, and levels hold."""
    rng = np.random.default_rng(0)
    inside, widths, true = 0, [], []
    for _ in range(200):
        prompt = rng.normal(size=24)
        blocks = [
            prompt[None, :, None] + 0.3 * rng.normal(size=(seeds, 1, 1)) + 0.5 * rng.normal(size=(seeds, 24, 1))
            for seeds in (3, 5)
        ]
        mean, draws = summed_bootstrap(blocks, num_resamples=200, rng=rng)
        lo, hi = interval(draws, 0.9)
        inside += int(lo[0] <= 0 <= hi[0])
        widths.append(np.ptp(np.quantile(draws, [0.25, 0.75])))
        true.append(mean[0])
    assert 0.86 <= inside / 200 <= 0.99
    assert np.mean(widths) == pytest.approx(1.349 * np.std(true), rel=0.2)
    apart = sum(crossed_bootstrap(block, num_resamples=4000, rng=rng)[1] for block in blocks)
    whole = summed_bootstrap(blocks, num_resamples=4000, rng=rng)[1]
    assert np.ptp(np.quantile(whole, [0.25, 0.75])) > 1.1 * np.ptp(np.quantile(np.asarray(apart), [0.25, 0.75]))


def test_the_table_of_rl_has_one_alpha_and_a_beta_for_each_size() -> None:
    curves, records = ragged(noise=0.02)
    table = fit_table(curves, records, rng=np.random.default_rng(0), num_resamples=200, cut=36.0)
    assert table["proxy_params"].tolist() == list(BETAS) and (table["form"] == "rl").all()
    assert table["alpha"].nunique() == table["alpha_lo"].nunique() == 1 and (table["shared"] == "alpha").all()
    assert table["alpha"].iloc[0] == pytest.approx(ALPHA, abs=0.03)
    np.testing.assert_allclose(table["beta"], list(BETAS.values()), atol=0.02)
    assert table["identified"].tolist() == [peak <= 81 for peak in table["peak_kl"]]
    assert (table["held_out_rmse"] < 0.1).all() and (table["held_out_rmse_quadratic"] > 0.2).all()


def test_held_out_errors_of_a_joint_fit() -> None:
    kl = np.square(np.linspace(0, 6, 14))
    exact = {size: (kl, FORMS["rl"].curve(np.sqrt(kl), ALPHA, beta)) for size, beta in BETAS.items()}
    near: dict[Any, Any] = exact | {"short": (kl[kl < 8], np.zeros((kl < 8).sum()))}
    errors = shared_held_out_errors(near, "rl", 9.0)
    assert all(errors[size] < 1e-9 for size in BETAS) and np.isnan(errors["short"])
    noisy = np.random.default_rng(0).normal(size=14)
    alone = shared_held_out_errors({0: (kl, noisy)}, "rl", 9.0)[0]
    assert alone == pytest.approx(held_out_error(kl, noisy, "rl", 9.0))
    fit = fit_curve(kl[kl <= 9], noisy[kl <= 9], "rl")
    assert alone == pytest.approx(np.sqrt(np.mean((noisy[kl > 9] - fit.predict(kl[kl > 9])) ** 2)))
