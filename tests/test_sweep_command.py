"""Sweeps as they are asked for: every point checked before the first, all of them run, and what is told at the end."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from scripts import load_script

from synthetic_rm import experiments
from synthetic_rm.errors import RunError
from synthetic_rm.settings import Settings, flatten

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "run.py"
Ran = list[Settings]
Command = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    """The settings that experiments are run with; those with noise fail, those with more than 0.3 unforeseen."""
    found: Ran = []

    def run(settings: Settings) -> None:
        found.append(settings)
        if settings.comparisons.noise > 0.3:
            raise ZeroDivisionError("by 0")
        if settings.comparisons.noise > 0:
            raise RunError("no curve stayed finite")

    monkeypatch.setattr(experiments, "run_experiment", run)
    return found


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """The command in this process and in an empty folder: its exit code and the lines it tells."""
    script = load_script("run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))

    def run(*words: str) -> tuple[int, list[str]]:
        places = {"scale": "smoke", "store": tmp_path / "store", "output": tmp_path / "out"}
        given = [f"{key}={value}" for key, value in places.items() if not any(w.startswith(f"{key}=") for w in words)]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words, *given])
        code = script.main()
        return code, capsys.readouterr().err.splitlines()

    return run


def index(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "out" / "sweep.csv")


def test_every_point_is_run_with_its_values_in_a_folder_of_its_own(command: Command, ran: Ran, tmp_path: Path) -> None:
    code, lines = command("-m", "+experiment=oracle", "proxy.sizes=[2000],[2000,9000]", "proxy.epochs=1,0.5")
    assert code == 0
    found = [(settings.proxy.sizes, settings.proxy.epochs, Path(settings.output).name) for settings in ran]
    assert found == [
        ([2000], 1.0, "proxy.sizes=2000,proxy.epochs=1"),
        ([2000], 0.5, "proxy.sizes=2000,proxy.epochs=0.5"),
        ([2000, 9000], 1.0, "proxy.sizes=2000,9000,proxy.epochs=1"),
        ([2000, 9000], 0.5, "proxy.sizes=2000,9000,proxy.epochs=0.5"),
    ]
    table = index(tmp_path)
    assert list(table["status"]) == ["ok"] * 4
    assert list(table["output"]) == [settings.output for settings in ran]
    assert [sum(f" {folder} " in f" {line}" for line in lines) for folder in table["output"]] == [1] * 4
    others = {key for settings in ran for key, value in flatten(settings).items() if value != flatten(ran[0])[key]}
    assert others == {"proxy.sizes", "proxy.epochs", "output"}
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_points_that_fail_stop_no_other_and_are_told(command: Command, ran: Ran, tmp_path: Path) -> None:
    code, lines = command("-m", "+experiment=oracle", "comparisons.noise=0.4,0.2,0")
    assert code == 1 and len(ran) == 3
    table = index(tmp_path)
    assert list(table["status"]) == ["failed", "failed", "ok"]
    assert "ZeroDivisionError" in table["error"][0] and table["error"][1] == "no curve stayed finite"
    assert "ZeroDivisionError" in (tmp_path / "out" / "comparisons.noise=0.4" / "error.txt").read_text()
    told = "\n".join(lines)
    assert told.count("failed") == 2 and "no curve stayed finite" in told and "Traceback" not in told


def test_the_first_failure_stops_a_sweep_that_asks_for_it(command: Command, ran: Ran, tmp_path: Path) -> None:
    code, _ = command("-m", "+experiment=oracle", "comparisons.noise=0,0.2,0.1", "fail_fast=true")
    assert (code, len(ran)) == (1, 2)
    assert list(index(tmp_path)["status"]) == ["ok", "failed", "skipped"]


REFUSED: list[tuple[list[str], list[str]]] = [
    (["comparisons.noise=0,0.9"], ["point comparisons.noise=0.9", "comparisons.noise=0.9", "0 to 0.5"]),
    (["proxy.seeds=2,two"], ["point proxy.seeds=two", "proxy.seeds", "two"]),
    (["proxy.sizs=2,4"], ["proxy.sizs"]),
    (["scale=smoke,enormous"], ["point scale=enormous", "enormous", "laptop"]),
    (["best_of_n.prompts=16,40000"], ["point best_of_n.prompts=40000", "best_of_n.prompts=40000"]),
    (["comparisons.seed=1,1"], ["comparisons.seed=1", "twice"]),
    (["output=a,b"], ["output", "swept"]),
    (["store=a,b"], ["store", "swept"]),
    (["fail_fast=true,false"], ["fail_fast", "swept"]),
    (["output=''", "comparisons.seed=1,2"], ["output=''"]),
    (["comparisons.seed=interval(0,1)"], ["not support", "INTERVAL"]),
    (["runtime.threads=0,1"], ["runtime.threads=0,1", "submitit_local"]),
    (["proxy.seeds=2,[1"], ["proxy.seeds=2,[1"]),
    (["environment={release: null\\,data: nowhere.tsv},{release: null}"], ["nowhere.tsv"]),
]


@pytest.mark.parametrize(("words", "named"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_one_point_that_cannot_be_is_told_on_one_line_and_nothing_is_run(
    command: Command, ran: Ran, tmp_path: Path, words: list[str], named: list[str]
) -> None:
    code, lines = command("-m", "+experiment=figure1", *words)
    assert code == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
    assert [text for text in named if text not in lines[0]] == [], lines[0]
    assert not re.fullmatch(r"(.+) \1", lines[0].removeprefix("error: ")), "told twice"
    assert ran == [] and not (tmp_path / "out").exists()
    stages = {path.parent.parent.name for path in (tmp_path / "store").rglob("manifest.json")}
    assert stages <= {"tokenizer"}  # is needed to count the prompts


def test_names_from_outside_stay_below_the_output(command: Command, ran: Ran, tmp_path: Path) -> None:
    code, _ = command("-m", "+experiment=oracle", "tracking.folder=../../../x,/tmp/../y,'a b;c'")
    folders = [Path(settings.output) for settings in ran]
    assert code == 0 and len(set(folders)) == 3
    assert all(folder.resolve().parent == (tmp_path / "out").resolve() for folder in folders)


def test_a_single_run_after_a_sweep_is_no_point(command: Command, ran: Ran, tmp_path: Path) -> None:
    command("-m", "+experiment=oracle", "proxy.epochs=1,2")
    code, lines = command("+experiment=oracle", f"output={tmp_path / 'alone'}")
    assert (code, lines) == (0, []) and ran[-1].output == str(tmp_path / "alone")
