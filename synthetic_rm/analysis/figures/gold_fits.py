"""The coefficients of the gold fits over proxy size (the paper's Fig. 3), and fits carried beyond their data (26)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synthetic_rm.analysis.figures.best_of_n import (
    COEFFICIENT_LABELS,
    FORMULAS,
    GOLD_LABEL,
    colors_of,
    curve_of,
    kl_grid,
    zero_line,
)
from synthetic_rm.analysis.figures.style import (
    MUTED,
    darker,
    house_style,
    human_count,
    new_figure,
    note_below,
    params_axis,
    percent,
    sqrt_kl_axis,
)
from synthetic_rm.analysis.fitting import fit_curve

RIVAL_DASHES = ((0, (1, 1.2)), (0, (5, 1.5)), (0, (3, 1, 1, 1)))


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
    labels = COEFFICIENT_LABELS.get(form, {})
    for axes, (name, symbol) in zip(panels, (("alpha", "α"), ("beta", "β")), strict=True):
        for _, row in fits.iterrows():
            color, size = colors[int(row["proxy_params"])], row["proxy_params"]
            axes.plot([size, size], [row[f"{name}_lo"], row[f"{name}_hi"]], color=color, linewidth=1.2)
            face = color if bool(row["identified"]) else "white"
            axes.plot(size, row[name], "o", color=color, markerfacecolor=face, markersize=4.5)
        zero_line(axes)
        params_axis(axes, colors)
        axes.set_ylabel(labels.get(name, symbol))
    panels[0].set_title(f"Gold fit {FORMULAS.get(form, form)}, d = √KL, gold in SDs", loc="left")
    note_below(figure, f"bars: {percent(level)} intervals · open: no peak identified within the data")
    return figure


@house_style()
def figure_extrapolation(
    mean_curves: pd.DataFrame,
    bands: pd.DataFrame | None = None,
    *,
    cut: float = 6.0,
    form: str = "bon",
    rivals: Sequence[str] = ("rl", "log1p"),
    sizes: Sequence[int] | None = None,
    level: float = 0.95,
    columns: int = 1,
) -> Figure:
    """Gold fits made on KL <= `cut` only, drawn on beyond it against what was measured; one panel a size.

    The paper's Fig. 26. A form with a common alpha is drawn as each size alone gives it.

    Args:
        mean_curves: as for `figure_1a`.
        bands: intervals of the forecast by `form`, as `forecast_bands` gives them.
        cut: nats; the points up to it are fitted.
        form: name of the form in question, drawn in colour.
        rivals: names of the forms it is compared with, thin and grey.
        sizes: every proxy size of the report (colours).
        level: of the intervals in the tables.
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
        if bands is not None:
            band = bands[bands["proxy_params"] == size]
            axes.fill_between(band["kl"], band["gold_lo"], band["gold_hi"], color="#777777", alpha=0.2, lw=0, zorder=0)
        for name, dash in dashes.items():
            fit = fit_curve(seen["kl"].to_numpy(), seen["gold"].to_numpy(), name)
            style = {"color": darker(color), "linewidth": 1.1} if name == form else {"color": MUTED, "linewidth": 0.7}
            axes.plot(kl_grid(limit), fit.predict(kl_grid(limit)), linestyle=dash, **style)
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
    note_below(
        figure,
        f"lines are fitted on KL ≤ {cut:g} only, left of the dotted line · {percent(level)} intervals: coloured of "
        "what was measured, grey of the forecast",
    )
    return figure
