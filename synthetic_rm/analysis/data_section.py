"""What a folder with several numbers of comparisons tells: its figures and its table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import t as student

from synthetic_rm.analysis.claims.size import contrasts
from synthetic_rm.analysis.curves import mean_curves
from synthetic_rm.analysis.data_law import data_law_of, data_law_section, peaks_over_data
from synthetic_rm.analysis.data_points import DataPoint, data_points, data_table, once_by_gold, summed_gold
from synthetic_rm.analysis.figures.data import (
    figure_data_coefficients,
    figure_data_gold,
    figure_data_validation,
    figure_epochs,
    figure_loss_gold,
    figure_peaks,
)
from synthetic_rm.analysis.figures.data_curves import figure_data_curves, figure_real
from synthetic_rm.analysis.figures.data_peaks import figure_data_peaks
from synthetic_rm.analysis.figures.rl import NAMES
from synthetic_rm.analysis.figures.style import human_count, percent
from synthetic_rm.analysis.gallery import figure_block, gallery
from synthetic_rm.analysis.main_setting import as_the_paper
from synthetic_rm.analysis.run_folder import RunFolder
from synthetic_rm.analysis.scaling import Estimate, estimate
from synthetic_rm.analysis.series import NO_SERIES, SeriesOf
from synthetic_rm.analysis.tables import Markup, html_table, number, with_interval

DATA_FIGURES = {
    "figure_data_curves": "Gold (solid) and proxy (dashed) under best-of-n by number of comparisons, a panel for each "
    "proxy size (the paper’s Figs. 4a and 19).",
    "figure_rl_data_curves": "Gold and proxy under RL by number of comparisons (Fig. 4b).",
    "figure_data_validation": "Validation loss against comparisons by proxy size, and against size by comparisons "
    "(Figs. 6 and 11).",
    "figure_loss_gold": "Gold at n of about 1,000 against validation loss, over sizes and comparisons (Fig. 5).",
    "figure_data_gold": "Gold at n of about 1,000, and highest gold, against comparisons (Figs. 21 and 10).",
    "figure_peaks": "Highest gold, as the form fitted at low KL predicts it, against the measured one (Fig. 12).",
    "figure_data_peaks": "KL and gold at the peak of the gold curve of best-of-n against comparisons, by proxy size: "
    "the fits of single settings and the law over size and data. Peaks beyond the data are lower bounds.",
    "figure_rl_data_peaks": "KL and gold at the peak of the gold curve of RL against comparisons, likewise.",
    "figure_epochs": "Few comparisons seen several times beside as many others seen once (Fig. 13).",
    "figure_data_coefficients": "α and β of best-of-n against comparisons (Figs. 17 and 18), and the law over size and "
    "data.",
    "figure_real": "Gold by proxies taught by gold, and by proxies taught by people.",
}


def data_figures(run: RunFolder) -> dict[str, Figure]:
    """The figures over the number of comparisons that the folder has the runs for; none where it has only one number.

    Args:
        run: the whole folder, every setting in it.
    """
    points = data_points(run)
    own = once_by_gold(points)
    told: dict[str, Any] = {"level": run.level}
    if len({point.comparisons for point in own}) < 2:
        return {}
    table = data_table(own, cut=run.held_out_kl, **told)
    of_n = run.records[run.records["optimizer"] == "best_of_n"]
    means = mean_curves(run.curves, of_n, rng=np.random.default_rng(0), **told)
    part = next(part for part in run.parts() if part.optimizer == "best_of_n")
    once = means[(means["labels"] == "hard") & (means["proxy_epochs"] == 1)]
    figures = {
        "figure_data_curves": figure_data_curves(once, **told),
        **rl_data_figures(run),
        "figure_data_validation": figure_data_validation(table, **told),
        "figure_loss_gold": figure_loss_gold(table, **told),
        "figure_data_gold": figure_data_gold(table, **told),
        "figure_peaks": figure_peaks(table, cut=run.held_out_kl, **told),
        **peak_figures(part),
        "figure_data_coefficients": figure_data_coefficients(coefficients(run, own), data_law_of(part), **told),
    }
    conditions = epoch_conditions(points)
    if conditions:
        figures["figure_epochs"] = figure_epochs(epoch_table(conditions, run.level, run.held_out_kl), **told)
    real = means[means["labels"] == "human"]
    beside = once[once["num_comparisons"].isin(real["num_comparisons"])]
    if len(beside):
        matching = real[real["num_comparisons"].isin(beside["num_comparisons"])]
        most = matching["num_comparisons"].max()
        both = pd.concat([beside, matching])
        figures["figure_real"] = figure_real(both[both["num_comparisons"] == most], **told)
    return figures


def rl_data_figures(run: RunFolder) -> dict[str, Figure]:
    """The curves under RL, of the paper's own settings but for the number of comparisons; none where there is one."""
    figures = {}
    for part in run.parts():
        records = as_the_paper(part.records, free="num_comparisons")
        if part.optimizer != "best_of_n" and records["num_comparisons"].nunique() > 1:
            means = mean_curves(part.curves, records, rng=np.random.default_rng(0), level=run.level)
            title = NAMES.get(part.optimizer, part.optimizer)
            figures["figure_rl_data_curves"] = figure_data_curves(means, title=title, level=run.level)
            figures |= peak_figures(part)
    return figures


def peak_figures(part: RunFolder) -> dict[str, Figure]:
    """Peaks over the number of comparisons of one optimizer's part of a folder; none where nothing is fitted."""
    peaks = part.fits if part.fits.empty else peaks_over_data(part)
    if peaks.empty:
        return {}
    title = f"Peak of gold under {NAMES.get(part.optimizer, part.optimizer)}"
    name = "figure_data_peaks" if part.optimizer == "best_of_n" else "figure_rl_data_peaks"
    return {name: figure_data_peaks(peaks, data_law_of(part), title=title, level=part.level)}


def coefficients(run: RunFolder, points: Sequence[DataPoint]) -> pd.DataFrame:
    """Rows of fits.csv of these settings, and for each number of comparisons the means over sizes (proxy_params 0)."""
    fits = run.fits[run.fits["optimizer"] == "best_of_n"]
    fits = fits[(fits["labels"] == "hard") & (fits["proxy_epochs"] == 1)]
    rows = []
    for count in sorted({point.comparisons for point in points}):
        entries = [point.curves for point in points if point.comparisons == count]
        row: dict[str, Any] = {"num_comparisons": count, "proxy_params": 0, "identified": True}
        for place, name in enumerate(("alpha", "beta")):
            mean, draws = contrasts(entries, "bon", np.full((1, len(entries)), 1 / len(entries)), place)
            told = estimate(mean[0], draws[:, 0], run.level)
            row |= {name: told.value, f"{name}_lo": told.lo, f"{name}_hi": told.hi}
        rows.append(row)
    columns = list(rows[0])
    return pd.concat([fits[columns], pd.DataFrame(rows)], ignore_index=True)


def epoch_conditions(points: Sequence[DataPoint]) -> list[DataPoint]:
    """The settings to compare: few comparisons once, few again and again, and about as many others once."""
    again = [point for point in points if point.labels == "hard" and point.epochs > 1]
    own = once_by_gold(points)
    kept: dict[tuple[int, int, float], DataPoint] = {}
    for point in again:
        mine = [p for p in own if p.size == point.size]
        near = min(mine, key=lambda p: abs(np.log(p.comparisons / (point.comparisons * point.epochs))), default=point)
        once = [p for p in mine if p.comparisons == point.comparisons]
        kept |= {(p.size, p.comparisons, p.epochs): p for p in (*once, point, near)}
    return list(kept.values())


def epoch_table(points: Sequence[DataPoint], level: float, cut: float) -> pd.DataFrame:
    """`data_table` of the settings, and under proxy_params 0 the means over sizes of those of the same condition."""
    table = data_table(points, level=level, cut=cut)
    rows = []
    for (count, epochs), group in table.groupby(["num_comparisons", "proxy_epochs"]):
        mine = [p for p in points if (p.comparisons, p.epochs) == (count, epochs)]
        gold = summed_gold(mine, np.full(len(mine), 1 / len(mine)), level)
        loss = _mean_of_means([p.losses for p in mine], level)
        row = {"num_comparisons": count, "proxy_epochs": epochs, "proxy_params": 0, "n": group["n"].iloc[0]}
        for name, told in (("validation_loss", loss), ("gold", gold)):
            row |= {name: told.value, f"{name}_lo": told.lo, f"{name}_hi": told.hi}
        rows.append(row)
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True)


def _mean_of_means(groups: Sequence[Any], level: float) -> Estimate:
    """The mean over groups of their means over seeds, with Student's interval of the pooled degrees of freedom."""
    mean = float(np.mean([group.mean() for group in groups]))
    freedom = sum(len(group) - 1 for group in groups)
    if freedom == 0:
        return Estimate(mean, np.nan, np.nan)
    variance = sum(group.var(ddof=1) / len(group) for group in groups if len(group) > 1) / len(groups) ** 2
    half = float(student.ppf((1 + level) / 2, freedom) * np.sqrt(variance))
    return Estimate(mean, mean - half, mean + half)


def data_section(run: RunFolder, series: SeriesOf = NO_SERIES) -> Markup:
    """The figures that lie in the folder, and every setting's numbers; empty where there is one number of comparisons.

    Args:
        run: as for `data_figures`.
        series: of every optimizer, every setting's.
    """
    points = data_points(run)
    if len({point.comparisons for point in once_by_gold(points)}) < 2:
        return Markup("")
    table = data_table(points, level=run.level, cut=run.held_out_kl)
    of_n = series.get("best_of_n", ())
    of_rl = [one for name, told in series.items() if name != "best_of_n" for one in told]
    drawn = gallery(
        figure_block(run.path / name, text, series=of_rl if name.startswith("figure_rl") else of_n)
        for name, text in DATA_FIGURES.items()
    )
    rows = [_cells(row) for _, row in table.iterrows()]
    note = (
        f"<p>Comparisons are those learnt from; the first of one draw, validated on the same held-out ones. Chance is "
        f"ln 2 = {number(np.log(2), 4)} nats. Proxies that people taught are validated on comparisons by people. "
        f"Highest gold is taken where other seeds and prompts have it, predicted is the highest point of d(α − β d) "
        f"fitted on KL ≤ {run.held_out_kl:g} nats. {percent(run.level)} intervals. 2,000, 8,000 and 90,000 comparisons "
        "are the paper’s, other numbers, sizes and seeds are ours.</p>"
    )
    every = html_table(pd.DataFrame(rows), caption="Every setting, gold in SDs of the reference")
    laws = {NAMES.get(part.optimizer, part.optimizer): data_law_section(part) for part in run.parts()}
    return Markup(drawn + note + every + "".join(f"<h3>Law over data: {n}</h3>{law}" for n, law in laws.items() if law))


def _cells(row: pd.Series) -> dict[str, str]:
    """A setting's row of the table."""
    shown = {
        "validation_loss": ("validation loss", 4),
        "validation_accuracy": ("val. accuracy", 3),
        "gold": (f"gold at n = {row['n']:,}", 2),
        "peak": ("highest gold", 2),
        "predicted": ("predicted", 2),
    }
    return {
        "labels": "people" if row["labels"] == "human" else f"gold, {row['labels']}",
        "comparisons": f"{int(row['num_comparisons']):,}",
        "epochs": f"{row['proxy_epochs']:g}",
        "params": human_count(row["proxy_params"]),
        "seeds": str(row["num_seeds"]),
        **{
            label: with_interval(row[name], row[f"{name}_lo"], row[f"{name}_hi"], digits)
            for name, (label, digits) in shown.items()
        },
    }
