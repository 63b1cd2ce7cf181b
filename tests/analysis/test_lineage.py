"""A series without its run, and a run without its series, are found; the committed results have neither."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis.synthetic_folder import SIZES, write_folder

from synthetic_rm.analysis.lineage import check_lineage, check_tables, runs_of
from synthetic_rm.analysis.report import redraw
from synthetic_rm.analysis.run_folder import RunFolder, load_run_folder
from synthetic_rm.errors import InputError

RESULTS = Path(__file__).resolve().parents[2] / "results"
COMMITTED = sorted(path.parent for path in RESULTS.glob("*/records.csv") if path.parent.name != "smoke")
TRAINED = [folder for folder in COMMITTED if (folder / "curves.npz").exists()]
ANALYTIC = [folder for folder in COMMITTED if folder not in TRAINED]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = write_folder(tmp_path_factory.mktemp("run"), sizes=SIZES[:2], seeds=3, prompts=6, points=8)
    return load_run_folder(folder)


def test_there_are_committed_results() -> None:
    assert "figure1" in {folder.name for folder in TRAINED}
    assert {"oracle", "heavy_tails"} <= {folder.name for folder in ANALYTIC}


@pytest.mark.parametrize("folder", TRAINED, ids=lambda path: path.name)
def test_no_run_of_a_committed_figure_is_missing_from_its_records(folder: Path) -> None:
    run = load_run_folder(folder)
    check_lineage(run)
    lost = replace(run, records=run.records[run.records["run"] != run.records["run"].iloc[-1]])
    with pytest.raises(InputError, match=r"is ok in runs\.csv but missing from records\.csv"):
        check_lineage(lost)


@pytest.mark.parametrize("folder", ANALYTIC, ids=lambda path: path.name)
def test_no_run_of_a_committed_analytic_figure_is_missing_from_its_records(folder: Path) -> None:
    records, runs, fits = (pd.read_csv(folder / f"{name}.csv") for name in ("records", "runs", "fits"))
    check_tables(folder, records, runs, fits)
    for name in (records["run"].iloc[0], records["run"].iloc[-1]):
        with pytest.raises(InputError, match="missing from records"):
            check_tables(folder, records[records["run"] != name], runs, fits)
        with pytest.raises(InputError, match="not ok in runs"):
            check_tables(folder, records, runs[runs["run"] != name], fits)
    with pytest.raises(InputError, match="for run elsewhere"):
        check_tables(folder, records, runs, fits.assign(run="elsewhere"))


def test_a_sound_folder_passes_though_a_proxy_was_not_finite(run: RunFolder) -> None:
    assert (run.runs["status"] == "nonfinite").any()
    check_lineage(run)


def without(run: RunFolder, table: str, name: str) -> RunFolder:
    frame: pd.DataFrame = getattr(run, table)
    return replace(run, **{table: frame[frame["run"] != name]})


def uncurved(run: RunFolder, name: str) -> RunFolder:
    keep = run.curves["run"] != name
    return replace(run, curves={key: run.curves[key][keep] for key in ("run", "proxy", "gold")})


def retold(run: RunFolder, column: str, value: str, name: str) -> RunFolder:
    runs = run.runs.copy()
    runs.loc[runs["run"] == name, column] = value
    return replace(run, runs=runs)


@pytest.mark.parametrize("place", [0, -1])
def test_what_does_not_agree_is_named(run: RunFolder, place: int) -> None:
    name = str(run.curves["run"][place])
    broken = {
        "ok in runs.csv but missing from records.csv": without(run, "records", name),
        "in records.csv but not ok in runs.csv": without(run, "runs", name),
        "in records.csv but not ok": retold(run, "status", "failed", name),
        "in records.csv but has no curve": uncurved(run, name),
        "has a curve but is missing": without(without(run, "records", name), "runs", name),
        "has no commit": retold(run, "commit", "", name),
        "has no config_hash": retold(run, "config_hash", "", name),
    }
    for wrong, folder in broken.items():
        with pytest.raises(InputError) as error:
            check_lineage(folder)
        assert wrong in str(error.value) and name in str(error.value) and "\n" not in str(error.value)


def test_a_fit_of_other_runs_is_named(run: RunFolder) -> None:
    with pytest.raises(InputError, match=r"fits\.csv is of 9 runs for 2,107 parameters, records\.csv has 2"):
        check_lineage(replace(run, fits=run.fits.assign(num_seeds=9)))
    with pytest.raises(InputError, match=r"for 55 parameters, records\.csv has 0"):
        check_lineage(replace(run, fits=run.fits.assign(proxy_params=55)))


def test_runs_of_a_setting_are_told_apart_by_what_the_row_has(run: RunFolder) -> None:
    both = pd.concat([run.records, run.records.assign(label_noise=0.25, run=run.records["run"] + "-noisy")])
    noisy = runs_of(both, pd.Series({"proxy_params": SIZES[1], "label_noise": 0.25, "kl_coef": np.nan, "alpha": 1.0}))
    assert len(noisy) == 3 and all(name.endswith("-noisy") and f"-{SIZES[1]}-" in name for name in noisy)
    assert len(runs_of(both, pd.Series({"proxy_params": SIZES[1]}))) == 6


def test_a_figure_with_a_missing_run_is_not_drawn(run: RunFolder, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, sizes=SIZES[:2], seeds=3, prompts=6, points=8)
    records = pd.read_csv(folder / "records.csv")
    records[records["run"] != records["run"].iloc[-1]].to_csv(folder / "records.csv", index=False)
    with pytest.raises(InputError, match="missing from records"):
        redraw(folder)
    assert list(folder.glob("figure_*")) == []
