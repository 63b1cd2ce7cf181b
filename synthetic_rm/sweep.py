"""F9: many points of one experiment: each in a folder of its own, one that fails stops no other, all told at the end.

    <output>/<point>/     what the run leaves, status.json, and error.txt where it failed
    <output>/sweep.csv    the status of every point

A point is called by what is swept, `proxy.seeds=2,comparisons.noise=0.1`. Statuses lie in files, so that points may run
in other processes and on other machines.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from synthetic_rm.entry import TRACEBACK, printable, traceback_kept
from synthetic_rm.errors import InputError, RunError, require
from synthetic_rm.files import write_atomic, write_table
from synthetic_rm.provenance import digest
from synthetic_rm.settings import Settings

STATUS, STOP = "status.json", ".stop"
LONGEST = 120
"""characters of a folder's name"""
NOTHING = SimpleNamespace(return_value=None)
"""what Hydra hears of a point that ended without a result; its status is `lost`, or `not run`"""
Run = Callable[[Settings], object]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome:
    """How a point ended."""

    point: str
    status: str
    """ok, failed, interrupted, skipped (after a failure, with fail_fast), lost (no process told its end), not run"""
    seconds: float | None = None
    error: str = ""
    output: str = ""
    process: int | None = None
    """number of the process that ran it"""


def point_name(overrides: Sequence[str]) -> str:
    """The folder of a point, from its swept overrides; what no folder's name should hold is left out.

    What leaves out more than brackets, blanks and quotes, or is too long, ends with digits of the whole's hash.

    Example: ["proxy.sizes=[2000,4000]", "+experiment=figure1"] -> "proxy.sizes=2000,4000,experiment=figure1".
    """
    whole = ",".join(override.lstrip("+~") for override in overrides) or "point"
    told = re.sub(r"""[][ '"]""", "", whole)
    name = re.sub(r"[^\w.=,+-]", "", told, flags=re.ASCII)
    return name if name == told and len(name) <= LONGEST else f"{name[: LONGEST - 9]}-{digest(whole)[:8]}"


def settings_of_point(settings: Settings, name: str) -> Settings:
    """The settings with the point's own output folder below that of the sweep."""
    return replace(settings, output=str(Path(settings.output) / name))


def for_each(points: Mapping[str, Item], make: Callable[[Item], Result]) -> dict[str, Result]:
    """What `make` makes of every point.

    Raises:
        InputError: a point cannot be; its name and what is wrong with it.
    """
    made: dict[str, Result] = {}
    for name, point in points.items():
        try:
            made[name] = make(point)
        except InputError as error:
            raise InputError(f"point {name}: {error}") from error
    return made


def begin(points: Mapping[str, Settings]) -> None:
    """Forget how the points ended when they were run before.

    Raises:
        InputError: the sweep's folder holds the results of a single run, or cannot be written.
    """
    for base in sorted({Path(settings.output).parent for settings in points.values()}):
        require(
            not (base / "records.csv").exists(),
            f"output={base}: holds the results of a single run; choose another output for a sweep",
        )
        try:
            (base / STOP).unlink(missing_ok=True)
            for settings in points.values():
                (Path(settings.output) / STATUS).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"output={base}: cannot be used ({error.strerror or error})") from error


def run_point(settings: Settings, name: str, run: Run) -> Outcome:
    """Run one point and leave its status in its folder; what it raises is recorded and not passed on."""
    folder = Path(settings.output)
    started = time.perf_counter()
    stop = folder.parent / STOP
    if settings.fail_fast and stop.exists():
        return _told(folder, Outcome(name, "skipped", output=str(folder)))
    _told(folder, Outcome(name, "running", output=str(folder), process=os.getpid()))

    def ended(status: str, error: str = "") -> Outcome:
        seconds = round(time.perf_counter() - started, 1)
        return _told(folder, Outcome(name, status, seconds, " ".join(error.split()), str(folder), os.getpid()))

    (folder / TRACEBACK).unlink(missing_ok=True)
    try:
        with traceback_kept(folder):
            run(settings)
    except (InputError, RunError) as error:  # one point that breaks stops no other
        outcome = ended("failed", str(error))
    except BaseException as error:
        ended("interrupted", type(error).__name__)
        raise
    else:
        outcome = ended("ok")
    if settings.fail_fast and outcome.status != "ok":
        stop.touch()
    return outcome


def _told(folder: Path, outcome: Outcome) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / STATUS, (json.dumps(asdict(outcome), indent=1) + "\n").encode())
    return outcome


def spare_the_others(launcher: str) -> None:
    """Let a launcher of Hydra begin and await all points where the process of one was killed, or never began.

    Submitit's and Ray's both raise where they ask for the result of such a point, and then ask for no other.
    """
    if launcher == "RayLauncher":
        import ray
        from hydra_plugins.hydra_ray_launcher import _core

        _core.ray = SimpleNamespace(**{**vars(ray), "get": _sparing(ray.get, ray.exceptions.RayError, NOTHING)})
    else:
        from submitit import Job
        from submitit.core.utils import FailedJobError, UncompletedJobError

        Job.results = _sparing(Job.results, (FailedJobError, UncompletedJobError), [NOTHING])


def _sparing(ask: Callable[[Any], Any], errors: Any, nothing: Any) -> Callable[[Any], Any]:
    def spared(of: Any) -> Any:
        try:
            return ask(of)
        except errors as error:
            told = " ".join(str(error).splitlines()[:2])
            sys.stderr.write(printable(f"a point ended without a result: {told} ({type(error).__name__})") + "\n")
            return nothing

    return spared


def outcomes(points: Mapping[str, Settings]) -> list[Outcome]:
    """How every point ended, from the files that they left."""
    return [_read(name, Path(settings.output)) for name, settings in points.items()]


def _read(name: str, folder: Path) -> Outcome:
    try:
        told = Outcome(**json.loads((folder / STATUS).read_text()))
    except FileNotFoundError:
        return Outcome(name, "not run", output=str(folder))
    except (OSError, ValueError, TypeError) as error:
        return Outcome(name, "lost", error=f"{folder / STATUS} cannot be read ({error})", output=str(folder))
    if told.status == "running":
        return replace(told, status="lost", error="its process ended without a word, or still runs")
    return told


def finish(points: Mapping[str, Settings]) -> tuple[Table, bool]:
    """Write sweep.csv; the same as a table for the terminal, and whether every point is ok.

    Raises:
        InputError: sweep.csv cannot be written.
    """
    found = outcomes(points)
    for base in sorted({Path(outcome.output).parent for outcome in found}):
        rows = [asdict(outcome) for outcome in found if Path(outcome.output).parent == base]
        try:
            base.mkdir(parents=True, exist_ok=True)
            write_table(pd.DataFrame(rows), base / "sweep.csv")
        except OSError as error:
            raise InputError(f"output={base}: cannot be written ({error.strerror or error})") from error
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("folder of the point", "status", "seconds", ""):
        table.add_column(column, justify="right" if column == "seconds" else "left", overflow="fold")
    for outcome in found:
        seconds = "" if outcome.seconds is None else f"{outcome.seconds:,.1f}"
        table.add_row(*map(Text, (outcome.output, outcome.status, seconds, outcome.error)))
    return table, all(outcome.status == "ok" for outcome in found)
