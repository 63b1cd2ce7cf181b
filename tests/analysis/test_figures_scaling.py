"""The figures of the scaling laws show the law, the fits and what was left out."""

import re

import numpy as np
import pandas as pd
import pytest
from analysis.simulated_curves import KL
from analysis.test_scaling import SIZES, noisy
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from synthetic_rm.analysis.bootstrap import bootstrap_fits
from synthetic_rm.analysis.curves import SettingCurves
from synthetic_rm.analysis.figures.scaling import PANELS, figure_left_out, figure_scaling
from synthetic_rm.analysis.figures.style import size_colors
from synthetic_rm.analysis.left_out import leave_one_out
from synthetic_rm.analysis.scaling import ScalingLaw, fit_scaling_law, proxy_size
from synthetic_rm.analysis.scaling_section import error_table, law_table
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


def test_measured_peaks_are_crosses_unless_they_lie_at_the_end(law: ScalingLaw, fits: pd.DataFrame) -> None:
    overopt = pd.DataFrame({"proxy_params": SIZES, "peak_kl": [2.0, 3, 4, 7, 7], "peak_gold": 0.5, "last_kl": 7.0})
    for axes, name in zip(figure_scaling(law, fits, overopt).axes[2:], ("peak_kl", "peak_gold"), strict=True):
        crosses = next(line for line in axes.get_lines() if line.get_marker() == "x")
        np.testing.assert_array_equal(crosses.get_xdata(), SIZES[:3])
        np.testing.assert_array_equal(crosses.get_ydata(), overopt[name][:3])


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
        low, high = axes.get_ylim()
        assert low < mine[["measured", "gold"]].min(axis=None) and high > mine[["measured", "gold"]].max(axis=None)


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
