"""Proxy scores of best-of-n against distance: the paper's Fig. 20."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synthetic_rm.analysis.figures.best_of_n import colors_of, curve_of, legend_below, zero_line
from synthetic_rm.analysis.figures.style import MUTED, house_style, new_figure, note_below, percent, size_legend


@house_style()
def figure_proxy_scores(
    mean_curves: pd.DataFrame, *, sizes: Sequence[int] | None = None, level: float = 0.95, columns: int = 1
) -> Figure:
    """Mean proxy score against d = sqrt(KL), beside the least-squares line a d through the origin.

    A proxy whose upper tail is lighter than a line needs bends down (the paper's are slightly concave); one that is a
    normal variate within a prompt bends up a little.

    Args:
        mean_curves: proxy_params, pressure, kl, proxy, proxy_lo, proxy_hi, as `mean_curves` gives them.
        sizes: every proxy size of the report (colours).
        level: of the intervals in the table.
        columns: width of the figure in columns of a paper.
    Raises:
        InputError: `mean_curves` has no rows, or several for one size and pressure.
    """
    colors = colors_of(mean_curves, sizes, ("proxy_params", "pressure"))
    figure, axes = new_figure(columns=columns, aspect=0.95 if columns == 1 else 0.66)
    for size, color in colors.items():
        curve = curve_of(mean_curves, size)
        d = np.sqrt(curve["kl"])
        axes.fill_between(d, curve["proxy_lo"], curve["proxy_hi"], color=color, alpha=0.14, lw=0)
        axes.plot(d, curve["proxy"], color=color)
        axes.plot(d, straight(curve) * d, color=color, linewidth=0.8, linestyle=(0, (1, 1.2)))
    zero_line(axes)
    axes.set_xlim(left=0)
    axes.set_xlabel("distance d = √KL (√nats)")
    axes.set_ylabel("proxy score (SDs of the reference)")
    axes.set_title("Proxy score under best-of-n", loc="left")
    size_legend(figure, colors)
    dots = Line2D([], [], color=MUTED, linewidth=0.8, linestyle=(0, (1, 1.2)))
    legend_below(axes, [dots], ["straight line a d"])
    note_below(figure, f"bands: {percent(level)} interval over prompts and proxy seeds")
    return figure


def straight(curve: pd.DataFrame) -> float:
    """The slope a of the least-squares line a d through the origin: sum(d proxy) / sum(d^2)."""
    d = np.sqrt(curve["kl"].to_numpy(np.float64))
    return float(d @ curve["proxy"].to_numpy(np.float64) / (d @ d))
