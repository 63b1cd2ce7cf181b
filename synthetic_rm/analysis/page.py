"""The frame of every report: a page of sections with links to them, written in one move."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from synthetic_rm.analysis.tables import Markup, escape
from synthetic_rm.files import write_atomic


@dataclass(frozen=True)
class Page:
    """What a page tells."""

    path: Path
    """of the HTML file"""
    title: str
    subtitle: str
    headlines: Sequence[str]
    """the result in words"""
    sections: Mapping[str, Markup]
    """HTML of each, by its heading"""
    runs: pd.DataFrame
    """runs.csv of what is told; empty where the page is of several runs"""


def write_page(page: Page) -> Path:
    """Write an HTML page that holds all it shows and needs no network.

    Returns:
        Its path.
    """
    slugs = {name: name.lower().replace(" ", "-") for name in page.sections}
    links = "".join(f'<a href="#{slug}">{escape(name)}</a>' for name, slug in slugs.items())
    body = [f'<p class="headline">{escape(headline)}</p>' for headline in page.headlines]
    body.append(f'<nav aria-label="Sections">{links}</nav>')
    body += [
        f'<section id="{slugs[name]}"><h2>{escape(name)}</h2>{content}</section>'
        for name, content in page.sections.items()
    ]
    template = resources.files("synthetic_rm.analysis").joinpath("templates/report.html")
    text = Template(template.read_text(encoding="utf-8")).substitute(
        title=escape(page.title), subtitle=escape(page.subtitle), body="\n".join(body)
    )
    write_atomic(page.path, text.encode(errors="replace"))
    return page.path


def command_section(provenance: Mapping[str, Any]) -> Markup:
    """The command of a run, as one types it, at the commit that ran it."""
    lines = [str(provenance.get("command", "The command was not recorded."))]
    if provenance.get("commit"):
        lines.insert(0, f"git checkout {provenance['commit']}")
    note = "<p>With changes that are in no commit.</p>" if provenance.get("dirty") else ""
    return Markup(f"<pre>{escape(chr(10).join(lines))}</pre>{note}")
