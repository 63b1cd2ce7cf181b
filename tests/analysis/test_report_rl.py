"""A folder with best-of-n and RL: every figure of both, and a report that keeps them apart."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis.synthetic_folder import SIZES, add_rl, write_folder

from synthetic_rm.analysis.curve_intervals import mean_over_runs
from synthetic_rm.analysis.curves import mean_curves, overoptimization
from synthetic_rm.analysis.figures.proxy_scores import figure_proxy_scores
from synthetic_rm.analysis.figures.rl import REACH, figure_both, figure_clipped, figure_kl_steps
from synthetic_rm.analysis.figures.style import size_colors
from synthetic_rm.analysis.report import headline, redraw
from synthetic_rm.analysis.run_folder import RunFolder, load_run_folder
from synthetic_rm.errors import InputError

OWN = {"figure_1b", "figure_rl_gold", "figure_kl_steps", "figure_rl_coefficients", "figure_rl_extrapolation"}
OWN |= {"figure_rl_scaling"}
SHARED = {"figure_1a", "figure_gold", "figure_extrapolation", "figure_coefficients", "figure_proxy_vs_gold"}
SHARED |= {"figure_scaling", "figure_proxy_scores"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_folder(tmp_path_factory.mktemp("both"), sizes=SIZES[:3], prompts=16, points=12)
    add_rl(path)
    redraw(path)
    return path


@pytest.fixture(scope="module")
def parts(folder: Path) -> list[RunFolder]:
    return load_run_folder(folder).parts()


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_every_figure_of_both_is_drawn_and_shown(folder: Path, text: str) -> None:
    assert {path.stem for path in folder.glob("figure_*.png")} == OWN | SHARED | {"figure_both"}
    assert set(re.findall(r'<figure id="(\w+)"', text)) == OWN | SHARED | {"figure_both"}
    assert len(re.findall(r'<figure id="', text)) == 14


def test_parts_share_nothing_but_the_proxies(parts: list[RunFolder]) -> None:
    assert [part.optimizer for part in parts] == ["best_of_n", "ppo"]
    best_of_n, rl = parts
    assert set(rl.fits["optimizer"]) == set(rl.records["optimizer"]) == {"ppo"}
    assert "ppo" not in set(best_of_n.runs["stage"]) and "best_of_n" not in set(rl.runs["stage"])
    assert set(rl.curves["run"]) == set(rl.records["run"])
    assert len(rl.samples) == 3 and best_of_n.samples["n"].notna().all() and best_of_n.history.empty


def test_the_report_counts_and_names_each_by_its_own_runs(text: str, parts: list[RunFolder]) -> None:
    assert "16 prompts, 60,000 samples per prompt, 3–4 proxy seeds per size." in text
    assert "16 prompts, 8 samples per prompt, 2–3 proxy seeds per size." in text
    assert text.count("1 run failed or not finite, left out.") == 2  # one of each
    for part, name in zip(parts, ("Best-of-n: ", "PPO: "), strict=True):
        verdicts = overoptimization(part.curves, part.records, rng=np.random.default_rng(0))
        assert name + headline(verdicts, part.optimizer) in text
    assert "iteration = " in text and "“rl” is d(α − β ln d) with one α for all sizes" in text
    assert text.count("<h3>PPO</h3>") == 6 and "hacked 60" in text
    assert "<title>Reward model overoptimization by best-of-n and PPO</title>" in text


def test_held_out_bounds_are_those_of_each(parts: list[RunFolder], folder: Path) -> None:
    config = {"fit": {"held_out_kl": 4.0, "rl_held_out_kl": 25.0}}
    assert [replace(part, config=config).held_out_kl for part in parts] == [4.0, 25.0]


def test_records_of_rl_without_their_curves_are_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        if path.name != "curves_rl.npz":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"curves_rl\.npz is missing"):
        load_run_folder(tmp_path).parts()
    with pytest.raises(InputError, match=r"in records\.csv but has no curve"):
        redraw(tmp_path)


def test_kl_against_step_is_a_line_for_each_run_and_failures_are_crossed(parts: list[RunFolder]) -> None:
    history = parts[1].history
    figure = figure_kl_steps(history, method="ppo")
    drawn = [line for line in figure.axes[0].lines if len(np.asarray(line.get_xdata())) > 1]
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    lines = [line for line in drawn if line.get_label() != "mean"]
    assert len(lines) == history["run"].nunique() == 9 and len(crosses) == 1
    colors = size_colors(SIZES[:3])
    for line in lines:
        rows = history[history["run"] == line.get_label()]
        np.testing.assert_array_equal(line.get_ydata(), rows["kl"])
        assert line.get_color() == colors[int(rows["proxy_params"].iloc[0])]
    note = " ".join(figure.get_supxlabel().split())
    assert "1 run failed or not finite" in note
    with pytest.raises(InputError, match="no rows"):
        figure_kl_steps(history.iloc[:0], method="ppo")


def test_the_mean_over_runs_ends_where_the_first_of_them_does(parts: list[RunFolder]) -> None:
    history = parts[1].history
    first = history["run"].iloc[0]
    size = int(history.loc[history["run"] == first, "proxy_params"].iloc[0])
    ended = history[(history["run"] != first) | (history["step"] < history["step"].median())]
    lines = figure_kl_steps(ended, method="ppo").axes[0].lines
    own = [line for line in lines if line.get_color() == size_colors(SIZES[:3])[size] and line.get_marker() != "x"]
    (bold,) = (line for line in own if line.get_label() == "mean")
    thin = [dict(zip(*line.get_data(), strict=True)) for line in own if line is not bold]
    assert {len(steps) for steps in thin} == {30, 60} and bold.get_linewidth() > 2 * own[0].get_linewidth()
    assert len(bold.get_xdata()) == 30
    for step, mean in zip(*bold.get_data(), strict=True):
        assert mean == pytest.approx(np.mean([steps[step] for steps in thin]))


def test_the_mean_over_runs_has_a_band_over_runs(parts: list[RunFolder]) -> None:
    history = parts[1].history
    history = history.assign(kl=history["kl"] * (1 + 0.1 * history["proxy_seed"]))
    bands = figure_kl_steps(history, method="ppo", level=0.9).axes[0].collections
    assert len(bands) == history["proxy_params"].nunique()
    told = mean_over_runs(history[history["proxy_params"] == history["proxy_params"].min()], "kl", 0.9)
    drawn = bands[0].get_paths()[0].vertices
    assert {*told["lo"], *told["hi"]} <= set(drawn[:, 1]) and (told["lo"] < told["hi"]).iloc[1:].all()


def test_clipping_is_a_running_mean_of_each_run(parts: list[RunFolder]) -> None:
    history = parts[1].history.assign(
        clip_fraction=lambda table: 0.01 * (table["step"] % 2) * (table["proxy_seed"] + 1)
    )
    figure = figure_clipped(history.sample(frac=1, random_state=0), method="ppo", window=2)
    drawn = [line for line in figure.axes[0].lines if len(np.asarray(line.get_xdata())) > 1]
    lines = [line for line in drawn if line.get_label() != "mean"]
    assert len(lines) == 9
    for line in lines:
        seed = history.loc[history["run"] == line.get_label(), "proxy_seed"].iloc[0]
        np.testing.assert_allclose(np.asarray(line.get_ydata())[1:], 0.005 * (seed + 1))


def test_proxy_scores_are_drawn_beside_their_best_line(parts: list[RunFolder]) -> None:
    table = mean_curves(parts[0].curves, parts[0].records, rng=np.random.default_rng(0), num_resamples=50)
    lines = [line for line in figure_proxy_scores(table).axes[0].lines if len(np.asarray(line.get_xdata())) > 2]
    for size, (curve, line) in zip(SIZES[:3], zip(lines[::2], lines[1::2], strict=True), strict=True):
        rows = table[table["proxy_params"] == size].sort_values("kl")
        d, proxy = np.sqrt(rows["kl"].to_numpy()), rows["proxy"].to_numpy()
        np.testing.assert_array_equal(curve.get_ydata(), proxy)
        slope = np.linalg.lstsq(d[:, None], proxy, rcond=None)[0][0]
        np.testing.assert_allclose(line.get_ydata(), slope * d)


def test_both_methods_are_drawn_up_to_the_reach_of_best_of_n(parts: list[RunFolder]) -> None:
    tables = [mean_curves(p.curves, p.records, rng=np.random.default_rng(0), num_resamples=50) for p in parts]
    figure = figure_both(*tables, method="ppo")
    limit = REACH * tables[0]["proxy"].max()
    furthest = min(limit, max(table["proxy"].max() for table in tables))
    assert figure.axes[0].get_xlim()[1] == pytest.approx(1.02 * furthest)
    lines = [line for line in figure.axes[0].lines if len(np.asarray(line.get_xdata())) > 2]
    assert len(lines) == 6
    for size, (one, two) in zip(SIZES[:3], zip(lines[3:], lines[:3], strict=True), strict=True):
        assert one.get_zorder() > two.get_zorder()
        assert one.get_linestyle() != "-" and two.get_linestyle() == "-"
        for line, table in ((one, tables[0]), (two, tables[1])):
            rows = table[table["proxy_params"] == size].sort_values("kl")
            kept = len(np.asarray(line.get_xdata()))
            np.testing.assert_array_equal(line.get_xdata(), rows["proxy"].iloc[:kept])
            np.testing.assert_array_equal(line.get_ydata(), rows["gold"].iloc[:kept])
            assert kept == len(rows) or rows["proxy"].iloc[kept - 1] > limit


def test_history_is_read_back(folder: Path) -> None:
    found = load_run_folder(folder).history
    assert len(found) == 9 * 60 and found["run"].nunique() == 9
    pd.testing.assert_series_equal(found["kl"], pd.read_csv(folder / "history.csv")["kl"])
