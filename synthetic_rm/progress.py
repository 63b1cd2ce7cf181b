"""F0: progress bars with the numbers one watches; quiet where the output is not a terminal."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """One running bar: `advance` by units done, `show` numbers beside it."""

    def __init__(self, progress: Progress | None, task: TaskID | None, unit: str):
        self._progress, self._task, self._unit = progress, task, unit
        self._start, self._done = time.perf_counter(), {unit: 0.0}
        self._lock = threading.Lock()

    def advance(self, amount: float, note: str = "", **others: float) -> None:
        """Count `amount` more units, and others by their name (tokens=512); show their rates so far and a note."""
        if self._progress is None or self._task is None:
            return
        with self._lock:
            for unit, count in {self._unit: amount, **others}.items():
                self._done[unit] = self._done.get(unit, 0.0) + count
            seconds = max(time.perf_counter() - self._start, 1e-9)
            rates = [f"{count / seconds:,.0f} {unit}/s" for unit, count in self._done.items() if unit]
        self._progress.update(self._task, advance=amount, note=" ".join([*rates, note]))


class Reporter:
    """Where a run tells what it does: bars and lines on a terminal, lines only elsewhere, nothing if not enabled."""

    def __init__(self, enabled: bool = True):
        self.console = Console(file=sys.stderr, quiet=not enabled)
        self._bars = enabled and self.console.is_terminal

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: float, unit: str) -> Iterator[Bar]:
        """A bar of `total` units, gone when the block ends; of a unit without a name ("") no rate is shown."""
        if not self._bars:
            yield Bar(None, None, unit)
            return
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield Bar(progress, progress.add_task(title, total=total, note=""), unit)
