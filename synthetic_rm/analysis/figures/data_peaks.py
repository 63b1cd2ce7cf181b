"""Where gold peaks against the number of comparisons, as curves and the law over size and data have it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synthetic_rm.analysis.figures.best_of_n import zero_line
from synthetic_rm.analysis.figures.data import COMPARISONS
from synthetic_rm.analysis.figures.style import (
    MUTED,
    house_style,
    new_figure,
    note_below,
    params_axis,
    percent,
    size_colors,
    size_legend,
)
from synthetic_rm.analysis.scaling import ScalingLaw
from synthetic_rm.errors import require

PANELS = {"kl": "KL at the peak (nats)", "gold": "gold at the peak (SDs)"}
MARKS: Mapping[str, tuple[str, bool]] = {
    "peak within the data": ("o", True),
    "the same, but β not surely above 0": ("o", False),
    "no peak up to the largest KL: a lower bound": ("^", False),
}
"""what is drawn of a setting: its mark, and whether that is full"""


def told_of_peak(row: pd.Series) -> tuple[str, dict[str, tuple[float, float, float]]]:
    """The mark of a setting (`MARKS`), and (value, lo, hi) of its peak in KL and in gold; hi may be inf.

    A peak beyond the largest KL measured is told as what was measured there: gold has at least that.
    """
    inside, beyond = list(MARKS)[:2], list(MARKS)[2]
    if not row["peak_kl"] <= row["last_kl"]:
        kl = (row["last_kl"], min(row["peak_kl_lo"], row["last_kl"]), np.inf)
        return beyond, {"kl": kl, "gold": tuple(row[f"last_gold{end}"] for end in ("", "_lo", "_hi"))}
    ends = {name: tuple(row[f"peak_{name}{end}"] for end in ("", "_lo", "_hi")) for name in PANELS}
    return inside[0] if bool(row["identified"]) else inside[1], ends


@house_style()
def figure_data_peaks(
    peaks: pd.DataFrame, law: ScalingLaw | None, *, title: str, level: float = 0.95, columns: int = 2
) -> Figure:
    """KL and gold at the peak of the fitted curve against comparisons, a colour for each proxy size.

    Bars are intervals; an arrow at the upper end says that the interval goes on beyond the largest KL measured. Lines
    are the law's highest point within the KL measured at every setting, the dotted line.

    Args:
        peaks: proxy_params, num_comparisons, identified, last_kl (the largest measured), and peak_kl, peak_gold and
            last_gold (at last_kl), each with _lo and _hi; one row for each setting.
        law: over size and data, where there is one.
        title: of the left panel.
        level: of the intervals.
        columns: width of the figure in columns of a paper.
    Raises:
        InputError: no rows, or several for one setting.
    """
    key = ["proxy_params", "num_comparisons"]
    require(len(peaks) > 0 and not peaks.duplicated(key).any(), "one row for each setting can be drawn")
    colors = size_colors(peaks["proxy_params"])
    figure, panels = new_figure(columns=columns, aspect=0.6, cols=2)
    tops = {"kl": 1.12 * float(peaks["last_kl"].max()), "gold": _highest_gold(peaks)}
    for (name, label), axes in zip(PANELS.items(), panels, strict=True):
        if law is not None:
            _law(axes, law, name, colors)
        for rank, (size, rows) in enumerate(peaks.groupby("proxy_params", sort=True)):
            shift = 1.1 ** (rank - (len(colors) - 1) / 2)
            for _, row in rows.iterrows():
                _point(axes, row, name, shift, colors[int(str(size))], tops[name])
        params_axis(axes, peaks["num_comparisons"], COMPARISONS)
        zero_line(axes)
        low = min(0.0, float(peaks["last_gold_lo"].min())) if name == "gold" else 0.0
        axes.set_ylim(low - 0.03 * tops[name], tops[name])
        axes.set_ylabel(label)
    panels[0].set_title(title, loc="left")
    size_legend(figure, colors)
    _mark_legend(panels[0], peaks)
    lines = "" if law is None else " · lines: law over size and data, highest gold up to the dotted KL"
    chance = " · grey: at chance by the law" if law is not None and law.terms.threshold else ""
    note_below(
        figure,
        f"peaks of the fitted curves · bars, shade: {percent(level)} intervals, small arrows: on beyond the largest "
        f"KL, no bar: all beyond it{lines}{chance}",
    )
    return figure


def _highest_gold(peaks: pd.DataFrame) -> float:
    """The upper end of the axis of gold: of what was measured, not of peaks far beyond it."""
    seen = peaks[peaks["peak_kl"] <= peaks["last_kl"]]
    return 1.12 * max(float(peaks["last_gold_hi"].max()), *seen["peak_gold"], 0.1)


def _point(axes: Axes, row: pd.Series, name: str, shift: float, color: str, top: float) -> None:
    mark, ends = told_of_peak(row)
    (value, low, high), x = ends[name], float(row["num_comparisons"]) * shift
    marker, full = MARKS[mark]
    limit = float(row["last_kl"]) if name == "kl" else 0.97 * top
    axes.plot([x, x], [low, min(high, limit)], color=color, linewidth=1.0)
    if high > limit and marker != "^":
        axes.plot(x, limit, "^", color=color, markersize=3.0, markeredgewidth=0)
    axes.plot(x, value, marker, color=color, markerfacecolor=color if full else "white", markersize=4.6, zorder=5)


def _law(axes: Axes, law: ScalingLaw, name: str, colors: dict[int, str]) -> None:
    """The law's highest point within the KL measured at every setting; its KL where that lies at neither end."""
    along = np.geomspace(max(law.counts[0], law.terms.threshold + 1), law.counts[-1], 40)
    for size, color in colors.items():
        told = [getattr(law.highest(size, count), name) for count in along]
        low, middle, high = (np.array([getattr(one, part) for one in told]) for part in ("lo", "value", "hi"))
        inner = (middle > 0) & (middle < law.largest_kl) if name == "kl" else np.isfinite(middle)
        axes.plot(along, np.where(inner, middle, np.nan), color=color, linewidth=0.8)
        axes.fill_between(along, low, high, where=inner, color=color, alpha=0.1, lw=0)
    if law.terms.threshold:
        axes.axvspan(1, law.terms.threshold * 1.3, color="#eeeeee", zorder=-1)
    if name == "kl":
        axes.axhline(law.largest_kl, color=MUTED, linewidth=0.6, linestyle=(0, (1, 2)))


def _mark_legend(axes: Axes, peaks: pd.DataFrame) -> None:
    """What the marks are, those alone that are drawn, below the axes."""
    drawn = {told_of_peak(row)[0] for _, row in peaks.iterrows()}
    shown = {name: mark for name, mark in MARKS.items() if name in drawn}
    handles = [
        Line2D([], [], color=MUTED, marker=marker, linestyle="", markersize=4.6,
               markerfacecolor=MUTED if full else "white") for marker, full in shown.values()
    ]  # fmt: skip
    axes.legend(handles, list(shown), loc="upper center", bbox_to_anchor=(0.5, -0.2))
