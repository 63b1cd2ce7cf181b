"""Every series that is drawn traces to runs: what a folder's tables say of each run must agree."""

from collections.abc import Iterable

import pandas as pd

from synthetic_rm.analysis.curves import SETTING
from synthetic_rm.analysis.run_folder import RunFolder
from synthetic_rm.errors import InputError

ORIGIN = ("config_hash", "commit")
"""columns of runs.csv without which a run cannot be made again"""


def check_lineage(run: RunFolder) -> None:
    """See that records, curves, fits and runs of a folder are of the same runs, so that a figure leaves none out.

    A run that ended well is a row "ok" of runs.csv whose stage is an optimizer. It must have records and a curve, and
    nothing else may have: no point without its run, no run that failed among the points, no fit of other runs.

    Raises:
        InputError: one line names the folder, the table and the first run that does not agree.
    """
    recorded = set(run.records["run"])
    optimizers = {*run.records["optimizer"], *run.fits["optimizer"]}
    sound = run.runs[(run.runs["status"] == "ok") & run.runs["stage"].isin(optimizers)]
    _subset(run, sound["run"], recorded, "is ok in runs.csv but missing from records.csv")
    _subset(run, recorded, set(sound["run"]), "is in records.csv but not ok in runs.csv")
    drawn = {str(name) for name in run.curves["run"]}
    _subset(run, recorded, drawn, "is in records.csv but has no curve")
    _subset(run, drawn, recorded, "has a curve but is missing from records.csv")
    for column in ORIGIN:
        unknown = sound[sound[column].fillna("") == ""]
        _subset(run, unknown["run"], set(), f"has no {column} in runs.csv")
    for _, fit in run.fits.iterrows():
        found = runs_of(run.records, fit)
        told = int(fit["num_seeds"]) if "num_seeds" in run.fits else len(found)
        if not found or len(found) != told:
            size = int(fit["proxy_params"])
            raise InputError(f"{run.path}: fits.csv has {told} runs at {size:,} parameters, records.csv {len(found)}")


def runs_of(records: pd.DataFrame, row: pd.Series) -> list[str]:
    """The runs of the setting of a row, which has any of the columns of `SETTING`: those it has tell it apart."""
    keys = [key for key in SETTING if key in row.index and key in records.columns and pd.notna(row[key])]
    mine = (records[keys] == row[keys]).all(axis=1)
    return sorted({str(name) for name in records.loc[mine, "run"]})


def _subset(run: RunFolder, names: Iterable[str], known: set[str], wrong: str) -> None:
    lost = sorted(set(names) - known)
    if lost:
        more = f" ({len(lost) - 1} more)" if len(lost) > 1 else ""
        raise InputError(f"{run.path}: run {lost[0]} {wrong}{more}")
