"""Intervals that figures draw: of forecasts beyond a cut, of the highest points measured, of means over runs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from synthetic_rm.analysis.bootstrap import bootstrap_fits, crossed_bootstrap, interval
from synthetic_rm.analysis.curves import SettingCurves
from synthetic_rm.analysis.forms import find_form
from synthetic_rm.analysis.scaling import proxy_size

Floats = NDArray[np.float64]


def forecast_bands(
    entries: Sequence[SettingCurves], form: str, cut: float, *, rng: np.random.Generator, level: float = 0.95
) -> pd.DataFrame:
    """Gold by a form fitted on KL <= `cut` alone, each setting by itself, over all the KL that any was measured to.

    Args:
        entries: settings with enough points up to the cut.
        form: name of a form without a free exponent.
        cut: nats.
        rng: draws the resamples of `bootstrap_fits`.
        level: of the intervals.
    Returns:
        A row per setting and point: proxy_params, kl (nats, evenly spaced in distance), gold_lo, gold_hi.
    Raises:
        InputError: as `bootstrap_fits`.
    """
    distance = np.linspace(0, np.sqrt(max(float(entry.kl.max()) for entry in entries)), 60)
    tables = []
    for entry in entries:
        seen = entry.kl <= cut
        fit = bootstrap_fits(entry.kl[seen], entry.gold[:, seen], form, num_resamples=1000, rng=rng, level=level)
        lo, hi = interval(find_form(form).curve(distance, fit.draws[:, :1], fit.draws[:, 1:]), level)
        told = {"proxy_params": proxy_size(entry), "kl": np.square(distance), "gold_lo": lo, "gold_hi": hi}
        tables.append(pd.DataFrame(told))
    return pd.concat(tables, ignore_index=True)


def highest_points(entries: Sequence[SettingCurves], *, rng: np.random.Generator, level: float = 0.95) -> pd.DataFrame:
    """The highest point of the measured mean curve of each setting.

    Its KL has the interval of the draws' own highest points, its gold that of gold there. The highest of many noisy
    points is high partly by luck: what is told of a fall is `overoptimization`.

    Args:
        entries: one per size.
        rng: draws the resamples of `crossed_bootstrap`.
        level: of the intervals.
    Returns:
        A row per setting: proxy_params, last_kl (the largest measured), peak_kl (nats) and peak_gold (SDs of the
        reference), each with _lo and _hi.
    """
    rows = []
    for entry in entries:
        mean, draws = crossed_bootstrap(entry.gold.swapaxes(1, 2), num_resamples=1000, rng=rng)
        top = int(np.argmax(mean))
        row = {"proxy_params": proxy_size(entry), "last_kl": float(entry.kl[-1])}
        for name, value, drawn in (
            ("peak_kl", entry.kl[top], entry.kl[np.argmax(draws, axis=1)]),
            ("peak_gold", mean[top], draws[:, top]),
        ):
            lo, hi = interval(drawn, level)
            row |= {name: float(value), f"{name}_lo": float(lo), f"{name}_hi": float(hi)}
        rows.append(row)
    return pd.DataFrame(rows)


def student_interval(values: Floats, level: float) -> tuple[Floats, Floats]:
    """Student's interval of the mean of independent `values` [runs, ...]: lo, hi [...]; nan for a single run."""
    mean, count = values.mean(axis=0), len(values)
    if count < 2:
        return np.full(mean.shape, np.nan), np.full(mean.shape, np.nan)
    half = student.ppf((1 + level) / 2, count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count)
    return mean - half, mean + half


def mean_over_runs(history: pd.DataFrame, column: str, level: float) -> pd.DataFrame:
    """The mean of a column over runs at each iteration, until the first of them ends.

    Args:
        history: run, step and the column: a row per iteration of each run.
        column: what is averaged; its rows that are not finite are left out.
        level: of the intervals (`student_interval`).
    Returns:
        step, mean, lo, hi, over the iterations that every run has; without rows where there are none.
    """
    finite = history[np.isfinite(history[column])]
    wide = finite.pivot(index="step", columns="run", values=column).sort_index()
    values = wide[wide.index <= finite.groupby("run")["step"].max().min()].dropna()
    lo, hi = student_interval(values.to_numpy(np.float64).T, level)
    return pd.DataFrame({"step": values.index, "mean": values.mean(axis=1).to_numpy(), "lo": lo, "hi": hi})
