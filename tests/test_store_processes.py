"""A stage that several processes or threads want is made by one of them; who ends early blocks nobody."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from stored import Maker, get

from synthetic_rm.progress import Reporter
from synthetic_rm.store import Artifact, Store

PROCESS = """
import json, os, sys, time
from pathlib import Path
from synthetic_rm import store

store.PATIENCE = 0.05
root, mode, me = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def wait_for(pattern):
    deadline = time.monotonic() + 60
    while not list(root.glob(pattern)) and time.monotonic() < deadline:
        time.sleep(0.01)

def make(folder, checkpoints):
    (folder / "params.bin").write_bytes(me.encode() * 1000)
    (root / f"making-{me}").touch()
    if mode == "exit":
        os._exit(9)
    wait_for("never" if mode == "hang" else "waits-*")
    if mode == "fail":
        raise RuntimeError("no")
    return {"maker": me}

def say(line):
    (root / f"waits-{me}").write_text(line)

reporter = store.Reporter(False)
reporter.say = say
made = store.Store(root, {"commit": me}, reporter).get("proxy", {"size": 1}, [], make)
content = (made.path / "params.bin").read_bytes()
print(json.dumps([str(made.path), made.reused, made.facts["maker"], content.decode()[0], len(content)]))
"""


def process(root: Path, mode: str, me: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(root), mode, me], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(root: Path, pattern: str) -> Path:
    deadline = time.monotonic() + 60
    while not list(root.glob(pattern)) and time.monotonic() < deadline:
        time.sleep(0.01)
    (found,) = root.glob(pattern)
    return found


def test_two_processes_that_want_one_stage_make_it_once(tmp_path: Path) -> None:
    """Who is first stays in `make` until the other waits."""
    running = [process(tmp_path, "wait", me) for me in "xy"]
    told = [job.communicate(timeout=120) for job in running]
    assert [job.returncode for job in running] == [0, 0], told
    one, other = (json.loads(out) for out, _ in told)
    assert [one[0], *one[2:]] == [other[0], *other[2:]] and {one[1], other[1]} == {False, True}
    assert one[2] == one[3] and one[4] == 1000  # facts and files of the same maker
    assert len(list(tmp_path.glob("making-*"))) == 1
    (waited,) = tmp_path.glob("waits-*")
    assert waited.read_text() == f"waiting for another process that makes proxy {Path(one[0]).name[:8]}"
    assert [p.name for p in (tmp_path / "proxy").iterdir()] == [Path(one[0]).name]  # no lock stays


@pytest.mark.parametrize("ends", ["killed", "fails"])
def test_who_waits_for_a_process_that_ends_makes_the_stage(tmp_path: Path, ends: str) -> None:
    first = process(tmp_path, "hang" if ends == "killed" else "fail", "x")
    wait_for(tmp_path, "making-x")
    second = process(tmp_path, "wait", "y")
    wait_for(tmp_path, "waits-y")
    if ends == "killed":
        first.kill()
    first.communicate(timeout=60)
    out, told = second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (-9 if ends == "killed" else 1, 0), told
    made = json.loads(out)
    assert made[1:] == [False, "y", "y", 1000]
    assert [p.name for p in (tmp_path / "proxy").iterdir()] == [Path(made[0]).name]  # what x left is gone


def test_what_a_killed_process_left_blocks_nothing_and_is_cleared(tmp_path: Path) -> None:
    killed = process(tmp_path, "exit", "x")
    killed.communicate(timeout=120)
    assert killed.returncode == 9
    left = {p.name for p in (tmp_path / "proxy").iterdir()}
    reporter, told = Reporter(False), list[str]()
    reporter.say = told.append  # type: ignore[method-assign]
    made = Store(tmp_path, {}, reporter).get("proxy", {"size": 1}, [], Maker())
    assert told == [f"proxy {made.key[:8]} was begun and left no good checkpoint: it starts anew"]
    assert made.manifest["resumed"] == told
    assert len(left) == 2 and all(name.startswith(f".{made.key[:20]}") for name in left)  # its lock and its files
    assert not made.reused and (made.path / "params.bin").read_bytes() == Maker().content
    assert list((tmp_path / "proxy").iterdir()) == [made.path]


def test_threads_that_want_one_stage_make_it_once(tmp_path: Path) -> None:
    make, together = Maker(), Barrier(4, timeout=60)

    def want(_: int) -> Artifact:
        together.wait()
        return get(tmp_path, make)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(want, range(4)))
    assert make.calls == 1 and sorted(a.reused for a in made) == [False, True, True, True]
    assert len({(a.key, a.path, json.dumps(a.manifest, sort_keys=True)) for a in made}) == 1
    assert list((tmp_path / "proxy").iterdir()) == [made[0].path]
