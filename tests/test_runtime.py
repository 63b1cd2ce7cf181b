"""Processors are taken as asked for, and what runs side by side comes back in order."""

import os
import time
from collections.abc import Iterator

import pytest

from synthetic_rm import runtime
from synthetic_rm.errors import InputError


def test_threads_beyond_the_processors_are_refused_and_fewer_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[list[int]] = []
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=here")
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda _: {5, 2, 9}, raising=False)
    monkeypatch.setattr(runtime.os, "sched_setaffinity", lambda _, cpus: taken.append(list(cpus)), raising=False)
    assert runtime.processors() == 3
    with pytest.raises(InputError, match=r"runtime\.threads=4: allowed is 1 to 3"):
        runtime.prepare(4)
    assert taken == [] and os.environ["XLA_FLAGS"] == "--xla_dump_to=here"
    runtime.prepare(0)
    assert taken == []
    runtime.prepare(2)
    assert taken == [[2, 5]]
    assert os.environ["XLA_FLAGS"] == f"--xla_dump_to=here {runtime.ONE_THREAD_EACH}"


@pytest.mark.parametrize("workers", [1, 3])
def test_what_runs_side_by_side_comes_back_in_order_and_does_not_pile_up(
    monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(runtime, "processors", lambda: workers)
    asked: list[int] = []

    def items() -> Iterator[int]:
        for i in range(20):
            asked.append(i)
            yield i

    def square(i: int) -> int:
        time.sleep(0.001 * (i % 3))
        return i * i

    found = []
    for i, value in enumerate(runtime.concurrently(square, items())):
        found.append(value)
        assert len(asked) <= i + workers + 1
    assert found == [i * i for i in range(20)]

    def fail(i: int) -> int:
        if i == 5:
            raise InputError("six")
        return i

    with pytest.raises(InputError, match="six"):
        list(runtime.concurrently(fail, range(20)))
