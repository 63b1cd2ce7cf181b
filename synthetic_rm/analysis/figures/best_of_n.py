"""Figures of best-of-n: gold and proxy against KL (the paper's Fig. 1a), against each other, and the fits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from synthetic_rm.analysis.figures.style import (
    MUTED,
    darker,
    house_style,
    human_count,
    new_figure,
    note_below,
    params_axis,
    percent,
    run_note,
    size_colors,
    size_legend,
    sqrt_kl_axis,
)
from synthetic_rm.analysis.fitting import fit_curve
from synthetic_rm.analysis.forms import find_form
from synthetic_rm.errors import require

GOLD_LABEL = "gold score (SDs of the reference)"
FORMULAS = {"bon": "d(α − β d)", "rl": "d(α − β ln d)", "log1p": "d(α − β ln(1+d))", "linear": "α d"}
FORMULAS |= {"quadratic": "d²(α − β d²)", "power": "d(α − β dᵞ)"}
PROXY_DASH = (0, (4, 1.6))
RIVAL_DASHES = ((0, (1, 1.2)), (0, (5, 1.5)), (0, (3, 1, 1, 1)))


def colors_of(table: pd.DataFrame, sizes: Sequence[int] | None, key: Sequence[str]) -> dict[int, str]:
    """Colours of the sizes in `table`, out of those of `sizes`; it must have rows and name each point once."""
    require(len(table) > 0, "nothing to draw: the table has no rows")
    repeated = bool(table.duplicated(list(key)).any())
    require(not repeated, f"one row per {' and '.join(key)} can be drawn, got several: choose one setting")
    present = {int(size) for size in table["proxy_params"]}
    colors = size_colors(present if sizes is None else present.union(sizes))
    return {size: color for size, color in colors.items() if size in present}


def curve_of(mean_curves: pd.DataFrame, size: int) -> pd.DataFrame:
    """The rows of one proxy size by rising KL."""
    return mean_curves[mean_curves["proxy_params"] == size].sort_values("kl")


def _grid(limit: float) -> NDArray[np.float64]:
    return np.square(np.linspace(0, np.sqrt(limit), 120))


def zero_line(axes: Axes) -> None:
    """A faint line where the reference scores."""
    axes.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)


@house_style()
def figure_1a(
    mean_curves: pd.DataFrame,
    fits: pd.DataFrame,
    overopt: pd.DataFrame | None = None,
    *,
    with_proxy: bool = True,
    sizes: Sequence[int] | None = None,
    nonfinite: int = 0,
    collapsed: int = 0,
    num_prompts: int | None = None,
    num_samples: int | None = None,
    num_seeds: str | int | None = None,
    title: str = "Best-of-n overoptimization",
    level: float = 0.95,
    columns: int = 1,
) -> Figure:
    """Scores against KL on a square-root axis: proxy dashed, gold solid, fit thin, one colour per proxy size.

    The paper's Fig. 1a and, of RL, 1b. A dot marks the fitted peak where it is identified, a bar its interval in KL
    (cut at the edge of the data); the dot is full where gold was measured to fall, open where it was not.

    Args:
        mean_curves: proxy_params, pressure, kl, proxy, proxy_lo, proxy_hi, gold, gold_lo, gold_hi.
        fits: proxy_params, alpha, beta, peak_kl, peak_gold, identified; form, peak_kl_lo, peak_kl_hi.
        overopt: proxy_params and verdict, as `overoptimization` gives them; without it every dot is full.
        with_proxy: False leaves the proxy curves out, so that gold fills the axes.
        sizes: every proxy size of the report (colours); those of `mean_curves` by default.
        nonfinite: number of runs that are left out because they failed.
        collapsed: number of runs that ended early, saying one thing only.
        num_prompts, num_samples, num_seeds: counts for the note below the axes.
        title: above the axes.
        level: of the intervals in the tables.
        columns: width of the figure in columns of a paper.
    Returns:
        The figure.
    Raises:
        InputError: `mean_curves` has no rows, or several for one size and pressure.
    """
    colors = colors_of(mean_curves, sizes, ("proxy_params", "pressure"))
    limit = float(mean_curves["kl"].max())
    figure, axes = new_figure(columns=columns, aspect=1.2 if columns == 1 else 0.66)
    for size, color in colors.items():
        curve = curve_of(mean_curves, size)
        if with_proxy:
            axes.fill_between(curve["kl"], curve["proxy_lo"], curve["proxy_hi"], color=color, alpha=0.12, lw=0)
            axes.plot(curve["kl"], curve["proxy"], color=color, linestyle=PROXY_DASH, linewidth=1.1)
        axes.fill_between(curve["kl"], curve["gold_lo"], curve["gold_hi"], color=color, alpha=0.17, lw=0)
        axes.plot(curve["kl"], curve["gold"], color=color, linewidth=1.8)
    verdicts = {} if overopt is None else dict(zip(overopt["proxy_params"], overopt["verdict"], strict=True))
    for _, row in fits[fits["proxy_params"].isin(list(colors))].iterrows():
        color = colors[int(row["proxy_params"])]
        line = find_form(str(row.get("form", "bon"))).curve(np.sqrt(_grid(limit)), row["alpha"], row["beta"])
        axes.plot(_grid(limit), line, color=darker(color), linewidth=0.7, zorder=4)
        _peak_mark(axes, row, color, limit=limit, filled=verdicts.get(row["proxy_params"], "fell") == "fell")
    zero_line(axes)
    axes.set_ylabel("reward model score (gold: SDs of the reference)" if with_proxy else GOLD_LABEL)
    axes.set_title(title, loc="left")
    sqrt_kl_axis(axes, limit * 1.01)
    size_legend(figure, colors)
    _line_legend(axes, fits, with_proxy=with_proxy, level=level)
    note_below(figure, run_note(num_prompts=num_prompts, num_samples=num_samples, num_seeds=num_seeds,
                                nonfinite=nonfinite, collapsed=collapsed))  # fmt: skip
    return figure


def _peak_mark(axes: Axes, row: pd.Series, color: str, *, limit: float, filled: bool) -> None:
    peak, top = float(row["peak_kl"]), float(row["peak_gold"])
    if not bool(row["identified"]) or not np.isfinite([peak, top]).all() or peak > limit:
        return
    low, high = float(row.get("peak_kl_lo", np.nan)), float(row.get("peak_kl_hi", np.nan))
    if not np.isnan([low, high]).any():
        axes.plot([max(low, 0), min(high, limit)], [top, top], "-|", color=darker(color), lw=0.8, ms=4.5, zorder=5)
    face = color if filled else "white"
    axes.plot(peak, top, "o", markersize=4.2, color="black", markerfacecolor=face, markeredgewidth=0.8, zorder=6)


def _line_legend(axes: Axes, fits: pd.DataFrame, *, with_proxy: bool, level: float) -> None:
    form = str(fits["form"].iloc[0]) if "form" in fits and len(fits) else "bon"
    grey = "#555555"
    peak: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 4.2, "linewidth": 0.8}
    entries = [
        ("gold", Line2D([], [], color=grey, linewidth=1.8)),
        ("proxy", Line2D([], [], color=grey, linewidth=1.1, linestyle=PROXY_DASH)),
        (f"fit {FORMULAS.get(form, form)}", Line2D([], [], color="black", linewidth=0.7)),
        (f"{percent(level)} interval", Patch(color=grey, alpha=0.25, linewidth=0)),
        ("peak, gold fell", Line2D([], [], markerfacecolor=grey, **peak)),
        ("peak, no fall seen", Line2D([], [], markerfacecolor="white", **peak)),
    ]
    if not with_proxy:
        del entries[1]
    axes.legend(
        [handle for _, handle in entries], [label for label, _ in entries], loc="upper center",
        bbox_to_anchor=(0.46, -0.17), ncols=3, handlelength=1.9, columnspacing=1.0, handletextpad=0.5,
    )  # fmt: skip


@house_style()
def figure_proxy_vs_gold(
    mean_curves: pd.DataFrame, *, sizes: Sequence[int] | None = None, level: float = 0.95, columns: int = 1
) -> Figure:
    """Gold score against proxy score along the optimization, one colour per proxy size.

    Dots mark n = 1, 10, 100, ...

    Args:
        mean_curves: as for `figure_1a`.
        sizes: every proxy size of the report (colours).
        level: of the intervals in the table.
        columns: width of the figure in columns of a paper.
    Raises:
        InputError: as `figure_1a`.
    """
    colors = colors_of(mean_curves, sizes, ("proxy_params", "pressure"))
    figure, axes = new_figure(columns=columns, aspect=0.95 if columns == 1 else 0.66)
    decades = 10.0 ** np.arange(0, np.floor(np.log10(mean_curves["pressure"].max()) + 1e-9) + 1)
    for size, color in colors.items():
        curve = curve_of(mean_curves, size)
        axes.fill_between(curve["proxy"], curve["gold_lo"], curve["gold_hi"], color=color, alpha=0.16, lw=0)
        axes.plot(curve["proxy"], curve["gold"], color=color)
        log_n = np.log(curve["pressure"])
        dots = [np.interp(np.log(decades), log_n, curve[name]) for name in ("proxy", "gold")]
        axes.plot(*dots, "o", color=color, markersize=3.4, markeredgecolor="white", markeredgewidth=0.5)
    zero_line(axes)
    axes.set_xlabel("proxy score (recalibrated, reference = 0)")
    axes.set_ylabel(GOLD_LABEL)
    axes.set_title("Gold against proxy", loc="left")
    size_legend(figure, colors)
    note_below(figure, f"dots at n = 1, 10, 100, … · bands: {percent(level)} interval of gold")
    return figure


@house_style()
def figure_coefficients(
    fits: pd.DataFrame, *, sizes: Sequence[int] | None = None, level: float = 0.95, columns: int = 1
) -> Figure:
    """alpha and beta of the fitted gold curve against proxy parameters (log axis), with their intervals.

    The paper's Fig. 3; an alpha that is common to the sizes (fits of RL) has the same value at each.

    Args:
        fits: proxy_params, alpha, alpha_lo, alpha_hi, beta, beta_lo, beta_hi, identified.
        sizes: every proxy size of the report (colours).
        level: of the intervals in the table.
        columns: width of the figure in columns of a paper.
    Raises:
        InputError: `fits` has no rows, or several for one size.
    """
    colors = colors_of(fits, sizes, ("proxy_params",))
    form = str(fits["form"].iloc[0]) if "form" in fits else "bon"
    tall = columns == 1
    figure, panels = new_figure(columns=columns, aspect=1.15 if tall else 0.42, rows=1 + tall, cols=2 - tall)
    for axes, name, label in zip(panels, ("alpha", "beta"), ("α", "β"), strict=True):
        for _, row in fits.iterrows():
            color, size = colors[int(row["proxy_params"])], row["proxy_params"]
            axes.plot([size, size], [row[f"{name}_lo"], row[f"{name}_hi"]], color=color, linewidth=1.2)
            face = color if bool(row["identified"]) else "white"
            axes.plot(size, row[name], "o", color=color, markerfacecolor=face, markersize=4.5)
        zero_line(axes)
        params_axis(axes, colors)
        axes.set_ylabel(label, rotation=0, labelpad=8)
    panels[0].set_title(f"Gold fit {FORMULAS.get(form, form)}, d = √KL, gold in SDs", loc="left")
    note_below(figure, f"bars: {percent(level)} intervals · open: no peak identified within the data")
    return figure


@house_style()
def figure_extrapolation(
    mean_curves: pd.DataFrame,
    *,
    cut: float = 6.0,
    form: str = "bon",
    rivals: Sequence[str] = ("rl", "log1p"),
    sizes: Sequence[int] | None = None,
    columns: int = 1,
) -> Figure:
    """Gold fits made on KL <= `cut` only, drawn on beyond it against what was measured; one panel a size.

    The paper's Fig. 26. A form with a common alpha is drawn as each size alone gives it.

    Args:
        mean_curves: as for `figure_1a`.
        cut: nats; the points up to it are fitted.
        form: name of the form in question, drawn in colour.
        rivals: names of the forms it is compared with, thin and grey.
        sizes: every proxy size of the report (colours).
        columns: width of the figure in columns of a paper.
    Raises:
        InputError: as `figure_1a`, an unknown form, or too few points up to `cut`.
    """
    colors = colors_of(mean_curves, sizes, ("proxy_params", "pressure"))
    limit = float(mean_curves["kl"].max())
    across = 1 + columns
    down = -(-len(colors) // across)
    figure, grid = new_figure(columns=columns, aspect=0.2 + 0.75 * down / across, rows=down, cols=across)
    panels = list(np.ravel(grid))
    dashes: dict[str, Any] = dict(zip((form, *rivals), ("-", *RIVAL_DASHES), strict=False))
    for index, (size, color) in enumerate(colors.items()):
        axes, below = panels[index], index + across < len(colors)
        curve = curve_of(mean_curves, size)
        seen = curve[curve["kl"] <= cut]
        axes.fill_between(curve["kl"], curve["gold_lo"], curve["gold_hi"], color=color, alpha=0.15, lw=0)
        axes.plot(curve["kl"], curve["gold"], "o", color=color, markersize=2.2, markeredgewidth=0)
        axes.set_ylim(axes.get_ylim())
        for name, dash in dashes.items():
            fit = fit_curve(seen["kl"].to_numpy(), seen["gold"].to_numpy(), name)
            style = {"color": darker(color), "linewidth": 1.1} if name == form else {"color": MUTED, "linewidth": 0.7}
            axes.plot(_grid(limit), fit.predict(_grid(limit)), linestyle=dash, **style)
        axes.axvline(cut, color=MUTED, linewidth=0.6, linestyle=(0, (1, 2)))
        axes.set_title(f"{human_count(size)} parameters", loc="left", color=darker(color, 0.8))
        sqrt_kl_axis(axes, limit * 1.01, label="" if below else "KL (nats)", gap=0.13)
    for axes in panels[len(colors) :]:
        axes.set_axis_off()
    figure.supylabel(GOLD_LABEL, fontsize=8)
    handles = [Line2D([], [], color="black" if name == form else MUTED, linestyle=dash, linewidth=1)
               for name, dash in dashes.items()]  # fmt: skip
    labels = [FORMULAS.get(name, name) for name in dashes]
    figure.legend(handles, labels, loc="outside upper center", ncols=3, handlelength=2.4, columnspacing=1.2)
    note_below(figure, f"lines are fitted on KL ≤ {cut:g} only, left of the dotted line")
    return figure
