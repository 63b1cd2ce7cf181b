"""The frame of every report: a page of sections with links to them, written in one move."""

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template

from synthetic_rm.analysis.tables import Markup, escape


def write_page(
    path: Path, *, title: str, subtitle: str, headlines: Sequence[str], sections: Mapping[str, Markup]
) -> Path:
    """Write an HTML page that holds all it shows and needs no network.

    Args:
        path: of the file.
        title, subtitle, headlines: text.
        sections: HTML of each, by its heading.
    Returns:
        `path`.
    """
    slugs = {name: name.lower().replace(" ", "-") for name in sections}
    links = "".join(f'<a href="#{slug}">{escape(name)}</a>' for name, slug in slugs.items())
    body = [f'<p class="headline">{escape(headline)}</p>' for headline in headlines]
    body.append(f'<nav aria-label="Sections">{links}</nav>')
    body += [
        f'<section id="{slugs[name]}"><h2>{escape(name)}</h2>{content}</section>' for name, content in sections.items()
    ]
    template = resources.files("synthetic_rm.analysis").joinpath("templates/report.html")
    page = Template(template.read_text(encoding="utf-8")).substitute(
        title=escape(title), subtitle=escape(subtitle), body="\n".join(body)
    )
    partial = path.with_name(f".{path.name}.tmp")
    try:
        partial.write_text(page, encoding="utf-8", errors="replace")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
