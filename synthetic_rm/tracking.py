"""F0: the metrics of a run, told to any number of trackers. One that fails, or hangs, never fails or holds up the run.

Every run has `metrics.jsonl` in its folder; TensorBoard, Weights & Biases and MLflow are optional extras.
"""

import importlib.util
import json
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from synthetic_rm.errors import named, require

FILE = "metrics.jsonl"
PATIENCE = 60.0
"""seconds that a tracker is waited for when the run has ended"""
WAITING = 10_000
"""calls that wait for a slow tracker before more are dropped"""
NAME = re.compile(r"[^\w./-]+")
"""what no name of a series holds: not every tracker takes it"""
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
"""what each tracker imports; the extra of the project that brings it has the tracker's name"""


class Tracker(Protocol):
    """Takes the metrics of one run; called from one thread at a time."""

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        """The run begins: what it is called, and the dotted keys and plain values that it is made of."""

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step of a series ("proxies_2103_x_6_s0", step 50: {"loss": 0.69})."""

    def finish(self, status: str) -> None:
        """The run has ended: "ok" or "failed"."""


class Lines:
    """Lines of JSON, appended to a file; numbers that are not finite are null."""

    def __init__(self, path: Path):
        self.path = path

    def _write(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 3), **line}, allow_nan=False) + "\n")

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        self._write({"start": name, "config": dict(config)})

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        told = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self._write({"series": series, "step": step, **told})

    def finish(self, status: str) -> None:
        self._write({"finish": status})


class Guard:
    """A tracker that may fail: it is told once and left out from then on."""

    def __init__(self, tracker: Tracker, say: Callable[[str], None]):
        self.name, self._tracker, self._say = type(tracker).__name__, tracker, say
        self._lock, self._failed = threading.Lock(), False

    def call(self, method: str, *arguments: Any) -> None:
        """`tracker.method(*arguments)`, unless it failed before."""
        with self._lock:
            if self._failed:
                return
            try:
                getattr(self._tracker, method)(*arguments)
            except Exception as error:  # whatever a tracker raises, the run goes on
                self._failed = True
                told = named(error)[:300]
                self._say(f"tracking: {self.name} failed and is left out ({told})")

    def finish(self, status: str) -> None:
        self.call("finish", status)


class Background:
    """A guarded tracker in a thread of its own: one that is slow or hangs holds nobody up."""

    def __init__(self, guard: Guard, say: Callable[[str], None], patience: float = PATIENCE):
        self._guard, self._say, self._patience, self._dropped = guard, say, patience, 0
        self._calls: queue.Queue[tuple[Any, ...]] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name=f"tracking-{guard.name}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (call := self._calls.get())[0] != "finish":
            self._guard.call(*call)
        self._guard.call(*call)

    def call(self, method: str, *arguments: Any) -> None:
        """Have the tracker called soon; dropped where too many calls wait."""
        try:
            self._calls.put_nowait((method, *arguments))
        except queue.Full:
            self._dropped += 1

    def finish(self, status: str) -> None:
        deadline = time.monotonic() + self._patience
        try:
            self._calls.put(("finish", status), timeout=self._patience)
            self._thread.join(max(0.0, deadline - time.monotonic()))
        except queue.Full:
            pass
        if self._thread.is_alive():
            self._say(f"tracking: {self._guard.name} did not finish in {self._patience:g} s and is left alone")
        if self._dropped:
            self._say(f"tracking: {self._guard.name} was too slow: {self._dropped} of its metrics are dropped")


class Tracking:
    """All trackers of a run: `near` are called at once, `far` in threads of their own."""

    def __init__(
        self,
        near: Sequence[Tracker] = (),
        far: Sequence[Tracker] = (),
        say: Callable[[str], None] = lambda line: None,
        patience: float = PATIENCE,
    ):
        guards = [Guard(tracker, say) for tracker in near]
        self._trackers: list[Guard | Background] = [*guards]
        self._trackers += [Background(Guard(tracker, say), say, patience) for tracker in far]

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        """Tell every tracker that the run begins."""
        for tracker in self._trackers:
            tracker.call("start", name, config)

    def log(self, series: str, step: int, values: Mapping[str, Any]) -> None:
        """Tell every tracker numbers of one step of a series, as floats: "proxies 2,103 x 6" is "proxies_2103_x_6"."""
        place = NAME.sub("_", series.replace(",", ""))
        told = {key: float(value) for key, value in values.items()}
        for tracker in self._trackers:
            tracker.call("log", place, int(step), told)

    def finish(self, status: str) -> None:
        """Tell every tracker that the run has ended, and wait for each as long as patience lasts."""
        trackers, self._trackers = self._trackers, []
        for tracker in trackers:
            tracker.finish(status)


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among plain values, those of lists and dictionaries by their place: {"loss/0": 0.69}."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{key}/{inner}": number for inner, number in numbers(value).items()}
        elif isinstance(value, list | tuple):
            found |= numbers({f"{key}/{i}": item for i, item in enumerate(value)})
        elif isinstance(value, int | float):
            found[key] = float(value)
    return found


def check_installed(tracker: str, wanted: Any) -> None:
    """Refuse a tracker that is asked for and not installed.

    Raises:
        InputError: its package is not there.
    """
    package = PACKAGES[tracker]
    require(
        not wanted or importlib.util.find_spec(package) is not None,
        f"tracking.{tracker}={wanted}: needs the package {package}, which is not installed: "
        f"pip install 'synthetic-rm[{tracker}]'",
    )
