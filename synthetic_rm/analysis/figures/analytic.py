"""Figures of worlds without training. Each says so below its axes, in the words of the records it is drawn from."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synthetic_rm.analysis.figures.style import (
    MUTED,
    darker,
    house_style,
    new_figure,
    note_below,
    rank_colors,
    sqrt_kl_axis,
)
from synthetic_rm.errors import require

DASH = (0, (4, 1.6))
NORMAL_95 = 1.96
"""standard errors to each side of a 95% interval"""
LOWEST_PRICE = 1e-7
"""nats"""
NAMES = {
    "best_of_n": "best-of-n",
    "kl_regularised": "KL-regularised optimum",
    "chi_squared_regularised": "χ²-regularised optimum",
    "soft_best_of_n": "soft best-of-n, n = 64",
    "best_of_poisson": "best-of-Poisson",
    "tilting": "tilting",
}
TITLES = {
    "tail of the error": "Analytic: error independent of gold",
    "dependent error": "Analytic: normal error that depends on gold",
}
"""by the records' `group`"""
KL_LABEL = "KL from the reference (nats)"


def _chosen(records: pd.DataFrame, **values: str) -> pd.DataFrame:
    for column, value in values.items():
        records = records[records[column] == value]
    told = ", ".join(f"{column}={value}" for column, value in values.items())
    require(len(records) > 0, f"nothing to draw: no record has {told}")
    return records


def _label(figure: Figure, records: pd.DataFrame, *told: str) -> None:
    kinds = sorted(set(records["provenance"]))
    require(len(kinds) == 1, f"records of one provenance can be drawn together, got {kinds}")
    note_below(figure, " · ".join([kinds[0].upper(), *told]))


def _legend(figure: Figure, colors: dict[str, str], *, columns: int, others: Iterable[tuple[str, Line2D]] = ()) -> None:
    entries = [(NAMES.get(name, name), Line2D([], [], color=color, lw=2.2)) for name, color in colors.items()]
    entries += list(others)
    labels, handles = [label for label, _ in entries], [handle for _, handle in entries]
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, handlelength=1.5, columnspacing=1.2)


def _zero(axes: Axes) -> None:
    axes.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)


@house_style()
def figure_tabular(records: pd.DataFrame) -> Figure:
    """Exact optimizers on tables: gold solid and proxy dashed against KL; best-of-n's exact KL against its closed form.

    Args:
        records: of records.csv, those of the tabular world.
    """
    table = _chosen(records, environment="analytic: tabular")
    colors = rank_colors(table["optimizer"])
    figure, (left, right) = new_figure(columns=2, aspect=0.5, cols=2)
    for name, color in colors.items():
        rows = table[table["optimizer"] == name].sort_values("kl")
        left.plot(rows["kl"], rows["proxy"], color=color, linestyle=DASH, linewidth=1.0)
        left.plot(rows["kl"], rows["gold"], color=color, linewidth=1.6)
    _zero(left)
    left.set_title("Analytic tables: gold and proxy", loc="left")
    left.set_ylabel("score, SDs of gold")
    sqrt_kl_axis(left, float(table["kl"].max()) * 1.02, label=KL_LABEL, gap=0.1)
    rows = _chosen(table, optimizer="best_of_n").sort_values("pressure")
    color = colors["best_of_n"]
    right.plot(rows["pressure"], rows["kl_formula"], color=MUTED, linestyle=DASH, linewidth=1.0)
    right.plot(rows["pressure"], rows["kl"], color=color, linewidth=1.6)
    right.set_xscale("log")
    right.set_title("Best-of-n: exact KL (solid), ln n − (n − 1)/n (dashed)", loc="left", fontsize=7.5)
    right.set_xlabel("n")
    right.set_ylabel("KL (nats)")
    dashes = [("gold", Line2D([], [], color=MUTED, lw=1.6)), ("proxy", Line2D([], [], color=MUTED, lw=1, ls=DASH))]
    _legend(figure, colors, columns=5, others=dashes)
    prompts = int(table["num_prompts"].iloc[0])
    _label(figure, table, f"mean of {prompts} prompts", "gold normal, the proxy’s error Student’s t with 3 degrees")
    return figure


@house_style()
def figure_quantile(records: pd.DataFrame) -> Figure:
    """Four families where gold is a function of the proxy's quantile: gold against KL, thresholds as dots.

    Tilting is solid and the others are dashed in turn, so that each is seen where they coincide.
    Right: KL spent beyond that of tilting at the same mean quantile.

    Args:
        records: of records.csv; those that have a `threshold` are drawn.
    """
    table = records[records["threshold"].notna()]
    require(len(table) > 0, "nothing to draw: no record has a threshold")
    colors = rank_colors(table["optimizer"])
    ordered = sorted(colors.items(), key=lambda told: told[0] != "tilting")
    dashes = {name: (4 * place, (4, 12)) if place else "-" for place, (name, _) in enumerate(ordered)}
    figure, (left, right) = new_figure(columns=2, aspect=0.5, cols=2)
    for name, color in ordered:
        rows = table[table["optimizer"] == name].sort_values("kl")
        left.plot(rows["kl"], rows["gold"], color=color, linewidth=1.4, linestyle=dashes[name])
        at = float(rows["threshold"].iloc[0])
        point = [np.interp(at, rows["pressure"], rows[column]) for column in ("kl", "gold")]
        left.plot(*point, "o", color=darker(color), markersize=4.5, zorder=5)
        beyond = rows[rows["kl_above_tilting"] > 1e-6]
        right.plot(beyond["kl"], beyond["kl_above_tilting"], color=color, linewidth=1.4)
    _zero(left)
    left.set_title("Analytic: gold, and where to stop (dots)", loc="left")
    left.set_ylabel("gain in gold (highest gold = 1)")
    right.set_yscale("log")
    right.set_title("KL at the same mean quantile", loc="left")
    right.set_ylabel("KL beyond that of tilting (nats)")
    for axes in (left, right):
        sqrt_kl_axis(axes, float(table["kl"].max()) * 1.02, label=KL_LABEL, gap=0.1)
    _legend(figure, colors, columns=4)
    world = str(table["environment"].iloc[0]).removeprefix("analytic: ")
    _label(figure, table, f"gold = {world}, scaled to 1, u the proxy’s quantile")
    return figure


@house_style()
def figure_iterated(records: pd.DataFrame) -> Figure:
    """k rounds of RLHF: the paper's formula (lines) and rounds walked step by step (dots), gold against distance.

    Args:
        records: of records.csv, with `distance` and `series`.
    """
    table = _chosen(records, optimizer="iterated")
    colors = rank_colors(table["series"])
    figure, axes = new_figure(columns=1, aspect=0.95)
    for name, color in colors.items():
        for source, style in (("closed form", "-"), ("simulated rounds", "o")):
            rows = _chosen(table, series=name, source=source).sort_values("distance")
            axes.plot(rows["distance"], rows["gold"], style, color=color, linewidth=1.4, markersize=3.2)
    _zero(axes)
    axes.set_title("Analytic iterated RLHF: d(α − β ln d + β ln k)", loc="left")
    axes.set_xlabel("distance from the first reference, d = √KL (√nats)")
    axes.set_ylabel("gold score (SDs of the reference)")
    _legend(figure, colors, columns=4)
    _label(figure, table, "dots: rounds walked step by step")
    return figure


@house_style()
def figure_heavy_tails(records: pd.DataFrame) -> Figure:
    """Gold under best-of-n against KL where the proxy is gold plus an error: by its tail, and by what it depends on.

    Args:
        records: of records.csv, with `group`, `series` and `source`.
    """
    figure, panels = new_figure(columns=2, aspect=0.62, cols=2)
    for axes, group in zip(panels, TITLES, strict=True):
        table = _chosen(records, group=group)
        colors = rank_colors(table["series"])
        for name, color in colors.items():
            rows = table[table["series"] == name]
            for source, optimizer, style, width in (
                ("quadrature", "best_of_n", "-", 1.5),
                ("closed form", "kl_regularised", "--", 0.9),
                ("simulated draws", "best_of_n", "o", 0),
            ):
                drawn = rows[(rows["source"] == source) & (rows["optimizer"] == optimizer)].sort_values("kl")
                if style == "o":
                    span = NORMAL_95 * drawn["gold_se"]
                    axes.errorbar(drawn["kl"], drawn["gold"], span, fmt="none", ecolor=darker(color), elinewidth=0.8)
                axes.plot(drawn["kl"], drawn["gold"], style, color=color, linewidth=width, markersize=2.6)
        _zero(axes)
        axes.set_ylim(-1.5, 4.2)
        sqrt_kl_axis(axes, 16.0, label=KL_LABEL, gap=0.1)
        axes.set_title(TITLES[group], loc="left")
        handles = [Line2D([], [], color=color, lw=2.2) for color in colors.values()]
        axes.legend(handles, list(colors), loc="upper left", handlelength=1.3, fontsize=6.5)
    panels[0].set_ylabel("gold score (SDs of the reference)")
    _label(
        figure,
        records,
        "lines: best-of-n by quadrature",
        "dashed: the KL-regularised optimum, where there is one",
        "dots: drawn responses, bars: their 95% intervals",
    )
    return figure


@house_style()
def figure_tail_index(tails: pd.DataFrame, provenance: str) -> Figure:
    """Tail indices of drawn proxy scores: Hill's (solid), the moment estimator's (dashed), and the truth (dotted).

    Args:
        tails: of tails.csv: series, share, hill, hill_deviation, moment, moment_deviation, xi.
        provenance: what the figure says of itself.
    """
    colors = rank_colors(tails["series"])
    figure, axes = new_figure(columns=1, aspect=1.0)
    for name, color in colors.items():
        rows = tails[tails["series"] == name].sort_values("share")
        for estimator, shade in (("hill", 0.15), ("moment", 0.07)):
            low, high = (rows[estimator] + sign * rows[f"{estimator}_deviation"] for sign in (-1, 1))
            axes.fill_between(rows["share"], low, high, color=color, alpha=shade, lw=0)
        axes.plot(rows["share"], rows["hill"], color=color, linewidth=1.4)
        axes.plot(rows["share"], rows["moment"], color=color, linewidth=0.9, linestyle=DASH)
        axes.axhline(float(rows["xi"].iloc[0]), color=color, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set_xscale("log")
    axes.set_ylim(-0.6, 2.4)
    axes.set_xlabel("share of the scores used, the largest")
    axes.set_ylabel("extreme value index ξ")
    axes.set_title("Analytic: how heavy is the proxy’s tail?", loc="left")
    _legend(figure, colors, columns=3)
    told = "solid: Hill · dashed: moments · shades: one deviation over repeated draws · dotted: the truth"
    note_below(figure, f"{provenance.upper()} · simulated draws · {told}")
    return figure


@house_style()
def figure_price(prices: pd.DataFrame, provenance: str) -> Figure:
    """KL that a mean proxy score of 1 costs a policy that draws more often from the proxy's upper tail.

    Args:
        prices: of prices.csv: series, mass, kl.
        provenance: what the figure says of itself.
    """
    colors = rank_colors(prices["series"])
    figure, axes = new_figure(columns=1, aspect=0.95)
    for name, color in colors.items():
        rows = prices[(prices["series"] == name) & prices["kl"].notna()]
        axes.plot(rows["mass"], rows["kl"], color=color, linewidth=1.4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_xaxis()
    axes.set_ylim(LOWEST_PRICE, 10)
    axes.set_xlabel("mass of the tail drawn from, under the reference")
    axes.set_ylabel("KL (nats)")
    axes.set_title("Analytic: price of a mean proxy score of 1", loc="left")
    _legend(figure, colors, columns=3)
    below = prices.loc[prices["kl"] < LOWEST_PRICE, "series"].unique()
    told = [f"{' and '.join(below)}: falls on below the axis"] if len(below) else []
    note_below(figure, " · ".join([provenance.upper(), *told, "an error without a mean has no price and no line"]))
    return figure
