"""The figures of the scaling laws show the law, the fits and what was left out."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis.simulated_curves import KL
from analysis.synthetic_folder import SIZES as FOLDER_SIZES
from analysis.synthetic_folder import write_folder
from analysis.test_scaling import SIZES, noisy
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from synthetic_rm.analysis.bootstrap import bootstrap_fits
from synthetic_rm.analysis.curves import SettingCurves
from synthetic_rm.analysis.figures.scaling import PANELS, figure_left_out, figure_scaling
from synthetic_rm.analysis.figures.style import size_colors
from synthetic_rm.analysis.left_out import leave_one_out
from synthetic_rm.analysis.run_folder import load_run_folder
from synthetic_rm.analysis.scaling import ScalingLaw, fit_scaling_law, proxy_size
from synthetic_rm.analysis.scaling_section import error_table, law_table, left_out_of
from synthetic_rm.errors import InputError


@pytest.fixture(scope="module")
def entries() -> list[SettingCurves]:
    return noisy(np.random.default_rng(8))


@pytest.fixture(scope="module")
def law(entries: list[SettingCurves]) -> ScalingLaw:
    return fit_scaling_law(entries, "bon", num_resamples=100, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def fits(entries: list[SettingCurves]) -> pd.DataFrame:
    rows = []
    for entry in entries:
        fit = bootstrap_fits(KL, entry.gold, "bon", num_resamples=100, rng=np.random.default_rng(0))
        names = [f"{name}{end}" for name in PANELS for end in ("", "_lo", "_hi")]
        rows.append({"proxy_params": proxy_size(entry), "identified": fit.identified}
                    | {name: getattr(fit, name) for name in names})  # fmt: skip
    return pd.DataFrame(rows)


def words_of(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_every_size_is_a_point_in_its_colour_where_its_fit_is(law: ScalingLaw, fits: pd.DataFrame) -> None:
    figure = figure_scaling(law, fits)
    for axes, name in zip(figure.axes, PANELS, strict=True):
        top = axes.get_ylim()[1]
        points = {line.get_xdata()[0]: line for line in axes.get_lines() if line.get_marker() in "o^"}
        assert sorted(points) == list(SIZES)
        for _, row in fits.iterrows():
            point = points[row["proxy_params"]]
            assert to_hex(point.get_color()) == size_colors(SIZES)[int(row["proxy_params"])]
            assert (point.get_marker() == "^") == (row[name] > top)
            if row[name] <= top:
                assert point.get_ydata()[0] == row[name]
            assert (point.get_markerfacecolor() == "white") == (not row["identified"])


def test_the_line_is_the_law(law: ScalingLaw, fits: pd.DataFrame) -> None:
    figure = figure_scaling(law, fits)
    for axes, name in zip(figure.axes, PANELS, strict=True):
        line = max(axes.get_lines(), key=lambda one: len(one.get_xdata()))
        told = [getattr(law.at(size), name).value for size in line.get_xdata()]
        np.testing.assert_allclose(line.get_ydata(), np.where(np.isfinite(told), told, np.nan))
    assert figure.axes[2].get_ylim()[1] == pytest.approx(1.25 * law.largest_kl)
    assert "a size to be trained" in words_of(figure) and "nats" in words_of(figure)


def test_measured_peaks_are_crosses_with_intervals_unless_they_lie_at_the_end(
    law: ScalingLaw, fits: pd.DataFrame
) -> None:
    measured = pd.DataFrame({"proxy_params": SIZES, "peak_kl": [2.0, 3, 4, 7, 7], "peak_gold": 0.5, "last_kl": 7.0})
    for name in ("peak_kl", "peak_gold"):
        measured[f"{name}_lo"], measured[f"{name}_hi"] = measured[name] - 0.25, measured[name] + 0.125
    for axes, name in zip(figure_scaling(law, fits, measured).axes[2:], ("peak_kl", "peak_gold"), strict=True):
        crosses = next(line for line in axes.get_lines() if line.get_marker() == "x")
        np.testing.assert_allclose(crosses.get_xdata(), np.array(SIZES[:3]) / 1.12)
        np.testing.assert_array_equal(crosses.get_ydata(), measured[name][:3])
        bars = next(one for one in axes.collections if isinstance(one, LineCollection))
        expected = [[[x, y - 0.25], [x, y + 0.125]] for x, y in zip(*crosses.get_data(), strict=True)]
        np.testing.assert_allclose(bars.get_segments(), expected)


def test_alphas_fitted_freely_are_diamonds_within_the_panel(law: ScalingLaw, fits: pd.DataFrame) -> None:
    own = fits[["proxy_params"]].assign(alpha=3.0, alpha_lo=-2.0, alpha_hi=5.0)
    usual, both = figure_scaling(law, fits), figure_scaling(law, fits, own=own)
    diamonds = [[line.get_ydata()[0] for line in axes.get_lines() if line.get_marker() == "D"] for axes in both.axes]
    assert diamonds == [[3.0] * len(fits), [], [], []]
    low, high = both.axes[0].get_ylim()
    assert low < -2 and high > 5
    assert ["fitted by itself" in " ".join(words_of(figure).split()) for figure in (usual, both)] == [False, True]


def test_panels_of_sizes_left_out_show_measured_and_predicted(entries: list[SettingCurves]) -> None:
    table = leave_one_out(entries, "bon", num_resamples=50, rng=np.random.default_rng(0))
    table = table.assign(measured_lo=table["measured"] - 0.1, measured_hi=table["measured"] + 0.2)
    figure = figure_left_out(table)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in shown] == [
        "2.0k, law extended", "6.0k", "20k", "60k", "200k, law extended",
    ]  # fmt: skip
    for axes, size in zip(shown, SIZES, strict=True):
        mine = table[table["proxy_params"] == size]
        drawn = [line.get_ydata() for line in axes.get_lines()]
        assert any(np.array_equal(mine["measured"], one) for one in drawn)
        assert any(np.array_equal(mine["gold"], one) for one in drawn)
        bands = [path.vertices[:, 1] for one in axes.collections for path in one.get_paths()]
        assert all(set(mine[["measured_lo", "measured_hi"]].to_numpy().ravel()) <= set(band) for band in bands[1:])
        assert len(bands) == 2 and set(mine["gold_hi"]) <= set(bands[0])
        low, high = axes.get_ylim()
        assert low < mine[["measured", "gold"]].min(axis=None) and high > mine[["measured", "gold"]].max(axis=None)


def test_what_was_measured_lies_in_its_own_interval(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, sizes=FOLDER_SIZES[:4], seeds=3, prompts=8, points=8, failed=0)
    told = left_out_of(load_run_folder(folder))
    assert told is not None and len(told) == 4 * told["kl"].nunique()
    beyond = told[told["kl"] > 0]
    assert (beyond["measured_lo"] < beyond["measured"]).all() and (beyond["measured"] < beyond["measured_hi"]).all()


def test_tables_tell_every_size(law: ScalingLaw, fits: pd.DataFrame, entries: list[SettingCurves]) -> None:
    told = law_table(law, fits)
    assert list(told["params"]) == ["2.0k", "6.0k", "20k", "60k", "200k"]
    first = fits.iloc[0]
    assert told.loc[0, "α"] == f"{first['alpha']:.2f} [{first['alpha_lo']:.2f}, {first['alpha_hi']:.2f}]"
    assert told.loc[0, "α, law"].startswith(f"{law.at(2000).alpha.value:.2f} [")
    errors = error_table(leave_one_out(entries, "bon", num_resamples=20, rng=np.random.default_rng(0)))
    assert list(errors["params"]) == ["2.0k (law extended)", "6.0k", "20k", "60k", "200k (law extended)"]
    assert all(re.fullmatch(r"\d+%", cell) for cell in errors["points within the interval"])


def test_nothing_is_drawn_of_other_sizes_or_of_none(law: ScalingLaw, fits: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="of the same sizes"):
        figure_scaling(law, fits[1:])
    with pytest.raises(InputError, match="no rows"):
        figure_left_out(pd.DataFrame())
