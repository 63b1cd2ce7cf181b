"""A run folder is read back as written; what is missing or damaged is named."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from analysis.simulated_curves import KL, run_tables

from synthetic_rm.analysis.fit_table import HELD_OUT_KL
from synthetic_rm.analysis.run_folder import (
    FIT_COLUMNS,
    RECORD_COLUMNS,
    RUN_COLUMNS,
    SAMPLE_COLUMNS,
    load_run_folder,
)
from synthetic_rm.errors import InputError

FILES = ("records.csv", "runs.csv", "fits.csv", "curves.npz", "config.yaml", "provenance.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    curves, records = run_tables({2000: np.zeros((2, KL.size, 3))})
    records.reindex(columns=[*RECORD_COLUMNS, "kl_support"]).to_csv(tmp_path / "records.csv", index=False)
    runs = {"run": "gold-1", "stage": "gold", "status": "ok", "config_hash": "0012e9", "commit": "12e4567"}
    pd.DataFrame([runs], columns=RUN_COLUMNS).to_csv(tmp_path / "runs.csv", index=False)
    fits = {"proxy_params": 2000, "peak_kl": np.inf, "identified": False}
    pd.DataFrame([fits], columns=FIT_COLUMNS).to_csv(tmp_path / "fits.csv", index=False)
    texts = ["nan", "", 'two\nlines, and "quotes"']
    samples = pd.DataFrame({"n": [1, 3, 10], "response": texts}).reindex(columns=SAMPLE_COLUMNS)
    samples.to_csv(tmp_path / "samples.csv", index=False)
    np.savez(tmp_path / "curves.npz", **curves)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"scale": "smoke", "seeds": [0, 1]}))
    (tmp_path / "provenance.json").write_text(json.dumps({"commit": "12e4567", "dirty": False}))
    return tmp_path


def test_everything_is_read_back_as_written(folder: Path) -> None:
    run = load_run_folder(str(folder))
    assert run.config == {"scale": "smoke", "seeds": [0, 1]}
    assert run.provenance["dirty"] is False
    assert run.curves["gold"].shape == (2, KL.size, 3)
    assert len(run.records) == 2 * KL.size
    np.testing.assert_array_equal(run.records["kl"][: KL.size], KL)
    assert run.records["kl_support"].isna().all()
    assert run.records["mitigation"].eq("none").all()
    assert run.runs.loc[0, ["config_hash", "commit"]].tolist() == ["0012e9", "12e4567"]
    assert run.fits.loc[0, "peak_kl"] == np.inf
    assert run.fits["identified"].dtype == bool
    assert run.samples["response"].tolist() == ["nan", "", 'two\nlines, and "quotes"']
    assert run.samples["gold"].isna().all()
    (folder / "samples.csv").unlink()
    assert load_run_folder(folder).samples.columns.tolist() == list(SAMPLE_COLUMNS)


def assert_named(folder: Path, name: str, message: str | None = None) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_run_folder(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_missing_empty_and_damaged_files_are_named(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    assert_named(folder, name, "is missing")
    (folder / name).write_bytes(b"")
    assert_named(folder, name)
    (folder / name).write_bytes(b"\xff\xfe\x00{" + whole[: len(whole) // 2])
    assert_named(folder, name)


def test_tables_and_arrays_of_another_kind_are_named(folder: Path) -> None:
    (folder / "fits.csv").write_text("optimizer,alpha\nbest_of_n,1\n")
    assert_named(folder, "fits.csv", "lacks the column mitigation, proxy_params")
    (folder / "fits.csv").write_text(",".join(FIT_COLUMNS) + "\n")
    np.savez(folder / "curves.npz", run=np.array([{"pickled": 1}], dtype=object))
    assert_named(folder, "curves.npz")
    np.savez(folder / "curves.npz", run=np.array(["a"]))
    assert_named(folder, "curves.npz", "lack pressure, proxy, gold")
    assert_named(folder / "nowhere", "nowhere", "is no folder")


def test_the_held_out_bound_is_that_of_the_run(folder: Path) -> None:
    assert load_run_folder(folder).held_out_kl == HELD_OUT_KL  # not told
    for told in (3, 2.5):
        (folder / "config.yaml").write_text(yaml.safe_dump({"fit": {"held_out_kl": told}}))
        assert load_run_folder(folder).held_out_kl == told


@pytest.mark.parametrize("level", [0, 1, 95, "0.9", True, float("nan")])
def test_a_level_that_cannot_be_is_named(folder: Path, level: object) -> None:
    assert load_run_folder(folder).level == 0.95
    (folder / "config.yaml").write_text(yaml.safe_dump({"fit": {"level": 0.8}}))
    assert load_run_folder(folder).level == 0.8
    (folder / "config.yaml").write_text(yaml.safe_dump({"fit": {"level": level}}))
    with pytest.raises(InputError, match=r"config\.yaml: fit\.level=.*below 1"):
        _ = load_run_folder(folder).level


@pytest.mark.parametrize("fit", [7, {"held_out_kl": 0}, {"held_out_kl": "three"}, {"held_out_kl": None}])
def test_a_held_out_bound_that_cannot_be_is_named(folder: Path, fit: object) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump({"fit": fit}))
    with pytest.raises(InputError, match=r"config\.yaml: fit\.held_out_kl="):
        _ = load_run_folder(folder).held_out_kl


def test_configuration_must_hold_named_values(folder: Path) -> None:
    (folder / "config.yaml").write_text("- a\n- b\n")
    assert_named(folder, "config.yaml", "got list")
