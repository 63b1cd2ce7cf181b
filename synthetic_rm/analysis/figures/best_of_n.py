"""Figures of best-of-n: gold and proxy against KL (the paper's Fig. 1a), and against each other."""

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
    darker,
    house_style,
    new_figure,
    note_below,
    percent,
    run_note,
    size_colors,
    size_legend,
    sqrt_kl_axis,
)
from synthetic_rm.analysis.forms import find_form
from synthetic_rm.errors import require

GOLD_LABEL = "gold score (SDs of the reference)"
FORMULAS = {"bon": "d(α − β d)", "rl": "d(α − β ln d)", "log1p": "d(α − β ln(1+d))", "linear": "α d"}
FORMULAS |= {"quadratic": "d²(α − β d²)", "power": "d(α − β dᵞ)"}
COEFFICIENT_LABELS = {form: {"alpha": "α (SDs per √nat)", "beta": "β (SDs per √nat)"} for form in ("rl", "log1p")}
COEFFICIENT_LABELS["bon"] = {"alpha": "α (SDs per √nat)", "beta": "β (SDs per nat)"}
COEFFICIENT_LABELS["quadratic"] = {"alpha": "α (SDs per nat)", "beta": "β (SDs per nat²)"}
"""by form: gold in SDs of the reference, d in square roots of a nat"""
PROXY_DASH = (0, (4, 1.6))


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


def kl_grid(limit: float) -> NDArray[np.float64]:
    """[120] values of KL from 0 to `limit` nats, evenly spaced in distance."""
    return np.square(np.linspace(0, np.sqrt(limit), 120))


def proxy_band(axes: Axes, curve: pd.DataFrame, color: str) -> None:
    """The interval of the proxy over KL, fainter than that of gold."""
    axes.fill_between(curve["kl"], curve["proxy_lo"], curve["proxy_hi"], color=color, alpha=0.06, lw=0)


def hold_lines(axes: Axes, curves: pd.DataFrame, *names: str, room: float = 0.35) -> str:
    """Narrow the y axis to the curves, with `room` of their range around them, where wide bands would squeeze them.

    Args:
        axes: with all drawn.
        curves: their rows; of each name in `names` the columns name, name_lo and name_hi.

    Returns:
        In words, for the note, that bands are cut; empty where none is.
    """
    lines = curves[list(names)].to_numpy(np.float64)
    bands = curves[[f"{name}_{end}" for name in names for end in ("lo", "hi")]].to_numpy(np.float64)
    low, high = min(float(np.nanmin(lines)), 0.0), max(float(np.nanmax(lines)), 0.0)
    space, (bottom, top) = room * (high - low), axes.get_ylim()
    bottom, top = max(bottom, low - space), min(top, high + space)
    axes.set_ylim(bottom, top)
    cut = bool((bands < bottom).any() or (bands > top).any())
    return "bands are cut at the edge of the axes" if cut else ""


def legend_below(axes: Axes, handles: Sequence[Line2D], labels: Sequence[str]) -> None:
    """What the lines are, in one row below the axes, where no curve can run behind it."""
    axes.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.46, -0.19), ncols=len(labels), handlelength=2.2)


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
            proxy_band(axes, curve, color)
            axes.plot(curve["kl"], curve["proxy"], color=color, linestyle=PROXY_DASH, linewidth=1.1)
        axes.fill_between(curve["kl"], curve["gold_lo"], curve["gold_hi"], color=color, alpha=0.17, lw=0)
        axes.plot(curve["kl"], curve["gold"], color=color, linewidth=1.8)
    verdicts = {} if overopt is None else dict(zip(overopt["proxy_params"], overopt["verdict"], strict=True))
    peaks = set()
    for _, row in fits[fits["proxy_params"].isin(list(colors))].iterrows():
        color = colors[int(row["proxy_params"])]
        line = find_form(str(row.get("form", "bon"))).curve(np.sqrt(kl_grid(limit)), row["alpha"], row["beta"])
        axes.plot(kl_grid(limit), line, color=darker(color), linewidth=0.7, zorder=4)
        filled = verdicts.get(row["proxy_params"], "fell") == "fell"
        if _peak_mark(axes, row, color, limit=limit, filled=filled):
            peaks.add(filled)
    zero_line(axes)
    cut = hold_lines(axes, mean_curves, *(("gold", "proxy") if with_proxy else ("gold",)))
    axes.set_ylabel("reward model score (gold: SDs of the reference)" if with_proxy else GOLD_LABEL)
    axes.set_title(title, loc="left")
    sqrt_kl_axis(axes, limit * 1.01)
    size_legend(figure, colors)
    _line_legend(axes, fits, with_proxy=with_proxy, level=level, peaks=peaks)
    counts = run_note(num_prompts=num_prompts, num_samples=num_samples, num_seeds=num_seeds,
                      nonfinite=nonfinite, collapsed=collapsed)  # fmt: skip
    note_below(figure, f"{counts}\u00a0· {cut}" if cut else counts)
    return figure


def _peak_mark(axes: Axes, row: pd.Series, color: str, *, limit: float, filled: bool) -> bool:
    """Mark the fitted peak where it is identified within the data; whether it is."""
    peak, top = float(row["peak_kl"]), float(row["peak_gold"])
    if not bool(row["identified"]) or not np.isfinite([peak, top]).all() or peak > limit:
        return False
    low, high = float(row.get("peak_kl_lo", np.nan)), float(row.get("peak_kl_hi", np.nan))
    if not np.isnan([low, high]).any():
        axes.plot([max(low, 0), min(high, limit)], [top, top], "-|", color=darker(color), lw=0.8, ms=4.5, zorder=5)
    face = color if filled else "white"
    axes.plot(peak, top, "o", markersize=4.2, color="black", markerfacecolor=face, markeredgewidth=0.8, zorder=6)
    return True


def _line_legend(axes: Axes, fits: pd.DataFrame, *, with_proxy: bool, level: float, peaks: set[bool]
                 ) -> None:  # fmt: skip
    """What the lines and marks are, those alone that are drawn: `peaks` tells which, full (True) or open."""
    form = str(fits["form"].iloc[0]) if "form" in fits and len(fits) else "bon"
    grey = "#555555"
    peak: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 4.2, "linewidth": 0.8}
    dashed = Line2D([], [], color=grey, linewidth=1.1, linestyle=PROXY_DASH)
    fitted = Line2D([], [], color="black", linewidth=0.7)
    entries = [
        (True, "gold", Line2D([], [], color=grey, linewidth=1.8)),
        (with_proxy, "proxy", dashed),
        (len(fits) > 0, f"fit {FORMULAS.get(form, form)}", fitted),
        (True, f"{percent(level)} interval", Patch(color=grey, alpha=0.25, linewidth=0)),
        (True in peaks, "peak, gold fell", Line2D([], [], markerfacecolor=grey, **peak)),
        (False in peaks, "peak, no fall seen", Line2D([], [], markerfacecolor="white", **peak)),
    ]
    shown = [(label, handle) for drawn, label, handle in entries if drawn]
    axes.legend(
        [handle for _, handle in shown], [label for label, _ in shown], loc="upper center",
        bbox_to_anchor=(0.46, -0.17), ncols=2 if len(shown) == 4 else 3, handlelength=1.9, columnspacing=1.0,
        handletextpad=0.5,
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
