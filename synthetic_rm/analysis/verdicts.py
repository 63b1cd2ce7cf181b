"""What the records of a run say of each claim of the paper: a table, as CSV, HTML and Markdown."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pandas as pd

from synthetic_rm.analysis.claims.data import h4, h5
from synthetic_rm.analysis.claims.judging import NOT_MEASURED, Verdict
from synthetic_rm.analysis.claims.methods import h7, h8, h9
from synthetic_rm.analysis.claims.policy import h6
from synthetic_rm.analysis.claims.shape import h1, h2
from synthetic_rm.analysis.claims.size import h3
from synthetic_rm.analysis.curves import SettingCurves, setting_curves
from synthetic_rm.analysis.data_points import data_points
from synthetic_rm.analysis.figures.rl import NAMES
from synthetic_rm.analysis.figures.style import percent
from synthetic_rm.analysis.main_setting import as_the_paper
from synthetic_rm.analysis.run_folder import RunFolder, read_table
from synthetic_rm.analysis.tables import ABSENT, Markup, escape, html_table, with_interval
from synthetic_rm.files import write_atomic
from synthetic_rm.reading import read_json

CLAIMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "H1a": ("gold rises, then falls", ("best_of_n", "RL")),
    "H1b": ("the proxy score keeps rising", ("best_of_n", "RL")),
    "H2a": ("fitted at low KL, the paper’s form forecasts better than others", ("best_of_n", "RL")),
    "H2b": ("its forecast holds", ("best_of_n", "RL")),
    "H3a": ("alpha rises with the logarithm of proxy parameters", ("best_of_n",)),
    "H3b": ("beta falls with the logarithm of proxy parameters", ("best_of_n", "RL")),
    "H3c": ("alpha of best-of-n, beta of RL change in a straight line", ("best_of_n", "RL")),
    "H3d": ("alpha is one for all sizes", ("RL",)),
    "H4a": (
        "with few comparisons next to nothing is learnt, beyond a threshold more data give more gold",
        ("best_of_n",),
    ),
    "H4b": ("epochs do not stand in for unique comparisons", ("best_of_n",)),
    "H5": ("equal validation loss, equal gold", ("best_of_n",)),
    "H6a": ("a larger policy gains less gold", ("best_of_n", "RL")),
    "H6b": ("gold of a larger policy peaks at the same KL", ("best_of_n", "RL")),
    "H6c": ("a larger policy has the same gap between proxy and gold", ("best_of_n", "RL")),
    "H7a": ("RL spends far more KL than best-of-n", ("RL",)),
    "H7b": ("RL peaks higher", ("RL",)),
    "H7c": ("gold against proxy is alike", ("RL",)),
    "H8a": ("a KL penalty leaves gold at the same KL unchanged", ("RL",)),
    "H8b": ("a KL penalty widens the gap between proxy and gold", ("RL",)),
    "H9": ("KL grows as the square of the steps", ("RL",)),
}
"""Each claim in words, and the optimizers of which the paper makes it ("" where that does not matter)."""
STUDIED = ("kl_coef", "policy_params")
"""Columns of records: a folder with several values of one tells of H6 and H8 alone: few proxies, and others' too."""
HEADLINE = "figure1"
"""the run that is told first"""
MARKS = ("<!-- verdicts:begin -->", "<!-- verdicts:end -->")
"""between which a page in Markdown holds the summary"""
COLUMNS = ("claim", "says", "optimizer", "statistic", "value", "lo", "hi", "level", "verdict", "figure", "note")


def verdicts(run: RunFolder) -> pd.DataFrame:
    """A row for every claim and optimizer: statistic, interval, verdict and the figure that shows it.

    Claims are about proxies trained as the paper trains them: where a folder holds several settings of one size, those
    of `as_the_paper` count (H4 and H5 compare numbers of comparisons, H6 policies, H8 penalties).

    Args:
        run: of any number of optimizers.
    Returns:
        `COLUMNS`; value, lo and hi are nan where nothing was measured.
    """
    found = list(_found(run))
    rows: list[tuple[Any, ...]] = []
    for claim, (says, optimizers) in CLAIMS.items():
        mine = [told for told in found if told.claim == claim]
        for told in mine:
            named = (claim, says, told.optimizer, told.statistic)
            rows.append((*named, *astuple(told.estimate), run.level, told.verdict, told.figure, told.note))
        seen = {told.optimizer if told.optimizer == "best_of_n" else "RL" for told in mine}
        absent = [name for name in optimizers if name not in seen]
        nan = math.nan
        rows += [(claim, says, name, "", nan, nan, nan, run.level, NOT_MEASURED, "", "") for name in absent]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _found(run: RunFolder) -> Iterator[Verdict]:
    plain: dict[str, list[SettingCurves]] = {}
    studied = any(run.records[name].nunique() > 1 for name in STUDIED)
    for part in run.parts():
        yield from h6(_curves(part, free="policy_params"), part.optimizer, level=run.level)
        if part.optimizer != "best_of_n":
            yield from h8(_curves(part, free="kl_coef"), part.optimizer, level=run.level)
        if not studied:
            plain[part.optimizer] = _curves(part)
            yield from _of_the_papers_setting(run, part, plain)


def _of_the_papers_setting(run: RunFolder, part: RunFolder, plain: Mapping[str, list[SettingCurves]]
                           ) -> Iterator[Verdict]:  # fmt: skip
    entries = plain[part.optimizer]
    options: dict[str, Any] = {"optimizer": part.optimizer, "level": run.level}
    yield from h1(entries, **options)
    yield from h2(entries, **options, cut=part.held_out_kl)
    yield from h3(entries, **options)
    if part.optimizer == "best_of_n":
        points = data_points(run)
        yield from h4(points, **options)
        yield from h5(points, **options)
    else:
        yield from h7(plain.get("best_of_n", []), entries, **options)
        yield from h9(part.records, **options)


def _curves(part: RunFolder, *, free: str = "") -> list[SettingCurves]:
    return setting_curves(part.curves, as_the_paper(part.records, free=free))


def write_verdicts(run: RunFolder) -> pd.DataFrame:
    """Write verdicts.csv into the folder of a run, in one move; the table."""
    table = verdicts(run)
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    write_atomic(run.path / "verdicts.csv", text.encode())
    return table


def verdicts_section(table: pd.DataFrame) -> Markup:
    """The table for a report, each verdict with a link to its figure."""
    rows = [verdict_cells(row, f"#{row['figure']}", row["figure"]) for _, row in table.iterrows()]
    return verdict_table(rows, f"Claims of the paper, {percent(float(table['level'].iloc[0]))} intervals")


def verdict_cells(row: pd.Series, href: str, figure: str) -> dict[str, str]:
    """A row of `verdicts` as cells, with a link to its figure where it has one."""
    link = Markup(f'<a href="{escape(href)}">{escape(figure)}</a>')
    return {
        "claim": f"{row['claim']}: {row['says']}",
        "optimizer": _optimizer(row["optimizer"]),
        "statistic": row["statistic"] or ABSENT,
        "measured": measured_cell(row),
        "verdict": row["verdict"],
        "figure": link if row["figure"] else ABSENT,
        "of what": row["note"] or ABSENT,
    }


def verdict_table(rows: Sequence[Mapping[str, str]], caption: str) -> Markup:
    """Rows of `verdict_cells` as a table, with what the verdicts mean."""
    note = (
        "<p>Reproduced: the interval lies where the claim says. Not reproduced: it lies elsewhere. Not identified: it "
        "reaches into both. Not measured: these records hold nothing about it.</p>"
    )
    kinds = dict.fromkeys(("claim", "statistic", "of what"), "text")
    return Markup(note + html_table(pd.DataFrame(rows), caption=caption, classes=kinds))


def measured(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `verdicts` of which the records say something."""
    return table[table["verdict"] != NOT_MEASURED]


def verdicts_markdown(tables: Mapping[str, pd.DataFrame]) -> str:
    """The verdicts of several runs as one Markdown table, claim by claim, each measured row with its figure.

    Args:
        tables: of `verdicts`, by the path of the run's folder as links want it.
    """
    level = percent(float(next(iter(tables.values()))["level"].iloc[0]))
    lines = [f"| claim | measured ({level} interval) | verdict | run, figure |", "|---|---|---|---|"]
    absent = []
    for claim, (says, optimizers) in CLAIMS.items():
        seen = set()
        for folder, table in tables.items():
            for _, row in measured(table[table["claim"] == claim]).iterrows():
                seen.add(row["optimizer"] if row["optimizer"] == "best_of_n" else "RL")
                link = f"[{folder}]({folder}/{row['figure']}.png)"
                told = f"{_optimizer(row['optimizer'])}: {row['statistic']} {measured_cell(row)}"
                lines.append(f"| {claim}: {says} | {told} | **{row['verdict']}** | {link} |")
        lost = [_optimizer(name) for name in optimizers if name not in seen]
        if lost:
            absent.append(claim if lost == [ABSENT] else f"{claim} ({', '.join(lost)})")
    return "\n".join([*lines, "", f"Not measured: {'; '.join(absent) or 'nothing'}.", ""])


def verdicts_summary(tables: Mapping[str, pd.DataFrame], root: str = "") -> str:
    """Every claim in a row of Markdown: what the headline run measured, and which others came to another verdict.

    Args:
        tables: as for `verdicts_markdown`.
        root: what links to figures begin with.
    """
    lines = ["| the paper’s claim | best-of-n | RL |", "|---|---|---|"]
    for claim, (says, optimizers) in CLAIMS.items():
        cells = []
        for kind in ("best_of_n", "RL"):
            told = [
                (folder, row)
                for folder, table in sorted(tables.items(), key=lambda item: item[0] != HEADLINE)
                for _, row in measured(table[table["claim"] == claim]).iterrows()
                if (row["optimizer"] == "best_of_n") == (kind == "best_of_n")
            ]
            cells.append(_summary_cell(told, root) if told else NOT_MEASURED if kind in optimizers else ABSENT)
        lines.append(f"| {claim} {says} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _summary_cell(told: Sequence[tuple[str, pd.Series]], root: str) -> str:
    """The first run's verdict with its numbers, and the others that differ from it."""
    verdict = told[0][1]["verdict"]
    links: dict[str, list[str]] = {verdict: []}
    for folder, row in told:
        if row["verdict"] != verdict or not links[verdict]:
            links.setdefault(row["verdict"], []).append(f"[{folder}]({root}{folder}/{row['figure']}.png)")
    parts = [f"**{word}** in {', '.join(names)}" for word, names in links.items()]
    return "; ".join([f"{parts[0]}: {measured_cell(told[0][1])}", *parts[1:]])


def with_verdicts(page: str, tables: Mapping[str, pd.DataFrame], root: str) -> str:
    """A page with `verdicts_summary` between its two marks; unchanged where it has none.

    Args:
        page: Markdown with lines `MARKS`.
        tables, root: as for `verdicts_summary`.
    """
    before, begin, rest = page.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    return f"{before}{begin}\n{verdicts_summary(tables, root)}{end}{after}" if end else page


def made_by(root: Path, folders: Iterable[str]) -> str:
    """In Markdown, with which command, at which commit and when each run was made, of its provenance.json."""
    lines = ["| run | command | commit | started |", "|---|---|---|---|"]
    for folder in folders:
        told = read_json(root / folder / "provenance.json")
        lines.append(f"| {folder} | `{told['command']}` | {str(told['commit'])[:12]} | {told['started']} |")
    return "\n".join([*lines, ""])


def read_verdicts(root: Path) -> dict[str, pd.DataFrame]:
    """The tables of every verdicts.csv below `root`, by the path of its folder from there.

    Raises:
        InputError: one is damaged.
    """
    blank = {"optimizer": "", "statistic": "", "figure": "", "note": ""}
    paths = sorted(root.rglob("verdicts.csv"))
    return {path.parent.relative_to(root).as_posix(): read_table(path, COLUMNS).fillna(blank) for path in paths}


def measured_cell(row: pd.Series) -> str:
    """The statistic of a row of `verdicts` with its interval; a dash where nothing was measured."""
    return ABSENT if row["verdict"] == NOT_MEASURED else with_interval(row["value"], row["lo"], row["hi"], 3)


def _optimizer(name: str) -> str:
    return NAMES.get(name, name) or ABSENT
