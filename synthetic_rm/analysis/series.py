"""The series that figures draw, and the runs behind each: the way from a point to the command that makes it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import pandas as pd

from synthetic_rm.analysis.curves import SETTING
from synthetic_rm.analysis.figures.style import human_count, size_colors
from synthetic_rm.analysis.run_folder import RunFolder
from synthetic_rm.analysis.tables import ABSENT, Markup, escape, html_table


@dataclass(frozen=True)
class Series:
    """One curve with its seeds, as figures draw it."""

    anchor: str
    """of its row in the page"""
    label: str
    color: str | None
    """"#rrggbb"; None where figures do not share one"""
    runs: tuple[str, ...]
    """names of the runs whose points it is made of"""
    params: int | None = None
    """of its proxies"""


SeriesOf = Mapping[str, Sequence[Series]]
"""of every optimizer"""
NO_SERIES: SeriesOf = {}


def grouped(
    records: pd.DataFrame, keys: Sequence[str], label: Callable[[pd.Series], str], *, prefix: str = "series"
) -> list[Series]:
    """A series for every combination of values of `keys` in the records, in the order they come in.

    Args:
        records: of records.csv.
        keys: columns that tell series apart.
        label: names a series by its first record.
        prefix: of the anchors.
    """
    return [
        Series(f"{prefix}-{place}", label(rows.iloc[0]), None, tuple(dict.fromkeys(rows["run"])))
        for place, (_, rows) in enumerate(records.groupby(list(keys), sort=False, dropna=False))
    ]


def proxy_series(run: RunFolder, sizes: Iterable[int]) -> list[Series]:
    """The series of one optimizer's part of a folder by rising proxy size, named by their size and what else differs.

    Args:
        run: the part.
        sizes: every proxy size of the report (colours).
    """
    keys = [key for key in SETTING if key in run.records]
    known = {"optimizer", "proxy_params", "proxy_params_nonembedding"}
    varying = [key for key in keys if key not in known and run.records[key].nunique(dropna=False) > 1]
    colors = size_colors(sizes)

    def label(row: pd.Series) -> str:
        others = [f"{key.replace('_', ' ')} {_value(row[key])}" for key in varying]
        return ", ".join([human_count(row["proxy_params"]), *others])

    ordered = run.records.sort_values("proxy_params", kind="stable")
    first = ordered.drop_duplicates("run").set_index("run")["proxy_params"]
    return [
        Series(entry.anchor, entry.label, colors[int(first[entry.runs[0]])], entry.runs, int(first[entry.runs[0]]))
        for entry in grouped(ordered, keys, label, prefix=f"series-{run.optimizer}")
    ]


def drawn_of(series: Iterable[Series], records: pd.DataFrame) -> list[Series]:
    """The series that have a run among the records."""
    known = set(records["run"])
    return [entry for entry in series if known.intersection(entry.runs)]


def _value(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, Real) else str(value)


def series_links(series: Iterable[Series]) -> Markup:
    """The series of a figure, each a link to the row that names its runs."""
    links = [f'<a href="#{entry.anchor}">{_swatch(entry)}{escape(entry.label)}</a>' for entry in series]
    return Markup(f'<span class="series">Runs of each series: {" ".join(links)}</span>') if links else Markup("")


def _swatch(entry: Series) -> Markup:
    return Markup(f'<span class="swatch" style="background:{entry.color}"></span>' if entry.color else "")


def series_section(series: Sequence[Series], runs: pd.DataFrame) -> Markup:
    """Every series with links to its runs, and to the command that makes them.

    Args:
        series: at least one.
        runs: the whole of runs.csv.
    """
    rows = [
        {
            "series": Markup(f'<span id="{entry.anchor}">{_swatch(entry)}{escape(entry.label)}</span>'),
            "runs": _run_links(runs_behind(runs, entry)),
            "filter": Markup(f'<a href="#runs" data-filter="{escape(", ".join(entry.runs))}">these runs alone</a>'),
            "command": Markup('<a href="#make-it-again">make them again</a>'),
        }
        for entry in series
    ]
    return html_table(pd.DataFrame(rows), caption="Every series that is drawn, and the runs behind it")


def runs_behind(runs: pd.DataFrame, series: Series) -> pd.DataFrame:
    """The rows of runs.csv behind a series: its runs, their proxies, and those of its size that did not end well."""
    behind = runs["run"].isin(series.runs)
    if "proxy_run" in runs and runs.loc[behind, "proxy_run"].notna().any():
        behind |= runs["run"].isin(runs.loc[behind, "proxy_run"])
    elif "params" in runs:
        behind |= (runs["params"] == series.params) & (runs["stage"] == "proxy")
    if "params" in runs:
        behind |= (runs["params"] == series.params) & (runs["status"] != "ok")
    return runs[behind]


def _run_links(rows: pd.DataFrame) -> Markup:
    """Links to rows of runs.csv by stage; those that did not end well by their status."""
    lines = []
    for stage, group in rows.groupby("stage", sort=False):
        links = (
            f'<a href="#run-{position}" title="{escape(row["run"])}">'
            f"{count if row['status'] == 'ok' else escape(row['status'])}</a>"
            for count, (position, row) in enumerate(group.iterrows(), start=1)
        )
        lines.append(f"{escape(stage)} {' '.join(links)}")
    return Markup("<br>".join(lines) or ABSENT)
