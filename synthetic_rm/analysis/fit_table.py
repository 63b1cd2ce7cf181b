"""The table fits.csv: a gold curve fitted per setting, with intervals, and its rivals on the same data."""

import numpy as np
import pandas as pd

from synthetic_rm.analysis.bootstrap import bootstrap_fits
from synthetic_rm.analysis.curves import Arrays, setting_curves
from synthetic_rm.analysis.fitting import held_out_error
from synthetic_rm.analysis.forms import FORMS

KEYS = ("optimizer", "mitigation", "proxy_params")
ESTIMATES = ("alpha", "alpha_lo", "alpha_hi", "beta", "beta_lo", "beta_hi", "peak_kl", "peak_gold", "r2")
HELD_OUT_KL = 6.0
"""nats up to which forms are fitted where nothing else is asked for: n = 1,000, as in the paper's Fig. 26"""
EXTRAS = ("peak_kl_lo", "peak_kl_hi", "peak_gold_lo", "peak_gold_hi", "num_seeds", "num_prompts")


def default_form(optimizer: str) -> str:
    """The paper's form of an optimizer's gold curve: "bon" for best_of_n, "rl" for any other."""
    return "bon" if optimizer == "best_of_n" else "rl"


def fit_table(
    curves: Arrays,
    records: pd.DataFrame,
    *,
    rng: np.random.Generator,
    form: str | None = None,
    num_resamples: int = 2000,
    level: float = 0.95,
    cut: float = HELD_OUT_KL,
) -> pd.DataFrame:
    """One `bootstrap_fits` per setting (so per proxy size), with the held-out errors of every form.

    Gold is the gain over each prompt's own value at KL = 0 (`setting_curves`). Held-out errors are those of
    the mean over seeds and prompts, fitted on kl <= cut and scored beyond. Runs of one setting count as its
    seeds; runs without a record (failed, non-finite) are no part of it.

    Args:
        curves: arrays of curves.npz: run [R], pressure [K], proxy and gold [R, K, prompts].
        records: table of points.
        rng: draws the resamples.
        form: name of a form without an exponent; `default_form` of the optimizer if None.
        num_resamples: number of bootstrap draws.
        level: of the intervals.
        cut: nats.
    Returns:
        The columns of fits.csv: optimizer, mitigation, proxy_params, alpha, alpha_lo, alpha_hi, beta,
        beta_lo, beta_hi, peak_kl, peak_gold, r2, identified, held_out_rmse; then peak_kl_lo, peak_kl_hi,
        peak_gold_lo, peak_gold_hi, num_seeds, num_prompts, form, held_out_rmse_<rival> of each other form,
        and what else names the setting.
    Raises:
        InputError: as `setting_curves` and `bootstrap_fits`.
    """
    rows = []
    for entry in setting_curves(curves, records):
        named = form or default_form(str(entry.setting.get("optimizer", "best_of_n")))
        fit = bootstrap_fits(entry.kl, entry.gold, named, num_resamples=num_resamples, rng=rng, level=level)
        mean = entry.gold.mean(axis=(0, 2))
        errors = {rival: held_out_error(entry.kl, mean, rival, cut) for rival in FORMS}
        rows.append(
            {
                **{name: entry.setting.get(name) for name in KEYS},
                **{name: getattr(fit, name) for name in ESTIMATES},
                "identified": fit.identified,
                "held_out_rmse": errors[named],
                **{name: getattr(fit, name) for name in EXTRAS},
                "form": named,
                **{f"held_out_rmse_{rival}": errors[rival] for rival in FORMS if rival != named},
                **{name: value for name, value in entry.setting.items() if name not in KEYS},
            }
        )
    return pd.DataFrame(rows)
