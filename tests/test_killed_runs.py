"""A run whose process is killed again and again ends with the very bytes of one that is not, in every stage."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent


def run(root: Path, name: str, ends: str, moment: int) -> subprocess.CompletedProcess[str]:
    """What is compiled is kept for the next process: the programs are the same, and only then is this quick."""
    kept = {"JAX_COMPILATION_CACHE_DIR": str(root / "compiled"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    paths = {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    (root / name).mkdir(exist_ok=True)
    asked = [root / "data", root / name / "store", root / name / "records.csv", ends, moment]
    command = [sys.executable, str(HERE / "killed_run.py"), *map(str, asked)]
    return subprocess.run(command, env={**os.environ, **kept, **paths}, capture_output=True, text=True, timeout=1200)


def contents(store: Path) -> dict[str, bytes]:
    """Every file of every stage but the manifests, which tell the time."""
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("seed", [0])
def test_a_run_that_is_killed_at_random_moments_ends_as_if_it_were_not(tmp_path: Path, seed: int) -> None:
    (tmp_path / "data").mkdir()
    whole = run(tmp_path, "whole", "SIGKILL", 0)
    assert whole.returncode == 0, whole.stderr[-3000:]
    moments = int(whole.stdout)
    rng = np.random.default_rng(seed)
    told, codes = "", list[int]()
    while 0 not in codes and len(codes) < 12:
        ends, last = ("SIGTERM", moments // 10) if len(codes) == 1 else ("SIGKILL", moments // 3)
        done = run(tmp_path, "killed", ends, int(rng.integers(last // 2, last)))
        codes, told = [*codes, done.returncode], told + done.stderr
    assert set(codes[:-1]) == {-9, 143} and codes[-1] == 0 and len(codes) > 3, (codes, told[-3000:])
    assert "Traceback" not in told and "goes on from step" in told
    records = [(tmp_path / name / "records.csv").read_bytes() for name in ("whole", "killed")]
    assert records[0] == records[1] and len(records[0].splitlines()) > 10
    ours, theirs = (contents(tmp_path / name / "store") for name in ("whole", "killed"))
    stages = {name.split("/")[0] for name in ours}
    assert ours == theirs and stages >= {"backbone", "gold", "proxy", "scores", "curves", "rl"}
