"""Curves of a setting over its seeds and prompts: means with intervals, and whether gold was seen to fall."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synthetic_rm.analysis.alignment import RunPoints, align
from synthetic_rm.analysis.bootstrap import crossed_bootstrap, interval
from synthetic_rm.errors import require

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.generic]]

SETTING = (
    "environment",
    "scale",
    "optimizer",
    "mitigation",
    "labels",
    "policy_params",
    "proxy_params",
    "proxy_params_nonembedding",
    "proxy_init",
    "num_comparisons",
    "proxy_epochs",
    "label_noise",
    "kl_coef",
)
"""Columns of the records that tell settings apart: runs that agree in them differ by their seeds alone."""


@dataclass(frozen=True)
class SettingCurves:
    """The curves of every seed of one setting."""

    setting: dict[str, object]
    """Value of each column of `SETTING` that the records have."""
    pressure: Floats
    """[K] rising; the mean over seeds that have points of their own."""
    kl: Floats
    """[K] nats, common to the seeds."""
    proxy: Floats
    """[seeds, K, prompts]"""
    gold: Floats
    """[seeds, K, prompts]"""
    seeds: tuple[int, ...] = ()
    """of the proxies, one for each of the seeds; empty where they are not known"""

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of seeds and prompts, as columns of a table."""
        return {"num_seeds": self.gold.shape[0], "num_prompts": self.gold.shape[2]}


def check_curves(curves: Arrays) -> None:
    """Check the arrays of curves.npz: run [R], pressure [K] rising, proxy and gold [R, K, prompts].

    Runs with points of their own have pressure [R, K], -1 where a run has no more of them.

    Raises:
        InputError: an array is missing, a shape does not fit, runs repeat, or pressure does not rise.
    """
    missing = [name for name in ("run", "pressure", "proxy", "gold") if name not in curves]
    require(not missing, f"curves lack {', '.join(missing)}: run, pressure, proxy and gold are needed")
    run, pressure, proxy, gold = (np.asarray(curves[name]) for name in ("run", "pressure", "proxy", "gold"))
    require(
        run.ndim == 1 and pressure.ndim in (1, 2) and proxy.ndim == 3 and proxy.shape == gold.shape,
        "curves must be run [R], pressure [K] or [R, K], proxy and gold [R, K, prompts], got shapes "
        f"{run.shape}, {pressure.shape}, {proxy.shape}, {gold.shape}",
    )
    points = pressure.shape[-1]
    fits = proxy.shape[:2] == (run.size, points) and pressure.shape[:-1] in ((), (run.size,)) and proxy.size > 0
    require(fits, f"curves of {run.size} runs and {points} pressures do not fit arrays of shape {proxy.shape}")
    require(np.unique(run).size == run.size, "curves name a run twice")
    for row in np.atleast_2d(pressure.astype(np.int64)):
        kept = row[row >= 0] if pressure.ndim == 2 else row
        rising = bool((np.diff(kept) > 0).all()) and (row[: kept.size] == kept).all()
        require(rising, "pressure of the curves must rise")


def setting_curves(curves: Arrays, records: pd.DataFrame, *, recentre: bool = True) -> list[SettingCurves]:
    """The runs of the records gathered by setting, each with its curves; runs without a record are left out.

    Runs that have points of their own (pressure [R, K]) are brought to common distances (`alignment.align`). Several
    runs against one proxy count as one seed, their mean.

    Args:
        curves: arrays of curves.npz: run [R], pressure [K] or [R, K], proxy and gold [R, K, prompts].
        records: table of points, with columns run, pressure, kl and those of `SETTING`.
        recentre: subtract from every seed and prompt its own value at KL = 0, where there is such a point:
            R(0) = 0 by definition, and what is left is the gain over the reference on the same prompts,
            without the spread between prompts.
    Returns:
        One entry per setting, in the order of the setting's values.
    Raises:
        InputError: a column or array is missing, shapes do not fit, a run of the records has no curve or
            other pressures than it, or values that are not finite.
    """
    check_curves(curves)
    keys = [name for name in SETTING if name in records.columns]
    missing = [name for name in ("run", "pressure", "kl", "proxy_params") if name not in records.columns]
    require(not missing, f"records lack the column {', '.join(missing)}")
    ragged = np.ndim(curves["pressure"]) == 2
    gathered = []
    for values, group in records.groupby(keys, dropna=False, sort=True):
        runs = [_run_points(curves, str(run), rows) for run, rows in group.groupby("run", sort=True)]
        if ragged:
            pressure, kl, proxy, gold = align(runs)
        else:
            pressure, kl = runs[0].pressure, np.mean([run.kl for run in runs], axis=0)
            proxy, gold = (np.stack([getattr(run, name) for run in runs]) for name in ("proxy", "gold"))
        seeds = _proxy_seeds(group)
        proxy, gold = _by_proxy(proxy, seeds), _by_proxy(gold, seeds)
        if recentre and kl[0] == 0:
            proxy, gold = proxy - proxy[:, :1], gold - gold[:, :1]
        gathered.append(SettingCurves(dict(zip(keys, values, strict=True)), pressure, kl, proxy, gold, _told(seeds)))
    return gathered


def _proxy_seeds(records: pd.DataFrame) -> NDArray[np.int64]:
    """[R] the proxy's seed of every run, in the order of the runs; of none where the records do not tell."""
    if "proxy_seed" not in records:
        return np.zeros(0, np.int64)
    return records.groupby("run", sort=True)["proxy_seed"].first().to_numpy(np.int64)


def _by_proxy(scores: Floats, seeds: NDArray[np.int64]) -> Floats:
    """Runs [R, K, prompts] against one proxy as their mean, for they share what is particular to it: [S, K, prompts].

    Where there is one proxy only, its runs are the seeds.
    """
    distinct = np.unique(seeds)
    if len(distinct) in (0, 1, len(seeds)):
        return scores
    return np.stack([scores[seeds == seed].mean(0) for seed in distinct])


def _told(seeds: NDArray[np.int64]) -> tuple[int, ...]:
    """The proxy's seed of every seed of `_by_proxy`; none where these are runs against one proxy."""
    distinct = np.unique(seeds)
    if len(distinct) == len(seeds):
        return tuple(seeds.tolist())
    return tuple(distinct.tolist()) if len(distinct) > 1 else ()


def _run_points(curves: Arrays, run: str, rows: pd.DataFrame) -> RunPoints:
    """The points of one run of the records, with its curves."""
    places = np.flatnonzero(np.asarray(curves["run"]).astype(str) == run)
    require(places.size == 1, f"run {run} of the records has no curve")
    place, told = places[0], rows.sort_values("pressure")
    pressure = np.asarray(curves["pressure"]).astype(np.int64)
    pressure = pressure[place] if pressure.ndim == 2 else pressure
    kept = pressure >= 0
    same = np.array_equal(told["pressure"].to_numpy(), pressure[kept])
    require(same, f"run {run} of the records and its curve have other pressures")
    scores = {name: np.asarray(curves[name])[place][kept].astype(np.float64) for name in ("proxy", "gold")}
    for name, values in scores.items():
        require(bool(np.isfinite(values).all()), f"{name} of run {run} is not finite")
    return RunPoints(pressure[kept].astype(np.float64), told["kl"].to_numpy(np.float64), **scores)


def mean_curves(
    curves: Arrays,
    records: pd.DataFrame,
    *,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    level: float = 0.95,
    recentre: bool = True,
) -> pd.DataFrame:
    """Mean proxy and gold over seeds and prompts at every pressure, with `crossed_bootstrap` intervals.

    Args:
        curves: arrays of curves.npz.
        records: table of points.
        rng: draws the resamples.
        num_resamples: number of bootstrap draws.
        level: of the intervals.
        recentre: as in `setting_curves`.
    Returns:
        One row per setting and pressure: the setting's columns, pressure, kl, proxy, proxy_lo, proxy_hi,
        gold, gold_lo, gold_hi, num_seeds, num_prompts.
    Raises:
        InputError: as `setting_curves`.
    """
    tables = []
    for entry in setting_curves(curves, records, recentre=recentre):
        columns: dict[str, object] = {**entry.setting, "pressure": entry.pressure, "kl": entry.kl}
        for name, values in (("proxy", entry.proxy), ("gold", entry.gold)):
            mean, draws = crossed_bootstrap(values.swapaxes(1, 2), num_resamples=num_resamples, rng=rng)
            lo, hi = interval(draws, level)
            columns |= {name: mean, f"{name}_lo": lo, f"{name}_hi": hi}
        tables.append(pd.DataFrame({**columns, **entry.counts}))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def cross_fitted_peak(gold: Floats) -> NDArray[np.intp]:
    """argmax_k of the mean gold over the other seeds and the other prompts, for each seed and prompt.

    Args:
        gold: [seeds, K, prompts].
    Returns:
        [seeds, prompts] indices into K, each independent of the seed and the prompt it belongs to.
    """
    others = gold.sum(axis=0, keepdims=True) - gold if gold.shape[0] > 1 else gold
    others = others.sum(axis=2, keepdims=True) - others if gold.shape[2] > 1 else others
    return np.asarray(np.argmax(others, axis=1), np.intp)


def _gain_to_peak(
    gold: Floats, end: Floats, *, num_resamples: int, rng: np.random.Generator, level: float
) -> tuple[float, float, float]:
    """gold(cross-fitted peak) - end, for gold [seeds, K, prompts] and end [seeds, prompts]: mean, lo, hi."""
    chosen = np.take_along_axis(gold, cross_fitted_peak(gold)[:, None], axis=1)[:, 0]
    centre, draws = crossed_bootstrap(chosen - end, num_resamples=num_resamples, rng=rng)
    lo, hi = interval(draws, level)
    return float(centre), float(lo), float(hi)


def overoptimization(
    curves: Arrays,
    records: pd.DataFrame,
    *,
    rng: np.random.Generator,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> pd.DataFrame:
    """fall = gold(peak) - gold(last pressure) and rise = gold(peak) - gold(first), with intervals.

    The highest of many noisy points is high partly by luck, so that peak minus end on the same data is above
    0 even where gold never falls (`fall_observed`, given only for comparison). Therefore the peak of every
    seed and prompt is the one found on the other seeds and the other prompts (`cross_fitted_peak`): `fall`
    and `rise` are unbiased for a peak so chosen and, on average, not above the true ones. The verdict is
    "fell" where the interval of the fall lies above 0, else "not seen", which is no evidence of the contrary;
    `rose` says the same of the rise. These speak of the population of seeds. `seeds_fell` counts the seeds at
    hand whose own gold fell, each judged so over prompts alone; about (1 - level)/2 of the seeds would by
    chance.

    Args:
        curves: arrays of curves.npz.
        records: table of points.
        rng: draws the resamples.
        num_resamples: number of bootstrap draws.
        level: of the intervals.
    Returns:
        One row per setting: the setting's columns, peak_pressure, peak_kl, peak_gold (of the mean curve),
        last_pressure, last_kl, last_gold, fall_observed, fall, fall_lo, fall_hi, rise, rise_lo, rise_hi,
        rose, verdict, seeds_fell, num_seeds, num_prompts. With one seed all of it holds for that seed only.
    Raises:
        InputError: as `setting_curves`, or fewer than two prompts.
    """
    rows = []
    for entry in setting_curves(curves, records):
        gold = entry.gold
        require(gold.shape[2] > 1, "overoptimization needs at least two prompts, got one")

        def gain(values: Floats, end: Floats) -> tuple[float, float, float]:
            return _gain_to_peak(values, end, num_resamples=num_resamples, rng=rng, level=level)

        mean = gold.mean(axis=(0, 2))
        top = int(np.argmax(mean))
        fall, fall_lo, fall_hi = gain(gold, gold[:, -1])
        rise, rise_lo, rise_hi = gain(gold, gold[:, 0])
        rows.append(
            {
                **entry.setting,
                "peak_pressure": int(entry.pressure[top]),
                "peak_kl": float(entry.kl[top]),
                "peak_gold": float(mean[top]),
                "last_pressure": int(entry.pressure[-1]),
                "last_kl": float(entry.kl[-1]),
                "last_gold": float(mean[-1]),
                "fall_observed": float(mean[top] - mean[-1]),
                **{"fall": fall, "fall_lo": fall_lo, "fall_hi": fall_hi},
                **{"rise": rise, "rise_lo": rise_lo, "rise_hi": rise_hi, "rose": rise_lo > 0},
                "verdict": "fell" if fall_lo > 0 else "not seen",
                "seeds_fell": sum(gain(seed[None], seed[None, -1])[1] > 0 for seed in gold),
                **entry.counts,
            }
        )
    return pd.DataFrame(rows)
