"""One page over all results: what each found, the verdicts, every figure, sample responses, and all runs to filter."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from synthetic_rm.analysis.page import Page, write_page
from synthetic_rm.analysis.paper import PAPER
from synthetic_rm.analysis.report_sections import runs_section
from synthetic_rm.analysis.tables import ABSENT, Markup, escape, html_table
from synthetic_rm.analysis.verdicts import CLAIMS, measured, verdict_cells, verdict_table

HASHES = ("config_hash", "commit")
RUN_COLUMNS = ("stage", "status", "params", "proxy_seed", "policy_seed", "seconds", *HASHES)
"""those of runs.csv that the index tells; the report of a result tells all"""


def write_index(pages: Mapping[str, Page], verdicts: Mapping[str, pd.DataFrame], root: Path) -> Path:
    """Write index.html, which holds all it shows, needs no network, and links to the reports of single results.

    Args:
        pages: of each result, by the path of its folder below `root`.
        verdicts: the tables of `verdicts` of those that have one, by the same paths.
        root: the folder of all results.
    Returns:
        The path of index.html.
    """
    count, failed = (sum(number) for number in zip(*map(_counts, pages.values()), strict=True))
    sections = {
        "Results": Markup("".join(_result(name, page) for name, page in pages.items()) + _besides(pages, root)),
        "Verdicts": _verdicts(verdicts),
        "Figures of the paper": _paper(pages),
        "Figures": _parts(pages, lambda _, html: "<figure " in html),
        "Sample responses": _parts(pages, lambda heading, _: heading == "Sample responses"),
        "Runs": _runs(pages),
    }
    told = f"{len(pages)} results · {count:,} runs of stages, {failed or 'none'} failed or not finite"
    return write_page(
        Page(root / "index.html", title="Results", subtitle=told, headlines=[], sections=sections, runs=pd.DataFrame())
    )


def relocated(html: Markup, name: str) -> Markup:
    """A section of a result's report as it stands in the index: own anchors, one heading lower, links into the report.

    In markup of ours `id="` and `href="#` are attributes: text has its quotes escaped.
    """
    named = re.sub(r'\bid="', f'id="{escape(name)}-', html.replace("h3>", "h4>"))
    return Markup(re.sub(r'\bhref="#', f'href="{escape(name)}/report.html#', named))


def _counts(page: Page) -> tuple[int, int]:
    """Numbers of the runs of a result and of those that did not end well."""
    return len(page.runs), int((page.runs["status"] != "ok").sum())


def _result(name: str, page: Page) -> Markup:
    count, failed = _counts(page)
    lost = f' <span class="bad">{failed} failed or not finite.</span>' if failed else " All ended well."
    told = "".join(f"<p>{escape(headline)}</p>" for headline in page.headlines)
    runs = f'<a href="#runs" data-filter="{escape(name)}">{count:,} runs</a>.{lost}'
    title = f'<a href="{escape(name)}/report.html">{escape(name)}</a>: {escape(page.title)}'
    facts = f'<p class="muted">{escape(page.subtitle)} · {runs}</p>'
    return Markup(f"<h3>{title}</h3>{told}{facts}{page.sections['Make it again']}")


def _besides(pages: Mapping[str, Page], root: Path) -> str:
    """Links to figures that lie beside the results, of the benchmarks say; empty where there are none."""
    found = [path.relative_to(root).as_posix() for path in sorted(root.glob("*/figure_*.png"))]
    others = [path for path in found if path.rpartition("/")[0] not in pages]
    links = ", ".join(f'<a href="{escape(path)}">{escape(path.removesuffix(".png"))}</a>' for path in others)
    return f"<h3>Besides</h3><p>{links}</p>" if others else ""


def _verdicts(tables: Mapping[str, pd.DataFrame]) -> Markup:
    """The claims of the paper one after the other, with every measurement of each."""
    rows = [
        verdict_cells(row, f"#{name}-{row['figure']}", f"{name}: {row['figure']}")
        for claim in CLAIMS
        for name, table in tables.items()
        for _, row in measured(table[table["claim"] == claim]).iterrows()
    ]
    return verdict_table(rows, "Claims of the paper, as measured") if rows else Markup("<p>None was measured.</p>")


def _paper(pages: Mapping[str, Page]) -> Markup:
    """The paper's figures, what each says, and those of ours that show the same."""
    drawn = {
        f"{name}/{figure}": f"#{name}-{figure}"
        for name, page in pages.items()
        for html in page.sections.values()
        for figure in re.findall(r'<figure id="(\w+)"', html)
    }
    rows = [
        {
            "figure": figure.number,
            "what the paper says": figure.says,
            "ours": Markup("<br>".join(f'<a href="{drawn[n]}">{n}</a>' for n in figure.ours if n in drawn) or ABSENT),
        }
        for figure in PAPER
    ]
    kinds = {"what the paper says": "text"}
    return html_table(pd.DataFrame(rows), caption="The paper’s figures beside ours", classes=kinds)


def _parts(pages: Mapping[str, Page], wanted: Callable[[str, Markup], bool]) -> Markup:
    """The sections that are wanted, by heading and content, result by result."""
    blocks = []
    for name, page in pages.items():
        found = [relocated(html, name) for heading, html in page.sections.items() if wanted(heading, html)]
        blocks += [f"<h3>{escape(name)}</h3>", *found] if found else []
    return Markup("".join(blocks) or "<p>There are none.</p>")


def _runs(pages: Mapping[str, Page]) -> Markup:
    """Every run of every result, with a link to what its report tells of it."""
    rows = [
        {"result": name, "run": Markup(f'<a href="{escape(name)}/report.html#run-{place}">{escape(run["run"])}</a>')}
        | {column: run.get(column) for column in RUN_COLUMNS}
        for name, page in pages.items()
        for place, (_, run) in enumerate(page.runs.iterrows())
    ]
    shown = pd.DataFrame(rows)
    shown[list(HASHES)] = shown[list(HASHES)].astype(str).apply(lambda column: column.str[:12])
    return runs_section(shown)
