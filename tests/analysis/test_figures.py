"""Figures show what the tables say, in the house's colours, with nothing on top of anything else."""

import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from analysis.synthetic_folder import SIZES, write_folder
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from synthetic_rm.analysis.curves import mean_curves, overoptimization
from synthetic_rm.analysis.figures import best_of_n, gold_fits, style
from synthetic_rm.analysis.figures.proxy_scores import figure_proxy_scores
from synthetic_rm.analysis.figures.rl import figure_both, figure_clipped, figure_kl_steps
from synthetic_rm.analysis.run_folder import load_run_folder
from synthetic_rm.errors import InputError

Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Mean curves, fits, verdicts of a small folder."""
    folder = write_folder(tmp_path_factory.mktemp("run"), prompts=24, points=16)
    run = load_run_folder(folder)
    means = mean_curves(run.curves, run.records, rng=np.random.default_rng(0), num_resamples=100)
    verdicts = overoptimization(run.curves, run.records, rng=np.random.default_rng(0), num_resamples=300)
    return means, run.fits, verdicts


def lines_of(figure: Figure, panel: int = 0) -> list[mpl.lines.Line2D]:
    return list(figure.axes[panel].get_lines())


def words_of(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_figure_1a_draws_the_tables(tables: Tables) -> None:
    means, fits, verdicts = tables
    figure = best_of_n.figure_1a(means, fits, verdicts, nonfinite=3)
    lines = lines_of(figure)
    for size, color in style.size_colors(SIZES).items():
        curve = means[means["proxy_params"] == size]
        for score, dashed in (("proxy", True), ("gold", False)):
            drawn = [line for line in lines if np.array_equal(line.get_ydata(), curve[score])]
            assert len(drawn) == 1
            assert to_hex(drawn[0].get_color()) == color
            assert (drawn[0].get_linestyle() == "--") == dashed
            np.testing.assert_array_equal(drawn[0].get_xdata(), curve["kl"])
        row = fits[fits["proxy_params"] == size].iloc[0]
        thin = next(line for line in lines if to_hex(line.get_color()) == to_hex(style.darker(color)))
        d = np.sqrt(thin.get_xdata())
        np.testing.assert_allclose(thin.get_ydata(), d * (row["alpha"] - row["beta"] * d))
        assert thin.get_linewidth() < 1
        assert style.human_count(size) in words_of(figure)
    assert "3 runs left out" in words_of(figure)
    assert "nats" in words_of(figure) and "SDs of the reference" in words_of(figure)


def test_bands_reach_from_low_to_high(tables: Tables) -> None:
    means, fits, _ = tables
    one = means[means["proxy_params"] == SIZES[2]]
    figure = best_of_n.figure_1a(one, fits, with_proxy=False)
    (band,) = figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == one["gold_lo"].min() and heights.max() == one["gold_hi"].max()


def test_wide_bands_are_cut_and_told_so_that_curves_are_seen(tables: Tables) -> None:
    means, fits, _ = tables
    wide = means.assign(gold_lo=means["gold"] - 50, gold_hi=means["gold"] + 50)
    usual, cut = (best_of_n.figure_1a(table, fits, with_proxy=False) for table in (means, wide))
    low, high = cut.axes[0].get_ylim()
    span = means["gold"].max() - min(means["gold"].min(), 0)
    assert low < means["gold"].min() and means["gold"].max() < high and high - low < 2 * span
    told = [" ".join(figure.get_supxlabel().split()) for figure in (usual, cut)]
    assert ["bands are cut" in text for text in told] == [False, True]
    assert usual.axes[0].get_ylim()[0] < means["gold_lo"].min() and means["gold_hi"].max() < usual.axes[0].get_ylim()[1]


def test_the_legend_names_the_marks_that_are_drawn(tables: Tables) -> None:
    means, fits, verdicts = tables
    fits = fits.assign(peak_kl=2.0, identified=True)
    for verdict, told in (("fell", "peak, gold fell"), ("not seen", "peak, no fall seen")):
        words = words_of(best_of_n.figure_1a(means, fits, verdicts.assign(verdict=verdict)))
        assert told in words and words.count("peak,") == 1
    assert "peak," not in words_of(best_of_n.figure_1a(means, fits.assign(identified=False), verdicts))


def test_peaks_are_marked_where_identified_and_full_where_gold_fell(tables: Tables) -> None:
    means, fits, verdicts = tables
    fits, verdicts = fits.copy(), verdicts.copy()
    fits["identified"] = [True, True, False, True, False]
    fits["peak_kl"], fits["peak_kl_hi"] = [2.0, 4.0, 5.0, 99.0, 7.0], np.inf
    verdicts["verdict"] = ["fell", "not seen", "fell", "fell", "fell"]
    lines = lines_of(best_of_n.figure_1a(means, fits, verdicts))
    dots = {line.get_xdata()[0]: line.get_markerfacecolor() for line in lines if line.get_marker() == "o"}
    assert dots == {2.0: style.size_colors(SIZES)[SIZES[0]], 4.0: "white"}  # 99 lies outside the data
    bars = [line.get_xdata() for line in lines if line.get_marker() == "|"]
    assert [bar[1] for bar in bars] == [means["kl"].max()] * 2  # an unbounded interval ends with the data


def test_a_size_has_one_colour_in_all_figures_of_a_report(tables: Tables) -> None:
    means, fits, _ = tables
    some, expected = SIZES[1:3], style.size_colors(SIZES)
    few = means[means["proxy_params"].isin(some)], fits[fits["proxy_params"].isin(some)]
    for figure in (
        best_of_n.figure_1a(*few, sizes=SIZES),
        best_of_n.figure_proxy_vs_gold(few[0], sizes=SIZES),
        gold_fits.figure_coefficients(few[1], sizes=SIZES),
    ):
        bright = {to_hex(line.get_color()) for line in lines_of(figure)} & set(expected.values())
        assert bright == {expected[size] for size in some}


def test_proxy_against_gold_marks_powers_of_ten(tables: Tables) -> None:
    means, _, _ = tables
    lines = lines_of(best_of_n.figure_proxy_vs_gold(means))
    curve = means[means["proxy_params"] == SIZES[0]]
    np.testing.assert_array_equal(lines[0].get_xdata(), curve["proxy"])
    np.testing.assert_array_equal(lines[0].get_ydata(), curve["gold"])
    assert len(lines[1].get_xdata()) == 5  # n = 1 ... 10,000 of 60,000
    assert (lines[1].get_xdata()[0], lines[1].get_ydata()[0]) == (curve["proxy"].iloc[0], curve["gold"].iloc[0])


def test_coefficients_with_their_intervals(tables: Tables) -> None:
    _, fits, _ = tables
    figure = gold_fits.figure_coefficients(fits)
    for panel, name in enumerate(("alpha", "beta")):
        bars = [line for line in lines_of(figure, panel) if line.get_marker() == "None"][: len(fits)]
        spans = np.array([bar.get_ydata() for bar in bars])
        np.testing.assert_array_equal(spans, fits[[f"{name}_lo", f"{name}_hi"]].to_numpy())


def test_extrapolation_never_sees_what_lies_beyond_the_cut(tables: Tables) -> None:
    means, _, _ = tables
    changed = means.copy()
    changed.loc[changed["kl"] > 6.0, ["gold", "gold_lo", "gold_hi"]] += 1.0

    def fitted(table: pd.DataFrame) -> list[np.ndarray]:
        figure = gold_fits.figure_extrapolation(table)
        return [line.get_ydata() for panel in range(len(SIZES)) for line in lines_of(figure, panel)[1:4]]

    for one, other in zip(fitted(means), fitted(changed), strict=True):
        assert len(one) > 50
        np.testing.assert_array_equal(one, other)


def test_a_forecast_is_drawn_with_its_interval(tables: Tables) -> None:
    means, _, _ = tables
    bands = means[["proxy_params", "kl"]].assign(gold_lo=-0.125, gold_hi=3.0)
    figure = gold_fits.figure_extrapolation(means, bands)
    for axes, size in zip(figure.axes, SIZES, strict=False):
        measured, forecast = (path.vertices for one in axes.collections for path in one.get_paths())
        assert set(forecast[:, 1]) == {-0.125, 3.0} and 3.0 not in measured[:, 1]
        assert set(means.loc[means["proxy_params"] == size, "kl"]) == set(forecast[:, 0])


def drawn_texts(figure: Figure) -> dict[str, Bbox]:
    """The box of every text that is really drawn (ticks beyond the axes are not), in pixels."""
    seen, draw = [], Text.draw

    def record(text: Text, *args: Any, **kwargs: Any) -> None:
        seen.append(text)
        draw(text, *args, **kwargs)

    with style.house_style(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.canvas.draw()
    written = [text for text in seen if text.get_text() and text.get_visible()]
    return {f"{text.get_text()} ({index})": text.get_window_extent() for index, text in enumerate(written)}


def many_sizes(count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves and fits of `count` sizes up to billions, with long numbers."""
    kl, parts, rows = np.linspace(0, 10, 12), [], []
    for rank, size in enumerate(np.geomspace(2_107, 3e9, count).astype(int)):
        gold = np.sqrt(kl) * (0.4 + 0.1 * rank - 0.12 * np.sqrt(kl))
        scores = dict.fromkeys(("gold", "gold_lo", "gold_hi", "proxy", "proxy_lo", "proxy_hi"), gold)
        n = np.geomspace(1, 6e4, 12).astype(int)
        parts.append(pd.DataFrame({"proxy_params": size, "pressure": n, "kl": kl} | scores))
        spans = {f"{name}{end}": 0.2 for name in ("alpha", "beta") for end in ("", "_lo", "_hi")}
        rows.append({"proxy_params": size, "peak_kl": 2.0, "peak_gold": 0.3, "identified": True} | spans)
    return pd.concat(parts), pd.DataFrame(rows)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (5, 1), (9, 1), (9, 2)])
def test_no_text_leaves_the_figure_or_covers_another(count: int, columns: int) -> None:
    means, fits = many_sizes(count)
    counts = {"num_prompts": 1024, "num_samples": 60000, "num_seeds": "7–8", "nonfinite": 12}
    history = means.assign(run=means["proxy_params"], step=means["pressure"], clip_fraction=0.1, status="ok")
    for figure in (
        best_of_n.figure_1a(means, fits, columns=columns, **counts),
        best_of_n.figure_proxy_vs_gold(means, columns=columns),
        gold_fits.figure_coefficients(fits, columns=columns),
        gold_fits.figure_extrapolation(means, columns=columns),
        figure_both(means, means, method="ppo", columns=columns),
        figure_kl_steps(history, method="ppo", columns=columns),
        figure_clipped(history, method="ppo", columns=columns),
        figure_proxy_scores(means, columns=columns),
    ):
        frame, boxes = figure.bbox, drawn_texts(figure)
        for name, box in boxes.items():
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1, name
        for (name, box), (other, rival) in combinations(boxes.items(), 2):
            width = min(box.x1, rival.x1) - max(box.x0, rival.x0)
            height = min(box.y1, rival.y1) - max(box.y0, rival.y0)
            assert min(width, height) <= 0.5, f"{name} on {other}"
        for legend in figure.findobj(Legend):
            assert not any(legend.get_window_extent().overlaps(axes.bbox) for axes in figure.axes)


def test_files_are_deterministic_dateless_and_keep_text(tables: Tables, tmp_path: Path) -> None:
    means, fits, verdicts = tables
    before = dict(mpl.rcParams)
    first, second = (
        style.save_figure(best_of_n.figure_1a(means, fits, verdicts), tmp_path / name) for name in ("a", "b")
    )
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    text = first[1].read_text()
    assert ">proxy parameters</text>" in text and "dc:date" not in text
    assert re.findall(rb"\d{4}-\d\d-\d\d", first[0].read_bytes()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.png", "b.svg"]
    assert dict(mpl.rcParams) == before


def test_a_failed_save_keeps_the_old_file(tmp_path: Path) -> None:
    figure, _ = style.new_figure()
    style.save_figure(figure, tmp_path / "a")
    old = (tmp_path / "a.png").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    figure.savefig = fail
    with pytest.raises(OSError, match="disk full"):
        style.save_figure(figure, tmp_path / "a")
    assert (tmp_path / "a.png").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 2


def test_bad_tables_are_named(tables: Tables) -> None:
    means, fits, _ = tables
    with pytest.raises(InputError, match="no rows"):
        best_of_n.figure_1a(means.head(0), fits)
    with pytest.raises(InputError, match="one row per proxy_params and pressure"):
        best_of_n.figure_proxy_vs_gold(pd.concat([means, means]))
    with pytest.raises(InputError, match="columns=3"):
        best_of_n.figure_1a(means, fits, columns=3)


def test_drawing_needs_neither_jax_nor_pyplot() -> None:
    code = "import sys, synthetic_rm.analysis.report; print(sorted({'jax', 'matplotlib.pyplot'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
