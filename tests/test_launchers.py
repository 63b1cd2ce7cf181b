"""Sweeps whose points run in other processes: each has its own or a worker of a local Ray cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from synthetic_rm import config
from synthetic_rm.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
TWO = ["+experiment=heavy_tails", "runtime.threads=1", "fit.held_out_kl=3,4"]
RAY = ["+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.init.include_dashboard=false"]


def sweep(tmp_path: Path, *words: str) -> tuple[int, str, pd.DataFrame]:
    """The command in a process of its own: exit code, what it told, and the index of the sweep."""
    asked = [sys.executable, str(ROOT / "experiments" / "run.py"), "-m", *words, f"output={tmp_path / 'out'}"]
    extra = {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "MPLBACKEND": "agg"}
    extra |= {"WATCHED_FORKS": str(tmp_path)}
    extra["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*asked, f"store={tmp_path / 'store'}"], cwd=tmp_path, env=os.environ | extra, text=True, capture_output=True
    )
    assert (tmp_path / "out" / "sweep.csv").exists(), done.stderr
    return done.returncode, done.stderr, pd.read_csv(tmp_path / "out" / "sweep.csv")


def forks_with_jax(folder: Path) -> list[list[int]]:
    """Of every process that told: whether it has jax, and its forks since then."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def test_a_fork_once_jax_is_imported_is_seen(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "watched_forks.py")]
    subprocess.run(command, env=os.environ | {"WATCHED_FORKS": str(tmp_path)}, check=True)
    assert forks_with_jax(tmp_path) == [[True, 1]]


@pytest.mark.parametrize(("launcher", "words"), [("submitit_local", []), ("ray", RAY)])
def test_points_run_in_processes_of_the_launcher(tmp_path: Path, launcher: str, words: list[str]) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.split('_')[0]}_launcher")
    watched = "+hydra.callbacks.watched._target_=watched_forks.Watched"
    code, told, index = sweep(tmp_path, f"hydra/launcher={launcher}", *words, *TWO, watched)
    assert code == 0, told
    assert forks_with_jax(tmp_path) == [[True, 0]] * 3
    assert list(index["status"]) == ["ok", "ok"] and index["process"].nunique() == 2
    assert list(index["point"]) == ["fit.held_out_kl=3", "fit.held_out_kl=4"]
    for folder in index["output"]:
        assert (Path(folder) / "report.html").exists() and folder in told
    cuts = [pd.read_csv(Path(folder) / "fits.csv")["held_out_rmse"].to_list() for folder in index["output"]]
    assert cuts[0] != cuts[1]


@pytest.mark.parametrize(("launcher", "words"), [("submitit_local", ["hydra.sweeper.max_batch_size=1"]), ("ray", RAY)])
def test_a_point_whose_process_is_killed_stops_no_other(tmp_path: Path, launcher: str, words: list[str]) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.split('_')[0]}_launcher")
    killed = "+hydra.callbacks.killed._target_=killed_point.Killed"
    code, told, index = sweep(tmp_path, f"hydra/launcher={launcher}", *words, *TWO, killed)
    assert code == 1 and list(index["status"]) == ["lost", "ok"], told
    assert "Traceback" not in told


def launcher_of(*words: str) -> DictConfig:
    """What Hydra makes of these words for a launcher."""
    config.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        composed = compose("config", [*words, "output=somewhere"], return_hydra_config=True)
    launcher: DictConfig = composed.hydra.launcher
    return launcher


def test_slurm_jobs_go_on_where_they_ran_out_of_time() -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    found = launcher_of("hydra/launcher=slurm", "hydra.launcher.partition=long")
    assert found._target_.endswith(".SlurmLauncher") and found.partition == "long"
    assert found.max_num_timeout > 0 and 60 * found.timeout_min > found.signal_delay_s > 0


def test_local_processes_have_the_hours_that_slurm_jobs_have() -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    found = launcher_of("hydra/launcher=submitit_local")
    assert found._target_.endswith(".LocalLauncher")
    assert found.timeout_min == launcher_of("hydra/launcher=slurm").timeout_min == config.LOCAL_MINUTES
    assert launcher_of("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5").timeout_min == 5
    with pytest.raises(config.ERRORS, match="timeout_min"):
        launcher_of("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=long")


def test_what_ray_cannot_be_started_with_is_told() -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    with pytest.raises(InputError, match=r"hydra\.launcher\.ray\.init: .*nonsense"):
        config._start_ray(OmegaConf.create({"nonsense": 1}))


@pytest.mark.parametrize("launcher", ["submitit_local", "submitit_slurm", "ray"])
def test_a_launcher_that_is_not_installed_is_told_with_its_remedy(launcher: str) -> None:
    error = config.ERRORS[0](f"Could not find 'hydra/launcher/{launcher}'")
    assert f"synthetic-rm[{launcher.split('_')[0]}]" in config.one_line(error)
