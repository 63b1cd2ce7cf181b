"""The report of an experiment without training: every figure drawn from its tables, and one page that holds them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from synthetic_rm.analysis.figures.analytic import (
    NAMES,
    figure_heavy_tails,
    figure_iterated,
    figure_price,
    figure_quantile,
    figure_tabular,
    figure_tail_index,
)
from synthetic_rm.analysis.figures.style import save_figure
from synthetic_rm.analysis.gallery import figure_block, gallery
from synthetic_rm.analysis.lineage import check_tables
from synthetic_rm.analysis.page import Page, command_section, write_page
from synthetic_rm.analysis.report_sections import pairs_table, runs_section
from synthetic_rm.analysis.run_folder import FIT_COLUMNS, RECORD_COLUMNS, RUN_COLUMNS, read_mapping, read_table
from synthetic_rm.analysis.series import Series, drawn_of, grouped, series_section
from synthetic_rm.analysis.tables import Markup, escape, html_table, number
from synthetic_rm.errors import require
from synthetic_rm.reading import read_json, read_yaml

CAPTIONS = {
    "figure_tabular": "Exact optimizers on tables. Left: gold (solid) and proxy (dashed) against KL. Right: the exact "
    "KL of best-of-n falls behind its closed form where n comes near the number of responses.",
    "figure_quantile": "Gold as a function of the proxy’s quantile. Left: gold of four families against KL, dots at "
    "their hacking thresholds. Right: what they spend beyond the least KL for their mean quantile.",
    "figure_iterated": "Iterated RLHF under the paper’s assumptions: its formula, and rounds walked step by step.",
    "figure_heavy_tails": "Gold under best-of-n where the proxy is gold plus an error: by the error’s tail, and by "
    "what it depends on.",
    "figure_tail_index": "Tail indices estimated from drawn proxy scores, by the share of the scores used.",
    "figure_price": "KL that a mean proxy score of 1 costs when more is drawn from the proxy’s upper tail: next to "
    "nothing where the error is heavy-tailed.",
}


def redraw_analytic(folder: str | Path) -> Page:
    """Draw every figure again from the tables in the folder, then write report.html; its page.

    Args:
        folder: with records.csv, runs.csv, fits.csv, config.yaml, provenance.json and, where there are, tails.csv and
            prices.csv.
    Raises:
        InputError: a table is missing or damaged, or lacks a run that another one has (`check_tables`).
    """
    path = Path(folder)
    records = _records(path)
    fits = read_table(path / "fits.csv", (*FIT_COLUMNS, "shape"))
    runs = read_table(path / "runs.csv", RUN_COLUMNS)
    require(not records.empty, f"{path / 'records.csv'}: has no rows")
    check_tables(path, records, runs, fits)
    figures = _figures(path, records)
    for name, (figure, _) in figures.items():
        save_figure(figure, path / name)
    series = grouped(records, ("environment", "optimizer", "series"), _name)
    experiment = read_mapping(path / "config.yaml", read_yaml).get("experiment", "")
    config = (path / "config.yaml").read_text(encoding="utf-8")
    provenance = read_mapping(path / "provenance.json", read_json)
    label = str(records["provenance"].iloc[0])
    sections = {
        "Figures": _gallery(path, figures, series),
        "Curves and fits": fits_table(fits),
        "Series": series_section(series, runs),
        "Runs": runs_section(runs),
        "Configuration": Markup(f"<pre>{escape(config)}</pre>"),
        "Provenance": pairs_table(provenance, caption="Where these numbers come from"),
        "Make it again": command_section(provenance),
    }
    facts = [f"experiment {experiment}", *(f"{key} {provenance.get(key, 'unknown')}" for key in ("started", "commit"))]
    page = Page(
        path / "report.html",
        title="Worlds where the right answer is known",
        subtitle=" · ".join([label, *facts]),
        headlines=[headline(fits)],
        sections=sections,
        runs=runs,
    )
    write_page(page)
    return page


def analytic_figures_of(folder: str | Path) -> dict[str, Figure]:
    """Every figure drawn from the tables in the folder, by name; nothing is written.

    Raises:
        InputError: a table is missing or damaged.
    """
    path = Path(folder)
    return {name: figure for name, (figure, _) in _figures(path, _records(path)).items()}


def _records(path: Path) -> pd.DataFrame:
    return read_table(path / "records.csv", (*RECORD_COLUMNS, "provenance", "source", "series"))


def _figures(path: Path, records: pd.DataFrame) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Each figure and the records of the series that it draws; it may draw other tables of theirs."""
    label = str(records["provenance"].iloc[0])
    figures: dict[str, tuple[Figure, pd.DataFrame]] = {}
    tabular, iterated = records["environment"] == "analytic: tabular", records["optimizer"] == "iterated"
    if tabular.any():
        figures["figure_tabular"] = figure_tabular(records), records[tabular]
    if "threshold" in records:
        figures["figure_quantile"] = figure_quantile(records), records[records["threshold"].notna()]
    if iterated.any():
        figures["figure_iterated"] = figure_iterated(records), records[iterated]
    if "group" in records:
        figures["figure_heavy_tails"] = figure_heavy_tails(records), records[records["group"].notna()]
    if (path / "tails.csv").exists():
        tails = read_table(path / "tails.csv", ("series", "hill"))
        figures["figure_tail_index"] = figure_tail_index(tails, label), _of(records, tails)
    if (path / "prices.csv").exists():
        prices = read_table(path / "prices.csv", ("series", "mass", "kl"))
        figures["figure_price"] = figure_price(prices, label), _of(records, prices)
    return figures


def _of(records: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The records of the series in another table."""
    return records[records["series"].isin(table["series"])]


def _gallery(path: Path, figures: dict[str, tuple[Figure, pd.DataFrame]], series: Sequence[Series]) -> Markup:
    blocks = []
    for name, (_, records) in figures.items():
        caption = f"{CAPTIONS[name]} {str(records['provenance'].iloc[0]).capitalize()}."
        blocks.append(figure_block(path / name, caption, series=drawn_of(series, records)))
    return gallery(blocks)


def headline(fits: pd.DataFrame) -> str:
    """Which gold curves rise without end and which turn, in words."""
    told = []
    for shape, rows in fits.groupby("shape", sort=False):
        named = "; ".join(dict.fromkeys(_name(row) for _, row in rows.iterrows()))
        told.append(f"Gold {shape}: {named}.")
    return f"Nothing here was trained. {' '.join(told)}"


def _name(row: pd.Series) -> str:
    optimizer, world = NAMES.get(row["optimizer"], row["optimizer"]), str(row["environment"]).removeprefix("analytic: ")
    return f"{optimizer} in {world}" if row["series"] == row["optimizer"] else f"{row['series']} ({optimizer})"


def fits_table(fits: pd.DataFrame) -> Markup:
    """Every exact curve with its shape, its peak, and the paper's form fitted to it."""
    rows = [
        {
            "curve": _name(row),
            "source": row["source"],
            "gold": row["shape"],
            "highest gold": number(row["gold_peak"]),
            "at KL": number(row["gold_peak_kl"], 1),
            "up to KL": number(row["largest_kl"], 1),
            "form": row["form"],
            "α": number(row["alpha"], 3),
            "β": number(row["beta"], 4),
            "r²": number(row["r2"], 4),
            "held-out error": number(row["held_out_rmse"], 3),
        }
        for _, row in fits.iterrows()
    ]
    note = (
        "<p>Least squares on exact curves, d = √KL: “bon” is d(α − β d), “rl” d(α − β ln d). There is no sampling "
        "error and so no interval; how badly a form fits is a finding about the form.</p>"
    )
    return Markup(note + html_table(pd.DataFrame(rows), caption="Exact gold curves and fits to them"))
