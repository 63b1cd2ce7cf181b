"""F0: processes wait for each other before jax connects them: jax would abort where one does not come.

Each connects to the first and says "PROCESS/PROCESSES\\n"; when all have, the first answers each of them "go\\n".
"""

import socket
import time
from contextlib import ExitStack, suppress

from synthetic_rm.errors import InputError, require

PATIENCE = 60.0
"""seconds that one waits for the others to come"""
PAUSE = 0.2
"""seconds between two attempts to connect"""


def meet(address: str, processes: int, process: int) -> None:
    """Return when all processes are there.

    Args:
        address: "host:port" of the first.
    Raises:
        InputError: they are not within `PATIENCE`, or do not fit together.
    """
    host, _, port = address.rpartition(":")
    until = time.monotonic() + PATIENCE
    if processes > 1:
        _receive(address, int(port), processes, until) if process == 0 else _come(
            address, (host.strip("[]"), int(port)), f"{process}/{processes}", until
        )


def _receive(address: str, port: int, processes: int, until: float) -> None:
    there: dict[int, socket.socket] = {}
    try:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        listening = socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise InputError(f"runtime.coordinator={address}: cannot listen there ({error.strerror or error})") from error
    with ExitStack() as held:
        held.enter_context(listening)
        while len(there) < processes - 1:
            listening.settimeout(max(until - time.monotonic(), 0.01))
            try:
                guest = held.enter_context(listening.accept()[0])
            except TimeoutError:
                missing = [i for i in range(1, processes) if i not in there]
                raise InputError(
                    f"runtime.processes={processes}: process {', '.join(map(str, missing))} did not come to "
                    f"{address} within {PATIENCE:g} s"
                ) from None
            told = _line(guest, 5.0)
            number, _, count = told.partition("/")
            if not (number.isdecimal() and count.isdecimal()):
                continue  # a stranger
            fits = int(count) == processes and 0 < int(number) < processes and int(number) not in there
            if fits:
                there[int(number)] = guest
            else:
                with suppress(OSError):
                    guest.sendall(b"no\n")
        for guest in there.values():
            with suppress(OSError):
                guest.sendall(b"go\n")


def _come(address: str, to: tuple[str, int], word: str, until: float) -> None:
    why = "nobody listens"
    while time.monotonic() < until:
        try:
            with socket.create_connection(to, timeout=max(until - time.monotonic(), 0.01)) as host:
                host.sendall(f"{word}\n".encode())
                answer = _line(host, max(until - time.monotonic(), 0.01))
        except socket.gaierror as error:
            raise InputError(f"runtime.coordinator={address}: no such host ({error.strerror})") from error
        except OSError as error:
            why = error.strerror or str(error)
            time.sleep(PAUSE)
            continue
        if answer == "go":
            return
        number, _, count = word.partition("/")
        require(
            answer != "no",
            f"runtime.process={number}, runtime.processes={count}: the first process expects another number of them, "
            "or has met this one already",
        )
        why = "not all processes came"
        time.sleep(PAUSE)
    raise InputError(f"runtime.coordinator={address}: cannot be reached within {PATIENCE:g} s ({why})")


def _line(connection: socket.socket, seconds: float) -> str:
    """The line that is sent first, of up to 32 bytes; "" where none is."""
    connection.settimeout(seconds)
    told = b""
    with suppress(OSError):
        while not told.endswith(b"\n") and len(told) < 32 and (part := connection.recv(32)):
            told += part
    return told.decode("ascii", "replace").strip()
