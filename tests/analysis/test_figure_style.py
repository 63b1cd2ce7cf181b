"""Numbers, colours and axes that all figures share."""

from itertools import combinations

import numpy as np
import pytest
from analysis.synthetic_folder import SIZES
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from synthetic_rm.analysis.figures import style


@pytest.mark.parametrize(("level", "text"), [(0.95, "95%"), (0.9, "90%"), (0.999, "99.9%"), (0.6827, "68.27%")])
def test_percent(level: float, text: str) -> None:
    assert style.percent(level) == text


COUNTS = {0: "0", 999: "999", 1000: "1.0k", 2107: "2.1k", 9043: "9.0k", 9960: "10k", 22145: "22k"}
COUNTS |= {999_400: "999k", 999_600: "1.0M", 1.2e9: "1.2B", 3e12: "3.0T", 7e15: "7000T"}


@pytest.mark.parametrize(("count", "text"), COUNTS.items())
def test_human_count(count: float, text: str) -> None:
    assert style.human_count(count) == text


@given(st.integers(1, 10**13))
def test_human_count_is_within_five_percent(count: int) -> None:
    text = style.human_count(count)
    unit = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
    value = float(text.rstrip("kMBT")) * unit.get(text[-1], 1)
    assert abs(value / count - 1) <= 0.05


@given(st.lists(st.integers(2_000, 10**9), min_size=1, max_size=12))
def test_a_size_has_its_own_colour_whatever_stands_beside_it(sizes: list[int]) -> None:
    told = style.size_colors(sizes * 2)
    assert list(told) == sorted(set(sizes))
    assert told == {size: color for size in told for color in style.size_colors([size]).values()}


@pytest.mark.parametrize("sizes", [SIZES, (2_100, 3e6, 9e9), [2_000 * 3**step for step in range(13)]])
def test_colours_darken_with_size_and_stand_out_on_white(sizes: tuple[int, ...]) -> None:
    rgb = np.array([to_rgb(color) for color in style.size_colors(sizes).values()])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) < 0).all()
    assert (1.05 / (luminance + 0.05)).min() > 2.2


def test_our_own_sizes_are_told_apart() -> None:
    """Neighbours on the laptop's ladder differ by more than a tenth in some channel."""
    rgb = np.array([to_rgb(color) for color in style.size_colors((2_103, 4_309, 8_985, 19_777, 80_881)).values()])
    assert np.abs(np.diff(rgb, axis=0)).max(axis=1).min() > 0.1


def test_series_without_a_size_keep_their_colours_and_have_none_of_a_size() -> None:
    colors = style.rank_colors(["b", "a", "b", "c"])
    assert list(colors) == ["b", "a", "c"] and style.rank_colors(["b", "a"]).items() <= colors.items()
    many = [to_rgb(color) for color in style.rank_colors(range(12)).values()]
    sizes = [to_rgb(color) for color in style.size_colors(np.geomspace(2e3, 1e10, 60).astype(int)).values()]
    assert all(np.abs(np.subtract(*pair)).max() > 0.1 for pair in combinations(many[:6], 2))
    assert len(set(many)) == 12
    assert all(np.abs(np.subtract(own, size)).max() > 0.1 for own in many[:6] for size in sizes)


@given(st.floats(0.6, 900), st.floats(0.05, 0.2))
def test_kl_ticks_are_round_and_apart(limit: float, gap: float) -> None:
    ticks = style.kl_ticks(limit, gap=gap)
    assert ticks[0] == 0 and max(ticks) <= limit and len(ticks) >= 2
    assert np.diff(np.sqrt(ticks)).min() >= gap * np.sqrt(limit) * (1 - 1e-9)


def test_kl_axis_is_a_square_root() -> None:
    _, axes = style.new_figure()
    style.sqrt_kl_axis(axes, 9.0)
    points = axes.transAxes.inverted().transform(axes.transData.transform([(kl, 0) for kl in (0, 1, 4, 9)]))
    np.testing.assert_allclose(points[:, 0], [0, 1 / 3, 2 / 3, 1], atol=1e-12)
