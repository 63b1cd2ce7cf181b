"""F9: one experiment from validated settings to an output folder with tables, figures and report."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import yaml
from filelock import FileLock, Timeout

from synthetic_rm.analysis.curves import SETTING, overoptimization
from synthetic_rm.analysis.figures.rl import NAMES
from synthetic_rm.analysis.fit_table import KEYS, fit_table
from synthetic_rm.analysis.main_setting import main_setting
from synthetic_rm.analysis.report import redraw
from synthetic_rm.analysis.run_folder import load_run_folder
from synthetic_rm.analysis.tables import summary_table
from synthetic_rm.build import data_sha256
from synthetic_rm.capacity import check_memory
from synthetic_rm.checks import check_data, check_environment
from synthetic_rm.devices import sharing
from synthetic_rm.entry import TRACEBACK
from synthetic_rm.errors import InputError, RunError
from synthetic_rm.files import check_folder, write_atomic, write_table
from synthetic_rm.hosts import by_all, by_first, first, gathered
from synthetic_rm.progress import Reporter
from synthetic_rm.provenance import describe, digest
from synthetic_rm.reading import read_yaml
from synthetic_rm.release import ROOT, check_release, read_release_manifest
from synthetic_rm.results import Tables, overoptimization_tables, write_tables
from synthetic_rm.settings import EnvironmentSettings, RuntimeSettings, Settings, flatten, points_of
from synthetic_rm.simulation import Simulation
from synthetic_rm.store import Store
from synthetic_rm.study import joined
from synthetic_rm.trackers import open_tracking
from synthetic_rm.tracking import PACKAGES, Tracking, check_installed, numbers

FREE = ("output", "store", "fail_fast", *(f"runtime.{f.name}" for f in fields(RuntimeSettings) if f.name != "dtype"))
"""Keys that, like those of `tracking`, may differ without changing a result."""


def result_config(settings: Settings) -> dict[str, Any]:
    """Dotted keys of the settings that determine the results."""
    flat = flatten(settings)
    return {key: value for key, value in flat.items() if key not in FREE and not key.startswith("tracking.")}


def check_output(settings: Settings) -> None:
    """See that the output folder can be one and holds no other results; those of a run without results do not count.

    Raises:
        InputError: it cannot be a folder, or holds the results of another configuration (the first other key is named)
            or of an unknown one.
    """
    folder = Path(settings.output)
    check_folder("output", folder)
    held = folder / "config.yaml"
    if not (folder / "records.csv").exists():
        return
    if not held.exists():
        raise InputError(f"output={folder}: holds records.csv without its config.yaml; choose another output")
    try:
        found = _flat_yaml(read_yaml(held))
    except (OSError, InputError, AttributeError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"output={folder}: its config.yaml cannot be used ({why})") from error
    mine, usual = (json.loads(json.dumps(result_config(one))) for one in (settings, Settings()))
    for key, value in mine.items():
        told = found.get(key, usual[key])  # a key that is younger than the results had its default
        if told != value:
            raise InputError(
                f"output={folder}: holds results with {key}={told}, this run has {key}={value}; choose another output"
            )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold an output folder, so that no other run writes there at the same time.

    Raises:
        InputError: another run holds it, or it cannot be written.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"output={folder}: another run writes there now; choose another output, or wait") from error
    except OSError as error:
        raise InputError(f"output={folder}: cannot be used ({error.strerror or error})") from error
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def prepare_output(settings: Settings) -> Path:
    """Create the output folder and write config.yaml. What a run without results left there may be taken over.

    Raises:
        InputError: it cannot be written, or holds other results (see `check_output`).
    """
    check_output(settings)
    folder = Path(settings.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TRACEBACK).unlink(missing_ok=True)
        text = yaml.safe_dump(asdict(settings), sort_keys=False, allow_unicode=True)
        write_atomic(folder / "config.yaml", text.encode())
    except OSError as error:
        raise InputError(f"output={folder}: cannot be used ({error.strerror or error})") from error
    return folder


def _flat_yaml(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat.update(_flat_yaml(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item})
    return flat


def ratings_sha256(settings: EnvironmentSettings) -> str:
    """SHA-256 of the human ratings behind a world: the release's, the user's own file, or the shipped table."""
    if settings.release is None:
        return data_sha256(settings)
    return str(read_release_manifest(ROOT / settings.release)["data_sha256"])


def write_provenance(settings: Settings, simulation: Simulation, folder: Path, seconds: float) -> None:
    """Write provenance.json: the process (`describe`), the configuration, the data and the world it stands on."""
    provenance = {
        **simulation.store.origin,
        "vmap_width": settings.proxy.vmap_width,
        "seconds": round(seconds, 1),
        "config_hash": digest(result_config(settings)),
        "release": settings.environment.release,
        "world": list(simulation.world.keys),
    }
    write_atomic(folder / "provenance.json", (json.dumps(provenance, indent=1) + "\n").encode())


def fits_of(tables: Tables, settings: Settings) -> pd.DataFrame:
    """Fits of best-of-n and of RL, one below the other."""
    fit, by_best_of_n = settings.fit, tables.records["optimizer"] == "best_of_n"
    options: dict[str, Any] = {"num_resamples": fit.resamples, "level": fit.level}
    found = [
        fit_table(
            tables.curves, tables.records[by_best_of_n], rng=np.random.default_rng(0), cut=fit.held_out_kl, **options
        )
    ]
    if tables.rl_curves is not None:
        rl = tables.records[~by_best_of_n]
        found.append(fit_table(tables.rl_curves, rl, rng=np.random.default_rng(0), cut=fit.rl_held_out_kl, **options))
    return pd.concat(found, ignore_index=True)


def run_name(settings: Settings) -> str:
    """What trackers call a run: its output folder's name and the start of its configuration's hash."""
    return f"{Path(settings.output).name}-{digest(result_config(settings))[:8]}"


def track_results(tracking: Tracking, records: pd.DataFrame, fits: pd.DataFrame) -> None:
    """Tell the trackers every curve, point by point, and every fit."""
    for row in records.to_dict("records"):
        tracking.log(row["run"], row["pressure"], {name: row[name] for name in ("kl", "proxy", "gold")})
    varied = [key for key in SETTING if key not in KEYS and key in fits and fits[key].nunique() > 1]
    for row in fits.to_dict("records"):
        name = "_".join(str(row[key]) for key in (*KEYS, *(key for key in varied if "params" not in key)))
        tracking.log(f"fit_{name}", 0, numbers({str(key): value for key, value in row.items()}))


def _of_point(simulation: Simulation, study: Sequence[Mapping[str, Any]]) -> Tables:
    """The tables of one point, its name told before."""
    if study:
        flat, changed = flatten(simulation.settings), dict.fromkeys(key for point in study for key in point)
        simulation.reporter.say("point " + ", ".join(f"{key}={flat[key]}" for key in changed))
    return overoptimization_tables(simulation)


def check_run(settings: Settings) -> None:
    """Refuse what can be refused of validated settings before anything is made: data, release, folders, trackers.

    Raises:
        InputError: a file or folder they name cannot be used, or a tracker is not installed.
    """
    for point in points_of(settings):
        check_data(point.environment)
        check_release(point.environment, list(point.proxy.sizes), point.proxy.init)
    check_output(settings)
    check_folder("store", Path(settings.store))
    check_tracking(settings)


def check_tracking(settings: Settings) -> None:
    """Refuse a tracker that is not installed or has no folder to write to.

    Raises:
        InputError: the key is named.
    """
    for tracker in PACKAGES:
        check_installed(tracker, getattr(settings.tracking, tracker))
        if getattr(settings.tracking, tracker):
            check_folder("tracking.folder", Path(settings.tracking.folder))


def run(settings: Settings) -> Path:
    """Run the experiment and leave everything in `settings.output`; what the store has is not made again.

    Processes that make a run together all call it; the first writes.

    Raises:
        InputError: the settings cannot be, or a file or folder they name cannot be used.
        RunError: no curve stayed finite; runs.csv, environment.json and provenance.json are there.
    """
    check_alike(settings)
    by_all(lambda: check_run(settings))
    shown = settings.runtime.progress and first()
    with sharing(settings.runtime.mesh), Reporter(shown) as reporter, ExitStack() as held:
        return _run(settings, reporter, held)


def check_alike(settings: Settings) -> None:
    """See that all processes that make a run together were given the same.

    Raises:
        InputError: one was not; the first that was not, and a key, are named.
    """
    own = {key: value for key, value in flatten(settings).items() if not key.startswith("runtime.")}
    told = gathered(json.dumps(own | {"runtime.mesh": settings.runtime.mesh, "runtime.dtype": settings.runtime.dtype}))
    if len(set(told)) > 1:
        number = next(i for i, text in enumerate(told) if text != told[0])
        mine, other = (json.loads(text) for text in (told[0], told[number]))
        key = next(key for key in mine if mine[key] != other[key])
        raise InputError(f"{key}={other[key]}: process {number} has it, the first {mine[key]}; allowed is one for all")


def _run(settings: Settings, reporter: Reporter, held: ExitStack) -> Path:
    started = time.perf_counter()
    device = jax.devices()[0]
    origin = describe(f"{device.platform}: {device.device_kind}")
    origin["data_sha256"] = ratings_sha256(settings.environment)
    store = Store(Path(settings.store), origin, reporter, settings.runtime.checkpoint_seconds)
    simulations = [Simulation(point, store, reporter) for point in points_of(settings)]
    for simulation in simulations:
        check_environment(simulation.settings, simulation.environment)
    check_memory(settings)

    def begin() -> None:
        held.enter_context(alone(Path(settings.output)))
        folder = prepare_output(settings)
        reporter.tracking = open_tracking(folder, reporter.say, **asdict(settings.tracking))
        reporter.tracking.start(run_name(settings), {**flatten(settings), "commit": origin["commit"]})
        reporter.say(f"synthetic_rm: {settings.experiment} at scale {settings.scale} into {folder}")

    by_first(begin)
    tables = joined([_of_point(simulation, settings.study) for simulation in simulations])
    by_first(lambda: _write(settings, simulations[0], tables, reporter, started))
    return Path(settings.output)


def _write(settings: Settings, simulation: Simulation, tables: Tables, reporter: Reporter, started: float) -> None:
    """Leave everything in the output folder, and tell the fits."""
    folder = Path(settings.output)
    try:
        write_tables(tables, folder)
        write_provenance(settings, simulation, folder, time.perf_counter() - started)
        if tables.records.empty:
            raise RunError(f"no curve stayed finite, so there is nothing to fit: {folder / 'runs.csv'} says which")
        fits = fits_of(tables, settings)
        write_table(fits, folder / "fits.csv")
        track_results(reporter.tracking, tables.records, fits)
        write_provenance(settings, simulation, folder, time.perf_counter() - started)
        report = redraw(folder).path
    except OSError as error:
        raise InputError(f"output={folder}: cannot be written ({error.strerror or error})") from error
    written = main_setting(load_run_folder(folder))
    level = settings.fit.level
    for part in written.parts():
        verdicts = overoptimization(part.curves, part.records, rng=np.random.default_rng(0), level=level)
        name = NAMES.get(part.optimizer, part.optimizer)
        reporter.console.print(summary_table(part.fits, verdicts, part.runs, level=level, optimizer=name))
    reporter.say(f"{time.perf_counter() - started:.0f} s; report: {report}")
