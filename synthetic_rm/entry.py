"""F0: how every command ends. What can be foreseen is told on one line, what cannot keeps its traceback.

0    done
1    unforeseen (error.txt in the folder of the run has the traceback), or a run that ended without a result
2    input that cannot be: one line on standard error with the key, the value, what is allowed
130, 143  asked to stop, and stopped where the same command can go on
"""

import argparse
import errno
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from synthetic_rm.errors import InputError, RunError, Stopped, one_line
from synthetic_rm.hosts import first

TRACEBACK = "error.txt"
REFUSED_BY_SYSTEM = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EMFILE", "ENFILE", "EIO", "ENOMEM", "ESTALE")
)
"""Errors of the machine and not of the code: a full disk, a folder that may not be written, too many open files."""


class Parser(argparse.ArgumentParser):
    """Tells what it cannot use on one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {printable(message)}\n")


def guarded(
    act: Callable[[], int | None],
    refused: tuple[type[BaseException], ...] = (),
    tell: Callable[[BaseException], str] = one_line,
) -> int:
    """Do what a command does; its exit code. No exception comes out of it but SystemExit.

    Args:
        act: the command; its own exit code, None for 0.
        refused: further exceptions that mean input that cannot be.
        tell: an exception in words.
    """
    refused = (InputError, *refused)
    try:
        return act() or 0
    except refused as error:
        return _told(f"error: {tell(error)}", 2)
    except RunError as error:
        return _told(f"error: {tell(error)}", 1)
    except (Stopped, KeyboardInterrupt) as error:
        code = error.code if isinstance(error, Stopped) else None
        return _told("stopped: the same command goes on from what the store has", int(code or 130))
    except Exception as error:
        if line := foreseen(error):
            return _told(f"error: {line}", 2)
        sys.stderr.write(traceback.format_exc())
        return 1


@contextmanager
def traceback_kept(folder: Path) -> Iterator[None]:
    """Leave the traceback of an unforeseen exception as error.txt in the folder; of several processes, of the first.

    Raises:
        InputError: the machine refused something: disk, files, memory.
        RunError: anything unforeseen; one line that says where its traceback is.
    """
    try:
        yield
    except (InputError, RunError):
        raise
    except Exception as error:
        if line := foreseen(error):
            raise InputError(line) from error
        if not first():
            raise
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / TRACEBACK).write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
        except (OSError, ValueError):
            raise error from None
        told = one_line(error)[:300]
        raise RunError(
            f"unforeseen {type(error).__name__}: {told}; the traceback is in {folder / TRACEBACK}"
        ) from error


def foreseen(error: BaseException) -> str | None:
    """What the machine refused, on one line; None for everything else."""
    if isinstance(error, OSError) and error.errno in REFUSED_BY_SYSTEM:
        return f"{error.filename or 'a file'}: cannot be used ({error.strerror})"
    if isinstance(error, MemoryError) or str(error).startswith("RESOURCE_EXHAUSTED"):  # numpy's and XLA's
        return (
            f"memory: not enough for this configuration ({one_line(error)[:200]}); smaller batches, "
            "best_of_n.samples_at_once or vmap_width need less"
        )
    return None


def printable(text: str) -> str:
    """The text with everything that a terminal would not show, or would obey, written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _told(line: str, code: int) -> int:
    sys.stderr.write(f"{printable(line)}\n")
    return code
