"""The figure of peaks against comparisons: peaks within the data where they are, others as lower bounds."""

import numpy as np
import pandas as pd
import pytest
from analysis.test_data_law import SIZES, coefficients, exact, law_of
from matplotlib.colors import to_hex
from matplotlib.text import Text

from synthetic_rm.analysis.figures.data import figure_data_coefficients
from synthetic_rm.analysis.figures.data_peaks import MARKS, figure_data_peaks, told_of_peak
from synthetic_rm.analysis.figures.style import size_colors
from synthetic_rm.analysis.scaling import ScalingLaw
from synthetic_rm.errors import InputError

COUNTS = (1000, 4000, 16000, 64000)
PEAKS = pd.DataFrame(
    [
        {"proxy_params": size, "num_comparisons": count, "last_kl": 6.0, "identified": kl < 4, "peak_kl": kl}
        | {"peak_kl_lo": 0.5 * kl, "peak_kl_hi": 2.0 * kl if kl < 4 else np.inf, "peak_gold": 0.2 * kl}
        | {"peak_gold_lo": 0.1 * kl, "peak_gold_hi": 0.3 * kl if kl < 4 else np.inf}
        | {"last_gold": 0.7, "last_gold_lo": 0.6, "last_gold_hi": 0.8}
        for size in SIZES
        for count, kl in zip(COUNTS, (2.0, 5.0, 20.0, np.inf), strict=True)
    ]
)
INSIDE, UNSURE, BEYOND = MARKS


@pytest.fixture(scope="module")
def law() -> ScalingLaw:
    return law_of(exact())


def test_every_setting_is_a_mark_in_its_colour_where_its_peak_or_its_bound_is(law: ScalingLaw) -> None:
    figure = figure_data_peaks(PEAKS, law, title="t")
    expected = {"kl": [2.0, 5.0, 6.0, 6.0], "gold": [0.4, 1.0, 0.7, 0.7]}
    for axes, name in zip(figure.axes, expected, strict=True):
        points = [line for line in axes.get_lines() if line.get_markersize() == 4.6]
        assert len(points) == len(PEAKS)
        for size in SIZES:
            mine = [point for point in points if to_hex(point.get_color()) == size_colors(SIZES)[size]]
            assert [point.get_ydata()[0] for point in mine] == pytest.approx(expected[name])
            assert [point.get_marker() for point in mine] == ["o", "o", "^", "^"]
            assert [point.get_markerfacecolor() == "white" for point in mine] == [False, True, True, True]
            xs = [point.get_xdata()[0] for point in mine]
            np.testing.assert_allclose(np.log(xs) - np.log(COUNTS), np.log(xs[0] / COUNTS[0]))
    words = [text.get_text() for text in figure.findobj(Text)]
    assert set(MARKS) <= set(words) and any("95% intervals" in word for word in words)


def test_bars_are_the_intervals_cut_at_the_data(law: ScalingLaw) -> None:
    left, right = figure_data_peaks(PEAKS, law, title="t").axes
    for axes, ends in ((left, [(1, 4), (2.5, 6), (6, 6), (6, 6)]), (right, [(0.2, 0.6), (0.5, None), (0.6, 0.8)])):
        bars = [
            line.get_ydata() for line in axes.get_lines() if line.get_linewidth() == 1.0 and len(line.get_ydata()) == 2
        ]
        drawn = bars[: len(COUNTS)]
        for bar, (low, high) in zip(drawn, ends, strict=False):
            assert bar[0] == pytest.approx(low)
            assert bar[1] == pytest.approx(0.97 * axes.get_ylim()[1] if high is None else high)


def test_lines_are_the_law_up_to_the_largest_kl(law: ScalingLaw) -> None:
    left, right = figure_data_peaks(PEAKS, law, title="t").axes
    for axes, name in ((left, "kl"), (right, "gold")):
        lines = [line for line in axes.get_lines() if len(line.get_xdata()) > 2]
        assert len(lines) == len(SIZES)
        for line, size in zip(lines, SIZES, strict=True):
            told = np.array([getattr(law.highest(size, count), name).value for count in line.get_xdata()])
            drawn = np.asarray(line.get_ydata())
            seen = np.isfinite(drawn)
            np.testing.assert_allclose(drawn[seen], told[seen])
            assert seen.all() if name == "gold" else (told[~seen] == law.largest_kl).all()
    peak, bound = law.at(6000, 16000, new=False), law.highest(6000, 16000)
    assert bound.gold.value == pytest.approx(peak.peak_gold.value, abs=1e-3) and bound.kl.value < law.largest_kl


def test_coefficients_stand_beside_the_law(law: ScalingLaw) -> None:
    rows = [
        {"num_comparisons": count, "proxy_params": size, "identified": False}
        for size in (0, *SIZES)
        for count in COUNTS
    ]
    names = [f"{name}{end}" for name in ("alpha", "beta") for end in ("", "_lo", "_hi")]
    figure = figure_data_coefficients(pd.DataFrame(rows).assign(**dict.fromkeys(names, 0.25)), law)
    for axes, place in zip(figure.axes, (0, 1), strict=True):
        dotted = [line for line in axes.get_lines() if line.get_linewidth() == 0.9]
        assert [to_hex(line.get_color()) for line in dotted] == [size_colors(SIZES)[size] for size in SIZES]
        for line, size in zip(dotted, SIZES, strict=True):
            assert list(line.get_xdata()) == list(COUNTS[1:])
            np.testing.assert_allclose(line.get_ydata(), [coefficients(size, count)[place] for count in COUNTS[1:]])


def test_marks_tell_beyond_from_within() -> None:
    assert [told_of_peak(row)[0] for _, row in PEAKS.head(4).iterrows()] == [INSIDE, UNSURE, BEYOND, BEYOND]


def test_several_rows_of_a_setting_are_refused(law: ScalingLaw) -> None:
    with pytest.raises(InputError, match="one row for each setting"):
        figure_data_peaks(pd.concat([PEAKS, PEAKS]), law, title="t")
