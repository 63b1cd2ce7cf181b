"""The whole command by two processes that make one run together: stopped, gone on with, and compared with one process.

Batches are shared by both. Sums are taken in another order than on one device, so numbers agree to their last digits.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scripts import free_port
from test_devices import COMPILE_FAST
from tiny_world import RL_SIZES, Made, changed, tiny_world

from synthetic_rm.settings import Settings, flatten

ROOT = Path(__file__).resolve().parents[1]
RL = RL_SIZES | {"rl.proxy_seeds": 1, "rl.max_steps": 6, "rl.measure_every": 3}
ENDED = 1200
"""seconds in which a command has ended"""


def words_of(settings: Settings) -> list[str]:
    """What the command is told of settings: every key that is not as usual."""
    usual = flatten(Settings())
    told = {key: value for key, value in flatten(settings).items() if value != usual[key] and key != "scale"}
    return [f"{key}={json.dumps(value)}" for key, value in told.items()]


class Commands:
    """Runs of one tiny configuration in one store and output, by two processes of their own each."""

    def __init__(self, folder: Path, settings: Settings):
        self.folder = folder
        places = {name: str(folder / name) for name in ("output", "store")}
        self.words = words_of(changed(RL | places | {"runtime.checkpoint_seconds": None}, settings))

    def start(self, *words: str) -> subprocess.Popen[str]:
        kept = {"JAX_COMPILATION_CACHE_DIR": str(self.folder / "compiled")}
        kept |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": COMPILE_FAST}
        command = [sys.executable, "experiments/run.py", "+experiment=figure1", *self.words, *words]
        pipes: Mapping[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **kept}, **pipes)

    def start_both(self) -> list[subprocess.Popen[str]]:
        together = [f"runtime.coordinator=127.0.0.1:{free_port()}", "runtime.processes=2"]
        return [self.start(*together, f"runtime.process={i}") for i in range(2)]


def told_by(processes: list[subprocess.Popen[str]], code: int) -> list[str]:
    """What every process said on standard error, once all have ended with the code."""
    told = [process.communicate(timeout=ENDED)[1] for process in processes]
    assert [process.returncode for process in processes] == [code] * len(processes), "\n".join(told)[-5000:]
    return told


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same by one process: this one."""
    return tiny_world(tmp_path_factory)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Commands:
    return Commands(tmp_path_factory.mktemp("several"), made.settings)


@pytest.fixture(scope="module")
def both(commands: Commands) -> tuple[list[str], list[str]]:
    """What two processes said: stopped while they draw comparisons, by a signal to the second; and then to the end."""
    processes = commands.start_both()
    started = time.monotonic()
    while not list((commands.folder / "store").glob("comparisons/*.progress/drawn-train/length.npy")):
        assert time.monotonic() - started < ENDED and all(process.poll() is None for process in processes)
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGTERM)
    stopped = told_by(processes, 143)
    return stopped, told_by(commands.start_both(), 0)


def test_a_signal_to_one_process_stops_both_and_the_same_command_goes_on(
    commands: Commands, both: tuple[list[str], list[str]]
) -> None:
    stopped, ended = both
    assert all("stopped: the same command goes on from what the store has" in told for told in stopped)
    assert not any("Traceback" in told for told in (*stopped, *ended))
    runs = pd.read_csv(commands.folder / "output" / "runs.csv")
    reused = dict(zip(runs["stage"], runs["reused"], strict=True))
    assert reused["tokenizer"] and reused["gold"] and not reused["comparisons"]
    assert re.search(r"drawn-train of comparisons \w+ goes on from step [1-9]", ended[0])


def test_the_first_process_alone_writes_and_tells(commands: Commands, both: tuple[list[str], list[str]]) -> None:
    first, second = both[1]
    assert "report: " in first and not any(word in second for word in ("report", "synthetic_rm", "goes on"))
    output = commands.folder / "output"
    names = {path.name for path in output.iterdir()}
    assert {"records.csv", "report.html", "provenance.json", "metrics.jsonl", "figure_1b.svg"} <= names
    assert not names & {"error.txt", ".lock"}
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert sum("start" in line for line in lines) == 2  # one to each command
    store = commands.folder / "store"
    left = {
        path.name for path in store.glob("*/*") if path.name.startswith(".") or path.suffix in (".json", ".progress")
    }
    assert left == set()


def test_two_processes_come_to_what_one_does(commands: Commands, both: tuple[list[str], list[str]], made: Made) -> None:
    """Best-of-n, and what is trained for it. Runs of RL would part as soon as a rounding changes a drawn token."""
    records = pd.read_csv(commands.folder / "output" / "records.csv")
    ours = records[records["optimizer"] == "best_of_n"].set_index("run")
    theirs = made.tables.records.set_index("run")
    assert list(ours.index) == list(theirs.index)  # the keys in the store are the same
    for name in ("pressure", "kl", "proxy", "gold", "response_length"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=5e-3, atol=5e-3, err_msg=name)
    runs = pd.read_csv(commands.folder / "output" / "runs.csv")
    losses = [table.dropna(subset="train_loss").set_index("run")["train_loss"] for table in (runs, made.tables.runs)]
    assert list(losses[0].index) == list(losses[1].index) and len(losses[0]) >= 4
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    rl = records[records["optimizer"] == "ppo"]
    assert len(rl) >= 3 and rl["pressure"].max() == RL["rl.max_steps"] - 1 and abs(rl["kl"].iloc[0]) < 1e-5
    assert np.isfinite(rl[["kl", "proxy", "gold"]].to_numpy()).all()
