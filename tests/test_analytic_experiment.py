"""`+experiment=oracle` and `+experiment=heavy_tails`: what they leave, and that all of it says what it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from synthetic_rm.analysis.analytic_report import redraw_analytic
from synthetic_rm.analysis.run_folder import FIT_COLUMNS, RECORD_COLUMNS, RUN_COLUMNS, read_table
from synthetic_rm.analytic.heavy_tails import DRAWN_NS
from synthetic_rm.analytic.records import ANALYTIC
from synthetic_rm.analytic_experiment import CURVES, run_analytic
from synthetic_rm.errors import InputError
from synthetic_rm.settings import RuntimeSettings, Settings

ROOT = Path(__file__).resolve().parents[1]
FIGURES = {
    "oracle": {"figure_tabular", "figure_quantile", "figure_iterated"},
    "heavy_tails": {"figure_heavy_tails", "figure_tail_index", "figure_price"},
}


def settings(experiment: str, output: Path) -> Settings:
    return Settings(experiment=experiment, output=str(output), runtime=RuntimeSettings(progress=False))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One made by the command, the other in this process."""
    base = tmp_path_factory.mktemp("analytic")
    command = [sys.executable, "experiments/run.py", "+experiment=oracle", f"output={base / 'oracle'}"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert ANALYTIC in done.stderr
    run_analytic(settings("heavy_tails", base / "heavy_tails"))
    return {name: base / name for name in CURVES}


@pytest.fixture(params=sorted(CURVES))
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[str(request.param)]


def test_the_folder_holds_what_every_experiment_leaves(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    figures = {f"{name}.{kind}" for name in FIGURES[folder.name] for kind in ("png", "svg")}
    wanted = (
        {"records.csv", "runs.csv", "fits.csv", "config.yaml", "provenance.json", "report.html"}
        | figures
        | {"metrics.jsonl"}
    )
    extra = {"tails.csv", "prices.csv"} if folder.name == "heavy_tails" else set()
    assert names == wanted | extra
    assert yaml.safe_load((folder / "config.yaml").read_text())["experiment"] == folder.name


def test_every_point_is_tracked(folder: Path) -> None:
    records = read_table(folder / "records.csv", RECORD_COLUMNS)
    first, *lines, last = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert first["start"].startswith(folder.name) and last["finish"] == "ok"
    points = [line for line in lines if "gold" in line]
    np.testing.assert_allclose([line["gold"] for line in points], records["gold"], rtol=1e-12)
    np.testing.assert_allclose([line["kl"] for line in points], records["kl"], rtol=1e-12)


def test_tables_have_their_columns_and_every_point_traces_to_a_run(folder: Path) -> None:
    records = read_table(folder / "records.csv", RECORD_COLUMNS)
    runs, fits = read_table(folder / "runs.csv", RUN_COLUMNS), read_table(folder / "fits.csv", FIT_COLUMNS)
    assert set(records["run"]) == set(runs["run"]) and runs["run"].is_unique
    assert set(fits["run"]) <= set(runs["run"])
    assert (runs["status"] == "ok").all() and (runs["stage"] == "analytic").all()
    assert np.isfinite(records[["kl", "gold"]]).all().all()
    exact = records[records["source"] != "simulated draws"]
    assert (exact[["gold_se", "kl_se", "proxy_se"]] == 0).all().all()


def test_nothing_here_can_be_taken_for_a_trained_run(folder: Path) -> None:
    records = read_table(folder / "records.csv", ("provenance",))
    assert (records["provenance"] == ANALYTIC).all() and records["environment"].str.startswith("analytic: ").all()
    assert (records["proxy_params"] == 0).all() and (records["policy_params"] == 0).all()
    for figure in folder.glob("*.svg"):
        text = figure.read_text()
        assert ANALYTIC.split(",")[0].upper() in text and "Analytic" in text, figure.name
    page = (folder / "report.html").read_text()
    assert ANALYTIC in page and "Nothing here was trained." in page


def test_a_redrawn_folder_is_the_same(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    redraw_analytic(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_committed_results_are_those_that_the_code_makes(folder: Path) -> None:
    committed = ROOT / "results" / folder.name
    for name in ("records.csv", "fits.csv"):
        ours, theirs = (pd.read_csv(place / name) for place in (folder, committed))
        numbers = ours.select_dtypes("number").columns
        assert list(ours.columns) == list(theirs.columns)
        assert len(ours) == len(theirs)
        for column in numbers:
            np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-5, atol=1e-7, err_msg=column)


def test_drawn_responses_lie_on_the_exact_curves(folders: dict[str, Path]) -> None:
    records = pd.read_csv(folders["heavy_tails"] / "records.csv")
    records = records[(records["optimizer"] == "best_of_n")]
    z = []
    for _, rows in records.groupby(["group", "series"]):
        exact, drawn = (
            rows[rows["source"] == source].sort_values("kl") for source in ("quadrature", "simulated draws")
        )
        assert drawn["pressure"].tolist() == DRAWN_NS.tolist()
        wanted = np.interp(drawn["kl"], exact["kl"], exact["gold"])
        z += ((drawn["gold"] - wanted) / drawn["gold_se"])[1:].tolist()
    assert np.abs(z).max() < 4.5 and len(z) == 77


def test_what_the_experiments_find(folders: dict[str, Path]) -> None:
    heavy = pd.read_csv(folders["heavy_tails"] / "fits.csv").set_index(["optimizer", "series"])["shape"]
    for light in ("normal", "bounded", "correlated: slope 0.5"):
        assert heavy["best_of_n", light] == "rises"
    for name in ("student_t(3)", "lognormal(1)", "pareto(1.5)", "pareto(0.5)", "blind at the bottom"):
        assert heavy["best_of_n", name] == "rises, then falls"
    assert heavy["best_of_n", "correlated: slope −0.2"] == "falls"
    oracle = pd.read_csv(folders["oracle"] / "records.csv")
    threshold = oracle[oracle["series"] == "best_of_n"]["threshold"].dropna().unique()
    assert threshold.tolist() == pytest.approx([np.sqrt(12 * 13)])
    tabular = oracle[(oracle["environment"] == "analytic: tabular") & (oracle["optimizer"] == "best_of_n")]
    assert (tabular["kl"] <= tabular["kl_formula"] + 1e-9).all()
    tails = pd.read_csv(folders["heavy_tails"] / "tails.csv").set_index("series")
    for name in ("pareto(1.5)", "pareto(0.5)", "student_t(3)"):
        rows = tails.loc[name]
        near = rows.iloc[(rows["share"] - 0.005).abs().argmin()]
        assert near["hill"] == pytest.approx(near["xi"], rel=0.25)


def test_other_results_in_the_folder_are_left_alone(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="holds results with experiment=oracle"):
        run_analytic(settings("heavy_tails", folders["oracle"]))
