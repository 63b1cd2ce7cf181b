"""A whole run on the tiny world: where its numbers come from, and how a run without a result ends."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from tiny_world import Made, changed, tiny_world, without_curves

from synthetic_rm import experiment, tracking
from synthetic_rm.analysis.run_folder import load_run_folder
from synthetic_rm.environments.reviews.ratings import DATA_SHA256
from synthetic_rm.errors import InputError, RunError
from synthetic_rm.experiment import prepare_output, ratings_sha256, result_config, run
from synthetic_rm.provenance import digest, file_digest
from synthetic_rm.settings import EnvironmentSettings, Settings
from synthetic_rm.simulation import Simulation
from synthetic_rm.tracking import Tracking


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return tiny_world(tmp_path_factory)


def settings_for(made: Made, output: Path, **changes: Any) -> Settings:
    places = {"output": str(output), "store": str(made.store), "runtime.progress": False}
    settings: Settings = changed(places | {key.replace("__", "."): x for key, x in changes.items()}, made.settings)
    return settings


@pytest.fixture(scope="module")
def finished(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(settings_for(made, tmp_path_factory.mktemp("finished") / "output"))


def test_provenance_is_that_of_the_environment_and_of_the_configuration(made: Made, finished: Path) -> None:
    told = load_run_folder(finished)
    settings = settings_for(made, finished)
    environment = json.loads((finished / "environment.json").read_text())
    assert told.provenance["release"] is settings.environment.release is None
    assert environment["release"] == "trained by this run"
    assert told.provenance["data_sha256"] == file_digest(Path(str(settings.environment.data)))
    assert told.provenance["config_hash"] == digest(result_config(settings))
    assert told.provenance["world"] == list(made.world.keys)
    assert set(told.provenance["world"]) <= set(told.runs["config_hash"])
    assert told.config["environment"]["data"] == settings.environment.data
    assert environment["environment"] == told.records["environment"].iloc[0]


def test_the_data_of_a_release_are_those_of_its_manifest() -> None:
    assert ratings_sha256(EnvironmentSettings()) == ratings_sha256(EnvironmentSettings(release=None)) == DATA_SHA256


def test_every_record_traces_to_a_run_and_every_run_is_listed_in_the_report(finished: Path) -> None:
    told, page = load_run_folder(finished), (finished / "report.html").read_text(encoding="utf-8")
    assert set(told.records["run"]) == set(told.runs.loc[told.runs["stage"] == "best_of_n", "run"])
    assert all(f">{run}<" in page for run in told.runs["run"])


def test_processes_that_were_given_something_else_are_told(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        changed({"rl.seed": seed, "runtime.process": place}, made.settings) for place, seed in enumerate((0, 0, 7))
    ]
    told: list[str] = []
    monkeypatch.setattr(experiment, "gathered", lambda own: [told.append(own)])
    for one in given:
        experiment.check_alike(one)
    monkeypatch.setattr(experiment, "gathered", lambda own: told)
    with pytest.raises(InputError, match=r"^rl\.seed=7: process 2 has it, the first 0; allowed is one for all$"):
        experiment.check_alike(given[0])


def spoil(monkeypatch: pytest.MonkeyPatch, seeds: list[int]) -> None:
    scores = Simulation.proxy_scores

    def spoiled(self: Simulation, group: Any) -> np.ndarray:
        found = np.array(scores(self, group))
        found[seeds] = np.nan
        return found

    monkeypatch.setattr(Simulation, "proxy_scores", spoiled)


def test_a_failed_seed_is_counted_in_the_report(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, [1])
    store = str(without_curves(made, tmp_path / "store").root)
    page = (run(settings_for(made, tmp_path / "output", store=store)) / "report.html").read_text(encoding="utf-8")
    assert "1 run failed or not finite, left out." in page and ">nonfinite<" in page


def test_a_run_without_a_finite_curve_leaves_what_is_known_and_says_so(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = tmp_path / "output", str(without_curves(made, tmp_path / "store").root)
    with monkeypatch.context() as patch:
        spoil(patch, [0, 1])
        with pytest.raises(RunError) as ended:
            run(settings_for(made, folder, store=store))
    assert str(folder / "runs.csv") in str(ended.value) and "\n" not in str(ended.value)
    left = {path.name for path in folder.iterdir()}
    assert left == {"config.yaml", "runs.csv", "environment.json", "provenance.json", "metrics.jsonl"}
    runs = pd.read_csv(folder / "runs.csv")
    assert (runs.loc[runs["stage"] == "proxy", "status"] == "nonfinite").all()
    assert json.loads((folder / "provenance.json").read_text())["commit"]
    run(settings_for(made, folder, best_of_n__points=7))  # its folder is free for another configuration
    assert load_run_folder(folder).records["pressure"].nunique() == 7


OTHER: dict[str, Any] = {"comparisons__noise": 0.25}


def test_a_run_that_was_cut_off_does_not_block_its_folder(made: Made, tmp_path: Path) -> None:
    prepare_output(settings_for(made, tmp_path))
    prepare_output(settings_for(made, tmp_path, **OTHER))
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["comparisons"]["noise"] == 0.25


def test_results_block_their_folder_for_another_configuration_alone(made: Made, tmp_path: Path) -> None:
    prepare_output(settings_for(made, tmp_path))
    (tmp_path / "records.csv").write_text("run\nmine\n")
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(InputError, match=r"comparisons\.noise=0\.0, this run has comparisons\.noise=0\.25"):
        prepare_output(settings_for(made, tmp_path, **OTHER))
    assert (tmp_path / "config.yaml").read_bytes() == before
    prepare_output(settings_for(made, tmp_path, runtime__threads=1))
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"records\.csv without its config\.yaml"):
        prepare_output(settings_for(made, tmp_path))
    assert not (tmp_path / "config.yaml").exists()


def test_results_older_than_a_key_had_its_default(made: Made, tmp_path: Path) -> None:
    prepare_output(settings_for(made, tmp_path))
    (tmp_path / "records.csv").write_text("run\nmine\n")
    held = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del held["study"], held["proxy"]["num_comparisons"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(held))
    with pytest.raises(InputError, match=r"proxy\.num_comparisons=None, this run has proxy\.num_comparisons=40"):
        prepare_output(settings_for(made, tmp_path, proxy__num_comparisons=40))
    prepare_output(settings_for(made, tmp_path))


def test_a_run_that_breaks_off_can_be_taken_up(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was computed stays in the store; the folder holds its configuration and no results."""
    with monkeypatch.context() as patch:
        patch.setattr(
            experiment, "overoptimization_tables", lambda simulation: (_ for _ in ()).throw(RuntimeError("off"))
        )
        with pytest.raises(RuntimeError, match="off"):
            run(settings_for(made, tmp_path / "output"))
    assert {path.name for path in (tmp_path / "output").iterdir()} == {"config.yaml", "metrics.jsonl"}
    told = load_run_folder(run(settings_for(made, tmp_path / "output")))
    assert told.runs["reused"].all()


def test_metrics_of_every_stage_curve_and_fit_are_kept(made: Made, finished: Path) -> None:
    told = load_run_folder(finished)
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["start"] == f"output-{told.provenance['config_hash'][:8]}"
    assert lines[0]["config"]["proxy.seeds"] == 2 and lines[-1]["finish"] == "ok"
    points = {(line["series"], line["step"]): line for line in lines[1:-1]}
    for row in told.records.itertuples():
        line = points[row.run, row.pressure]
        assert (line["kl"], line["proxy"], line["gold"]) == pytest.approx((row.kl, row.proxy, row.gold))
    stages = told.runs.loc[told.runs["stage"].isin(["comparisons", "pool"]), "run"]
    assert {(run, 0) for run in stages} <= set(points)
    (fit,) = told.fits.itertuples()
    assert points[f"fit_best_of_n_none_{fit.proxy_params}", 0]["alpha"] == pytest.approx(fit.alpha)


class BrokenTracker:
    def __getattr__(self, name: str) -> Any:
        raise ConnectionError("no server")


def test_a_broken_tracker_changes_nothing_of_a_run(
    made: Made, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Tracking([BrokenTracker()], [BrokenTracker()])
    monkeypatch.setattr(experiment, "open_tracking", lambda *_, **__: broken)
    folder = run(settings_for(made, tmp_path / "output"))
    for name in ("records.csv", "fits.csv", "curves.npz", "samples.csv"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_tracker_that_is_not_installed_is_told_before_anything_is_made(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tracking.PACKAGES, "wandb", "no_such_package")
    with pytest.raises(InputError, match=r"tracking\.wandb=offline: .*no_such_package"):
        run(settings_for(made, tmp_path / "output", tracking__wandb="offline"))
    monkeypatch.setitem(tracking.PACKAGES, "wandb", "json")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"tracking\.folder="):
        run(settings_for(made, tmp_path / "output", tracking__wandb="offline", tracking__folder=str(tmp_path / "file")))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
