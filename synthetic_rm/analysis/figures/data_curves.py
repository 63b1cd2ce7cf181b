"""Curves of best-of-n by number of comparisons (the paper's Figs. 4a and 19), and by who labelled them."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthetic_rm.analysis.figures.best_of_n import PROXY_DASH, proxy_band, zero_line
from synthetic_rm.analysis.figures.data import COMPARISONS
from synthetic_rm.analysis.figures.style import (
    data_colors,
    house_style,
    human_count,
    new_figure,
    note_below,
    percent,
    same_height,
    size_colors,
    size_legend,
    sqrt_kl_axis,
)
from synthetic_rm.errors import require

SCORE_LABEL = "score (gold: SDs of the reference)"


def _draw(axes: Axes, curve: pd.DataFrame, color: str) -> None:
    """Gold, solid, and proxy, dashed, over KL with their intervals."""
    curve = curve.sort_values("kl")
    proxy_band(axes, curve, color)
    axes.fill_between(curve["kl"], curve["gold_lo"], curve["gold_hi"], color=color, alpha=0.15, lw=0)
    axes.plot(curve["kl"], curve["gold"], color=color, linewidth=1.6)
    axes.plot(curve["kl"], curve["proxy"], color=color, linewidth=0.9, linestyle=PROXY_DASH)


def _told(level: float) -> str:
    return f"solid: gold · dashed: proxy, recalibrated · shades, the proxy’s fainter: {percent(level)} intervals"


def _grid(columns: int, count: int, height: float = 0.75) -> tuple[Figure, list[Axes], int]:
    """So many panels, up to 1 + columns beside each other; those that are too many are empty."""
    across = min(1 + columns, count)
    down = -(-count // across)
    figure, grid = new_figure(columns=columns, aspect=0.18 + height * down / across, rows=down, cols=across)
    panels = list(np.ravel(grid))
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count], across


@house_style()
def figure_data_curves(means: pd.DataFrame, *, title: str = "", level: float = 0.95, columns: int = 2) -> Figure:
    """Gold (solid) and proxy (dashed) against KL, a colour per number of comparisons, a panel per size.

    The paper's Figs. 4 and 19.

    Args:
        means: as `mean_curves` gives them, one setting for each size and number of comparisons.
        title: of every panel, before the size.
        level: of the intervals.
        columns: width of the figure in columns of a paper.
    Raises:
        InputError: several settings of one size and number.
    """
    key = ["proxy_params", "num_comparisons", "pressure"]
    require(not means.duplicated(key).any(), "one setting for each size and number of comparisons can be drawn")
    colors, limit = data_colors(means["num_comparisons"]), float(means["kl"].max())
    sizes = sorted(means["proxy_params"].unique())
    figure, panels, across = _grid(columns, len(sizes))
    for place, (axes, size) in enumerate(zip(panels, sizes, strict=True)):
        for count, curve in means[means["proxy_params"] == size].groupby("num_comparisons", sort=True):
            _draw(axes, curve, colors[int(str(count))])
        zero_line(axes)
        axes.set_title(f"{title}{', ' if title else ''}{human_count(size)} parameters", loc="left")
        sqrt_kl_axis(axes, limit * 1.01, label="" if place + across < len(sizes) else "KL (nats)", gap=0.13)
    same_height(*panels)
    figure.supylabel(SCORE_LABEL, fontsize=8)
    size_legend(figure, colors, COMPARISONS)
    note_below(figure, _told(level))
    return figure


@house_style()
def figure_real(means: pd.DataFrame, *, level: float = 0.95, columns: int = 2) -> Figure:
    """Gold under best-of-n by proxies that gold taught ("synthetic") and by those that people taught ("real").

    Args:
        means: as `mean_curves` gives them, with labels "human" and "hard" and one setting of each for a size.
        level, columns: as for `figure_data_validation`.
    """
    colors, limit = size_colors(means["proxy_params"]), float(means["kl"].max())
    figure, panels = new_figure(columns=columns, aspect=0.52, cols=2)
    for axes, labels, title in zip(panels, ("hard", "human"), ("labelled by gold", "labelled by people"), strict=True):
        for size, curve in means[means["labels"] == labels].groupby("proxy_params", sort=True):
            _draw(axes, curve, colors[int(str(size))])
        zero_line(axes)
        count = int(means.loc[means["labels"] == labels, "num_comparisons"].iloc[0])
        axes.set_title(f"{count:,} {title}", loc="left")
        sqrt_kl_axis(axes, limit * 1.01, gap=0.13, label="KL (nats)")
    same_height(*panels)
    panels[0].set_ylabel(SCORE_LABEL)
    size_legend(figure, colors)
    note_below(
        figure,
        f"{_told(level)} · people compared texts that people wrote, gold compared responses of the reference to one "
        "prompt",
    )
    return figure
