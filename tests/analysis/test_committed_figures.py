"""Every committed figure is what the committed tables give, and what they give is what they say."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis.drawn_figures import as_told, curve, difference, holds, lines_of, of_method, run_means, stale, svg_of
from analysis.test_lineage import ANALYTIC, RESULTS, TRAINED
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from experiments.benchmarks.report import figure_ratios, of_others
from synthetic_rm.analysis.analytic_report import analytic_figures_of
from synthetic_rm.analysis.report import figures_of

SIZE = "proxy_params"
CURVES = {
    "figure_1a": ("n", [SIZE], ["proxy", "gold"]),
    "figure_gold": ("n", [SIZE], ["gold"]),
    "figure_1b": ("rl", [SIZE], ["proxy", "gold"]),
    "figure_rl_gold": ("rl", [SIZE], ["gold"]),
    "figure_data_curves": ("n", [SIZE, "num_comparisons"], ["proxy", "gold"]),
    "figure_rl_data_curves": ("rl", [SIZE, "num_comparisons"], ["proxy", "gold"]),
    "figure_penalty": ("rl", [SIZE, "kl_coef"], ["proxy", "gold"]),
    "figure_policy_gain": ("n", [SIZE, "policy_params"], ["gold"]),
    "figure_rl_policy_gain": ("rl", [SIZE, "policy_params"], ["gold"]),
}
"""scores against KL: method, what tells the lines apart, scores"""
STARTED = {"figure_policy": "n", "figure_rl_policy": "rl"}
"""curves from where the policies started, the first of them from 0"""
STEPS = {"figure_kl_steps": [SIZE], "figure_penalty_steps": [SIZE, "kl_coef"],
         "figure_policy_steps": [SIZE, "policy_params"]}  # fmt: skip
FITS = {"figure_scaling": "n", "figure_coefficients": "n", "figure_rl_scaling": "rl", "figure_rl_coefficients": "rl"}
ANALYTIC_LINES = {
    "figure_tabular": ("records", [("kl", "gold"), ("kl", "proxy"), ("pressure", "kl"), ("pressure", "kl_formula")]),
    "figure_quantile": ("records", [("kl", "gold"), ("kl", "kl_above_tilting")]),
    "figure_iterated": ("records", [("distance", "gold")]),
    "figure_heavy_tails": ("records", [("kl", "gold")]),
    "figure_tail_index": ("tails", [("share", "hill"), ("share", "moment")]),
    "figure_price": ("prices", [("mass", "kl")]),
}


@lru_cache
def drawn(folder: Path) -> dict[str, Figure]:
    return analytic_figures_of(folder) if folder in ANALYTIC else figures_of(folder)


@pytest.mark.parametrize("folder", [*TRAINED, *ANALYTIC], ids=lambda path: path.name)
def test_a_committed_figure_is_the_one_that_its_tables_give(folder: Path) -> None:
    """Shape by shape; a figure drawn from other tables, or by other code, is stale: `make figures` draws it anew."""
    committed = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("figure_*.svg")}
    assert committed.keys() == drawn(folder).keys()
    assert committed.keys() == {path.stem for path in folder.glob("figure_*.png")}
    told = {name: stale(text, drawn(folder)[name]) for name, text in committed.items()}
    assert {name: where for name, where in told.items() if where} == {}


def test_the_figure_of_the_benchmarks_is_the_one_that_its_table_gives() -> None:
    ratios = of_others(pd.read_csv(RESULTS / "benchmarks" / "ratios.csv"))
    committed = (RESULTS / "benchmarks" / "figure_ratios.svg").read_text(encoding="utf-8")
    assert stale(committed, figure_ratios(ratios)) == ""


def expected(folder: Path, name: str, records: pd.DataFrame) -> Iterator[tuple[str, ArrayLike, bool]]:
    """Lines that a figure must hold: what of, [points, 2], and whether it may end early."""
    if name in CURVES:
        method, keys, scores = CURVES[name]
        for value, rows in of_method(as_told(records, keys), method).groupby(keys, dropna=False):
            for score in scores:
                yield f"{score} of {value}", curve(rows)[["kl", score]].to_numpy(), False
    if name in STARTED:
        keys, runs = [SIZE, "policy_params"], pd.read_csv(folder / "runs.csv")[["run", "gold_start", "proxy_start"]]
        rows_of = dict(list(of_method(as_told(records, keys), STARTED[name]).groupby(keys)))
        base = as_told(records)["policy_params"].iloc[0]
        start = {key: rows.merge(runs, on="run").groupby("run").first() for key, rows in rows_of.items()}
        for (size, policy), rows in rows_of.items():
            for score in ("gold", "proxy"):
                gap = start[size, policy][f"{score}_start"].mean() - start[size, base][f"{score}_start"].mean()
                table = curve(rows)
                yield f"{score} of {size}, {policy}", table.assign(**{score: table[score] + gap})[["kl", score]], False
    if name in ("figure_both", "figure_proxy_vs_gold"):
        for value, rows in as_told(records).groupby(["optimizer", SIZE]):
            if name == "figure_both" or value[0] == "best_of_n":
                yield f"gold against proxy of {value}", curve(rows)[["proxy", "gold"]].to_numpy(), True
    if name in STEPS:
        history = pd.read_csv(folder / "history.csv").drop(columns=["kl_coef", "policy_params"], errors="ignore")
        named = as_told(of_method(records, "rl"), STEPS[name]).drop_duplicates("run")
        columns = ["run", *{"kl_coef", "policy_params"}.intersection(named)]
        for line in run_means(history.merge(named[columns], on="run"), STEPS[name]):
            yield "iterations", line, False
    if name in FITS:
        fits = as_told(of_method(pd.read_csv(folder / "fits.csv"), FITS[name]))
        for _, row in fits.iterrows():
            for column in ("alpha", "beta"):
                yield f"{column} of {row[SIZE]}", np.array([[row[SIZE], row[column]]]), False
                ends = [[row[SIZE], row[f"{column}_{end}"]] for end in ("lo", "hi")]
                yield f"interval of {column} of {row[SIZE]}", np.array(ends), False


def absent(folder: Path, name: str, records: pd.DataFrame) -> list[str]:
    """What a figure lacks of what the records, and the tables beside them, say."""
    lines = lines_of(drawn(folder)[name])
    told = list(expected(folder, name, records))
    assert told
    return [what for what, points, early in told if not holds(lines, points, begins=early)]


NAMES = {*CURVES, *STARTED, *STEPS, *FITS, "figure_both", "figure_proxy_vs_gold"}
PRINCIPAL = [
    (folder, path.stem) for folder in TRAINED for path in sorted(folder.glob("figure_*.svg")) if path.stem in NAMES
]


def name_of(case: Path | str) -> str:
    return case.name if isinstance(case, Path) else case


@pytest.mark.parametrize(("folder", "name"), PRINCIPAL, ids=name_of)
def test_a_figure_draws_what_the_rows_of_its_tables_add_up_to(folder: Path, name: str) -> None:
    assert absent(folder, name, pd.read_csv(folder / "records.csv")) == []


def test_every_principal_figure_is_committed_somewhere() -> None:
    assert {name for _, name in PRINCIPAL} == NAMES


@pytest.mark.parametrize(("folder", "name"), [(f, p.stem) for f in ANALYTIC for p in sorted(f.glob("*.svg"))],
                         ids=name_of)  # fmt: skip
def test_an_analytic_figure_draws_rows_of_its_table(folder: Path, name: str) -> None:
    table, pairs = ANALYTIC_LINES[name]
    rows = pd.read_csv(folder / f"{table}.csv")
    known = [{tuple(point) for point in rows[list(pair)].round(9).to_numpy()} for pair in pairs]
    curves = [line for line in lines_of(drawn(folder)[name]) if len(line) > 2]
    assert curves
    for line in curves:
        points = {tuple(point) for point in line.round(9)}
        assert any(points <= some for some in known), line[:3]


@pytest.mark.parametrize("name", ["figure_1a", "figure_gold"])
def test_a_record_of_another_value_is_missed(name: str) -> None:
    folder = RESULTS / "figure1_mean"
    records = pd.read_csv(folder / "records.csv")
    records.loc[records["pressure"] == records["pressure"].max(), "gold"] += 0.01
    assert len(absent(folder, name, records)) == records[SIZE].nunique()


def test_a_stale_figure_is_told() -> None:
    folder = RESULTS / "figure1_mean"
    svg = svg_of(drawn(folder)["figure_gold"])
    assert difference(svg, svg) == ""
    others = drawn(folder)["figure_1a"]
    assert difference(svg, svg_of(others)) != ""
    line = max((one for one in others.axes[0].get_lines()), key=lambda one: len(one.get_xdata()))
    before = svg_of(others)
    line.set_ydata(np.asarray(line.get_ydata()) + 0.02)
    try:
        assert difference(before, svg_of(others)).startswith("'path ")
    finally:
        drawn.cache_clear()
