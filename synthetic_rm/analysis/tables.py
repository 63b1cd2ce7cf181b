"""Tables for people: the summary of a run on the terminal and as HTML, and the cells they are made of."""

import html
import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from synthetic_rm.analysis.curves import SETTING
from synthetic_rm.analysis.figures.style import human_count, percent

ABSENT, BEYOND = "–", "beyond the data"
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127) if chr(code) not in "\t\n\r"}
_VERDICT_STYLES = {"rose, then fell": "bold red", "fell": "red", "rose, no fall seen": "green"}


class Markup(str):
    """Text that is HTML already; every other text is escaped."""


def number(value: Any, digits: int = 2) -> str:
    """A number with `digits` decimals; a dash where there is none (nan, None), "∞" where it is infinite.

    From 100,000 on it is told in powers of ten: "1.7e+19", a peak far beyond any data, say.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ABSENT
    if math.isinf(float(value)):
        return "∞" if value > 0 else "−∞"
    text = f"{float(value):.{digits}f}" if abs(value) < 1e5 else f"{float(value):.1e}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", "−")


def with_interval(value: Any, low: Any, high: Any, digits: int = 2) -> str:
    """ "0.44 [0.34, 0.58]"; without the brackets where the interval is not known."""
    if ABSENT in (number(low), number(high)):
        return number(value, digits)
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def verdict_text(rose: bool, verdict: str) -> str:
    """The verdict of `overoptimization` in words, of rise and fall together."""
    if verdict == "fell":
        return "rose, then fell" if rose else "fell"
    return "rose, no fall seen" if rose else "no change seen"


def with_verdicts(fits: pd.DataFrame, overopt: pd.DataFrame) -> pd.DataFrame:
    """Fits and verdicts side by side, a row per fit, matched on every column of `SETTING` that both have.

    Args:
        fits: the table of fits.csv.
        overopt: the table of `overoptimization`; its peak of the mean curve is renamed measured_peak_*.

    Returns:
        The rows of `fits` by rising size, with the columns of both.
    """
    keys = [name for name in SETTING if name in fits.columns and name in overopt.columns]
    renamed = overopt.rename(columns={f"peak_{name}": f"measured_peak_{name}" for name in ("kl", "gold", "pressure")})
    extra = [name for name in renamed.columns if name not in fits.columns]
    merged = fits.merge(renamed[keys + extra], on=keys, how="left")
    return merged.sort_values("proxy_params", kind="stable", ignore_index=True)


def validation_accuracy(runs: pd.DataFrame, params: int) -> float:
    """Mean validation accuracy of the finished proxies of that size; nan where none is recorded."""
    if not {"params", "validation_accuracy"} <= set(runs.columns):
        return math.nan
    chosen = runs[(runs["stage"] == "proxy") & (runs["status"] == "ok") & (runs["params"] == params)]
    return float(chosen["validation_accuracy"].mean())


def summary_frame(fits: pd.DataFrame, overopt: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The summary as text, one row per fitted setting (so per proxy size), smallest first.

    Args:
        fits: the table of fits.csv.
        overopt: the table of `overoptimization`.
        runs: the table of runs.csv.

    Returns:
        Columns params, non-emb. (where it is known), seeds, val. acc., alpha, beta, peak KL, peak gold, peak seen,
        last gold, fall, verdict: gold in SDs of the reference, KL in nats, intervals in brackets, the peak of the
        fit. Of a peak beyond the largest KL measured no figure is told: it is the form's, not that of the data.
    """
    rows = []
    for _, row in with_verdicts(fits, overopt).iterrows():
        known: Callable[[str], Any] = row.get
        seen = not row["peak_kl"] > (known("last_kl") or math.inf)
        rows.append(
            {
                "params": human_count(row["proxy_params"]),
                **_without_embeddings(known("proxy_params_nonembedding")),
                "seeds": number(known("num_seeds"), 0),
                "val. acc.": number(validation_accuracy(runs, row["proxy_params"]), 3),
                "alpha": with_interval(row["alpha"], row["alpha_lo"], row["alpha_hi"]),
                "beta": with_interval(row["beta"], row["beta_lo"], row["beta_hi"], 3),
                "peak KL": with_interval(row["peak_kl"], known("peak_kl_lo"), known("peak_kl_hi"), 1)
                if seen
                else BEYOND,
                "peak gold": with_interval(row["peak_gold"], known("peak_gold_lo"), known("peak_gold_hi"))
                if seen
                else ABSENT,
                "peak seen": "yes" if row["identified"] else "no",
                "last gold": number(known("last_gold")),
                "fall": with_interval(known("fall"), known("fall_lo"), known("fall_hi")),
                "verdict": ABSENT if pd.isna(known("verdict")) else verdict_text(bool(row["rose"]), row["verdict"]),
            }
        )
    return pd.DataFrame(rows)


def _without_embeddings(count: Any) -> dict[str, str]:
    return {} if count is None else {"non-emb.": ABSENT if pd.isna(count) else human_count(count)}


def summary_table(
    fits: pd.DataFrame, overopt: pd.DataFrame, runs: pd.DataFrame, *, level: float = 0.95, optimizer: str = ""
) -> Table:
    """The summary for the terminal; failed and non-finite runs are counted in its caption.

    Args:
        fits, overopt, runs: as for `summary_frame`.
        level: of the intervals in the tables.
        optimizer: what made the curves, for the title.

    Returns:
        A rich renderable.
    """
    frame = summary_frame(fits, overopt, runs)
    missing = int((runs["status"] != "ok").sum())
    told = f"{percent(level)} intervals in brackets"
    caption = f"Gold in SDs of the reference, KL in nats, {told}; peaks are those of the fit."
    if missing:
        caption += f" {missing} of {len(runs)} runs failed or were not finite and are left out."
    aligned: dict[str, Any] = {"title_justify": "left", "caption_justify": "left"}
    table = Table(
        title="Gold curve of each proxy size" + (f" under {optimizer}" if optimizer else ""),
        caption=caption,
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        **aligned,
    )
    for name in frame.columns:
        longest = max(len(word) for text in (name, *frame[name]) for word in text.split())
        table.add_column(name.replace(" ", "\n"), min_width=longest, justify="left" if name == "verdict" else "right")
    for cells in frame.itertuples(index=False):
        styles = [_VERDICT_STYLES.get(str(cell), "") for cell in cells]
        lines = [str(cell).replace(" [", "\n[") for cell in cells]
        table.add_row(*(Text(line, style=style) for line, style in zip(lines, styles, strict=True)))
    return table


def escape(value: object) -> Markup:
    """HTML of any value: markup as it is, text escaped, control characters made visible (ESC as \\x1b)."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(str(value).translate(_CONTROLS), quote=True))


def html_table(
    frame: pd.DataFrame, *, caption: str, classes: Mapping[str, str] | None = None, row_id: str | None = None
) -> Markup:
    """An HTML table in a box of its own that scrolls sideways where the page is narrower than the table.

    Args:
        frame: cells, text or `Markup`; column names are the headings.
        caption: what the table shows.
        classes: CSS class of the cells of a column, e.g. "text" for running text.
        row_id: rows get the id "<row_id>-<position>" so that they can be linked to.
    """
    kinds = classes or {}
    head = "".join(f'<th scope="col" class="{kinds.get(str(name), "")}">{escape(name)}</th>' for name in frame.columns)
    rows = []
    for position, cells in enumerate(frame.itertuples(index=False)):
        anchor = "" if row_id is None else f' id="{row_id}-{position}"'
        named = zip(frame.columns, cells, strict=True)
        body = "".join(f'<td class="{kinds.get(str(name), "")}">{escape(cell)}</td>' for name, cell in named)
        rows.append(f"<tr{anchor}>{body}</tr>")
    return Markup(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
