"""A stage that is not finished keeps its checkpoints in the store, goes on from them, and is then whole and alone."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripts import load_script
from stored import Maker, get, made

from synthetic_rm import store as module
from synthetic_rm.checkpoints import Checkpoints
from synthetic_rm.errors import InputError, Stopped
from synthetic_rm.progress import Reporter
from synthetic_rm.runtime import stop_asked, stoppable
from synthetic_rm.store import Store, progress_of
from synthetic_rm.storekeeping import Entry, prunable, remove, scan


class Steps:
    """Takes five steps and counts them; at one of them it calls `then`."""

    def __init__(self, at: int = 0, then: Callable[[], object] = lambda: None):
        self.at, self.then, self.taken = at, then, list[int]()

    def __call__(self, folder: Path, checkpoints: Checkpoints) -> dict[str, Any]:
        loop = checkpoints.loop("steps")
        total = {"sum": np.zeros(1)}
        saved = loop.restore(total)
        total = saved.state if saved else total
        for step in range(saved.step if saved else 0, 5):
            self.taken.append(step)
            total = {"sum": total["sum"] + 2**step}
            if step == self.at:
                self.then()
            loop.save(step + 1, total)
        return {"sum": total["sum"].tolist()}


def fail() -> None:
    raise RuntimeError("diverged")


def store(root: Path, told: list[str] | None = None, every: float | None = 0.0) -> Store:
    reporter = Reporter(False)
    reporter.say = (told if told is not None else []).append  # type: ignore[method-assign]
    return Store(root, {"commit": "0123abcd"}, reporter, every)


def begun(root: Path, stage: str = "rl", *parents: str) -> Path:
    """The folder of a stage that failed at its fourth step."""
    with pytest.raises(RuntimeError):
        store(root).get(stage, {"begun": True}, parents, Steps(3, fail))
    (progress,) = (root / stage).glob("*.progress")
    return progress


def test_a_stage_that_failed_goes_on_and_then_leaves_nothing_but_itself(tmp_path: Path) -> None:
    progress, told, steps = begun(tmp_path), list[str](), Steps()
    identity = json.loads((progress / "stage.json").read_text())
    assert identity["config"] == {"begun": True} and progress.name == f"{identity['key'][:20]}.progress"
    found = store(tmp_path, told).get("rl", {"begun": True}, [], steps)
    assert steps.taken == [3, 4] and found.facts == {"sum": [31.0]}
    assert told == [f"steps of rl {found.key[:8]} goes on from step 3"] == found.manifest["resumed"]
    assert list((tmp_path / "rl").iterdir()) == [found.path]


def test_the_seconds_of_an_interrupted_stage_count(tmp_path: Path) -> None:
    with pytest.raises(Stopped), stoppable():
        store(tmp_path).get("rl", {}, [], Steps(1, lambda: (time.sleep(0.5), terminate())))
    found = store(tmp_path).get("rl", {}, [], Steps())
    assert found.manifest["seconds"] > 0.5


def test_that_a_stage_starts_anew_is_told(tmp_path: Path) -> None:
    progress, told, steps = begun(tmp_path), list[str](), Steps()
    for path in progress.glob("steps/*/manifest.json"):
        path.unlink()
    found = store(tmp_path, told).get("rl", {"begun": True}, [], steps)
    assert steps.taken == [0, 1, 2, 3, 4] and found.manifest["resumed"] == told
    assert "was begun and left no good checkpoint: it starts anew" in told[0]
    assert sum("is damaged and not used" in line for line in told) == 2 and len(told) == 4


def test_checkpoints_that_were_moved_to_another_stage_are_refused(tmp_path: Path) -> None:
    progress = begun(tmp_path)
    other = get(tmp_path / "other", stage="rl", config={"begun": False}, parents=[])
    shutil.copytree(progress, progress_of(tmp_path / "rl" / other.path.name))
    with pytest.raises(InputError, match=rf"holds the work of key .*, expected {other.key[:20]}; remove"):
        store(tmp_path).get("rl", {"begun": False}, [], Steps())
    assert store(tmp_path).get("rl", {"begun": True}, [], Steps()).facts == {"sum": [31.0]}


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_to_end_is_answered_at_the_next_step_or_when_the_stage_is_whole(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    steps, rest = Steps(1, terminate), Steps()
    with pytest.raises(Stopped) as stopped, stoppable():
        store(tmp_path, every=None).get("rl", {}, [], steps)
    assert stopped.value.code == 143 and steps.taken == [0, 1] and not stop_asked()
    assert store(tmp_path).get("rl", {}, [], rest).facts == {"sum": [31.0]} and rest.taken == [2, 3, 4]

    def no_loop(folder: Path, checkpoints: Checkpoints) -> dict[str, Any]:
        terminate()
        return Maker()(folder)

    with pytest.raises(Stopped), stoppable():
        store(tmp_path).get("proxy", {}, [], no_loop)
    assert store(tmp_path).get("proxy", {}, [], no_loop).reused
    with pytest.raises(Stopped), stoppable():
        terminate()  # between stages: at once
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_command_ends_with_the_code_of_the_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script("run")

    def stop() -> None:
        raise Stopped(143)

    monkeypatch.setattr(script, "job", stop)
    assert script.main() == 143
    assert capsys.readouterr().err == "stopped: the same command goes on from what the store has\n"


def unfinished(root: Path) -> Entry:
    (entry,) = (entry for entry in scan(root) if entry.path.name.endswith(".progress"))
    return entry


def going(root: Path, **options: Any) -> dict[str, str]:
    return {entry.path.name: reason for entry, reason in prunable(scan(root), **options)}


def test_checkpoints_are_listed_and_stay_until_they_are_old_or_outdated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = made(tmp_path, "proxy")
    name = begun(tmp_path, "rl", proxy.key).name
    entry = unfinished(tmp_path)
    assert (entry.status, entry.parents, entry.finished) == ("unfinished", (proxy.key,), False) and entry.size > 1000
    record = name.replace(".progress", ".failed.json")
    assert going(tmp_path) == {record: "failed"}
    assert going(tmp_path, older_than=0)[name] == "unused for 0 days"
    assert name not in going(tmp_path, older_than=1)
    with monkeypatch.context() as later:
        later.setitem(module.VERSIONS, "proxy", module.VERSIONS["proxy"] + 1)
        assert going(tmp_path)[name] == "outdated"
    with store(tmp_path)._alone(tmp_path / "rl" / entry.digits):
        assert unfinished(tmp_path).status == "being made" and name not in going(tmp_path) and not remove(entry)
    assert remove(entry) and [path.name for path in (tmp_path / "rl").iterdir()] == [record]


def test_checkpoints_of_a_finished_stage_are_left_over(tmp_path: Path) -> None:
    progress = begun(tmp_path)
    kept = shutil.copytree(progress, tmp_path / "kept")
    store(tmp_path).get("rl", {"begun": True}, [], Steps())
    shutil.copytree(kept, progress)  # as where a process is killed just after it published
    assert going(tmp_path) == {progress.name: "left over"}
    shutil.rmtree(progress)
    progress.mkdir()
    assert unfinished(tmp_path).status == "left over"  # it does not say whose it is
