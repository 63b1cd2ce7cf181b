"""One style for every figure: colours of proxy sizes, the square-root KL axis, fonts, deterministic files.

Figures are made with matplotlib's object API only (`Figure` and an Agg canvas), so that drawing touches no
global state and needs no display.
"""

import os
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from synthetic_rm.errors import require

COLUMN_WIDTHS = {1: 3.5, 2: 7.0}  # inches
MUTED = "#5a5a5a"
_PALETTE = ("viridis", 0.72, 0.0)  # colour map, position of the smallest and of the largest proxy
_RUNGS = ((2e3, 0.0), (4e3, 0.18), (9e3, 0.36), (2e4, 0.53), (8e4, 0.7), (3e5, 0.8), (1e6, 0.87), (1e7, 0.93),
          (1e8, 0.97), (1e10, 1.0))  # fmt: skip
"""parameters and their place in the palette: wide steps where most of our proxies are"""
_SERIES = ("#e69f00", "#7f2a57", "#56b4e9", "#d1495b", "#8a6d3b", "#cc79a7")
"""orange, wine, sky, red, brown, pink: of series without a size"""
Item = TypeVar("Item")
_KL_LADDER = (0.0, 0.5, 1, 2, 4, 6, 8, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1000)
_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7.5,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
    "axes.unicode_minus": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "synthetic_rm",
    "figure.constrained_layout.use": True,
}


@contextmanager
def house_style() -> Iterator[None]:
    """The house's matplotlib settings for the enclosed lines, matplotlib's own defaults beneath them."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast(Any, _RC))
        yield


def new_figure(*, columns: int = 1, aspect: float = 0.8, rows: int = 1, cols: int = 1) -> tuple[Figure, Any]:
    """An empty figure on an Agg canvas, as wide as one or two columns of a paper.

    Args:
        columns: 1 (3.5 inches) or 2 (7 inches).
        aspect: height / width.
        rows, cols: grid of axes.

    Returns:
        The figure, and its axes: one `Axes`, or an array of them [rows, cols] squeezed.

    Raises:
        InputError: `columns` is neither 1 nor 2.
    """
    require(columns in COLUMN_WIDTHS, f"columns={columns}: must be 1 or 2")
    width = COLUMN_WIDTHS[columns]
    figure = Figure(figsize=(width, width * aspect))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, cols)


def human_count(count: float) -> str:
    """A count in two significant digits with its unit: 999 -> "999", 9043 -> "9.0k", 3e9 -> "3.0B"."""
    scaled, units = float(count), ["", "k", "M", "B", "T"]
    while len(units) > 1 and abs(scaled) >= 999.5:
        scaled, units = scaled / 1000, units[1:]
    digits = 1 if units[0] and abs(scaled) < 9.95 else 0
    return f"{scaled:.{digits}f}{units[0]}"


def percent(level: float) -> str:
    """The level of an interval: 0.95 -> "95%"."""
    return f"{100 * level:.6g}%"


def size_colors(sizes: Iterable[int]) -> dict[int, str]:
    """The colour of each proxy size, the same in every figure: bright for small ones, dark for large ones.

    color(size) = viridis(0.72 (1 - t)), t linear in ln size between the rungs of `_RUNGS`: a sequence of falling
    lightness that survives colour blindness and grey print.

    Args:
        sizes: parameter counts, in any order, repeats allowed.

    Returns:
        Parameter count -> "#rrggbb", in ascending order of size.
    """
    rungs, places = (np.array(column) for column in zip(*_RUNGS, strict=True))
    ordered = sorted({int(size) for size in sizes})
    return dict(zip(ordered, _colors(np.interp(np.log(ordered), np.log(rungs), places)), strict=True))


def rank_colors(items: Iterable[Item]) -> dict[Item, str]:
    """One colour per item in the order given, for series that have no size: none that a size has.

    The first colours are the same however many follow, so that figures of the same series agree. They differ in
    lightness too, which survives colour blindness; after the last they begin again, darker.
    """
    rounds, count = {}, len(_SERIES)
    for place, item in enumerate(dict.fromkeys(items)):
        rounds[item] = to_hex(darker(_SERIES[place % count], 0.55 ** (place // count)))
    return rounds


def _colors(places: NDArray[np.float64]) -> list[str]:
    name, first, last = _PALETTE
    return [to_hex(color) for color in mpl.colormaps[name](first + (last - first) * places)]


def kl_ticks(limit: float, *, gap: float = 0.07) -> list[float]:
    """Round KL values in [0, limit] whose square roots lie at least `gap` of the axis apart.

    Args:
        limit: right end of the axis in nats.
        gap: least distance of two ticks, as a fraction of the axis.
    """
    ticks = [0.0]
    for value in _KL_LADDER[1:]:
        if value <= limit and np.sqrt(value) - np.sqrt(ticks[-1]) >= gap * np.sqrt(limit):
            ticks.append(float(value))
    return ticks


def sqrt_kl_axis(
    axes: Axes, limit: float, *, label: str = "KL from the reference policy (nats)", gap: float = 0.07
) -> None:
    """Make x the KL axis on a square-root scale, x -> sqrt(x), from 0 to `limit` nats with round ticks."""
    axes.set_xscale("function", functions=(lambda kl: np.sqrt(np.clip(kl, 0, None)), lambda root: np.square(root)))
    axes.set_xlim(0, limit)
    axes.xaxis.set_major_locator(FixedLocator(kl_ticks(limit, gap=gap)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda kl, _: f"{kl:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def data_colors(counts: Iterable[int]) -> dict[int, str]:
    """One colour per number of comparisons, by rank, from a map of its own: bright for few, dark for many.

    color = plasma(0.82 (1 - rank / (count - 1))): in ascending order of the counts, as `size_colors`.
    """
    ordered = sorted({int(count) for count in counts})
    positions = np.linspace(0.82, 0.0, len(ordered)) if len(ordered) > 1 else np.array([0.41])
    colormap = mpl.colormaps["plasma"]
    return {count: to_hex(colormap(position)) for count, position in zip(ordered, positions, strict=True)}


def params_axis(axes: Axes, sizes: Iterable[int], label: str = "proxy parameters") -> None:
    """Make x a log axis of sizes, or of other counts, one tick for each with its human count."""
    ordered = sorted({int(size) for size in sizes})
    axes.set_xscale("log")
    axes.set_xlim(ordered[0] / 1.6, ordered[-1] * 1.6)
    axes.xaxis.set_major_locator(FixedLocator(spread_out(ordered)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: human_count(size)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def spread_out(sizes: list[int], *, gap: float = 0.09) -> list[int]:
    """Of ascending sizes, the first and those whose logarithms lie at least `gap` of the range apart."""
    span = np.log(sizes[-1] / sizes[0])
    kept = sizes[:1]
    for size in sizes[1:]:
        if np.log(size / kept[-1]) >= gap * span:
            kept.append(size)
    return kept


def run_note(
    *,
    num_prompts: int | None = None,
    num_samples: int | None = None,
    num_seeds: str | int | None = None,
    nonfinite: int = 0,
    collapsed: int = 0,
) -> str:
    """The counts behind a figure in one line; runs that are left out are always counted."""
    parts = [] if num_prompts is None else [f"{num_prompts:,} prompts"]
    parts += [] if num_samples is None else [f"{num_samples:,} samples per prompt"]
    parts += [] if num_seeds is None else [f"{num_seeds} proxy seeds per size"]
    verb = "run" if nonfinite == 1 else "runs"
    parts.append(f"{nonfinite or 'no'} {verb} left out (failed or not finite)")
    told = f"{collapsed} {'run' if collapsed == 1 else 'runs'} ended early, collapsed to one response"
    return "\u00a0· ".join([*parts, told] if collapsed else parts)


def note_below(figure: Figure, text: str) -> None:
    """A muted note under everything else, wrapped to the width of the figure."""
    width = int(19 * figure.get_size_inches()[0])
    figure.supxlabel(textwrap.fill(text, width), fontsize=6.3, color=MUTED, linespacing=1.35)


def size_legend(figure: Figure, colors: dict[int, str], title: str = "proxy parameters") -> None:
    """The legend of proxy sizes, or of other counts, above all axes: one colour and one human count each."""
    handles = [Line2D([], [], color=color, linewidth=2.4) for color in colors.values()]
    legend = figure.legend(
        handles, [human_count(size) for size in colors], title=title, ncols=min(5, len(colors)),
        loc="outside upper center", handlelength=1.2, columnspacing=1.2, handletextpad=0.4, borderaxespad=0.3,
    )  # fmt: skip
    legend.get_title().set_color(MUTED)


def same_height(*panels: Axes) -> None:
    """Give axes the range that holds what is drawn in each."""
    low, high = zip(*(axes.get_ylim() for axes in panels), strict=True)
    for axes in panels:
        axes.set_ylim(min(low), max(high))


def darker(color: str, share: float = 0.55) -> tuple[float, float, float]:
    """The colour with every channel multiplied by `share`."""
    red, green, blue = to_rgb(color)
    return share * red, share * green, share * blue


def save_figure(figure: Figure, path_stem: Path) -> tuple[Path, Path]:
    """Write `figure` as PNG (200 dpi) and SVG (text stays text), each atomically, without dates inside.

    Args:
        figure: what to draw.
        path_stem: the path without its ending.

    Returns:
        The paths of the PNG and of the SVG file.
    """
    stem = Path(path_stem)
    written = []
    with house_style():
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            target = stem.with_name(f"{stem.name}.{kind}")
            partial = stem.with_name(f".{stem.name}.{kind}.tmp")
            try:
                figure.savefig(partial, format=kind, dpi=200, metadata=metadata)
                os.replace(partial, target)
            finally:
                partial.unlink(missing_ok=True)
            written.append(target)
    return written[0], written[1]
