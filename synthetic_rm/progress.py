"""F0: progress bars with the numbers one watches, quiet where the output is not a terminal; the same to trackers."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from synthetic_rm.tracking import Tracking

_thread = threading.local()


@contextmanager
def from_before() -> Iterator[None]:
    """Within the block, what bars are told in this thread was done by an earlier process: it counts in no rate."""
    _thread.before = True
    try:
        yield
    finally:
        _thread.before = False


class Bar:
    """One running bar: `advance` by units done, with numbers beside it; trackers are told how fast it was."""

    def __init__(
        self, title: str, unit: str, tracking: Tracking, progress: Progress | None = None, task: TaskID | None = None
    ):
        self._title, self._unit, self._tracking, self._progress, self._task = title, unit, tracking, progress, task
        self._start, self._done = time.perf_counter(), {unit: 0.0}
        self._lock = threading.Lock()

    def advance(self, amount: float, note: str = "", **others: float) -> None:
        """Count `amount` more units, and others by their name (tokens=512); show their rates so far and a note."""
        with self._lock:
            for unit, count in {self._unit: amount, **others}.items():
                now = 0.0 if getattr(_thread, "before", False) else count
                self._done[unit] = self._done.get(unit, 0.0) + now
            seconds = max(time.perf_counter() - self._start, 1e-9)
            rates = [f"{count / seconds:,.0f} {unit}/s" for unit, count in self._done.items() if unit]
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=amount, note=" ".join([*rates, note]))

    def losses(self, members: range, step: int, losses: np.ndarray) -> None:
        """Count the steps of a chunk of training and track its mean loss; `losses` [members, steps]."""
        for member, own in zip(members, losses, strict=True):
            self._tracking.log(f"{self._title} s{member}", step, {"loss": own.mean()})
        self.advance(losses.size, f"loss {losses.mean():.3f}")

    def track(self, series: str, step: int, **values: float) -> None:
        """Tell the trackers numbers of one step of a series under this bar's title."""
        self._tracking.log(f"{self._title} {series}", step, values)

    def close(self) -> None:
        """Tell the trackers how much was done, and how fast."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        counts = {unit: count for unit, count in self._done.items() if unit and count}
        rates = {f"{unit}_per_second": count / seconds for unit, count in counts.items()}
        self._tracking.log(self._title, 0, {"seconds": seconds, **counts, **rates})


class Reporter:
    """Where a run tells what it does: bars and lines on a terminal, lines only elsewhere, nothing if not enabled.

    Its trackers, none until `tracking` is set, are told in any case, and that the run has ended when its block has.
    """

    def __init__(self, enabled: bool = True):
        self.tracking = Tracking()
        self.console = Console(file=sys.stderr, quiet=not enabled)
        self._bars = enabled and self.console.is_terminal
        self._open, self._lock = 0, threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.tracking.finish("ok" if kind is None else "failed")

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: float, unit: str) -> Iterator[Bar]:
        """A bar of `total` units, gone when the block ends; of a unit without a name ("") no rate is shown."""
        if self._bars:
            with self._display() as progress:
                task = progress.add_task(title, total=total, note="")
                bar = Bar(title, unit, self.tracking, progress, task)
                try:
                    yield bar
                finally:
                    progress.remove_task(task)
        else:
            bar = Bar(title, unit, self.tracking)
            yield bar
        bar.close()

    @contextmanager
    def _display(self) -> Iterator[Progress]:
        """Where the bars are shown that threads have open at a time: a terminal has one place for all of them."""
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with self._lock:
            if self._open == 0:
                self._progress = Progress(*columns, console=self.console, transient=True)
                self._progress.start()
            self._open += 1
        try:
            yield self._progress
        finally:
            with self._lock:
                self._open -= 1
                if self._open == 0:
                    self._progress.stop()
