"""F9: the experiments without training, from settings to an output folder; seconds on a laptop."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from synthetic_rm.analysis.analytic_fits import analytic_fits
from synthetic_rm.analysis.analytic_report import redraw_analytic
from synthetic_rm.analytic import heavy_tails, oracle
from synthetic_rm.analytic.records import ANALYTIC, AnalyticCurve, records, runs
from synthetic_rm.errors import InputError
from synthetic_rm.experiment import (
    alone,
    check_output,
    check_tracking,
    prepare_output,
    result_config,
    run_name,
)
from synthetic_rm.files import write_atomic, write_table
from synthetic_rm.progress import Reporter
from synthetic_rm.provenance import describe, digest
from synthetic_rm.settings import Settings, flatten
from synthetic_rm.trackers import open_tracking

CURVES: Mapping[str, Callable[[], Iterator[AnalyticCurve]]] = {
    "oracle": oracle.oracle_curves,
    "heavy_tails": heavy_tails.heavy_tails_curves,
}
"""Every experiment without training, by the name that `experiment` gives it."""
TABLES: Mapping[str, Mapping[str, Callable[[], pd.DataFrame]]] = {
    "heavy_tails": {"tails": heavy_tails.tail_table, "prices": heavy_tails.price_table},
}
"""Further tables of an experiment, by the name of their file."""


def run_analytic(settings: Settings) -> Path:
    """Run the experiment that `settings.experiment` names and leave everything in `settings.output`.

    Raises:
        InputError: the output folder cannot be used, or holds other results.
    """
    check_output(settings)
    check_tracking(settings)
    with Reporter(settings.runtime.progress) as reporter, alone(Path(settings.output)):
        return _run(settings, reporter)


def _run(settings: Settings, reporter: Reporter) -> Path:
    started = time.perf_counter()
    origin = describe("cpu: numpy")
    folder = prepare_output(settings)
    reporter.tracking = open_tracking(folder, reporter.say, **asdict(settings.tracking))
    reporter.tracking.start(run_name(settings), {**flatten(settings), "commit": origin["commit"]})
    reporter.say(f"synthetic_rm: {settings.experiment} into {folder} ({ANALYTIC})")
    made: list[AnalyticCurve] = []
    seconds: list[float] = []
    for curve in CURVES[settings.experiment]():
        seconds.append(time.perf_counter() - started - sum(seconds))
        made.append(curve)
    points = records(made, settings.scale)
    for run, rows in points.groupby("run", sort=False):
        for place, row in enumerate(rows[["kl", "proxy", "gold"]].to_dict("records")):
            reporter.tracking.log(str(run), place, {str(key): value for key, value in row.items()})
    try:
        for name, table in TABLES.get(settings.experiment, {}).items():
            write_table(table(), folder / f"{name}.csv")
        write_table(points, folder / "records.csv")
        write_table(runs(made, seconds, origin), folder / "runs.csv")
        write_table(analytic_fits(points, cut=settings.fit.held_out_kl), folder / "fits.csv")
        provenance = {
            **origin,
            "kind": ANALYTIC,
            "seconds": round(time.perf_counter() - started, 1),
            "config_hash": digest(result_config(settings)),
        }
        write_atomic(folder / "provenance.json", (json.dumps(provenance, indent=1) + "\n").encode())
        report = redraw_analytic(folder).path
    except OSError as error:
        raise InputError(f"output={folder}: cannot be written ({error.strerror or error})") from error
    reporter.say(f"{len(made)} curves in {time.perf_counter() - started:.0f} s; report: {report}")
    return folder
