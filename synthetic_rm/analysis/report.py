"""The report of a run, from its tables alone: one HTML file that holds all it shows and needs no network."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure

from synthetic_rm.analysis.curves import overoptimization
from synthetic_rm.analysis.data_section import data_figures, data_section
from synthetic_rm.analysis.drawing import Part, draw
from synthetic_rm.analysis.figures.rl import NAMES
from synthetic_rm.analysis.figures.style import human_count, save_figure
from synthetic_rm.analysis.hyperparameters import hyperparameter_table
from synthetic_rm.analysis.lineage import check_lineage
from synthetic_rm.analysis.main_setting import as_the_paper, main_setting
from synthetic_rm.analysis.page import Page, command_section, write_page
from synthetic_rm.analysis.policy_and_penalty import penalty_section, policy_section, studied_figures
from synthetic_rm.analysis.proxy_tails import tails_section
from synthetic_rm.analysis.report_sections import (
    PRESSURES,
    environment_section,
    figures_section,
    fits_section,
    overoptimization_section,
    pairs_table,
    runs_section,
    samples_section,
)
from synthetic_rm.analysis.run_folder import RunFolder, load_run_folder
from synthetic_rm.analysis.scaling_section import scaling_section
from synthetic_rm.analysis.series import SeriesOf, drawn_of, proxy_series, series_section
from synthetic_rm.analysis.tables import Markup, escape, number, with_interval
from synthetic_rm.analysis.verdicts import verdicts_section, write_verdicts


def redraw(folder: str | Path) -> Page:
    """Draw every figure of a run again from its tables, then write its report.

    Args:
        folder: the output folder of a run, as `load_run_folder` wants it.
    Returns:
        The page of report.html.
    Raises:
        InputError: a table is missing or damaged, holds several settings of one proxy size that are alike in all that
            `as_the_paper` looks at, or lacks a run that another one has (`check_lineage`).
    """
    run, parts, figures = _drawn(folder)
    for name, figure in figures.items():
        save_figure(figure, run.path / name)
    return _write(run, parts)


def figures_of(folder: str | Path) -> dict[str, Figure]:
    """Every figure of a run drawn from its tables, by name; nothing is written.

    Raises:
        InputError: as `redraw`.
    """
    return _drawn(folder)[2]


def _drawn(folder: str | Path) -> tuple[RunFolder, list[Part], dict[str, Figure]]:
    run = load_run_folder(folder)
    check_lineage(run)
    main, parts = _main(run)
    return run, parts, {**draw(main, parts), **data_figures(run), **studied_figures(run)}


def write_report(folder: str | Path) -> Page:
    """Write verdicts.csv and report.html from the tables in the output folder of a run, the figures drawn already.

    Besides the files that `load_run_folder` reads, environment.json (optional) tells what gold is worth:
    `gold_accuracy` and `rater_agreement`, fractions of held-out human comparisons, and any other named value.

    Args:
        folder: the output folder of a run.
    Returns:
        The page of report.html, written in one move.
    Raises:
        InputError: a table is missing or damaged.
    """
    run = load_run_folder(folder)
    return _write(run, _main(run)[1])


def headline(overopt: pd.DataFrame, optimizer: str = "best_of_n") -> str:
    """The result in words, from the data: does gold of the smallest proxies rise and then fall?

    The smallest proxies are the smaller half of the sizes (at least one). A rise and a fall count where their
    intervals lie above zero (`overoptimization`); where they do not, the words say so.

    Args:
        overopt: the table of `overoptimization`, one row per proxy size.
        optimizer: what made the curves.
    """
    unit = PRESSURES.get(optimizer, "iteration")
    table = overopt.sort_values("proxy_params", kind="stable", ignore_index=True)
    table["name"] = [human_count(size) for size in table["proxy_params"]]
    shown = table["rose"].astype(bool) & (table["verdict"] == "fell")
    small = table.index < max(1, len(table) // 2)
    seen, unseen, others = (table[mask] for mask in (small & shown, small & ~shown, ~small & shown))
    who = f"the smallest {'proxy' if small.sum() == 1 else 'proxies'}"
    if seen.empty:
        end = f"KL {number(unseen['last_kl'].max(), 1)} nats ({unit} = {int(unseen['last_pressure'].max()):,})"
        text = f"Gold of {who} ({_listing(unseen)} parameters) is not seen to rise and then fall up to {end}."
    elif unseen.empty:
        text = f"Gold of {who} ({_listing(seen)} parameters) rises and then falls: Goodhart’s law."
    else:
        text = f"Of {who}, gold of {_listing(seen)} parameters rises and then falls"
        text += f"; of {_listing(unseen)} it is not seen to."
    text += f" Among the larger ones it rises and falls for {_listing(others)}." if len(others) else ""
    for _, row in seen.head(1).iterrows():
        text += (
            f" At {row['name']} parameters gold peaks at {number(row['peak_gold'])} SDs of the reference "
            f"(KL {number(row['peak_kl'], 1)} nats) and ends at {number(row['last_gold'])} "
            f"(KL {number(row['last_kl'], 1)} nats, {unit} = {int(row['last_pressure']):,}): "
            f"a fall of {with_interval(row['fall'], row['fall_lo'], row['fall_hi'])}."
        )
    return text


def _listing(rows: pd.DataFrame) -> str:
    *most, last = rows["name"]
    return f"{', '.join(most)} and {last}" if most else str(last)


def _main(run: RunFolder) -> tuple[RunFolder, list[Part]]:
    """The setting that the paper is about, and its parts by optimizer with their rises and falls."""
    main = main_setting(run)

    def verdicts(part: RunFolder) -> pd.DataFrame:
        return overoptimization(part.curves, part.records, rng=np.random.default_rng(0), level=part.level)

    return main, [(part, verdicts(part)) for part in main.parts()]


def _told(part: RunFolder, overopt: pd.DataFrame, count: int) -> str:
    name = NAMES.get(part.optimizer, part.optimizer)
    return (f"{name[0].upper()}{name[1:]}: " if count > 1 else "") + headline(overopt, part.optimizer)


def _titled(parts: list[Part], section: Callable[[RunFolder, pd.DataFrame], Markup]) -> Markup:
    """A section of each optimizer, one below the other, under its name where there are several."""
    told = [(NAMES.get(part.optimizer, part.optimizer), section(part, overopt)) for part, overopt in parts]
    return Markup("".join(f"<h3>{escape(name)}</h3>{html}" if len(told) > 1 else html for name, html in told))


def _studied(run: RunFolder, series: SeriesOf) -> dict[str, Markup]:
    """What is told of settings besides the main one; empty where there are none."""
    return {
        "Comparisons": data_section(run, series),
        "KL penalty": penalty_section(run, series),
        "Policy size": policy_section(run, series),
    }


def _write(run: RunFolder, parts: list[Part]) -> Page:
    configuration = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
    sizes = sorted({int(size) for size in run.records["proxy_params"]})
    whole = {part.optimizer: part for part in run.parts()}
    series = {name: proxy_series(part, sizes) for name, part in whole.items()}
    sections = {
        "Verdicts": verdicts_section(write_verdicts(run)),
        **{name: html for name, html in _studied(run, series).items() if html},
        "Figures": _titled(
            parts, lambda part, o: figures_section(part, o, drawn_of(series[part.optimizer], part.records))
        ),
        "Series": _titled(parts, lambda part, _: series_section(series[part.optimizer], whole[part.optimizer].runs)),
        "Fits": _titled(parts, fits_section),
        "Scaling laws": _titled(parts, lambda part, _: scaling_section(part)),
        "Overoptimization": _titled(parts, lambda part, o: overoptimization_section(o, run.level, part.optimizer)),
        "Tails of the proxies": tails_section(as_the_paper(run.records), run.runs),
        "Sample responses": _titled(parts, lambda part, _: samples_section(part.samples)),
        "Gold and people": environment_section(run.path / "environment.json"),
        "Runs": runs_section(run.runs),
        "Configuration": Markup(f"{hyperparameter_table(run)}<pre>{escape(configuration)}</pre>"),
        "Provenance": pairs_table(run.provenance, caption="Where these numbers come from"),
        "Make it again": command_section(run.provenance),
    }
    first = run.records.iloc[0]
    facts = [f"{key} {first[key]}" for key in ("environment", "scale", "labels")]
    facts += [f"{key} {run.provenance[key]}" for key in ("started", "device", "commit") if key in run.provenance]
    page = Page(
        run.path / "report.html",
        title="Reward model overoptimization by " + " and ".join(NAMES.get(p.optimizer, p.optimizer) for p, _ in parts),
        subtitle=" · ".join(facts),
        headlines=[_told(part, overopt, len(parts)) for part, overopt in parts],
        sections=sections,
        runs=run.runs,
    )
    write_page(page)
    return page
