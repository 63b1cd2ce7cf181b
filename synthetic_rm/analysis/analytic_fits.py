"""Fits to curves that have no sampling error, and the shape of their gold in words."""

import numpy as np
import pandas as pd

from synthetic_rm.analysis.fit_table import HELD_OUT_KL, KEYS, default_form
from synthetic_rm.analysis.fitting import fit_curve, held_out_error
from synthetic_rm.analysis.forms import FORMS
from synthetic_rm.errors import require

DRAWN = "simulated draws"
"""source of the records that repeat an exact curve with drawn responses: they are checks, and are not fitted"""
NONE = float("nan")


def gold_shape(gold: np.ndarray, tolerance: float = 1e-6) -> str:
    """How gold [k] runs with rising KL: "rises", "falls", "rises, then falls" or "turns more than once"."""
    steps = np.diff(np.asarray(gold, np.float64))
    signs = np.sign(steps[np.abs(steps) > tolerance * max(float(np.ptp(gold)), 1e-12)])
    turns = int((signs[1:] != signs[:-1]).sum())
    if turns > 1:
        return "turns more than once"
    first, last = (signs[0], signs[-1]) if signs.size else (1.0, 1.0)
    words = {1.0: "rises", -1.0: "falls"}
    return words[float(first)] if turns == 0 else f"{words[float(first)]}, then {words[float(last)]}"


def analytic_fits(records: pd.DataFrame, *, cut: float = HELD_OUT_KL) -> pd.DataFrame:
    """One least-squares fit per exact curve, by the paper's form of its optimizer.

    Intervals are empty: there is nothing to resample. `identified` is whether the peak lies within the data.

    Args:
        records: of records.csv, with source, series and environment.
        cut: nats up to which forms are fitted to be scored beyond.
    Returns:
        The columns of fits.csv; then run, environment, series, source, form, largest_kl, gold_peak, gold_peak_kl, shape
        (of the curve itself) and held_out_rmse_<rival>.
    """
    exact = records[(records["source"] != DRAWN) & (records["kl"] > 0)]
    require(len(exact) > 0, "nothing to fit: no record is exact")
    rows = []
    for run, points in exact.groupby("run", sort=False):
        ordered = points.sort_values("kl")
        first, kl, gold = ordered.iloc[0], ordered["kl"].to_numpy(), ordered["gold"].to_numpy()
        form = default_form(str(first["optimizer"]))
        fit = fit_curve(kl, gold, form)
        top = int(gold.argmax())
        errors = {name: held_out_error(kl, gold, name, cut) for name in FORMS}
        rows.append(
            {
                **{key: first[key] for key in KEYS},
                **{"alpha": fit.alpha, "alpha_lo": NONE, "alpha_hi": NONE},
                **{"beta": fit.beta, "beta_lo": NONE, "beta_hi": NONE},
                "peak_kl": fit.peak_distance**2,
                "peak_gold": fit.peak_gold,
                "r2": fit.r2,
                "identified": bool(fit.beta > 0 and 0 < fit.peak_distance**2 <= kl.max()),
                "held_out_rmse": errors.pop(form),
                "run": run,
                **{key: first[key] for key in ("environment", "series", "source")},
                "form": form,
                "largest_kl": kl.max(),
                "gold_peak": gold[top],
                "gold_peak_kl": kl[top],
                "shape": gold_shape(gold),
                **{f"held_out_rmse_{name}": error for name, error in errors.items()},
            }
        )
    return pd.DataFrame(rows)
