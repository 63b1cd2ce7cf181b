"""F1: the state of unfinished work: written now and then, and found again by the process that goes on with it.

    <folder>/stage.json            whose work it is: stage, version, configuration, parents, key
    <folder>/<loop>/<number>/      a snapshot of one loop; the last two are kept

A snapshot that is damaged is told and removed, and the one before it is used; one of another configuration is refused.
"""

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from synthetic_rm.devices import on_first
from synthetic_rm.errors import InputError, named, one_line
from synthetic_rm.files import write_json
from synthetic_rm.hosts import agreed, by_first, first, gathered, several
from synthetic_rm.runtime import stop_asked, stop_if_asked
from synthetic_rm.snapshots import (
    DamagedError,
    Snapshot,
    arranged,
    read_arrays,
    read_manifest,
    shapes_of,
    write_snapshot,
)

KEPT = 2
"""snapshots of a loop"""
EVERY = 20.0
"""seconds between snapshots of a loop, where nothing else is asked for: a small one takes some tenths of a second"""
APART = 50
"""they are at least so many times as far apart as the last one took: it costs a run no more than two in a hundred"""


class Checkpoints:
    """Of one stage, or of nothing (`UNSAVED`). Its loops are told apart by name and may run in threads of their own.

    Args:
        folder: where they lie, made with the first snapshot; None: nothing is kept.
        identity: whose work it is, with its "key".
        every: seconds between two snapshots of a loop, more where they take long (`APART`); 0: one after every chunk;
            None: only where the process is asked to stop.
    Raises:
        InputError: the folder holds another stage's work.
    """

    def __init__(
        self,
        folder: Path | None,
        identity: Mapping[str, Any],
        every: float | None = EVERY,
        say: Callable[[str], None] = lambda line: None,
    ):
        self.folder, self.identity, self.every, self._say = folder, dict(identity), every, say
        self.told: list[str] = []
        self.key = str(identity.get("key", ""))
        self.title = f"{identity.get('stage', '')} {self.key[:8]}"
        self._lock, self._round, self._round_began = threading.Lock(), 0, time.monotonic()
        self._unwritten: dict[Loop, Snapshot] = {}
        self.cost = 0.0
        """seconds that the last snapshot took"""
        self._began = time.monotonic()
        self._before = max(self._spent(), default=0.0)
        held = None if folder is None else agreed(self._holder())
        if held not in (None, self.key):
            raise InputError(
                f"store: {folder} holds the work of key {str(held)[:20]}, expected {self.key[:20]}; {self.remedy}"
            )

    def say(self, line: str) -> None:
        """Tell what became of earlier work; the stage's manifest tells it too."""
        self.told.append(line)
        self._say(line)

    @property
    def remedy(self) -> str:
        """What one can do about work that is not this stage's."""
        return f"remove {self.folder} and run again"

    def _spent(self) -> list[float]:
        """Seconds until each of the snapshots there are."""
        found = []
        for path in sorted(self.folder.glob("*/[0-9]*")) if self.folder is not None else []:
            with suppress(DamagedError):
                found.append(float(read_manifest(path)["seconds"]))
        return found

    def _holder(self) -> Any:
        """The key whose work the folder says it holds, if it says so."""
        assert self.folder is not None
        with suppress(OSError, ValueError, KeyError, TypeError):
            return json.loads((self.folder / "stage.json").read_text())["key"]
        return None

    @property
    def written(self) -> bool:
        """Whether there is something to go on from."""
        return bool(self._spent())

    @property
    def seconds(self) -> float:
        """Spent on the stage: now, and before by the processes whose work this one goes on with."""
        return self._before + time.monotonic() - self._began

    def loop(self, name: str) -> "Loop":
        """The snapshots of one loop of the stage."""
        return Loop(self, name)

    def prepare(self) -> Path:
        """The folder, which says from now on whose work it holds."""
        assert self.folder is not None
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "stage.json").exists():
                write_json(self.folder / "stage.json", self.identity)
        return self.folder

    def round(self) -> int:
        """Counts up every so many seconds; a loop writes one snapshot in each round."""
        with self._lock:
            wait = self.every and max(self.every, APART * self.cost)
            if wait is not None and time.monotonic() - self._round_began >= wait:
                self._round, self._round_began = self._round + 1, time.monotonic()
            return self._round

    def keep(self, loop: "Loop", snapshot: Snapshot | None) -> None:
        """Remember what a loop still has to write (None: nothing)."""
        with self._lock:
            if snapshot is None:
                self._unwritten.pop(loop, None)
            else:
                self._unwritten[loop] = snapshot

    def flush(self) -> None:
        """Write what was only remembered."""
        with self._lock:
            waiting, self._unwritten = self._unwritten, {}
        for loop, snapshot in waiting.items():
            loop.write(snapshot)


UNSAVED = Checkpoints(None, {})
"""For work of which nothing is kept."""


class Loop:
    """The snapshots of one loop."""

    def __init__(self, checkpoints: Checkpoints, name: str):
        self.all, self.name = checkpoints, name
        self.title = f"{name} of {checkpoints.title}"
        self.folder = None if checkpoints.folder is None else checkpoints.folder / name
        self._round, self._number = checkpoints.round(), 0

    def restore(self, like: Any) -> Snapshot | None:
        """The last good snapshot, its state in the structure of `like`; None: none. All processes go on from the same.

        Raises:
            InputError: it belongs to another configuration.
            Stopped: the process was asked to stop.
        """
        stop_if_asked()
        if self.folder is None:
            return None
        shapes, read = shapes_of(like), list[Snapshot]()

        def look() -> str | None:
            name, found = self._last_good(shapes)
            read.extend(found)
            return name

        name = by_first(look)
        if name is None:
            return None
        found = read[0] if read else read_arrays(self.folder / name, shapes, self.all.key)
        self.all.say(f"{self.title} goes on from step {found.step}")
        return arranged(found, like)

    def _last_good(self, shapes: Mapping[str, Any]) -> tuple[str | None, list[Snapshot]]:
        """Name and content of the last snapshot that can be read; the damaged ones after it are removed."""
        paths = self._paths()
        self._number = 1 + max((int(path.name) for path in paths), default=0)
        for path in reversed(paths):
            try:
                return path.name, [read_arrays(path, shapes, self.all.key)]
            except InputError as error:
                raise InputError(f"{error}; {self.all.remedy}") from error
            except DamagedError as error:
                told = one_line(error)[:300]
                self.all.say(f"checkpoint {path.name} of {self.title} is damaged and not used: {told}")
                shutil.rmtree(path, ignore_errors=True)
        if paths:
            self.all.say(f"no checkpoint of {self.title} can be read: it starts anew")
        return None, []

    def home(self) -> Path | None:
        """The loop's own folder, made now, for arrays too large for a snapshot; None: nothing is kept, or another
        process keeps it."""
        if self.folder is None or not first():
            return None
        self.all.prepare()
        self.folder.mkdir(exist_ok=True)
        return self.folder

    def _paths(self) -> list[Path]:
        there = [] if self.folder is None or not self.folder.is_dir() else self.folder.iterdir()
        return sorted(path for path in there if path.name.isdigit())

    def save(
        self, step: int, state: Any, arrays: Mapping[str, np.ndarray] | None = None, *, constant: bool = False
    ) -> None:
        """Write a snapshot if it is time for one; where a process is asked to stop, write it and stop, in all of them.

        Args:
            state: a pytree of arrays, of the same structure and shapes at every step.
            arrays: more arrays by name, of any shape.
            constant: none of these is given away or written to later, as after a last step: then they may still be
                written when another loop writes, or when the stage fails.
        Raises:
            Stopped: the process was asked to stop.
        """
        now = self.all.round()
        votes = gathered([now > self._round, stop_asked()])
        due, stop = votes[0][0], max(vote[1] for vote in votes)
        if self.folder is not None:
            self._keep(Snapshot(step, state, dict(arrays or {})), bool(due or stop), constant)
            self._round = now if due or stop else self._round
        stop_if_asked(stop)

    def _keep(self, snapshot: Snapshot, now: bool, constant: bool) -> None:
        """Write a snapshot now, or remember it if it is constant; the first process does."""
        if several() and (now or constant):
            snapshot = snapshot._replace(state=on_first(snapshot.state))  # by all: one cannot fetch it for itself later
        if not first():
            return
        self.all.keep(self, snapshot if constant and not now else None)
        if now:
            self.write(snapshot)
            self.all.flush()

    def write(self, snapshot: Snapshot) -> None:
        """Write a snapshot now; that it cannot be written is told and ends nothing."""
        assert self.folder is not None
        began = time.monotonic()
        try:
            self.all.prepare()
            write_snapshot(self.folder / f"{self._number:06d}", snapshot, self.all.key, self.all.seconds)
            self._number += 1
            for old in self._paths()[:-KEPT]:
                shutil.rmtree(old)
            self.all.cost = time.monotonic() - began
        except Exception as error:  # of Orbax or the disk
            told = named(error)[:300]
            self.all.say(f"no checkpoint of {self.title} could be written ({told}); it goes on without")


NO_LOOP = UNSAVED.loop("")
