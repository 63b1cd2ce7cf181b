"""The whole command at smoke scale, once: every file, every column, and numbers that must be what they are."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir

from synthetic_rm.analysis.run_folder import FIT_COLUMNS, RECORD_COLUMNS, RUN_COLUMNS, SAMPLE_COLUMNS
from synthetic_rm.config import register, to_settings
from synthetic_rm.provenance import file_digest
from synthetic_rm.settings import Settings, flatten

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 900
"""seconds the command may take; a minute or two is usual"""
EXTRA = ["kl_support", "proxy_params_nonembedding", "proxy_init", "proxy_native"]
TABLES = ["records.csv", "runs.csv", "fits.csv", "samples.csv"]
OTHERS = ["curves.npz", "config.yaml", "provenance.json", "environment.json", "report.html"]


@dataclass(frozen=True)
class Smoke:
    output: Path
    store: Path
    done: subprocess.CompletedProcess[str]
    seconds: float
    left: dict[str, bytes]
    """every file as the first run left it"""


def command(output: Path, store: Path, *words: str) -> subprocess.CompletedProcess[str]:
    asked = ["experiments/run.py", "+experiment=figure1", "scale=smoke", f"output={output}", f"store={store}", *words]
    return subprocess.run([sys.executable, *asked], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Smoke:
    folder = tmp_path_factory.mktemp("smoke")
    started = time.perf_counter()
    done = command(folder / "output", folder / "store")
    assert done.returncode == 0, done.stderr[-3000:]
    return Smoke(folder / "output", folder / "store", done, time.perf_counter() - started, contents(folder / "output"))


@pytest.fixture(scope="module")
def settings() -> Settings:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        return to_settings(compose("config", overrides=["+experiment=figure1", "scale=smoke"]))


@pytest.fixture(scope="module")
def records(smoke: Smoke) -> pd.DataFrame:
    return pd.read_csv(smoke.output / "records.csv")


@pytest.fixture(scope="module")
def runs(smoke: Smoke) -> pd.DataFrame:
    return pd.read_csv(smoke.output / "runs.csv")


def test_it_leaves_every_file_and_no_others(smoke: Smoke) -> None:
    figures = {Path(name).stem for name in smoke.left if name.endswith((".png", ".svg"))}
    assert {"figure_1a", "figure_gold", "figure_coefficients", "figure_proxy_vs_gold"} <= figures
    drawn = {f"{name}.{kind}" for name in figures for kind in ("png", "svg")}
    assert set(smoke.left) == {*TABLES, *OTHERS, *drawn}
    assert all(smoke.left[name].startswith(b"\x89PNG") for name in drawn if name.endswith("png"))
    assert all(b"<svg" in smoke.left[name] for name in drawn if name.endswith("svg"))


def test_it_says_what_it_does_without_bars_or_warnings(smoke: Smoke) -> None:
    assert smoke.done.stdout == ""
    assert str(smoke.output / "report.html") in smoke.done.stderr
    assert not any(word in smoke.done.stderr for word in ("Warning", "Traceback", "\x1b", "\r"))


def test_tables_have_the_columns_of_the_contract_in_their_order(smoke: Smoke) -> None:
    columns = {name: list(pd.read_csv(smoke.output / name, nrows=0).columns) for name in TABLES}
    assert columns["records.csv"] == [*RECORD_COLUMNS, *EXTRA]
    assert columns["runs.csv"][: len(RUN_COLUMNS)] == list(RUN_COLUMNS)
    own = {"params", "params_nonembedding", "train_loss", "validation_loss", "validation_accuracy", "recalibration"}
    assert own | {"reused"} <= set(columns["runs.csv"])
    assert columns["fits.csv"][: len(FIT_COLUMNS)] == list(FIT_COLUMNS)
    assert {"num_seeds", "num_prompts", "form", "peak_kl_lo", "peak_gold_hi"} <= set(columns["fits.csv"])
    assert columns["samples.csv"] == list(SAMPLE_COLUMNS)


def test_there_is_a_record_for_every_proxy_and_n(records: pd.DataFrame, settings: Settings) -> None:
    sizes, seeds, points = len(settings.proxy.sizes), settings.proxy.seeds, settings.best_of_n.points
    assert records["proxy_params"].nunique() == sizes
    assert len(records) == sizes * seeds * points and records["run"].nunique() == sizes * seeds
    for _, rows in records.groupby("run"):
        assert rows["pressure"].iloc[0] == 1 and rows["pressure"].iloc[-1] == settings.best_of_n.samples
        assert rows["pressure"].is_monotonic_increasing and rows["pressure"].is_unique
        assert rows["proxy_params"].nunique() == rows["proxy_seed"].nunique() == 1
    assert not records.drop(columns="kl_coef").isna().to_numpy().any()
    assert set(records["optimizer"]) == {"best_of_n"} and set(records["mitigation"]) == {"none"}
    assert (records["num_prompts"] == settings.best_of_n.prompts).all()
    assert (records["num_samples"] == settings.best_of_n.samples).all()


def test_at_n_1_nothing_was_optimized(records: pd.DataFrame) -> None:
    """The pool is the reference: both scores are recentred on it."""
    first = records[records["pressure"] == 1]
    assert len(first) == records["run"].nunique()
    for column in ("kl", "proxy", "gold", "proxy_se", "gold_se", "proxy_native", "kl_support"):
        np.testing.assert_allclose(first[column], 0, atol=1e-5, err_msg=column)


def test_kl_is_the_formula_and_the_support_never_gives_more(records: pd.DataFrame) -> None:
    n = records["pressure"].to_numpy(np.float64)
    np.testing.assert_allclose(records["kl"], np.log(n) - (n - 1) / n, atol=1e-12)
    assert (records["kl_support"] <= records["kl"] + 1e-9).all()
    assert (records["kl_support"] >= 0.5 * records["kl"] - 1e-9).all()
    assert (records["kl_se"] == 0).all()


def test_the_proxy_rises_with_n_in_its_own_units(records: pd.DataFrame) -> None:
    for _, rows in records.groupby("run"):
        assert (np.diff(rows["proxy_native"]) > 0).all()
        assert (rows["proxy_se"].iloc[1:] > 0).all() and (rows["gold_se"].iloc[1:] > 0).all()
    assert records["response_length"].between(1, 27).all()


def test_curves_are_the_records_before_averaging(smoke: Smoke, records: pd.DataFrame, settings: Settings) -> None:
    with np.load(smoke.output / "curves.npz", allow_pickle=False) as archive:
        curves = {name: archive[name] for name in archive.files}
    count = records["run"].nunique()
    assert set(curves) == {"run", "pressure", "proxy", "gold"}
    assert curves["run"].dtype.kind == "U" and curves["pressure"].dtype == np.int64
    for name in ("proxy", "gold"):
        assert curves[name].dtype == np.float32
        assert curves[name].shape == (count, settings.best_of_n.points, settings.best_of_n.prompts)
        for run, curve in zip(curves["run"], curves[name], strict=True):
            np.testing.assert_allclose(records.loc[records["run"] == run, name], curve.mean(axis=1), atol=1e-5)


def test_fits_have_a_row_for_every_size_and_sound_intervals(
    smoke: Smoke, records: pd.DataFrame, settings: Settings
) -> None:
    fits = pd.read_csv(smoke.output / "fits.csv")
    assert list(fits["proxy_params"]) == sorted(records["proxy_params"].unique())
    for name in ("alpha", "beta"):
        assert ((fits[f"{name}_lo"] <= fits[name]) & (fits[name] <= fits[f"{name}_hi"])).all()
    page = smoke.left["report.html"].decode()
    assert set(re.findall(r"KL ≤ ([\d.]+)", page)) == {f"{settings.fit.held_out_kl:g}"} == {"3"}
    assert (fits["r2"] <= 1).all() and (fits["num_seeds"] == 2).all() and (fits["num_prompts"] == 16).all()


def test_the_configuration_is_whole(smoke: Smoke, settings: Settings) -> None:
    written = yaml.safe_load((smoke.output / "config.yaml").read_text())

    def flat(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
        for key, value in values.items():
            yield from flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]

    expected = flatten(settings) | {"output": str(smoke.output), "store": str(smoke.store)}
    assert dict(flat(written)) == expected


def test_every_stored_file_is_what_its_manifest_says(smoke: Smoke) -> None:
    manifests = list(smoke.store.glob("*/*/manifest.json"))
    stages = {path.parts[-3] for path in manifests}
    assert stages == {"tokenizer", "backbone", "reference", "gold", "comparisons", "proxy", "pool", "scores"}
    for path in manifests:
        files = json.loads(path.read_text())["files"]
        assert {name: file_digest(path.parent / name) for name in files} == {n: hash for n, (_, hash) in files.items()}
        assert {p.name for p in path.parent.iterdir()} == {*files, "manifest.json"}
    assert not list(smoke.store.glob("*/.*"))


def test_the_second_run_finds_every_stage_and_writes_the_same_numbers(smoke: Smoke) -> None:
    before = contents(smoke.store)
    started = time.perf_counter()
    done = command(smoke.output, smoke.store)
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stderr[-3000:]
    after = contents(smoke.output)
    assert set(after) == set(smoke.left)
    for name in ("records.csv", "fits.csv", "samples.csv", "config.yaml", "environment.json"):
        assert after[name] == smoke.left[name], name
    assert contents(smoke.store) == before
    runs = pd.read_csv(smoke.output / "runs.csv")
    assert (runs.loc[runs["stage"] != "best_of_n", "reused"].astype(str) == "True").all()
    assert seconds < 0.7 * smoke.seconds


def test_another_configuration_does_not_overwrite_it(smoke: Smoke) -> None:
    before = contents(smoke.output)
    done = command(smoke.output, smoke.store, "comparisons.noise=0.1")
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "comparisons.noise" in line and str(smoke.output) in line
    assert contents(smoke.output) == before
