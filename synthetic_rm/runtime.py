"""F0: processor threads, and independent programs run side by side.

The programs here are small: split over threads, one of them gains little. So each is compiled for one thread, and
independent ones (chunks of a pool, batches to score, seeds to train) run at once; results do not depend on how many.
A signal to end waits until what is under way is safe.
"""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from synthetic_rm import hosts
from synthetic_rm.errors import Stopped, require

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)
ONE_THREAD_EACH = "--xla_cpu_multi_thread_eigen=false"
Item = TypeVar("Item")
Result = TypeVar("Result")


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS")
"""variables in which drivers look for the accelerators to show"""


def prepare(
    threads: int = 0,
    platform: str | None = None,
    devices: Sequence[int] | None = None,
    memory_fraction: float | None = None,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    place: int = 0,
) -> None:
    """Use `threads` processors (0: all there are), one thread per program, and these devices; see `hosts.join` for
    the processes that make a run together.

    Processes side by side, each of another `place` from 0, use other processors as long as there are some.

    Call before jax is imported: it reads the platform then, the rest when the first array is made.

    Programs run in the threads that call them: jax's own pool may put two of them on one processor.

    Raises:
        InputError: more threads than there are processors, devices asked for after jax was imported with others, or
            processes that do not find each other.
    """
    hosts.check(coordinator, processes, process)
    allowed = processors()
    require(threads <= allowed, f"runtime.threads={threads}: allowed is 1 to {allowed}, or 0 for all")
    if threads and hasattr(os, "sched_setaffinity"):
        there = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, [there[(place * threads + i) % allowed] for i in range(threads)])
    _set("platform", platform, "JAX_PLATFORMS")
    _set("devices", None if devices is None else ",".join(map(str, devices)), *VISIBLE)
    _set("memory_fraction", memory_fraction, "XLA_CLIENT_MEM_FRACTION")
    if memory_fraction is not None:
        os.environ.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)  # its old name, refused beside the new one
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_multi_thread_eigen" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {ONE_THREAD_EACH}".strip()
    import jax  # not above: what only reads tables needs none

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    hosts.join(coordinator, processes, process)


def _set(key: str, value: object, *names: str) -> None:
    """Set environment variables that jax reads, unless the value is None."""
    if value is None or all(os.environ.get(name) == str(value) for name in names):
        return
    require("jax" not in sys.modules, f"runtime.{key}={value}: cannot be set, this process has imported jax already")
    os.environ |= dict.fromkeys(names, str(value))


@contextmanager
def alone() -> Iterator[None]:
    """Within it `concurrently` makes one call after another, in this thread."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def side_by_side() -> int:
    """How many calls `concurrently` makes at once."""
    return 1 if _ALONE.get() else processors()


def concurrently(
    function: Callable[[Item], Result], items: Iterable[Item], at_once: int | None = None
) -> Iterator[Result]:
    """Results of `function` in the order of the items, as many at once as there are processors, or `at_once`.

    No more than that many calls are under way or waiting to be taken, so memory does not grow with the items. Where
    one raises, those under way are waited for and no other begins.
    """
    if _ALONE.get() or at_once == 1:
        yield from map(function, items)
        return
    workers = at_once or processors()
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Stop:
    """Whether the process was asked to end, and how much is under way that has to come to a safe place first."""

    signal, busy, lock = 0, 0, threading.Lock()


def stop_asked() -> int:
    """The signal to end that waits in this process; 0: none."""
    return _Stop.signal


def stop_if_asked(waiting: int | None = None) -> None:
    """End here where a signal to end waits, in any of the processes that make a run together.

    Args:
        waiting: the signal, where the processes have agreed on it before.
    Raises:
        Stopped: with the exit code of that signal.
    """
    if waiting := max(hosts.gathered(stop_asked())) if waiting is None else waiting:
        raise Stopped(128 + waiting)


@contextmanager
def safe_to_stop_within() -> Iterator[None]:
    """While the block runs, in any thread, a signal to end waits for who calls `stop_if_asked`."""
    with _Stop.lock:
        _Stop.busy += 1
    try:
        yield
    finally:
        with _Stop.lock:
            _Stop.busy -= 1


@contextmanager
def stoppable(signals: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGINT)) -> Iterator[None]:
    """Within the block, a first signal to end raises `Stopped`, at once or where it is safe; a second ends at once.

    Where several processes make a run together it is safe where all of them stop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        _Stop.signal = number
        for name in previous:
            signal.signal(name, signal.SIG_DFL)
        if not _Stop.busy and not hosts.several():
            stop_if_asked(number)

    previous = {name: signal.signal(name, handle) for name in signals}
    try:
        yield
    finally:
        _Stop.signal = 0
        for name, was in previous.items():
            signal.signal(name, was)
