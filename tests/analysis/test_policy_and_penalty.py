"""Figures of penalties and of policies show what the records hold: means, gaps, starts, and every run's way."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis.studied_folder import BASE, POINTS, SEEDS, SIZES, STARTS, studied
from matplotlib.axes import Axes

from synthetic_rm.analysis.curves import mean_curves
from synthetic_rm.analysis.figures.panels import PENALTIES, POLICIES, score_panels
from synthetic_rm.analysis.policy_and_penalty import (
    PENALTY_FIGURES,
    POLICY_FIGURES,
    mean_gaps,
    penalty_figures,
    penalty_section,
    policy_figures,
    policy_section,
    shifted,
    start_table,
    studied_figures,
)
from synthetic_rm.errors import InputError

VALUES = (0.0, 0.1, 0.4)


def drawn(axes: Axes, color: str) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata()) for line in axes.lines if line.get_color() == color]


def test_figures_of_penalties_hold_the_means_and_the_gaps(tmp_path: Path) -> None:
    run = studied(tmp_path, "kl_coef", VALUES)
    figures = penalty_figures(run)
    assert set(figures) == set(PENALTY_FIGURES) and policy_figures(run) == {} and policy_section(run) == ""
    assert set(studied_figures(run)) == set(figures) and penalty_section(run).count("<tr>") == 1 + 2 * len(VALUES)
    colors = PENALTIES.colors(VALUES)
    assert len(set(colors.values())) == len(VALUES)
    for place, size in enumerate(SIZES):
        for value in VALUES:
            rows = run.records[(run.records["proxy_params"] == size) & (run.records["kl_coef"] == value)]
            means = rows.groupby("pressure")[["gold", "proxy"]].mean()
            gold, proxy = drawn(figures["figure_penalty"].axes[place], colors[value])
            np.testing.assert_allclose(gold, means["gold"], atol=1e-12)
            np.testing.assert_allclose(proxy, means["proxy"], atol=1e-12)
            (gap,) = drawn(figures["figure_penalty_gap"].axes[place], colors[value])
            np.testing.assert_allclose(gap, means["proxy"] - means["gold"], atol=1e-12)


def test_every_run_is_a_line_and_their_mean_ends_with_the_first(tmp_path: Path) -> None:
    run = studied(tmp_path, "kl_coef", VALUES)
    lines = drawn(penalty_figures(run)["figure_penalty_steps"].axes[0], PENALTIES.colors(VALUES)[0.4])
    assert [len(line) for line in lines] == [10, 11, 12, 10]
    np.testing.assert_allclose(lines[-1], 3.0 * np.arange(10))
    assert len(lines) == SEEDS + 1


def test_gaps_have_the_spread_of_the_difference(tmp_path: Path) -> None:
    """Proxy and gold wobble together, so that their difference does not."""
    run = studied(tmp_path, "kl_coef", VALUES)
    gaps = mean_gaps(run.curves, run.records, rng=np.random.default_rng(0), level=0.95)
    assert np.allclose(gaps["gap_lo"], gaps["gap_hi"]) and len(gaps) == len(SIZES) * len(VALUES) * POINTS


@pytest.mark.parametrize("optimizer", ["ppo", "best_of_n"])
def test_policies_start_where_gold_had_them(tmp_path: Path, optimizer: str) -> None:
    run = studied(tmp_path, "policy_params", tuple(STARTS), optimizer)
    starts = start_table(run, BASE)
    for _, row in starts.iterrows():
        difference = STARTS[int(row["policy_params"])] - STARTS[BASE]
        assert (row["gold_start"], row["proxy_start"]) == pytest.approx((difference, 2 * difference))
    means = mean_curves(run.curves, run.records, rng=np.random.default_rng(0))
    put_back = shifted(means, starts)
    first = put_back[put_back["kl"] == 0].set_index("policy_params")["gold"]
    for policy, start in STARTS.items():
        np.testing.assert_allclose(first[policy], start - STARTS[BASE], atol=1e-12)
    assert len(put_back) == len(means)


def test_figures_of_policies(tmp_path: Path) -> None:
    colors = POLICIES.colors(STARTS)
    found = {}
    for optimizer in ("best_of_n", "ppo"):
        run = studied(tmp_path, "policy_params", tuple(STARTS), optimizer)
        found |= policy_figures(run)
        assert penalty_figures(run) == {} and penalty_section(run) == ""
        section = policy_section(run)
        assert "45k" in section and "3.900" in section and "4.000" in section and "(the end)" in section
    assert set(found) == set(POLICY_FIGURES)
    for name, first in (("figure_rl_policy", 0.5), ("figure_rl_policy_gain", 0.0), ("figure_policy", 0.5)):
        gold = drawn(found[name].axes[0], colors[314_800])[0]
        assert gold[0] == pytest.approx(first, abs=1e-12)
    stars = [line for line in found["figure_policy"].axes[0].lines if line.get_marker() == "*"]
    assert len(stars) == len(STARTS)


def test_several_settings_of_one_line_are_refused(tmp_path: Path) -> None:
    run = studied(tmp_path, "kl_coef", VALUES)
    means = mean_curves(run.curves, run.records, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="choose one setting"):
        score_panels(pd.concat([means, means]), PENALTIES, title="")
    with pytest.raises(InputError, match="no rows"):
        score_panels(means.iloc[:0], PENALTIES, title="")
    policies = studied(tmp_path, "policy_params", tuple(STARTS))
    (tmp_path / "environment.json").write_text("{}")
    with pytest.raises(InputError, match="does not tell of the policy"):
        policy_figures(policies)
