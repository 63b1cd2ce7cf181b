"""The table fits.csv: a gold curve fitted per setting, with intervals, and its rivals on the same data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from synthetic_rm.analysis.bootstrap import BootstrapFit, bootstrap_fits, shared_bootstrap_fits
from synthetic_rm.analysis.curves import Arrays, SettingCurves, setting_curves
from synthetic_rm.analysis.fitting import held_out_error, shared_held_out_errors
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
    """A fit for each setting (so for each proxy size), with the held-out errors of every form.

    Best-of-n has a fit of its own for each size (`bootstrap_fits`); RL has, as in the paper, one alpha for all sizes
    and a beta for each (`shared_bootstrap_fits`), which the column `shared` says.

    Gold is the gain over each prompt's own value at KL = 0 (`setting_curves`). Held-out errors are those of
    the mean over seeds and prompts, fitted on kl <= cut and scored beyond; rival forms are fitted size by size. Runs
    of one setting count as its seeds; runs without a record (failed, non-finite) are no part of it.

    Args:
        curves: arrays of curves.npz or curves_rl.npz, as `setting_curves` wants them.
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
        InputError: as `setting_curves`, `bootstrap_fits` and `shared_bootstrap_fits`.
    """
    rows = []
    for family in _families(setting_curves(curves, records)):
        named = form or default_form(str(family[0].setting.get("optimizer", "best_of_n")))
        options: dict[str, Any] = {"num_resamples": num_resamples, "rng": rng, "level": level}
        means = {place: (entry.kl, entry.gold.mean(axis=(0, 2))) for place, entry in enumerate(family)}
        fits: Mapping[Any, BootstrapFit]
        if named == "rl":
            both = {place: (entry.kl, entry.gold) for place, entry in enumerate(family)}
            fits, own_errors = shared_bootstrap_fits(both, named, **options), shared_held_out_errors(means, named, cut)
        else:
            fits = {place: bootstrap_fits(entry.kl, entry.gold, named, **options) for place, entry in enumerate(family)}
            own_errors = {place: held_out_error(*mean, named, cut) for place, mean in means.items()}
        for place, entry in enumerate(family):
            fit = fits[place]
            rivals = {rival: held_out_error(*means[place], rival, cut) for rival in FORMS if rival != named}
            rows.append(
                {
                    **{name: entry.setting.get(name) for name in KEYS},
                    **{name: getattr(fit, name) for name in ESTIMATES},
                    "identified": fit.identified,
                    "held_out_rmse": own_errors[place],
                    **{name: getattr(fit, name) for name in EXTRAS},
                    "form": named,
                    "shared": "alpha" if named == "rl" else "none",
                    **{f"held_out_rmse_{rival}": error for rival, error in rivals.items()},
                    **{name: value for name, value in entry.setting.items() if name not in KEYS},
                }
            )
    return pd.DataFrame(rows)


def _families(entries: list[SettingCurves]) -> list[list[SettingCurves]]:
    """Settings that differ in the size of their proxy alone, together."""
    families: dict[str, list[SettingCurves]] = {}
    for entry in entries:
        named = {key: value for key, value in entry.setting.items() if not key.startswith("proxy_params")}
        families.setdefault(repr(named), []).append(entry)
    return list(families.values())
