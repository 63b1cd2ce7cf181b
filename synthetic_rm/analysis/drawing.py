"""Which figures a run gets, each drawn from its tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from synthetic_rm.analysis.curve_intervals import forecast_bands, highest_points
from synthetic_rm.analysis.curves import mean_curves, setting_curves
from synthetic_rm.analysis.figures.best_of_n import figure_1a, figure_proxy_vs_gold
from synthetic_rm.analysis.figures.gold_fits import figure_coefficients, figure_extrapolation
from synthetic_rm.analysis.figures.proxy_scores import figure_proxy_scores
from synthetic_rm.analysis.figures.rl import NAMES, figure_both, figure_clipped, figure_kl_steps
from synthetic_rm.analysis.figures.scaling import figure_left_out, figure_scaling
from synthetic_rm.analysis.fit_table import default_form
from synthetic_rm.analysis.report_sections import run_counts
from synthetic_rm.analysis.run_folder import RunFolder
from synthetic_rm.analysis.scaling import proxy_size
from synthetic_rm.analysis.scaling_section import law_of, left_out_of, own_alphas

Part = tuple[RunFolder, pd.DataFrame]
"""what belongs to one optimizer, and its rises and falls (`overoptimization`)"""


def draw(run: RunFolder, parts: Sequence[Part]) -> dict[str, Figure]:
    """Every figure of a run, by the name of its files.

    Args:
        run: the folder.
        parts: what it holds of each optimizer.
    Raises:
        InputError: the records hold several settings of one proxy size.
    """
    means = [mean_curves(p.curves, p.records, rng=np.random.default_rng(0), level=run.level) for p, _ in parts]
    sizes = sorted({int(size) for size in run.records["proxy_params"]})
    figures: dict[str, Figure] = {}
    for (part, overopt), table in zip(parts, means, strict=True):
        drawn = _best_of_n_figures if part.optimizer == "best_of_n" else _rl_figures
        figures |= drawn(part, overopt, table, sizes)
        figures |= _scaling_figures(part, sizes)
        if part.optimizer != "best_of_n" and parts[0][0].optimizer == "best_of_n":
            options: dict[str, Any] = {"method": part.optimizer, "sizes": sizes, "level": run.level}
            figures["figure_both"] = figure_both(means[0], table, **options)
    return figures


def _best_of_n_figures(
    run: RunFolder, overopt: pd.DataFrame, means: pd.DataFrame, sizes: Sequence[int]
) -> dict[str, Figure]:
    told: dict[str, Any] = {"level": run.level, "sizes": sizes, **run_counts(run, overopt)}
    figures = {
        "figure_1a": figure_1a(means, run.fits, overopt, **told),
        "figure_gold": figure_1a(
            means, run.fits, overopt, with_proxy=False, title="Gold score under best-of-n", **told
        ),
        "figure_proxy_vs_gold": figure_proxy_vs_gold(means, sizes=sizes, level=run.level),
        "figure_coefficients": figure_coefficients(run.fits, sizes=sizes, level=run.level),
        "figure_proxy_scores": figure_proxy_scores(means, sizes=sizes, level=run.level),
    }
    return figures | _forecast_figure(run, means, "figure_extrapolation", ("rl", "log1p"), sizes)


def _forecast_figure(
    run: RunFolder, means: pd.DataFrame, name: str, rivals: Sequence[str], sizes: Sequence[int]
) -> dict[str, Figure]:
    """Of the sizes that have points both up to the cut, enough for a fit, and beyond it; none where there are none."""
    held_out = set(run.fits["proxy_params"][np.isfinite(run.fits["held_out_rmse"])])
    entries = [entry for entry in setting_curves(run.curves, run.records) if proxy_size(entry) in held_out]
    if not entries:
        return {}
    told: dict[str, Any] = {"level": run.level}
    form, shown = default_form(run.optimizer), means[means["proxy_params"].isin(held_out)]
    bands = forecast_bands(entries, form, run.held_out_kl, rng=np.random.default_rng(0), **told)
    told |= {"cut": run.held_out_kl, "form": form, "rivals": rivals, "sizes": sizes}
    return {name: figure_extrapolation(shown, bands, **told)}


def _rl_figures(run: RunFolder, overopt: pd.DataFrame, means: pd.DataFrame, sizes: Sequence[int]) -> dict[str, Figure]:
    method = NAMES.get(run.optimizer, run.optimizer)
    told: dict[str, Any] = {"level": run.level, "sizes": sizes, **run_counts(run, overopt)}
    gold: dict[str, Any] = {"with_proxy": False, "title": f"Gold score under {method}"}
    figures = {
        "figure_1b": figure_1a(means, run.fits, overopt, title=f"{method} overoptimization", **told),
        "figure_rl_gold": figure_1a(means, run.fits, overopt, **gold, **told),
        "figure_kl_steps": figure_kl_steps(run.history, method=run.optimizer, sizes=sizes, level=run.level),
        "figure_rl_coefficients": figure_coefficients(run.fits, sizes=sizes, level=run.level),
    }
    if "clip_fraction" in run.history and (run.history["clip_fraction"] > 0).any():
        told_of_runs: dict[str, Any] = {"method": run.optimizer, "sizes": sizes, "level": run.level}
        figures["figure_clipped"] = figure_clipped(run.history, **told_of_runs)
    return figures | _forecast_figure(run, means, "figure_rl_extrapolation", ("bon", "log1p"), sizes)


def _scaling_figures(run: RunFolder, sizes: Sequence[int]) -> dict[str, Figure]:
    """None where the sizes are too few for a law."""
    law, predicted = law_of(run), left_out_of(run)
    stem = "figure" if run.optimizer == "best_of_n" else "figure_rl"
    figures = {}
    if law is not None:
        entries = setting_curves(run.curves, run.records)
        highest = highest_points(entries, rng=np.random.default_rng(0), level=run.level)
        figures[f"{stem}_scaling"] = figure_scaling(law, run.fits, highest, own=own_alphas(run), sizes=sizes)
    if law is not None and predicted is not None:
        figures[f"{stem}_left_out"] = figure_left_out(predicted, sizes=sizes, level=run.level, form=law.form)
    return figures
