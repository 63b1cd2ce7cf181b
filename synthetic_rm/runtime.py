"""F0: processor threads, and independent programs run side by side.

The programs here are small: split over threads, one of them gains little. So each is compiled for one thread, and
independent ones (chunks of a pool, batches to score, seeds to train) run at once; results do not depend on how many.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from synthetic_rm.errors import require

ONE_THREAD_EACH = "--xla_cpu_multi_thread_eigen=false"
Item = TypeVar("Item")
Result = TypeVar("Result")


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(threads: int = 0) -> None:
    """Use `threads` processors (0: all there are) and one thread per program. Call before the first array is made.

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


def concurrently(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results of `function` in the order of the items, as many at once as there are processors.

    No more than that many calls are under way or waiting to be taken, so memory does not grow with the items.
    """
    workers = processors()
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
