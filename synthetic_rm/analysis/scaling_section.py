"""The scaling laws of a run, as the report tells them."""

import numpy as np
import pandas as pd

from synthetic_rm.analysis.bootstrap import interval
from synthetic_rm.analysis.claims.size import contrasts
from synthetic_rm.analysis.curves import mean_curves, setting_curves
from synthetic_rm.analysis.figures.style import human_count, percent
from synthetic_rm.analysis.fit_table import default_form
from synthetic_rm.analysis.left_out import leave_one_out, prediction_errors
from synthetic_rm.analysis.run_folder import RunFolder
from synthetic_rm.analysis.scaling import (
    LEAST_SIZES,
    Estimate,
    ScalingLaw,
    fit_scaling_law,
    proxy_size,
)
from synthetic_rm.analysis.tables import Markup, html_table, number, with_interval


def law_of(run: RunFolder) -> ScalingLaw | None:
    """The scaling law of one optimizer's part of a run; None where there are too few sizes."""
    if len(run.fits) < LEAST_SIZES:
        return None
    entries, form = setting_curves(run.curves, run.records), default_form(run.optimizer)
    return fit_scaling_law(entries, form, rng=np.random.default_rng(0), level=run.level)


def left_out_of(run: RunFolder) -> pd.DataFrame | None:
    """The table of `leave_one_out` of one optimizer's part of a run, with the intervals of what was measured
    (measured_lo, measured_hi); None where there are too few sizes."""
    if len(run.fits) < LEAST_SIZES + 1:
        return None
    entries, form = setting_curves(run.curves, run.records), default_form(run.optimizer)
    predicted = leave_one_out(entries, form, rng=np.random.default_rng(0), level=run.level)
    means = mean_curves(run.curves, run.records, rng=np.random.default_rng(0), level=run.level)
    means = means.sort_values(["proxy_params", "kl"], ignore_index=True)
    return predicted.assign(measured_lo=means["gold_lo"], measured_hi=means["gold_hi"])


def own_alphas(run: RunFolder) -> pd.DataFrame | None:
    """alpha of every size fitted by itself, with intervals, where the law has one for all; None where it has not.

    Of these claim H3d is the change from end to end (`claims.size.contrasts`).

    Returns:
        proxy_params, alpha, alpha_lo, alpha_hi: SDs of the reference per square root of a nat.
    """
    form = default_form(run.optimizer)
    if len(run.fits) < LEAST_SIZES or form != "rl":
        return None
    entries = sorted(setting_curves(run.curves, run.records), key=proxy_size)
    alphas, draws = contrasts(entries, form, np.eye(len(entries)), 0, shared=False)
    lo, hi = interval(draws, run.level)
    sizes = [proxy_size(entry) for entry in entries]
    return pd.DataFrame({"proxy_params": sizes, "alpha": alphas, "alpha_lo": lo, "alpha_hi": hi})


def scaling_section(run: RunFolder) -> Markup:
    """The lines through alpha and beta, what they give for every size, and how well they predict a size left out."""
    law, predicted = law_of(run), left_out_of(run)
    if law is None:
        return Markup(f"<p>Fewer than {LEAST_SIZES} proxy sizes: no law over size.</p>")
    alpha, beta = (law.slope(name) for name in ("alpha", "beta"))
    one = "α is one for all sizes" if law.form == "rl" else f"α changes by {_told(alpha)}"
    note = f"<p>Per tenfold of parameters {one} and β by {_told(beta, 3)}; {percent(law.level)} intervals.</p>"
    html = note + html_table(law_table(law, run.fits), caption="Each size's own fit, and the law through all of them")
    if predicted is not None:
        html += html_table(
            error_table(predicted),
            caption="The gold curve of each size, predicted by the law of all other sizes: root mean square errors "
            "beside those of taking the nearest size's curve, or the mean of the others",
        )
    return Markup(html)


def law_table(law: ScalingLaw, fits: pd.DataFrame) -> pd.DataFrame:
    """Text: params, then alpha, beta, peak KL and peak gold, of the size's own fit and of the law."""
    rows = []
    for _, fit in fits.sort_values("proxy_params").iterrows():
        told = law.at(float(fit["proxy_params"]), new=False)
        row = {"params": human_count(fit["proxy_params"])}
        for name, label, digits in (("alpha", "α", 2), ("beta", "β", 3), ("peak_kl", "peak KL", 1),
                                    ("peak_gold", "peak gold", 2)):  # fmt: skip
            row[label] = with_interval(fit[name], fit[f"{name}_lo"], fit[f"{name}_hi"], digits)
            row[f"{label}, law"] = _told(getattr(told, name), digits)
        rows.append(row)
    return pd.DataFrame(rows)


def error_table(predicted: pd.DataFrame) -> pd.DataFrame:
    """Text of `prediction_errors`: params, law, nearest size, other sizes, points within, highest gold."""
    rows = [
        {
            "params": human_count(row["proxy_params"]) + (" (law extended)" if row["outside"] else ""),
            "law": number(row["rmse"], 3),
            "nearest size": number(row["rmse_nearest"], 3),
            "mean of others": number(row["rmse_others"], 3),
            "points within the interval": f"{row['covered']:.0%}",
            "highest gold": number(row["highest"]),
        }
        for _, row in prediction_errors(predicted).iterrows()
    ]
    return pd.DataFrame(rows)


def _told(estimate: Estimate, digits: int = 2) -> str:
    return with_interval(estimate.value, estimate.lo, estimate.hi, digits)
