"""Processors are taken as asked for, and what runs side by side comes back in order."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import jax  # noqa: F401 - before a test sets what it reads
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
    runtime.prepare(2, place=1)
    assert taken == [[2, 5], [9, 2]]  # as long as there are others
    assert os.environ["XLA_FLAGS"] == f"--xla_dump_to=here {runtime.ONE_THREAD_EACH}"


def test_what_jax_reads_when_it_is_imported_is_set_before_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*runtime.VISIBLE, "JAX_PLATFORMS", "XLA_CLIENT_MEM_FRACTION", "XLA_FLAGS"):
        monkeypatch.setenv(name, "")  # what is set is put back
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    wanted = {"platform": "cuda", "devices": [2, 0], "memory_fraction": 0.5}
    for key, value in wanted.items():
        with pytest.raises(InputError, match=rf"runtime\.{key}=.*imported jax already"):
            runtime.prepare(**{key: value})
    assert {os.environ[name] for name in runtime.VISIBLE} == {""}
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "sys", SimpleNamespace(modules={}))
        runtime.prepare(**wanted)
    assert {os.environ[name] for name in runtime.VISIBLE} == {"2,0"}
    assert (os.environ["JAX_PLATFORMS"], os.environ["XLA_CLIENT_MEM_FRACTION"]) == ("cuda", "0.5")
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ  # jax refuses its old name beside the new one
    runtime.prepare(**wanted)  # the same again, and nothing at all, can be
    runtime.prepare()
    with pytest.raises(InputError, match=r"runtime\.devices=1"):
        runtime.prepare(devices=[1])


PROCESS = """
import json, os, sys
from synthetic_rm.config import prepare_runtime
from synthetic_rm.settings import RuntimeSettings
early = "jax" in sys.modules
prepare_runtime(RuntimeSettings(threads=1, platform="cpu", devices=[0], memory_fraction=0.5))
import jax
seen = [jax.config.jax_platforms, os.environ["CUDA_VISIBLE_DEVICES"], len(os.sched_getaffinity(0))]
print(json.dumps([early, *seen, os.environ["XLA_FLAGS"]]))
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system sets no affinity")
def test_jax_sees_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: neither the configuration nor the settings import jax."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [False, "cpu", "0", 1, runtime.ONE_THREAD_EACH]


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
