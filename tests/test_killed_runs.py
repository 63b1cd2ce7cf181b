"""A run whose process is killed in every stage ends with the very bytes of one that is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synthetic_rm.store import VERSIONS

HERE = Path(__file__).parent
WITH_LOOP = set(VERSIONS) - {"tokenizer"}
CODES = {"SIGKILL": -9, "SIGTERM": 143}


def run(root: Path, name: str, ends: str, stage: str = "none", moment: int = 0) -> subprocess.CompletedProcess[str]:
    """What is compiled is kept for the next process: the programs are the same, and only then is this quick."""
    kept = {"JAX_COMPILATION_CACHE_DIR": str(root / "compiled"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    paths = {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    (root / name).mkdir(exist_ok=True)
    asked = [root / "data", root / name / "store", root / name / "records.csv", ends, stage, moment]
    command = [sys.executable, str(HERE / "killed_run.py"), *map(str, asked)]
    return subprocess.run(command, env={**os.environ, **kept, **paths}, capture_output=True, text=True, timeout=1200)


def contents(store: Path) -> dict[str, bytes]:
    """Every file of every stage but the manifests, which tell the time."""
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("seed", [0])
def test_a_run_that_is_killed_in_every_stage_ends_as_if_it_were_not(tmp_path: Path, seed: int) -> None:
    """At a random moment of each; in that of RL early enough that SIGTERM finds it unfinished too."""
    (tmp_path / "data").mkdir()
    whole = run(tmp_path, "whole", "SIGKILL")
    assert whole.returncode == 0, whole.stderr[-3000:]
    moments: dict[str, int] = json.loads(whole.stdout)
    stages = [stage for stage in moments if stage in WITH_LOOP]
    assert set(stages) == WITH_LOOP
    ends = [("SIGKILL", stage, moments[stage] // (2 if stage == "rl" else 1)) for stage in stages]
    ends.insert(1 + stages.index("rl"), ("SIGTERM", "rl", moments["rl"] // 8))
    rng, told = np.random.default_rng(seed), ""
    for by, stage, moment in ends:
        done = run(tmp_path, "killed", by, stage, int(rng.integers(1, moment)))
        told += done.stderr
        assert done.returncode == CODES[by] and f"{by} in {stage}" in done.stderr, told[-3000:]
    done = run(tmp_path, "killed", "SIGKILL")
    told += done.stderr
    assert done.returncode == 0 and "Traceback" not in told, told[-3000:]
    assert told.count("goes on from step") >= len(stages) // 2
    records = [(tmp_path / name / "records.csv").read_bytes() for name in ("whole", "killed")]
    assert records[0] == records[1] and len(records[0].splitlines()) > 10
    ours, theirs = (contents(tmp_path / name / "store") for name in ("whole", "killed"))
    assert ours == theirs and {name.split("/")[0] for name in ours} >= WITH_LOOP
