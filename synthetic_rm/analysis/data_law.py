"""The law over size and data of a run, as the report tells it."""

import numpy as np
import pandas as pd

from synthetic_rm.analysis.curves import SettingCurves, mean_curves, setting_curves
from synthetic_rm.analysis.figures.style import human_count, percent
from synthetic_rm.analysis.fit_table import default_form
from synthetic_rm.analysis.left_out import SETTINGS, beside_size_laws
from synthetic_rm.analysis.lineage import runs_of
from synthetic_rm.analysis.main_setting import as_the_paper
from synthetic_rm.analysis.run_folder import RunFolder
from synthetic_rm.analysis.scaling import LEAST_SIZES, ScalingLaw, comparisons_of, fit_scaling_law
from synthetic_rm.analysis.tables import Markup, html_table, number, with_interval


def curves_over_data(part: RunFolder) -> list[SettingCurves]:
    """Of one optimizer's part of a run the settings that are the paper's own but for the number of comparisons."""
    return setting_curves(part.curves, as_the_paper(part.records, free="num_comparisons"))


def data_law_of(part: RunFolder) -> ScalingLaw | None:
    """The law over size and data of one optimizer's part of a run; None where it has too few numbers of comparisons."""
    entries = curves_over_data(part)
    if len({comparisons_of(entry) for entry in entries}) < LEAST_SIZES:
        return None
    return fit_scaling_law(entries, default_form(part.optimizer), rng=np.random.default_rng(0), level=part.level)


def peaks_over_data(part: RunFolder) -> pd.DataFrame:
    """Rows of fits.csv of the settings of `curves_over_data`, with the last point of each mean curve beside the fit.

    Returns:
        The columns of fits.csv, last_kl (nats), last_gold, last_gold_lo, last_gold_hi (SDs of the reference).
    """
    records = as_the_paper(part.records, free="num_comparisons")
    fits = part.fits[np.array([bool(runs_of(records, fit)) for _, fit in part.fits.iterrows()], bool)]
    means = mean_curves(part.curves, records, rng=np.random.default_rng(0), level=part.level)
    last = means.sort_values("kl").groupby(SETTINGS).tail(1)
    kept = {name: f"last_{name}" for name in ("kl", "gold", "gold_lo", "gold_hi")}
    return fits.merge(last[[*SETTINGS, *kept]].rename(columns=kept), on=SETTINGS)


def data_law_section(part: RunFolder) -> Markup:
    """The law, its slopes, and how well it predicts the curve of a setting not seen; empty where there is none."""
    law = data_law_of(part)
    if law is None:
        return Markup("")
    slopes = "; ".join(
        f"{symbol} by {_slope(law, name, per)} per tenfold of {per}"
        for per in law.terms.names
        for name, symbol in (("alpha", "α"), ("beta", "β"))
    )
    below = f"With {law.terms.threshold:,} comparisons or fewer proxies are at chance: gold stays where it was. "
    best = "The threshold is the one that predicts a setting best from the others"
    none = "No threshold, at or below which proxies are at chance, predicts a setting better from the others"
    note = (
        f"<p>{below if law.terms.threshold else ''}α and β are lines over the logarithm of "
        f"{' and '.join(law.terms.names)}: {slopes} ({percent(law.level)} intervals). "
        f"{best if law.terms.threshold else none}.</p>"
    )
    if len(law.fitted) <= LEAST_SIZES:
        return Markup(note)
    errors = beside_size_laws(curves_over_data(part), law.form, rng=np.random.default_rng(0), level=law.level)
    return Markup(
        note
        + html_table(
            left_out_table(errors),
            caption="The gold curve of each setting, predicted by the law of all other settings: root mean square "
            "errors in SDs of the reference beside those of the law over the other sizes with as many comparisons, of "
            "the nearest setting’s curve, and of the mean of the others",
        )
    )


def left_out_table(errors: pd.DataFrame) -> pd.DataFrame:
    """Text of `beside_size_laws`, and in the last row the root mean square over the settings."""
    shown = {"rmse": "law", "rmse_size": "law over size alone", "rmse_nearest": "nearest setting",
             "rmse_others": "mean of others"}  # fmt: skip
    rows = [
        {
            "params": human_count(row["proxy_params"]) + (" (law extended)" if row["outside"] else ""),
            "comparisons": f"{int(row['num_comparisons']):,}",
            **{label: number(row[name], 3) for name, label in shown.items()},
            "points within the interval": f"{row['covered']:.0%}",
            "highest gold": number(row["highest"]),
        }
        for _, row in errors.iterrows()
    ]
    total = {label: number(float(np.sqrt(np.square(errors[name]).mean())), 3) for name, label in shown.items()}
    covered = f"{errors['covered'].mean():.0%}"
    last = {"params": "all", "comparisons": "", **total, "points within the interval": covered, "highest gold": ""}
    return pd.DataFrame([*rows, last])


def _slope(law: ScalingLaw, name: str, per: str) -> str:
    told = law.slope(name, per)
    return with_interval(told.value, told.lo, told.hi, 3)
