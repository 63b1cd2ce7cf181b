"""Of several settings in one folder the one that the paper's claims are about."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pandas as pd

from synthetic_rm.analysis.lineage import runs_of
from synthetic_rm.analysis.run_folder import RunFolder

Column = pd.Series


def _number(column: Column) -> Column:
    return pd.to_numeric(column, errors="coerce").fillna(0.0)


PREFERRED: Mapping[str, Callable[[Column], Column]] = {
    "mitigation": lambda column: column != "none",
    "labels": lambda column: column != "hard",
    "num_comparisons": lambda column: -_number(column),
    "proxy_epochs": lambda column: (_number(column) - 1).abs(),
    "label_noise": _number,
    "kl_coef": _number,
    "policy_params": lambda column: column != column.iloc[0],
}
"""Columns that tell settings apart, with what is least where proxies and policies are made as the paper makes them."""


def as_the_paper(records: pd.DataFrame, *, free: str = "") -> pd.DataFrame:
    """Of each optimizer's settings those without mitigation, labelled hard by gold, with most comparisons, seen once,
    with least label noise and no KL penalty, of the policy that is told first, in this order where they differ.

    Args:
        records: rows with any of the columns of `PREFERRED`.
        free: a column in which they may differ all the same.
    """
    kept = []
    for _, rows in records.groupby("optimizer", sort=False):
        for name, rank in PREFERRED.items():
            if name in rows and name != free:
                ranks = rank(rows[name])
                rows = rows[ranks == ranks.min()]
        kept.append(rows)
    return pd.concat(kept) if kept else records


def main_setting(run: RunFolder) -> RunFolder:
    """The folder of `as_the_paper` alone: its records, its fits, and the runs but those of other settings' proxies."""
    records = as_the_paper(run.records)
    others = run.runs["run"].isin(set(run.records["run"]) - set(records["run"]))
    if not others.any():
        return run
    lost = set(run.runs.loc[others, "run"]) | (_proxies(run.runs[others]) - _proxies(run.runs[~others]))
    fits = run.fits[[bool(runs_of(records, fit)) for _, fit in run.fits.iterrows()]]
    runs, history = (table[~table["run"].isin(lost)] for table in (run.runs, run.history))
    return replace(run, records=records, fits=fits, runs=runs, history=history)


def _proxies(runs: pd.DataFrame) -> set[str]:
    """The proxies that some curves are of."""
    return set(runs["proxy_run"].dropna()) if "proxy_run" in runs else set()
