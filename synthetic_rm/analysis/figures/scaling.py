"""Figures of the scaling laws: lines over proxy size (the paper's Figs. 3 and 12), and curves of sizes left out."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthetic_rm.analysis.figures.best_of_n import COEFFICIENT_LABELS, FORMULAS, GOLD_LABEL
from synthetic_rm.analysis.figures.style import (
    MUTED,
    darker,
    house_style,
    human_count,
    new_figure,
    note_below,
    params_axis,
    percent,
    size_colors,
    sqrt_kl_axis,
)
from synthetic_rm.analysis.scaling import ScalingLaw
from synthetic_rm.errors import require

BESIDE = 1.12
"""of a size: where what is measured otherwise stands"""
PANELS = {
    "alpha": "α",
    "beta": "β",
    "peak_kl": "KL at the peak (nats)",
    "peak_gold": "gold at the peak (SDs)",
}


@house_style()
def figure_scaling(
    law: ScalingLaw,
    fits: pd.DataFrame,
    measured: pd.DataFrame | None = None,
    *,
    own: pd.DataFrame | None = None,
    sizes: Sequence[int] | None = None,
    columns: int = 2,
) -> Figure:
    """alpha, beta, peak KL and peak gold against proxy parameters (log axis): each size's own fit and the law.

    The paper's Figs. 3 and 12. Points with bars are the fits of single sizes with their intervals, open where no peak
    is identified within the data; the line is the law, dark its own interval, light that of a size to be trained. The
    peaks' axes end a little beyond the largest KL measured at every size, the dotted line. Crosses are the highest
    points of the measured mean curves with their intervals, where these do not lie at the end. Faint diamonds are
    alphas fitted freely.

    Args:
        law: of the fits.
        fits: proxy_params, identified, and alpha, beta, peak_kl, peak_gold, each with _lo and _hi.
        measured: the table of `highest_points`.
        own: proxy_params, alpha, alpha_lo, alpha_hi of each size fitted by itself, where the law has one alpha for all.
        sizes: every proxy size of the report (colours).
        columns: width of the figure in columns of a paper.
    Raises:
        InputError: `fits` has not one row for each size of the law.
    """
    require(sorted(fits["proxy_params"]) == list(law.sizes), "fits and law must be of the same sizes")
    colors = size_colors([*law.sizes, *(sizes or ())])
    figure, grid = new_figure(columns=columns, aspect=0.72 if columns == 2 else 1.15, rows=2, cols=2)
    along = np.geomspace(law.sizes[0], law.sizes[-1], 60)
    for axes, (name, label) in zip(np.ravel(grid), PANELS.items(), strict=True):
        for new, shade in ((True, 0.13), (False, 0.3)):
            told = [getattr(law.at(size, new=new), name) for size in along]
            low, middle, high = (np.array([getattr(one, part) for one in told]) for part in ("lo", "value", "hi"))
            axes.fill_between(along, low, np.where(np.isfinite(high), high, 1e9), color="#777777", alpha=shade, lw=0)
        axes.plot(along, np.where(np.isfinite(middle), middle, np.nan), color="black", linewidth=0.9)
        freely = own if name == "alpha" else None
        top = _limit(axes, name, law, fits if freely is None else pd.concat([fits, freely]))
        if freely is not None:
            _free_alphas(axes, freely, colors)
        for _, row in fits.iterrows():
            _point(axes, row, name, colors[int(row["proxy_params"])], top)
        if measured is not None and name.startswith("peak"):
            inner = measured[measured["peak_kl"] < measured["last_kl"]]
            places = inner["proxy_params"] / BESIDE
            axes.vlines(places, inner[f"{name}_lo"], inner[f"{name}_hi"], color="black", linewidth=0.7)
            axes.plot(places, inner[name], "x", color="black", markersize=4, zorder=6)
        params_axis(axes, law.sizes)
        axes.set_ylabel(COEFFICIENT_LABELS[law.form].get(name, label))
    note_below(
        figure,
        f"gold = {FORMULAS.get(law.form, law.form)}, d = √KL · bars, dark shade: {percent(law.level)} intervals · "
        "light shade: of a size to be trained · open: no peak identified in the data · triangles: beyond the axis · "
        "dotted: largest KL measured at every size · crosses: highest point measured"
        + ("" if own is None else " · diamonds: α of each size fitted by itself"),
    )
    return figure


def _limit(axes: Axes, name: str, law: ScalingLaw, fits: pd.DataFrame) -> float:
    """Set the y axis to what was measured; its upper end."""
    if not name.startswith("peak"):
        low, high = float(fits[f"{name}_lo"].min()), float(fits[f"{name}_hi"].max())
        axes.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
        axes.set_ylim(min(low, 0) - 0.08 * (high - min(low, 0)), high + 0.08 * (high - min(low, 0)))
        return float(axes.get_ylim()[1])
    if name == "peak_kl":
        edge = law.largest_kl
        axes.axhline(edge, color=MUTED, linewidth=0.6, linestyle=(0, (1, 2)))
    else:
        seen = fits[fits["identified"].astype(bool)]
        edge = max(float(law.curve(law.sizes[-1], [law.largest_kl])["gold"].iloc[0]), *seen["peak_gold"], 0.1)
    axes.set_ylim(0, 1.25 * edge)
    return 1.25 * edge


def _free_alphas(axes: Axes, own: pd.DataFrame, colors: dict[int, str]) -> None:
    """Beside the common alpha, a little to the right of it."""
    for _, row in own.iterrows():
        place, color = BESIDE * float(row["proxy_params"]), colors[int(row["proxy_params"])]
        axes.plot([place] * 2, [row["alpha_lo"], row["alpha_hi"]], color=color, linewidth=1.0, alpha=0.6)
        axes.plot(place, row["alpha"], "D", color=color, markersize=4.0, markeredgewidth=0, alpha=0.75, zorder=4)


def _point(axes: Axes, row: pd.Series, name: str, color: str, top: float) -> None:
    size, value = float(row["proxy_params"]), float(row[name])
    axes.plot([size, size], [row[f"{name}_lo"], min(row[f"{name}_hi"], 2 * top)], color=color, linewidth=1.3)
    face = color if bool(row["identified"]) else "white"
    beyond = value > top
    axes.plot(
        size,
        0.96 * top if beyond else value,
        "^" if beyond else "o",
        color=color,
        markerfacecolor=face,
        markersize=4.5,
        zorder=5,
    )


@house_style()
def figure_left_out(
    predicted: pd.DataFrame,
    *,
    sizes: Sequence[int] | None = None,
    level: float = 0.95,
    form: str = "bon",
    columns: int = 1,
) -> Figure:
    """Gold of every size as measured (dots) and as predicted by the law of all other sizes (line, shade).

    Args:
        predicted: the table of `leave_one_out`, and measured_lo, measured_hi where they are known.
        sizes: every proxy size of the report (colours).
        level: of the intervals in the table.
        form: of the law.
        columns: width of the figure in columns of a paper.
    Raises:
        InputError: the table has no rows.
    """
    require(len(predicted) > 0, "nothing to draw: the table has no rows")
    present = sorted({int(size) for size in predicted["proxy_params"]})
    colors = size_colors([*present, *(sizes or ())])
    across = 1 + columns
    down = -(-len(present) // across)
    figure, grid = new_figure(columns=columns, aspect=0.15 + 0.75 * down / across, rows=down, cols=across)
    panels = list(np.ravel(grid))
    limit = float(predicted["kl"].max())
    for place, size in enumerate(present):
        axes, table = panels[place], predicted[predicted["proxy_params"] == size].sort_values("kl")
        axes.fill_between(table["kl"], table["gold_lo"], table["gold_hi"], color="#777777", alpha=0.18, lw=0)
        axes.plot(table["kl"], table["gold"], color="black", linewidth=1.0)
        if "measured_lo" in table:
            band = (table["measured_lo"], table["measured_hi"])
            axes.fill_between(table["kl"], *band, color=colors[size], alpha=0.2, lw=0)
        axes.plot(table["kl"], table["measured"], "o", color=colors[size], markersize=2.4, markeredgewidth=0)
        axes.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
        title = f"{human_count(size)}{', law extended' if bool(table['outside'].iloc[0]) else ''}"
        axes.set_title(title, loc="left", color=darker(colors[size], 0.8))
        low, high = float(table["measured"].min()), float(table["measured"].max())
        room = max(high - low, 0.1)
        axes.set_ylim(
            min(low, float(table["gold"].min())) - 0.4 * room, max(high, float(table["gold"].max())) + 0.4 * room
        )
        sqrt_kl_axis(axes, limit * 1.01, label="" if place + across < len(present) else "KL (nats)", gap=0.13)
    for axes in panels[len(present) :]:
        axes.set_axis_off()
    figure.supylabel(GOLD_LABEL, fontsize=8)
    note_below(
        figure,
        f"dots: measured · line: {FORMULAS.get(form, form)} with α and β from lines through all other sizes · "
        f"{percent(level)} intervals: coloured of what was measured, grey of a size to be trained",
    )
    return figure
