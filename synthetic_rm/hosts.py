"""F0: the processes that make one run together, usually one to a host or to an accelerator, and what they agree on.

All run the same programs in the same order (see `devices.sharing`). What only one of them can know (files, the clock,
signals, its memory) is agreed on here, and the first alone writes. For a process by itself all of this is nothing.
"""

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from synthetic_rm.errors import InputError, RunError, Stopped, named, one_line, require
from synthetic_rm.meeting import meet

LONGEST = 7 * 86_400_000
"""milliseconds that one waits for the others; those of a process that died end before"""
IN_SIGHT = 60.0
"""seconds that one looks out for what another has written"""
ENDING = 30
"""seconds that one which has ended waits for the others to end"""
Result = TypeVar("Result")


class _Together:
    """Where this process stands among several."""

    rounds = itertools.count()
    apart = False
    """what is done now is done by this process alone: within `by_first`, or for it has parted from the others"""


def join(coordinator: str | None, processes: int | None = None, process: int | None = None) -> None:
    """Be one of the processes that make a run together. Call before jax makes its first array.

    Args:
        coordinator: where the first process listens, "host:port"; "auto": jax asks Slurm, Open MPI or the TPU for all
            three; None: this process is by itself.
        processes: how many there are.
        process: which of them this is, from 0.
    Raises:
        InputError: a combination that cannot be, or the processes do not find each other.
    """
    check(coordinator, processes, process)
    if coordinator is None:
        return
    import jax  # not above: what only reads tables needs none

    if jax.distributed.is_initialized():
        return
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    try:
        if coordinator == "auto":
            jax.distributed.initialize(shutdown_timeout_seconds=ENDING)
        else:
            assert processes is not None and process is not None
            meet(coordinator, processes, process)
            jax.distributed.initialize(
                coordinator, processes, process, cluster_detection_method="deactivate", shutdown_timeout_seconds=ENDING
            )
    except (InputError, Stopped):
        raise
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"runtime.coordinator={coordinator}: cannot be used here ({one_line(error)[:300]})") from error


def check(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """See that the three settings fit together.

    Raises:
        InputError: they do not.
    """
    if coordinator is None or coordinator == "auto":
        for key, value in (("processes", processes), ("process", process)):
            why = "needs runtime.coordinator=host:port" if coordinator is None else "runtime.coordinator=auto finds it"
            require(value is None, f"runtime.{key}={value}: {why}")
        return
    host, _, port = coordinator.rpartition(":")
    good = bool(host) and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16
    require(good, f"runtime.coordinator={coordinator}: allowed is host:port, or auto")
    for key, value in (("processes", processes), ("process", process)):
        require(value is not None, f"runtime.{key}=null: runtime.coordinator={coordinator} needs a number")
    assert processes is not None and process is not None
    require(processes >= 1, f"runtime.processes={processes}: allowed is 1 or more")
    require(0 <= process < processes, f"runtime.process={process}: allowed is 0 to {processes - 1}")


def _state() -> Any:
    """What jax knows of the processes; None where this process is by itself."""
    if "jax" not in sys.modules:
        return None
    from jax._src import distributed

    state = distributed.global_state
    return None if state.client is None or state.num_processes == 1 else state


def place() -> int:
    """Which process this is, from 0."""
    state = _state()
    return 0 if state is None else int(state.process_id)


def first() -> bool:
    """Whether this process is the one that writes."""
    return place() == 0


def several() -> bool:
    """Whether others do the same as this process does now, and wait for it."""
    return not _Together.apart and _state() is not None


def gathered(value: Any) -> list[Any]:
    """The plain values that the processes give, in their order; they wait for each other.

    Raises:
        InputError, RunError, OSError, Stopped: a process ended by it (see `parting`).
    """
    if not several():
        return [value]
    client, number = _state().client, _give({"value": value}, LONGEST)
    folder = f"synthetic_rm/{number}/"
    found = {int(key.rpartition("/")[2]): json.loads(told) for key, told in client.key_value_dir_get(folder)}
    if first() and number > 0:
        client.key_value_delete(f"synthetic_rm/{number - 1}/")  # all have read it: they came to this round
    told = [found[i] for i in sorted(found)]
    if ended := [one["ended"] for one in told if "ended" in one]:
        _Together.apart = True
        _raise(*ended[0])
    return [one["value"] for one in told]


def _give(told: Mapping[str, Any], patience: int) -> int:
    """Tell the others in the next round, and wait for them so many milliseconds; the round's number."""
    client, number = _state().client, next(_Together.rounds)
    client.key_value_set(f"synthetic_rm/{number}/{place()}", json.dumps(told))
    client.wait_at_barrier(f"synthetic_rm/{number}", patience)
    return number


@contextmanager
def parting() -> Iterator[None]:
    """What ends the block in this process ends it in those that wait for it in `gathered`; jax ends the others."""
    try:
        yield
    except BaseException as error:
        if several():
            with suppress(RuntimeError):  # they do not come: a program that needs this process holds them
                _give({"ended": _told(error)}, ENDING * 1000)
            _Together.apart = True
        raise


def agreed(value: Any) -> Any:
    """The plain value that the first process gives."""
    return gathered(value)[0]


def by_first(act: Callable[[], Result]) -> Result:
    """What the first process alone makes of `act`, a plain value; what it raises there all raise."""
    if not several():
        return act()
    told: list[Any] = []
    if first():
        _Together.apart = True
        try:
            told = ["made", act()]
        except BaseException as error:
            _Together.apart = False
            gathered(_told(error))
            raise
        finally:
            _Together.apart = False
    kind, made = agreed(told)
    return made if kind == "made" else _raise(kind, made)


def by_all(act: Callable[[], Result]) -> Result:
    """What `act`, which needs no other process, makes here; what one process refuses, all refuse."""
    if not several():
        return act()
    made: list[Result] = []
    own: BaseException | None = None
    _Together.apart = True
    try:
        made.append(act())
    except BaseException as error:
        own = error
    finally:
        _Together.apart = False
    refused = [told for told in gathered(None if own is None else _told(own)) if told is not None]
    if own is not None:
        raise own
    if refused:
        _raise(*refused[0])
    return made[0]


def seen(path: Path) -> bool:
    """Whether a file that another process wrote comes into sight: file systems of several hosts may take a while."""
    until = time.monotonic() + IN_SIGHT
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(IN_SIGHT / 100)
    return True


def _told(error: BaseException) -> list[Any]:
    """An exception as a plain value."""
    if isinstance(error, Stopped):
        return ["stopped", error.code]
    if isinstance(error, OSError) and error.errno:
        return ["refused", [error.errno, error.strerror, error.filename and str(error.filename)]]
    if isinstance(error, InputError | RunError):
        return [type(error).__name__, str(error)]
    return ["RunError", f"process {place()}: {named(error)}"]


def _raise(kind: str, how: Any) -> NoReturn:
    if kind == "stopped":
        raise Stopped(how)
    if kind == "refused":
        raise OSError(*how)
    raise InputError(how) if kind == "InputError" else RunError(how)
