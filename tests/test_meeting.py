"""Processes wait for each other before jax connects them; threads stand in for them here."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from scripts import free_port

from synthetic_rm import hosts, meeting
from synthetic_rm.errors import InputError
from synthetic_rm.meeting import meet


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    monkeypatch.setattr(meeting, "PAUSE", 0.02)
    return lambda seconds: monkeypatch.setattr(meeting, "PATIENCE", seconds)


def at(port: str) -> str:
    return f"127.0.0.1:{port}"


@contextmanager
def coming(port: str, *processes: tuple[int, int]) -> Iterator[list[str]]:
    """Process and how many it expects, one after another at once; what each ends with, "" where all is well."""
    told: list[str] = []

    def come(process: int, count: int) -> str:
        try:
            meet(at(port), count, process)
        except InputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(processes)) as pool:
        waiting = [pool.submit(come, *process) for process in processes]
        yield told
        told += [each.result() for each in waiting]


def test_processes_that_come_in_any_order_meet(patience: Callable[[float], None]) -> None:
    patience(20)
    with coming(free_port(), (2, 3), (1, 3), (0, 3)) as told:
        pass
    assert told == ["", "", ""]
    meet("nowhere.invalid:1", 1, 0)  # one by itself asks nobody


def test_strangers_do_not_count(patience: Callable[[float], None]) -> None:
    patience(20)
    port = free_port()
    with coming(port, (0, 2)) as first:
        for word in (b"GET / HTTP/1.1\r\n\r\n", b"", b"9" * 64, b"\xff/\xff\n", b"1\n"):
            stranger = connected(port)
            stranger.sendall(word)
            stranger.close()
        with coming(port, (1, 2)) as second:
            pass
    assert first == second == [""]


def connected(port: str) -> socket.socket:
    while True:
        try:
            return socket.create_connection(("127.0.0.1", int(port)), timeout=5)
        except OSError:
            continue


def test_who_does_not_come_is_named(patience: Callable[[float], None]) -> None:
    patience(0.5)
    port = free_port()
    with coming(port, (0, 4), (2, 4)) as told:
        pass
    assert told[0] == f"runtime.processes=4: process 1, 3 did not come to {at(port)} within 0.5 s"
    assert told[1].startswith(f"runtime.coordinator={at(port)}: cannot be reached within 0.5 s")
    with pytest.raises(InputError, match=r"runtime\.coordinator=nowhere\.invalid:1: no such host"):
        meet("nowhere.invalid:1", 2, 1)


@pytest.mark.parametrize("other", [(1, 3), (5, 5)])
def test_who_does_not_fit_is_told(patience: Callable[[float], None], other: tuple[int, int]) -> None:
    patience(1.5)
    with coming(free_port(), (0, 2), other) as told:
        pass
    assert told[1].startswith(f"runtime.process={other[0]}, runtime.processes={other[1]}: the first process expects")
    assert "process 1 did not come" in told[0]


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(InputError, match=rf"runtime\.coordinator={at(port)}: cannot listen there"):
            meet(at(port), 2, 0)


def test_one_process_agrees_with_itself() -> None:
    """And asks nobody: jax knows of no others."""
    value = object()
    assert hosts.gathered(value) == [value] and hosts.agreed(value) is value
    assert hosts.by_first(lambda: value) is hosts.by_all(lambda: value) is value
    assert hosts.first() and not hosts.several() and hosts.place() == 0
