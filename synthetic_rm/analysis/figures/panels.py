"""Figures of studies: a panel per proxy size, a line per KL penalty (Figs. 9, 14) or policy (7, 15, 22 to 24)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synthetic_rm.analysis.curve_intervals import mean_over_runs
from synthetic_rm.analysis.figures.best_of_n import GOLD_LABEL, proxy_band, zero_line
from synthetic_rm.analysis.figures.style import (
    MUTED,
    house_style,
    human_count,
    new_figure,
    note_below,
    percent,
    sqrt_kl_axis,
)
from synthetic_rm.errors import require

PROXY_DOTS = (0, (1, 1.3))
GREY = "#555555"
STAR: dict[str, Any] = {"markersize": 8, "markeredgecolor": "black", "markeredgewidth": 0.5}


class Lines(NamedTuple):
    """What the lines of a panel differ in."""

    column: str
    """of the tables"""
    title: str
    """of the legend"""
    palette: tuple[str, float, float]
    """colour map, position of the smallest and of the largest value"""
    label: Callable[[float], str]

    def colors(self, values: Iterable[float]) -> dict[float, str]:
        """A colour for each value by its rank, so that figures of the same values agree."""
        ordered = sorted({float(value) for value in values})
        name, first, last = self.palette
        places = np.linspace(first, last, len(ordered)) if len(ordered) > 1 else np.array([first])
        return {value: to_hex(mpl.colormaps[name](place)) for value, place in zip(ordered, places, strict=True)}


PENALTIES = Lines("kl_coef", "KL penalty (SDs of the proxy per nat)", ("magma", 0.0, 0.78), lambda x: f"{x:g}")
POLICIES = Lines("policy_params", "policy parameters", ("cividis", 0.85, 0.0), human_count)


@house_style()
def score_panels(
    means: pd.DataFrame,
    series: Lines,
    *,
    title: str,
    note: str = "",
    with_proxy: bool = True,
    stars: bool = False,
    values: Iterable[float] = (),
    level: float = 0.95,
) -> Figure:
    """Gold (solid) and proxy (dotted) against KL on a square-root axis.

    Args:
        means: proxy_params, the series' column, kl, proxy and gold, each with _lo and _hi, as `mean_curves` gives them.
        series: what the lines differ in.
        title: above the panels.
        note: below them, after what is said of the bands.
        with_proxy: False leaves the proxy curves out.
        stars: mark the highest gold of each line.
        values: every value of the series in the report (colours); those of `means` by default.
        level: of the intervals in the table.
    Raises:
        InputError: `means` has no rows, or several for one line and KL.
    """
    figure, lines = _panels(means, series, title, ("kl",), values)
    for axes, curve, color in lines:
        curve = curve.sort_values("kl")
        axes.fill_between(curve["kl"], curve["gold_lo"], curve["gold_hi"], color=color, alpha=0.15, lw=0)
        axes.plot(curve["kl"], curve["gold"], color=color, linewidth=1.5)
        if with_proxy:
            proxy_band(axes, curve, color)
            axes.plot(curve["kl"], curve["proxy"], color=color, linestyle=PROXY_DOTS, linewidth=1.2)
        if stars:
            top = curve.iloc[int(curve["gold"].argmax())]
            axes.plot(top["kl"], top["gold"], "*", color=color, zorder=5, clip_on=False, **STAR)
    first = figure.axes[0]
    first.set_ylabel("reward model score (SDs of the reference)" if with_proxy else GOLD_LABEL)
    handles = [("gold", Line2D([], [], color=GREY, linewidth=1.5))]
    handles += [("proxy", Line2D([], [], color=GREY, linewidth=1.2, linestyle=PROXY_DOTS))] if with_proxy else []
    star = Line2D([], [], color=GREY, marker="*", linewidth=0, **STAR)
    handles += [("highest gold", star)] if stars else []
    first.legend([handle for _, handle in handles], [name for name, _ in handles], loc="best", handlelength=1.9)
    _finish_kl(figure, means)
    bands = "bands, the proxy’s fainter" if with_proxy else "bands"
    _note(figure, f"{bands}: {percent(level)} intervals over prompts and proxy seeds", note)
    return figure


@house_style()
def gap_panels(gaps: pd.DataFrame, series: Lines, *, title: str, note: str = "", values: Iterable[float] = (),
               level: float = 0.95) -> Figure:  # fmt: skip
    """Proxy minus gold against KL on a square-root axis.

    Args:
        gaps: proxy_params, the series' column, kl, gap, gap_lo, gap_hi.
        series, title, note, values, level: as for `score_panels`.
    Raises:
        InputError: `gaps` has no rows, or several for one line and KL.
    """
    figure, lines = _panels(gaps, series, title, ("kl",), values)
    for axes, curve, color in lines:
        curve = curve.sort_values("kl")
        axes.fill_between(curve["kl"], curve["gap_lo"], curve["gap_hi"], color=color, alpha=0.15, lw=0)
        axes.plot(curve["kl"], curve["gap"], color=color, linewidth=1.5)
    figure.axes[0].set_ylabel("proxy − gold score (SDs of the reference)")
    _finish_kl(figure, gaps)
    _note(figure, f"bands: {percent(level)} interval over prompts and proxy seeds", note)
    return figure


@house_style()
def step_panels(history: pd.DataFrame, series: Lines, *, method: str, title: str, values: Iterable[float] = (),
                lost: int = 0, level: float = 0.95) -> Figure:  # fmt: skip
    """KL of the training rollouts against iterations: a thin line for each run, a thick one for their mean.

    The mean ends with the first of its runs.

    Args:
        history: run, proxy_params, the series' column, step, kl: a row per iteration.
        series, title, values: as for `score_panels`.
        method: of RL, as people write it.
        lost: number of runs that are left out.
        level: of the means' intervals, over runs.
    Raises:
        InputError: `history` has no rows.
    """
    figure, lines = _panels(history, series, title, ("run", "step"), values)
    for axes, rows, color in lines:
        runs = [run.sort_values("step") for _, run in rows.groupby("run", sort=True)]
        for run in runs:
            axes.plot(run["step"], run["kl"], color=color, linewidth=0.6, alpha=0.6)
        mean = mean_over_runs(rows, "kl", level)
        axes.fill_between(mean["step"], mean["lo"], mean["hi"], color=color, alpha=0.17, lw=0)
        axes.plot(mean["step"], mean["mean"], color=color, linewidth=1.8)
    for axes in figure.axes:
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"{method} iterations")
    figure.axes[0].set_ylabel("KL from the policy's own start (nats)")
    runs_lost = f"{lost or 'no'} {'run' if lost == 1 else 'runs'} left out (failed or not finite)"
    told = f"thick: the mean until the first run ends, shade: its {percent(level)} interval over runs"
    _note(figure, f"thin: a run on its training prompts; {told}", runs_lost)
    return figure


def _panels(table: pd.DataFrame, series: Lines, title: str, key: tuple[str, ...], values: Iterable[float]
            ) -> tuple[Figure, Iterator[tuple[Axes, pd.DataFrame, str]]]:  # fmt: skip
    """A figure with a panel for each proxy size, and (axes, rows, colour) of every line."""
    require(len(table) > 0, "nothing to draw: the table has no rows")
    named = ["proxy_params", series.column]
    repeated = bool(table.duplicated([*named, *key]).any())
    require(not repeated, f"one row per {', '.join([*named, *key])} can be drawn, got several: choose one setting")
    sizes = sorted({int(size) for size in table["proxy_params"]})
    figure, grid = new_figure(columns=2, aspect=0.5, cols=len(sizes))
    panels = dict(zip(sizes, np.atleast_1d(grid), strict=True))
    every = series.colors([*table[series.column], *values])
    colors = {value: color for value, color in every.items() if value in set(table[series.column])}
    for size, axes in panels.items():
        axes.set_title(f"proxies of {human_count(size)} parameters", loc="left")
        zero_line(axes)
    handles = [Line2D([], [], color=color, linewidth=2.4) for color in colors.values()]
    legend = figure.legend(
        handles, [series.label(value) for value in colors], title=f"{title} · {series.title}", ncols=len(colors),
        loc="outside upper center", handlelength=1.2, columnspacing=1.4, handletextpad=0.4, borderaxespad=0.3,
    )  # fmt: skip
    legend.get_title().set_color(MUTED)

    def lines() -> Iterator[tuple[Axes, pd.DataFrame, str]]:
        for key, rows in table.groupby(named, sort=True):
            size, value = np.asarray(key, np.float64)
            yield panels[int(size)], rows, colors[float(value)]

    return figure, lines()


def _finish_kl(figure: Figure, table: pd.DataFrame) -> None:
    for axes, (_, rows) in zip(figure.axes, table.groupby("proxy_params", sort=True), strict=True):
        sqrt_kl_axis(axes, float(rows["kl"].max()) * 1.01, label="KL from the policy's own start (nats)")


def _note(figure: Figure, *parts: str) -> None:
    note_below(figure, " · ".join(part for part in parts if part))
