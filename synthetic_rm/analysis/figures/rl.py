"""Figures of RL beside best-of-n: gold against proxy (the paper's Fig. 8), KL and clipping against step (16, 25)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synthetic_rm.analysis.curve_intervals import mean_over_runs
from synthetic_rm.analysis.figures.best_of_n import GOLD_LABEL, colors_of, curve_of, hold_lines, legend_below, zero_line
from synthetic_rm.analysis.figures.style import MUTED, house_style, new_figure, note_below, percent, size_legend
from synthetic_rm.errors import require

NAMES = {"best_of_n": "best-of-n", "ppo": "PPO", "rloo": "RLOO", "grpo": "GRPO", "dr_grpo": "Dr. GRPO"}
"""of optimizers, as people write them"""
BEST_OF_N_DASH = (0, (1, 1.1))
MEANS = "thin: a run · bold: mean until the first run ends, shade: its {} interval over runs"
REACH = 1.6
"""times the largest proxy score of best-of-n: as far as RL is drawn beside it"""


@house_style()
def figure_both(
    best_of_n: pd.DataFrame,
    rl: pd.DataFrame,
    *,
    method: str,
    sizes: Sequence[int] | None = None,
    level: float = 0.95,
    columns: int = 1,
) -> Figure:
    """Gold against proxy score along best-of-n (dotted) and RL (solid), one colour per proxy size.

    The paper's Fig. 8, RL drawn up to `REACH` times the proxy score that best-of-n reached.

    Args:
        best_of_n, rl: proxy_params, pressure, kl, proxy, gold, gold_lo, gold_hi, as `mean_curves` gives them.
        method: the RL method's name in `NAMES`.
        sizes: every proxy size of the report (colours).
        level: of the intervals in the tables.
        columns: width of the figure in columns of a paper.
    Raises:
        InputError: a table without rows, or with several for one size and pressure.
    """
    colors = colors_of(rl, sizes, ("proxy_params", "pressure"))
    figure, axes = new_figure(columns=columns, aspect=1.1 if columns == 1 else 0.66)
    limit = REACH * float(best_of_n["proxy"].abs().max())
    drawn = []
    for table, dash, width, place in ((rl, "-", 1.4, 2), (best_of_n, BEST_OF_N_DASH, 1.8, 4)):
        for size, color in colors.items():
            curve = curve_of(table, size)
            seen = (curve["proxy"] <= limit).cummin()
            drawn.append(curve[seen | seen.shift(fill_value=True)])
            curve = drawn[-1]
            axes.fill_between(curve["proxy"], curve["gold_lo"], curve["gold_hi"], color=color, alpha=0.12, lw=0)
            axes.plot(curve["proxy"], curve["gold"], color=color, linestyle=dash, linewidth=width, zorder=place)
    zero_line(axes)
    shown = pd.concat(drawn)
    cut = hold_lines(axes, shown, "gold")
    lowest, highest = max(float(shown["proxy"].min()), -limit), min(float(shown["proxy"].max()), limit)
    axes.set_xlim(min(lowest, 0.0) - 0.02 * highest, 1.02 * highest)
    axes.set_xlabel("proxy score (recalibrated, reference = 0)")
    axes.set_ylabel(GOLD_LABEL)
    axes.set_title("Gold against proxy, by both methods", loc="left")
    size_legend(figure, colors)
    handles = [
        Line2D([], [], color="#555555", linestyle=BEST_OF_N_DASH, linewidth=1.6),
        Line2D([], [], color="#555555", linewidth=1.4),
    ]
    legend_below(axes, handles, [NAMES["best_of_n"], NAMES.get(method, method)])
    reach = f"{NAMES.get(method, method)} is drawn up to {REACH:g} times the largest proxy score of best-of-n"
    note_below(figure, " · ".join(part for part in (f"bands: {percent(level)} interval of gold", cut, reach) if part))
    return figure


@house_style()
def figure_kl_steps(
    history: pd.DataFrame,
    *,
    method: str,
    sizes: Sequence[int] | None = None,
    level: float = 0.95,
    columns: int = 1,
) -> Figure:
    """KL of the training rollouts against iterations, a thin line per run and a bold mean per proxy size.

    The paper's Fig. 16. A size's mean ends where the first of its runs does. A run that failed or was not finite ends
    in a cross.

    Args:
        history: run, proxy_params, step, kl, status: a row per iteration.
        method: the RL method's name in `NAMES`.
        sizes: every proxy size of the report (colours).
        level: of the means' intervals.
        columns: width of the figure in columns of a paper.
    Raises:
        InputError: `history` has no rows.
    """
    figure, axes, lost = _history_figure(history, "kl", method, sizes, level, columns)
    axes.set_ylabel("KL from the reference policy (nats)")
    axes.set_title("KL against iteration", loc="left")
    note_below(figure, f"on the training prompts · {MEANS.format(percent(level))} · {lost}")
    return figure


@house_style()
def figure_clipped(
    history: pd.DataFrame,
    *,
    method: str,
    sizes: Sequence[int] | None = None,
    window: int = 5,
    level: float = 0.95,
    columns: int = 1,
) -> Figure:
    """Share of the tokens whose ratio was beyond the clip, against iterations: lines as in `figure_kl_steps`.

    The paper's Fig. 25. Every run is a running mean over `window` iterations.

    Args:
        history: run, proxy_params, step, clip_fraction, status: a row per iteration.
        method, sizes, level, columns: as for `figure_kl_steps`.
        window: iterations.
    Raises:
        InputError: `history` has no rows.
    """
    smooth = history.sort_values(["run", "step"], kind="stable")
    means = smooth.groupby("run", sort=False)["clip_fraction"].rolling(window, min_periods=1).mean()
    smooth = smooth.assign(clip_fraction=means.to_numpy())
    figure, axes, lost = _history_figure(smooth, "clip_fraction", method, sizes, level, columns)
    axes.set_ylabel("share of tokens beyond the clip")
    axes.set_title("Clipping against iteration", loc="left")
    note_below(figure, f"running means over {window} iterations · {MEANS.format(percent(level))} · {lost}")
    return figure


def _history_figure(history: pd.DataFrame, column: str, method: str, sizes: Sequence[int] | None, level: float,
                    columns: int) -> tuple[Figure, Axes, str]:  # fmt: skip
    """A column of the history against iterations, and in words how many runs were lost."""
    require(len(history) > 0, "nothing to draw: the history has no rows")
    colors = colors_of(history.drop_duplicates("proxy_params"), sizes, ("proxy_params",))
    figure, axes = new_figure(columns=columns, aspect=0.95 if columns == 1 else 0.6)
    ordered = history.sort_values("step")
    for run, rows in ordered.groupby("run", sort=False):
        _line(axes, rows, column, colors[int(rows["proxy_params"].iloc[0])], str(run))
    for size, rows in ordered.groupby("proxy_params"):
        mean, color = mean_over_runs(rows, column, level), colors[int(str(size))]
        axes.fill_between(mean["step"], mean["lo"], mean["hi"], color=color, alpha=0.15, lw=0, zorder=3)
        axes.plot(mean["step"], mean["mean"], color=color, linewidth=1.8, zorder=4, label="mean")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.05 * float(ordered.loc[np.isfinite(ordered[column]), column].max()))
    axes.set_xlabel(f"{NAMES.get(method, method)} iterations")
    size_legend(figure, colors)
    lost = int((history.groupby("run")["status"].first() != "ok").sum())
    return figure, axes, f"{lost or 'no'} {'run' if lost == 1 else 'runs'} failed or not finite (crosses)"


def _line(axes: Axes, rows: pd.DataFrame, column: str, color: str, run: str) -> None:
    kept = rows[np.isfinite(rows[column])]
    axes.plot(kept["step"], kept[column], color=color, linewidth=0.5, alpha=0.4, label=run)
    if rows["status"].iloc[0] != "ok" and len(kept):
        axes.plot(kept["step"].iloc[-1], kept[column].iloc[-1], "x", color=color, markersize=5, markeredgecolor=MUTED)
