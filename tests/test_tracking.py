"""Metrics reach every tracker as they are; a tracker that fails, hangs or is slow never fails or holds up a run."""

import json
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthetic_rm import tracking as module
from synthetic_rm.errors import InputError
from synthetic_rm.progress import Reporter, from_before
from synthetic_rm.tracking import Lines, Tracking, check_installed, numbers


class Notes:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        self.told.append(("start", name, dict(config)))

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        self.told.append((series, step, dict(values)))

    def finish(self, status: str) -> None:
        self.told.append(("finish", status))


class Broken(Notes):
    """Raises in one of its methods."""

    def __init__(self, method: str, error: Exception):
        super().__init__()

        def fail(*arguments: Any) -> None:
            self.told.append(("failed", method))
            raise error

        setattr(self, method, fail)


class Hung(Notes):
    """Does not come back from its first log until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        self.free.wait(60)


def a_run(tracking: Tracking, steps: int = 3) -> None:
    tracking.start("mine", {"proxy.seeds": 6})
    for step in range(steps):
        tracking.log("proxies 2,103 x 6 s0", step, {"loss": np.float32(0.5), "finite": True})
    tracking.finish("ok")


TOLD = [
    ("start", "mine", {"proxy.seeds": 6}),
    *(("proxies_2103_x_6_s0", step, {"loss": 0.5, "finite": 1.0}) for step in range(3)),
    ("finish", "ok"),
]


def test_near_and_far_trackers_are_told_everything_in_order() -> None:
    near, far, more = Notes(), Notes(), Notes()
    a_run(Tracking([near], [far, more]))
    assert near.told == far.told == more.told == TOLD
    assert all(type(value) is float for entry in near.told[1:-1] for value in entry[2].values())


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("method", ["start", "log", "finish"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("two\nlines"), KeyError("x")])
def test_a_broken_tracker_is_told_once_and_left_out(method: str, error: Exception, far: bool) -> None:
    broken, sound, said = Broken(method, error), Notes(), []
    a_run(Tracking([] if far else [broken, sound], [broken, sound] if far else [], said.append))
    assert sound.told == TOLD
    assert broken.told.count(("failed", method)) == 1 and broken.told[-1] == ("failed", method)
    (line,) = said
    assert line.startswith(f"tracking: Broken failed and is left out ({type(error).__name__}") and "\n" not in line


def test_a_tracker_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 5)
    hung, sound, said = Hung(), Notes(), []
    tracking = Tracking([sound], [hung], said.append, patience=0.1)
    started = time.perf_counter()
    a_run(tracking, steps=50)
    assert time.perf_counter() - started < 5
    assert len(sound.told) == 52
    assert said[0] == "tracking: Hung did not finish in 0.1 s and is left alone"
    assert "too slow" in said[1] and 40 <= int(said[1].split(": ")[2].split()[0]) <= 47
    hung.free.set()


def test_a_slow_tracker_is_waited_for() -> None:
    slow, log = Notes(), Notes.log

    def late(*arguments: Any) -> None:
        time.sleep(0.05)
        log(slow, *arguments)

    slow.log = late  # type: ignore[method-assign]
    a_run(Tracking(far=[slow], patience=30))
    assert slow.told == TOLD


def test_lines_can_be_read_back_and_are_appended(tmp_path: Path) -> None:
    path, before = tmp_path / "metrics.jsonl", time.time()
    tracking = Tracking([Lines(path)])
    tracking.start("mine", {"proxy.sizes": [2, 4], "environment.data": None})
    tracking.log("proxy s0", 7, {"loss": 0.25, "kl": math.nan, "gold": math.inf})
    assert len(path.read_text().splitlines()) == 2  # at once, not when the run ends
    tracking.finish("failed")
    a_run(Tracking([Lines(path)]))
    lines = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
    assert all(before - 1 < line.pop("time") < time.time() + 1 for line in lines)
    assert lines[:3] == [
        {"start": "mine", "config": {"proxy.sizes": [2, 4], "environment.data": None}},
        {"series": "proxy_s0", "step": 7, "loss": 0.25, "kl": None, "gold": None},
        {"finish": "failed"},
    ]
    assert len(lines) == 8


def test_lines_in_a_folder_that_is_gone_fail_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    a_run(Tracking([Lines(tmp_path / "gone" / "metrics.jsonl")], say=said.append))
    assert len(said) == 1 and "Lines failed" in said[0]


def test_threads_may_log_at_once(tmp_path: Path) -> None:
    tracking = Tracking([Lines(tmp_path / "metrics.jsonl")], [notes := Notes()])

    def work(seed: int) -> None:
        for step in range(50):
            tracking.log(f"s{seed}", step, {"loss": seed})

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracking.finish("ok")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for seed in range(4):
        assert [line["step"] for line in lines if line.get("series") == f"s{seed}"] == list(range(50))
        assert [entry[1] for entry in notes.told if entry[0] == f"s{seed}"] == list(range(50))


def test_numbers_are_found_in_nested_facts() -> None:
    facts = {"loss": [0.5, 1], "finite": True, "name": "gold", "agreement": {"rater": 0.7, "by": [{"n": 3}]}, "x": None}
    found = numbers(facts)
    assert found == {"loss/0": 0.5, "loss/1": 1, "finite": 1, "agreement/rater": 0.7, "agreement/by/0/n": 3}


def test_bars_tell_the_trackers_losses_by_seed_and_rates() -> None:
    reporter, notes = Reporter(False), Notes()
    reporter.tracking = Tracking([notes])
    with reporter, reporter.bar("proxies 2,103 x 3", 12, "steps") as bar:
        bar.losses(range(1, 3), 2, np.array([[0.5, 0.7], [1.0, 3.0]]))
        bar.track("validation", 2, accuracy=0.75)
        bar.advance(1, tokens=512)
    *told, end, finish = notes.told
    assert [entry[:2] for entry in told] == [(f"proxies_2103_x_3_{name}", 2) for name in ("s1", "s2", "validation")]
    assert [entry[2] for entry in told] == [{"loss": pytest.approx(0.6)}, {"loss": 2.0}, {"accuracy": 0.75}]
    assert end[0] == "proxies_2103_x_3" and (end[2]["steps"], end[2]["tokens"]) == (5, 512)
    assert end[2]["tokens_per_second"] == pytest.approx(512 / end[2]["seconds"])
    assert finish == ("finish", "ok")


def test_what_was_done_before_an_interruption_counts_in_no_rate() -> None:
    reporter, notes = Reporter(False), Notes()
    reporter.tracking = Tracking([notes])
    with reporter.bar("gold", 12, "steps") as bar:
        with from_before():
            bar.losses(range(1), 10, np.full((1, 10), 0.5))
        bar.losses(range(1), 12, np.full((1, 2), 0.4))
    *told, end = notes.told
    assert [entry[1] for entry in told] == [10, 12] and end[2]["steps"] == 2


def test_the_trackers_are_told_that_a_run_failed() -> None:
    reporter, notes = Reporter(False), Notes()
    with pytest.raises(KeyboardInterrupt), reporter:
        reporter.tracking = Tracking([notes])
        raise KeyboardInterrupt
    assert notes.told == [("finish", "failed")]


def test_a_tracker_that_is_not_installed_is_refused_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.PACKAGES, "wandb", "no_such_package")
    for wanted in (None, False):
        check_installed("wandb", wanted)
    with pytest.raises(InputError, match=r"tracking\.wandb=offline: .*no_such_package.*synthetic-rm\[wandb\]"):
        check_installed("wandb", "offline")
