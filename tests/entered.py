"""The command experiments/run.py in the process of the test; no run is ever begun by it."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from scripts import load_script

from synthetic_rm import analytic_experiment, experiment
from synthetic_rm.settings import Settings


class Ended(NamedTuple):
    code: Any
    out: str
    err: str


class Command:
    """The command in an empty working folder. Input that it accepts fails the test instead of starting a run."""

    script: ModuleType | None = None

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], work: Path):
        Command.script = Command.script or load_script("run")
        self.patch, self.capsys, self.work = patch, capsys, work
        work.mkdir()
        patch.chdir(work)
        patch.setenv("HYDRA_FULL_ERROR", "")
        patch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))  # what the command sets is put back
        patch.setattr(experiment, "overoptimization_tables", accepted)
        for name in analytic_experiment.CURVES:
            patch.setitem(analytic_experiment.CURVES, name, accepted)  # type: ignore[arg-type]

    def __call__(self, *words: str) -> Ended:
        self.patch.setattr(sys, "argv", [str(Path(str(self.script.__file__))), *words])  # type: ignore[union-attr]
        code = exit_code(self.script.main)  # type: ignore[union-attr]
        assert list(self.work.iterdir()) == []
        return Ended(code, *self.capsys.readouterr())


def accepted(*_: object) -> Iterator[Any]:
    pytest.fail("this input was accepted")


def at_once(patch: pytest.MonkeyPatch) -> None:
    """Leave out what lies between the checks of the settings and the output folder: the environment is not read."""

    def simulation(settings: Settings, *_: object) -> Any:
        return SimpleNamespace(settings=settings, environment=None)

    patch.setattr(experiment, "check_environment", lambda *_: None)
    patch.setattr(experiment, "Simulation", simulation)


def exit_code(main: Any) -> Any:
    try:
        return main()
    except SystemExit as error:
        return error.code


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def refused(ended: Ended, *named: str) -> None:
    lines = ended.err.splitlines()
    assert ended.code == 2 and ended.out == "", ended
    assert len(lines) == 1 and lines[0].startswith("error: ") and lines[0].isprintable(), ended.err
    assert [text for text in named if text not in lines[0]] == [], lines[0]


def folders(tmp_path: Path) -> list[str]:
    return [f"output={tmp_path / 'output'}", f"store={tmp_path / 'store'}"]


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: what a full disk does, by a limit that the system sets for real."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
