"""Every series that is drawn traces to runs: what a folder's tables say of each run must agree."""

from collections.abc import Iterable, Set
from pathlib import Path

import pandas as pd

from synthetic_rm.analysis.curves import SETTING
from synthetic_rm.analysis.run_folder import RunFolder
from synthetic_rm.errors import InputError

ORIGIN = ("config_hash", "commit")
"""columns of runs.csv without which a run cannot be made again"""


def check_lineage(run: RunFolder) -> None:
    """`check_tables` of what a run left.

    Raises:
        InputError: as `check_tables`.
    """
    drawn = {str(name) for curves in (run.curves, run.rl_curves) if curves is not None for name in curves["run"]}
    check_tables(run.path, run.records, run.runs, run.fits, drawn)


def check_tables(
    path: Path, records: pd.DataFrame, runs: pd.DataFrame, fits: pd.DataFrame, drawn: Set[str] | None = None
) -> None:
    """See that records, fits, runs and curves of a folder are of the same runs, so that a figure leaves none out.

    A run that ended well is a row "ok" of runs.csv whose stage is an optimizer or "analytic". It must have records and
    a curve, and nothing else may have: no point without its run, no run that failed among the points, no fit of others.

    Args:
        path: the folder, to be named.
        records, runs, fits: its tables.
        drawn: the runs that have curves by prompt; None where points are all there is.
    Raises:
        InputError: one line names the folder, the table and the first run that does not agree.
    """

    def subset(names: Iterable[str], known: Set[str], wrong: str) -> None:
        lost = sorted(set(names) - known)
        if lost:
            more = f" ({len(lost) - 1} more)" if len(lost) > 1 else ""
            raise InputError(f"{path}: run {lost[0]} {wrong}{more}")

    recorded = set(records["run"])
    stages = {*records["optimizer"], *fits["optimizer"], "analytic"}
    sound = runs[(runs["status"] == "ok") & runs["stage"].isin(stages)]
    subset(sound["run"], recorded, "is ok in runs.csv but missing from records.csv")
    subset(recorded, set(sound["run"]), "is in records.csv but not ok in runs.csv")
    if drawn is not None:
        subset(recorded, drawn, "is in records.csv but has no curve")
        subset(drawn, recorded, "has a curve but is missing from records.csv")
    for column in ORIGIN:
        subset(sound.loc[sound[column].fillna("") == "", "run"], set(), f"has no {column} in runs.csv")
    for _, fit in fits.iterrows():
        found = {fit["run"]} & recorded if "run" in fits else runs_of(records, fit)
        told = int(fit["num_seeds"]) if "num_seeds" in fits else 1
        seeds = records.loc[records["run"].isin(found), "proxy_seed"].nunique()
        if told not in (len(found), seeds):  # several runs against one proxy are fitted as one seed
            what = f"run {fit['run']}" if "run" in fits else f"{int(fit['proxy_params']):,} parameters"
            raise InputError(f"{path}: fits.csv is of {told} runs for {what}, records.csv has {len(found)}")


def runs_of(records: pd.DataFrame, row: pd.Series) -> list[str]:
    """The runs of the setting of a row, which has any of the columns of `SETTING`: those it has tell it apart."""
    keys = [key for key in SETTING if key in row.index and key in records.columns and pd.notna(row[key])]
    mine = (records[keys] == row[keys]).all(axis=1)
    return sorted({str(name) for name in records.loc[mine, "run"]})
