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

from synthetic_rm.analysis.run_folder import (
    FIT_COLUMNS,
    HISTORY_COLUMNS,
    RECORD_COLUMNS,
    RUN_COLUMNS,
    SAMPLE_COLUMNS,
)
from synthetic_rm.config import register, to_settings
from synthetic_rm.provenance import file_digest
from synthetic_rm.settings import Settings, flatten
from synthetic_rm.store import VERSIONS

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 900
"""seconds the command may take; a minute or two is usual"""
EXTRA = ["kl_support", "proxy_params_nonembedding", "proxy_init", "proxy_epochs", "proxy_native"]
RL_EXTRA = ["k1", "k2", "k3", "entropy", "repetition", "finished", "agreement"]
RL_EXTRA += ["clip_fraction", "explained_variance", "update_kl", "gradient_norm"]
TABLES = ["records.csv", "runs.csv", "fits.csv", "samples.csv", "history.csv", "verdicts.csv"]
OTHERS = [
    "metrics.jsonl",
    "curves.npz",
    "curves_rl.npz",
    "config.yaml",
    "provenance.json",
    "environment.json",
    "report.html",
]


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
def both(smoke: Smoke) -> pd.DataFrame:
    return pd.read_csv(smoke.output / "records.csv")


@pytest.fixture(scope="module")
def records(both: pd.DataFrame) -> pd.DataFrame:
    """Of best-of-n."""
    return both[both["optimizer"] == "best_of_n"].drop(columns=RL_EXTRA)


@pytest.fixture(scope="module")
def rl(both: pd.DataFrame) -> pd.DataFrame:
    return both[both["optimizer"] != "best_of_n"].drop(columns="kl_support")


@pytest.fixture(scope="module")
def runs(smoke: Smoke) -> pd.DataFrame:
    return pd.read_csv(smoke.output / "runs.csv")


def test_it_leaves_every_file_and_no_others(smoke: Smoke) -> None:
    figures = {Path(name).stem for name in smoke.left if name.endswith((".png", ".svg"))}
    assert {"figure_1a", "figure_gold", "figure_coefficients", "figure_proxy_vs_gold"} <= figures
    assert {"figure_1b", "figure_rl_gold", "figure_rl_coefficients", "figure_both", "figure_kl_steps"} <= figures
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
    assert columns["records.csv"] == [*RECORD_COLUMNS, *EXTRA, *RL_EXTRA]
    assert columns["runs.csv"][: len(RUN_COLUMNS)] == list(RUN_COLUMNS)
    own = {"params", "params_nonembedding", "train_loss", "validation_loss", "validation_accuracy", "recalibration"}
    assert own | {"reused"} <= set(columns["runs.csv"])
    assert columns["fits.csv"][: len(FIT_COLUMNS)] == list(FIT_COLUMNS)
    assert {"num_seeds", "num_prompts", "form", "peak_kl_lo", "peak_gold_hi"} <= set(columns["fits.csv"])
    assert columns["samples.csv"] == [*SAMPLE_COLUMNS, "optimizer", "policy_seed", "pressure", "kl"]
    assert columns["history.csv"][:7] == list(HISTORY_COLUMNS[:7]) and set(HISTORY_COLUMNS) < set(
        columns["history.csv"]
    )


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


def test_rl_starts_at_the_reference_goes_away_from_it_and_raises_the_proxy(
    rl: pd.DataFrame, settings: Settings, runs: pd.DataFrame
) -> None:
    """What is claimed of a proxy is claimed in its own logits: at this scale it can order pairs against gold."""
    assert set(rl["optimizer"]) == {"ppo"} and rl["proxy_params"].nunique() == len(settings.proxy.sizes)
    assert rl["run"].nunique() == len(settings.proxy.sizes) * settings.rl.proxy_seeds
    assert not rl.isna().to_numpy().any()
    for _, rows in rl.groupby("run"):
        assert rows["pressure"].iloc[0] == rows["kl"].iloc[0] == 0 and rows["pressure"].is_monotonic_increasing
        np.testing.assert_allclose(rows[["proxy", "gold", "proxy_native"]].iloc[0], 0, atol=1e-5)
        assert rows["kl"].iloc[-1] > 4 and rows["proxy_native"].iloc[-1] > 0 and len(rows) >= 5
        assert np.abs(rows["k1"] - rows["kl"]).max() < 0.3 * rows["kl"].max()
    mine = runs[runs["stage"] == "ppo"]
    assert (mine["status"] == "ok").all() and set(mine["run"]) == set(rl["run"])


def test_rl_raises_the_proxy_further_than_best_of_n_and_spends_more_kl(rl: pd.DataFrame, records: pd.DataFrame) -> None:
    """At the same proxy score (the paper's section 3.5); sizes with every seed together."""
    for size, rows in rl.groupby("proxy_params"):
        by_n = records[records["proxy_params"] == size].groupby("pressure")[["kl", "proxy_native"]].mean()
        best = by_n["proxy_native"].iloc[-1] / 2
        spent = np.interp(best, by_n["proxy_native"], by_n["kl"])
        reached = [np.interp(best, r["proxy_native"].cummax(), r["kl"]) for _, r in rows.groupby("run")]
        assert np.mean(reached) > spent, size


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
    assert records["response_length"].between(1 - 1e-6, 27 + 1e-6).all()


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
    both = pd.read_csv(smoke.output / "fits.csv")
    rl, fits = both[both["optimizer"] == "ppo"], both[both["optimizer"] == "best_of_n"]
    assert list(rl["proxy_params"]) == sorted(records["proxy_params"].unique()) and rl["alpha"].nunique() == 1
    assert list(fits["proxy_params"]) == sorted(records["proxy_params"].unique())
    for name in ("alpha", "beta"):
        assert ((fits[f"{name}_lo"] <= fits[name]) & (fits[name] <= fits[f"{name}_hi"])).all()
    page = smoke.left["report.html"].decode()
    bounds = {f"{bound:g}" for bound in (settings.fit.held_out_kl, settings.fit.rl_held_out_kl)}
    assert set(re.findall(r"KL ≤ ([\d.]+)", page)) == bounds == {"3", "4"}
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
    assert stages == set(VERSIONS)
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
    for name in ("records.csv", "fits.csv", "samples.csv", "history.csv", "config.yaml", "environment.json"):
        assert after[name] == smoke.left[name], name
    assert contents(smoke.store) == before
    runs = pd.read_csv(smoke.output / "runs.csv")
    assert (runs["reused"].astype(str) == "True").all()
    assert seconds < 0.7 * smoke.seconds


def test_another_configuration_does_not_overwrite_it(smoke: Smoke) -> None:
    before = contents(smoke.output)
    done = command(smoke.output, smoke.store, "comparisons.noise=0.1")
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "comparisons.noise" in line and str(smoke.output) in line
    assert contents(smoke.output) == before
