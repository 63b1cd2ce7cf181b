"""F0: processor threads, and independent programs run side by side.

The programs here are small: split over threads, one of them gains little. So each is compiled for one thread, and
independent ones (chunks of a pool, batches to score, seeds to train) run at once; results do not depend on how many.
A signal to end waits until what is under way is safe.
"""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from synthetic_rm.errors import Stopped, require

ONE_THREAD_EACH = "--xla_cpu_multi_thread_eigen=false"
Item = TypeVar("Item")
Result = TypeVar("Result")


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(threads: int = 0) -> None:
    """Use `threads` processors (0: all there are) and one thread per program. Call before the first array is made.

    Programs run in the threads that call them: jax's own pool may put two of them on one processor.

    Raises:
        InputError: more threads than there are processors.
    """
    allowed = processors()
    require(threads <= allowed, f"runtime.threads={threads}: allowed is 1 to {allowed}, or 0 for all")
    if threads and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_multi_thread_eigen" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {ONE_THREAD_EACH}".strip()
    import jax  # not above: what only reads tables needs none

    jax.config.update("jax_cpu_enable_async_dispatch", False)


def concurrently(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results of `function` in the order of the items, as many at once as there are processors.

    No more than that many calls are under way or waiting to be taken, so memory does not grow with the items. Where
    one raises, those under way are waited for and no other begins.
    """
    workers = processors()
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


def stop_asked() -> bool:
    """Whether a signal to end waits."""
    return _Stop.signal != 0


def stop_if_asked() -> None:
    """End here where a signal to end waits.

    Raises:
        Stopped: with the exit code of that signal.
    """
    if stop_asked():
        raise Stopped(128 + _Stop.signal)


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
    """Within the block, a first signal to end raises `Stopped`, at once or where it is safe; a second ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        _Stop.signal = number
        for name in previous:
            signal.signal(name, signal.SIG_DFL)
        if not _Stop.busy:
            stop_if_asked()

    previous = {name: signal.signal(name, handle) for name in signals}
    try:
        yield
    finally:
        _Stop.signal = 0
        for name, was in previous.items():
            signal.signal(name, was)
