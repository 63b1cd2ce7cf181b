"""Proxies of many sizes taught with many numbers of comparisons: what each learnt, and what gold makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synthetic_rm.analysis.bootstrap import bootstrap_fits, crossed_bootstrap, summed_bootstrap
from synthetic_rm.analysis.curve_intervals import student_interval
from synthetic_rm.analysis.curves import SettingCurves, cross_fitted_peak, setting_curves
from synthetic_rm.analysis.forms import bon
from synthetic_rm.analysis.lineage import runs_of
from synthetic_rm.analysis.run_folder import RunFolder
from synthetic_rm.analysis.scaling import Estimate, estimate, proxy_size

Floats = NDArray[np.float64]
CHANCE = float(np.log(2))
"""validation loss of a proxy that knows nothing, nats"""
REFERENCE_N = 1000
"""n at which the paper compares proxies (its Figs. 5 and 21)"""


@dataclass(frozen=True)
class DataPoint:
    """The proxies of one size that learnt from the same comparisons."""

    curves: SettingCurves
    """under best-of-n"""
    losses: Floats
    """[seeds] validation loss, nats"""
    accuracies: Floats
    """[seeds] share of the held-out comparisons ordered as labelled"""

    @property
    def size(self) -> int:
        """Parameters of the proxies."""
        return proxy_size(self.curves)

    @property
    def comparisons(self) -> int:
        """Comparisons to learn from."""
        return int(str(self.curves.setting["num_comparisons"]))

    @property
    def epochs(self) -> float:
        """Times that each was seen."""
        return float(str(self.curves.setting.get("proxy_epochs", 1.0)))

    @property
    def labels(self) -> str:
        """Who labelled them, "human" or gold ("hard", ...)."""
        return str(self.curves.setting["labels"])

    @property
    def place(self) -> int:
        """Which of the n of the curves is nearest to `REFERENCE_N`, in ratio."""
        return int(np.abs(np.log(self.curves.pressure / REFERENCE_N)).argmin())

    @property
    def gold(self) -> Floats:
        """[seeds, prompts] gold there, in SDs of the reference."""
        return self.curves.gold[:, self.place]

    @property
    def peak(self) -> Floats:
        """[seeds, prompts] gold where it is highest, by the other seeds and prompts."""
        return np.take_along_axis(self.curves.gold, cross_fitted_peak(self.curves.gold)[:, None], axis=1)[:, 0]


def data_points(run: RunFolder) -> list[DataPoint]:
    """Every setting of a folder under best-of-n; none where runs.csv does not tell the proxy of a curve."""
    parts = [part for part in run.parts() if part.optimizer == "best_of_n"]
    if not parts or "proxy_run" not in run.runs:
        return []
    proxy_of = run.runs.dropna(subset=["proxy_run"]).set_index("run")["proxy_run"]
    told = run.runs.set_index("run")[["validation_loss", "validation_accuracy"]].astype(np.float64)
    found = []
    for entry in setting_curves(parts[0].curves, parts[0].records):
        runs = runs_of(parts[0].records, pd.Series(entry.setting))
        losses, accuracies = told.loc[proxy_of[runs]].to_numpy().T
        found.append(DataPoint(entry, losses, accuracies))
    return found


def once_by_gold(points: Sequence[DataPoint]) -> list[DataPoint]:
    """The paper's own: labelled hard by gold, each comparison seen once; smallest and fewest first."""
    kept = [point for point in points if point.labels == "hard" and point.epochs == 1]
    return sorted(kept, key=lambda point: (point.size, point.comparisons))


def over_seeds(values: Floats, level: float) -> Estimate:
    """The mean with Student's interval over seeds [seeds]; no interval (nan) for one seed."""
    lo, hi = student_interval(values, level)
    return Estimate(float(values.mean()), float(lo), float(hi))


def summed_gold(points: Sequence[DataPoint], weights: Floats, level: float) -> Estimate:
    """A weighted sum over settings of mean gold at n, with an interval over seeds and the prompts they share."""
    blocks = [weight * point.gold for point, weight in zip(points, weights, strict=True)]
    value, draws = summed_bootstrap(blocks, num_resamples=1000, rng=np.random.default_rng(0))
    return estimate(float(value), draws, level)


def learnt(point: DataPoint, level: float) -> bool:
    """Whether the validation loss is surely below chance."""
    return over_seeds(point.losses, level).hi < CHANCE


def predicted_peak(point: DataPoint, cut: float, level: float) -> Estimate:
    """Highest gold within the reach of the curve, of d(alpha - beta d) fitted on KL <= `cut` nats alone."""
    kl, gold = point.curves.kl, point.curves.gold
    fit = bootstrap_fits(kl[kl <= cut], gold[:, kl <= cut], "bon", num_resamples=1000, rng=np.random.default_rng(0))
    reach = float(np.sqrt(kl[-1]))

    def highest(alpha: Any, beta: Any) -> Floats:
        top = np.divide(alpha, 2 * np.asarray(beta), out=np.full(np.shape(beta), np.inf), where=np.asarray(beta) > 0)
        ends = np.stack([np.clip(top, 0, reach), np.full(np.shape(beta), reach), np.zeros(np.shape(beta))])
        return np.asarray(bon(ends, alpha, beta).max(axis=0))

    value = float(highest(np.array([fit.alpha]), np.array([fit.beta]))[0])
    return estimate(value, highest(fit.draws[:, 0], fit.draws[:, 1]), level)


def data_table(points: Sequence[DataPoint], *, level: float, cut: float) -> pd.DataFrame:
    """A row for every setting, with intervals.

    Args:
        points: of `data_points`.
        level: of the intervals.
        cut: nats up to which peaks are predicted from.
    Returns:
        labels, num_comparisons, proxy_epochs, proxy_params, learnt, n; and, each with _lo and _hi, validation_loss
        (nats), validation_accuracy (both over seeds), gold (at n, over seeds and prompts), peak (highest gold, found on
        other seeds and prompts) and predicted (`predicted_peak`), in SDs of the reference.
    """
    rows = []
    for point in sorted(points, key=lambda p: (p.labels, p.epochs, p.comparisons, p.size)):
        estimates = {
            "validation_loss": over_seeds(point.losses, level),
            "validation_accuracy": over_seeds(point.accuracies, level),
            "gold": _over_both(point.gold, level),
            "peak": _over_both(point.peak, level),
            "predicted": predicted_peak(point, cut, level),
        }
        row: dict[str, Any] = {"labels": point.labels, "num_comparisons": point.comparisons}
        row |= {"proxy_epochs": point.epochs, "proxy_params": point.size, "learnt": learnt(point, level)}
        row |= {"n": int(point.curves.pressure[point.place]), "num_seeds": len(point.losses)}
        for name, told in estimates.items():
            row |= {name: told.value, f"{name}_lo": told.lo, f"{name}_hi": told.hi}
        rows.append(row)
    return pd.DataFrame(rows)


def _over_both(values: Floats, level: float) -> Estimate:
    mean, draws = crossed_bootstrap(values, num_resamples=1000, rng=np.random.default_rng(0))
    return estimate(float(mean), draws, level)
