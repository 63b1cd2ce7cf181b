"""What a figure holds, read off its SVG; and what tables say that it holds, by plain sums over their rows."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from synthetic_rm.analysis.figures.style import house_style

Floats = NDArray[np.float64]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
PLACES = ("d", "x", "y", "width", "height")


def svg_of(figure: Figure) -> str:
    """The figure as text."""
    text = io.StringIO()
    with house_style():
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def shapes(svg: str) -> list[tuple[str, Floats]]:
    """Every shape in the order of drawing: its kind and style in words, and the numbers of its path or place; of texts
    the words alone."""
    found = []
    for element in ElementTree.fromstring(svg).iter():
        kind = element.tag.rpartition("}")[2]
        if kind == "text":
            found.append((f"text {''.join(element.itertext())}", np.zeros(0)))
        elif kind in ("path", "use", "rect"):
            numbers = [float(x) for name in PLACES for x in NUMBER.findall(element.get(name, ""))]
            found.append((f"{kind} {element.get('style', '')}", np.array(numbers)))
    return found


def difference(one: str, other: str, tolerance: float = 0.1) -> str:
    """Where two SVG files first differ, by more than `tolerance` points where they differ in numbers (more of what
    lies far beyond the page); "" if nowhere."""
    first, second = shapes(one), shapes(other)
    for (name, numbers), (other_name, others) in zip(first, second, strict=False):
        if name != other_name:
            return f"{name!r}, not {other_name!r}"
        if numbers.shape != others.shape or not np.allclose(numbers, others, rtol=1e-4, atol=tolerance):
            return f"{name!r} lies elsewhere"
    return "" if len(first) == len(second) else f"{len(first)} shapes, not {len(second)}"


def stale(svg: str, figure: Figure) -> str:
    """Where a figure differs from what was written of it; "" if nowhere.

    Legends below axes find their place in the second drawing, and `save_figure` has drawn once when it writes the SVG.
    """
    return difference(svg, svg_of(figure)) and difference(svg, svg_of(figure))


def lines_of(figure: Figure) -> list[Floats]:
    """[points, 2] of every line of every panel."""
    return [np.asarray(line.get_xydata(), np.float64) for axes in figure.axes for line in axes.get_lines()]


def holds(drawn: Sequence[Floats], expected: Any, *, begins: bool = False) -> bool:
    """Whether some line has exactly these points; with `begins` one of three or more that are the first of them."""
    points = np.asarray(expected, np.float64)
    for line in drawn:
        part = points[: len(line)] if begins and len(line) >= 3 else points
        if line.shape == part.shape and np.allclose(line, part, rtol=1e-4, atol=1e-4):
            return True
    return False


def as_told(table: pd.DataFrame, free: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of gold's hard labels, one epoch, most comparisons, no penalty, the first policy; but for what is free."""
    wanted: dict[str, Callable[[pd.Series], pd.Series]] = {
        "labels": lambda column: column == "hard",
        "proxy_epochs": lambda column: column == 1,
        "num_comparisons": lambda column: column == column.max(),
        "kl_coef": lambda column: column.fillna(0) == 0,
        "policy_params": lambda column: column == column.iloc[0],
    }
    for name, test in wanted.items():
        if name in table and name not in free and len(table):
            table = table[test(table[name])]
    return table


def of_method(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Rows of best-of-n ("n") or of RL ("rl")."""
    return table[(table["optimizer"] == "best_of_n") == (method == "n")]


def curve(rows: pd.DataFrame) -> pd.DataFrame:
    """kl, proxy and gold of a setting from its records: the mean over runs, from 0.

    Runs of RL have points of their own: they are read, linearly in d = sqrt(KL), at distances evenly spread up to the
    largest that all reached; points where a run turned back count for nothing.
    """
    names = ["kl", "proxy", "gold"]
    if (rows["optimizer"] == "best_of_n").all():
        table = rows.groupby("pressure")[names].mean().reset_index(drop=True)
    else:
        runs = [run.sort_values("pressure") for _, run in rows.groupby("run")]
        runs = [run[run["kl"] > run["kl"].cummax().shift(fill_value=-1.0)] for run in runs]
        ends = [np.sqrt(run["kl"].to_numpy()) for run in runs]
        end = min(d[-1] for d in ends)
        grid = np.linspace(0, end, max(3, *(int((d <= end + 1e-9).sum()) for d in ends)))
        scores = {
            name: np.mean([np.interp(grid, d, run[name]) for d, run in zip(ends, runs, strict=True)], axis=0)
            for name in names[1:]
        }
        table = pd.DataFrame({"kl": grid**2, **scores})
    return table - table.iloc[0] * [0, 1, 1]


def run_means(history: pd.DataFrame, keys: Sequence[str]) -> Iterator[Floats]:
    """[steps, 2] iteration and KL: of every run, and of the mean over those of a setting until the first ends."""
    for _, rows in history.groupby(list(keys)):
        shortest = rows.groupby("run")["step"].max().min()
        mean = rows[rows["step"] <= shortest].groupby("step")["kl"].mean()
        yield np.column_stack([mean.index, mean])
        for _, run in rows.groupby("run"):
            yield run.sort_values("step")[["step", "kl"]].to_numpy()
