"""F0: what must be set before the first array exists: CPU threads."""

import os

from synthetic_rm.errors import require


def limit_threads(threads: int) -> None:
    """Let this process use `threads` CPU threads (0: as many as it may). Call before the first array is made.

    The number of threads follows the processors that the process may run on, which is what XLA reads.

    Raises:
        InputError: more threads than there are processors.
    """
    if threads == 0 or not hasattr(os, "sched_setaffinity"):
        return
    allowed = sorted(os.sched_getaffinity(0))
    require(threads <= len(allowed), f"runtime.threads={threads}: allowed is 1 to {len(allowed)}, or 0 for all")
    os.sched_setaffinity(0, allowed[:threads])
