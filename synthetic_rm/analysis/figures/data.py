"""Figures over the number of comparisons: the paper's Figs. 5, 6, 10 to 13, 17, 18 and 21."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synthetic_rm.analysis.data_points import CHANCE
from synthetic_rm.analysis.figures.best_of_n import COEFFICIENT_LABELS, zero_line
from synthetic_rm.analysis.figures.style import (
    MUTED,
    data_colors,
    house_style,
    human_count,
    new_figure,
    note_below,
    params_axis,
    percent,
    same_height,
    size_colors,
    size_legend,
)
from synthetic_rm.analysis.scaling import ScalingLaw

COMPARISONS, PARAMETERS = "comparisons to learn from", "proxy parameters"
LOSS_LABEL = "validation loss (nats)"
MARKERS = "ovs^DPX*"


def bar(axes: Axes, x: float, row: pd.Series, name: str, color: Any, *, marker: str = "o", full: bool = True) -> None:
    """A value of a table with its interval."""
    axes.plot([x, x], [row[f"{name}_lo"], row[f"{name}_hi"]], color=color, linewidth=1.0)
    axes.plot(x, row[name], marker, color=color, markerfacecolor=color if full else "white", markersize=4.2, zorder=5)


def _series(axes: Axes, table: pd.DataFrame, x: str, name: str, series: str, colors: dict[int, str]) -> None:
    """`name` over `x`, a line for each value of `series`; points are moved sideways a little, so that bars are seen."""
    for rank, (value, rows) in enumerate(table.groupby(series, sort=True)):
        color, rows = colors[int(str(value))], rows.sort_values(x)
        shift = 1.035 ** (rank - (len(colors) - 1) / 2)
        axes.plot(rows[x] * shift, rows[name], color=color, linewidth=1.2)
        for _, row in rows.iterrows():
            bar(axes, row[x] * shift, row, name, color, full=bool(row["learnt"]))


def _mark_legend(axes: Axes, counts: list[int]) -> None:
    """The marks of the numbers of comparisons."""
    handles = [
        Line2D([], [], color=MUTED, marker=mark, linestyle="", markersize=4.2) for mark in MARKERS[: len(counts)]
    ]
    axes.legend(handles, [human_count(count) for count in counts], title="comparisons", loc="upper left")


def _law_lines(axes: Axes, law: ScalingLaw, name: str, colors: dict[int, str]) -> None:
    """alpha or beta of every size by the law, over the numbers of comparisons above its threshold."""
    along = [count for count in law.counts if not law.at_chance(count)]
    for size, color in colors.items():
        told = [getattr(law.at(size, count, new=False), name).value for count in along]
        axes.plot(along, told, color=color, linewidth=0.9, linestyle=(0, (1, 1.2)))


@house_style()
def figure_data_validation(table: pd.DataFrame, *, level: float = 0.95, columns: int = 2) -> Figure:
    """Validation loss against comparisons, a line per size, and against size, a line per number: the paper's 6 and 11.

    Args:
        table: `data_table` of one setting for each size and number of comparisons.
        level: of the intervals.
        columns: width of the figure in columns of a paper.
    """
    sizes, counts = size_colors(table["proxy_params"]), data_colors(table["num_comparisons"])
    figure, (left, right) = new_figure(columns=columns, aspect=0.5, cols=2)
    _series(left, table, "num_comparisons", "validation_loss", "proxy_params", sizes)
    _series(right, table, "proxy_params", "validation_loss", "num_comparisons", counts)
    params_axis(left, counts, COMPARISONS)
    params_axis(right, sizes)
    for axes, colors, title in ((left, sizes, PARAMETERS), (right, counts, COMPARISONS)):
        axes.axhline(CHANCE, color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)))
        handles = [Line2D([], [], color=color, linewidth=2) for color in colors.values()]
        axes.legend(handles, [human_count(count) for count in colors], title=title, loc="lower center",
                    bbox_to_anchor=(0.5, 1.0), ncols=5, handlelength=1.2, columnspacing=1.0)  # fmt: skip
        axes.set_ylabel(LOSS_LABEL)
    note_below(
        figure,
        f"dotted: chance, ln 2 · bars: {percent(level)} intervals over seeds · open: not surely better than chance",
    )
    return figure


@house_style()
def figure_loss_gold(table: pd.DataFrame, *, level: float = 0.95, columns: int = 1) -> Figure:
    """Gold at n of about 1,000 against validation loss, colour by size, mark by comparisons: the paper's Fig. 5.

    Args:
        table, level, columns: as for `figure_data_validation`.
    """
    sizes = size_colors(table["proxy_params"])
    counts = sorted({int(count) for count in table["num_comparisons"]})
    figure, axes = new_figure(columns=columns, aspect=1.05 if columns == 1 else 0.66)
    for size, rows in table.groupby("proxy_params", sort=True):
        color, rows = sizes[int(str(size))], rows.sort_values("num_comparisons")
        axes.plot(rows["validation_loss"], rows["gold"], color=color, linewidth=0.7, alpha=0.7)
        for _, row in rows.iterrows():
            span = [row["validation_loss_lo"], row["validation_loss_hi"]]
            axes.plot(span, [row["gold"]] * 2, color=color, linewidth=1.0)
            bar(axes, row["validation_loss"], row, "gold", color, marker=MARKERS[counts.index(row["num_comparisons"])])
    axes.axvline(CHANCE, color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)))
    zero_line(axes)
    axes.invert_xaxis()
    axes.set_xlabel(f"{LOSS_LABEL}, falling")
    axes.set_ylabel(f"gold at n = {int(table['n'].iloc[0]):,} (SDs of the reference)")
    size_legend(figure, sizes)
    _mark_legend(axes, counts)
    note_below(figure, f"dotted: chance, ln 2 · bars: {percent(level)} intervals")
    return figure


@house_style()
def figure_data_gold(table: pd.DataFrame, *, level: float = 0.95, columns: int = 2) -> Figure:
    """Gold at n of about 1,000 (the paper's Fig. 21) and highest gold (Fig. 10) against comparisons, a line per size.

    Args:
        table, level, columns: as for `figure_data_validation`.
    """
    colors = size_colors(table["proxy_params"])
    figure, (left, right) = new_figure(columns=columns, aspect=0.5, cols=2)
    for axes, name in ((left, "gold"), (right, "peak")):
        _series(axes, table, "num_comparisons", name, "proxy_params", colors)
        params_axis(axes, table["num_comparisons"], COMPARISONS)
        zero_line(axes)
    left.set_ylabel(f"gold at n = {int(table['n'].iloc[0]):,} (SDs)")
    right.set_ylabel("highest gold (SDs)")
    same_height(left, right)
    size_legend(figure, colors)
    note_below(
        figure,
        f"bars: {percent(level)} intervals over seeds and prompts · open: validation loss not surely better than "
        "chance · highest gold: where the other seeds and prompts have it",
    )
    return figure


@house_style()
def figure_peaks(table: pd.DataFrame, *, cut: float, level: float = 0.95, columns: int = 1) -> Figure:
    """Highest gold as the form fitted on KL <= `cut` predicts it, against what was measured: the paper's Fig. 12.

    Args:
        table, level, columns: as for `figure_data_validation`.
        cut: nats.
    """
    sizes = size_colors(table["proxy_params"])
    counts = sorted({int(count) for count in table["num_comparisons"]})
    figure, axes = new_figure(columns=columns, aspect=1.05 if columns == 1 else 0.66)
    for _, row in table.iterrows():
        color = sizes[int(row["proxy_params"])]
        axes.plot([row["peak_lo"], row["peak_hi"]], [row["predicted"]] * 2, color=color, linewidth=1.0)
        bar(axes, row["peak"], row, "predicted", color, marker=MARKERS[counts.index(row["num_comparisons"])])
    ends = [table[["peak_lo", "predicted_lo"]].min(axis=None), table[["peak_hi", "predicted_hi"]].max(axis=None)]
    axes.plot(ends, ends, color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
    axes.set_xlabel("highest gold, measured (SDs)")
    axes.set_ylabel("highest gold, predicted (SDs)")
    size_legend(figure, sizes)
    _mark_legend(axes, counts)
    note_below(
        figure,
        f"predicted: d(α − β d) fitted on KL ≤ {cut:g} nats, its highest point up to the largest KL · dotted: equal · "
        f"bars: {percent(level)} intervals",
    )
    return figure


@house_style()
def figure_epochs(table: pd.DataFrame, *, level: float = 0.95, columns: int = 1) -> Figure:
    """Comparisons seen once and several times: validation loss and gold at n of about 1,000 (the paper's Fig. 13).

    Args:
        table: `data_table` of the conditions, and rows whose proxy_params is 0: the means over sizes.
        level, columns: as for `figure_data_validation`.
    """
    colors = {0: "#000000"} | size_colors(table.loc[table["proxy_params"] > 0, "proxy_params"])
    named = zip(table["num_comparisons"].astype(int), table["proxy_epochs"].astype(float), strict=True)
    conditions = sorted(set(named), key=lambda told: (told[0] * told[1], told[0]))
    tall = columns == 1
    figure, panels = new_figure(columns=columns, aspect=1.25 if tall else 0.5, rows=1 + tall, cols=2 - tall)
    for axes, name, label in zip(panels, ("validation_loss", "gold"), (LOSS_LABEL, ""), strict=True):
        for rank, (size, color) in enumerate(colors.items()):
            rows = table[table["proxy_params"] == size]
            x = np.arange(len(conditions)) + 0.08 * (rank - (len(colors) - 1) / 2)
            places = list(zip(rows["num_comparisons"], rows["proxy_epochs"], strict=True))
            told = [rows.iloc[places.index(condition)] for condition in conditions]
            for place, row in zip(x, told, strict=True):
                bar(axes, place, row, name, color, marker="D" if size == 0 else "o")
        axes.set_xlim(-0.6, len(conditions) - 0.4)
        axes.set_xticks(range(len(conditions)), [f"{epochs:g} × {human_count(count)}" for count, epochs in conditions])
        axes.set_ylabel(label or f"gold at n = {int(table['n'].iloc[0]):,} (SDs)")
    panels[0].axhline(CHANCE, color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)))
    panels[-1].set_xlabel("epochs × comparisons")
    handles = [Line2D([], [], color=color, linewidth=2) for color in colors.values()]
    names = ["mean" if size == 0 else human_count(size) for size in colors]
    figure.legend(handles, names, title=PARAMETERS, loc="outside upper center", ncols=6, handlelength=1.2)
    note_below(figure, f"dotted: chance, ln 2 · bars: {percent(level)} intervals")
    return figure


@house_style()
def figure_data_coefficients(
    fits: pd.DataFrame, law: ScalingLaw | None = None, *, level: float = 0.95, columns: int = 2
) -> Figure:
    """alpha and beta of best-of-n against comparisons: of each size, and their mean over sizes (the paper's 17 and 18).

    Args:
        fits: num_comparisons, proxy_params, identified, alpha and beta with _lo and _hi; proxy_params 0 is the mean.
        law: over size and data, where there is one; drawn dotted above its threshold.
        level, columns: as for `figure_data_validation`.
    """
    fits = fits.assign(learnt=fits["identified"].astype(bool))
    sizes, means = fits[fits["proxy_params"] > 0], fits[fits["proxy_params"] == 0].sort_values("num_comparisons")
    colors = size_colors(sizes["proxy_params"])
    figure, panels = new_figure(columns=columns, aspect=0.5, cols=2)
    for axes, (name, label) in zip(panels, COEFFICIENT_LABELS["bon"].items(), strict=True):
        _series(axes, sizes, "num_comparisons", name, "proxy_params", colors)
        if law is not None:
            _law_lines(axes, law, name, colors)
        axes.fill_between(
            means["num_comparisons"], means[f"{name}_lo"], means[f"{name}_hi"], color="black", alpha=0.13, lw=0
        )
        axes.plot(means["num_comparisons"], means[name], color="black", linewidth=1.8)
        params_axis(axes, means["num_comparisons"], COMPARISONS)
        zero_line(axes)
        axes.set_ylabel(label)
    size_legend(figure, colors)
    note_below(
        figure,
        f"gold = d(α − β d), d = √KL · black: mean over sizes · bars, shade: {percent(level)} intervals · "
        f"open: no peak identified within the data{'' if law is None else ' · dotted: law over size and data'}",
    )
    return figure
