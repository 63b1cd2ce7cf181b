"""Figures inside a page: the drawing itself, in words for those who do not see it, and links to the runs behind it."""

import base64
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from synthetic_rm.analysis.figures.style import COLUMN_WIDTHS
from synthetic_rm.analysis.series import Series, series_links
from synthetic_rm.analysis.tables import Markup, escape

_PLAIN = " <>=:;,/()[]{}!?*+@|~^`$"
"""characters of an SVG file that may stand in an image's address as they are"""


def embedded(path: Path) -> str:
    """A PNG or SVG file as an address that holds it; SVG stays text, which packs better than base64."""
    if path.suffix == ".svg":
        return f"data:image/svg+xml,{quote(path.read_text(encoding='utf-8'), safe=_PLAIN)}"
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def figure_block(stem: Path, caption: str, *, spoken: str = "", series: Iterable[Series] = ()) -> Markup:
    """A figure that lies on disk as SVG or PNG, with its caption and the runs of its series; "" where it was not drawn.

    Args:
        stem: path of the files without their ending; its name is the figure's anchor.
        caption: what is drawn.
        spoken: what is to be seen, told to those who do not see it.
        series: what is drawn.
    """
    files = [path for path in (stem.with_name(f"{stem.name}.svg"), stem.with_name(f"{stem.name}.png")) if path.exists()]
    if not files:
        return Markup("")
    image = f'<img alt="{escape(f"{caption} {spoken}".strip())}" src="{escape(embedded(files[0]))}">'
    if _is_wide(files[0]):
        image = f'<div class="wide" tabindex="0" role="region" aria-label="{escape(stem.name)}">{image}</div>'
    told = f"<figcaption>{escape(caption)}{series_links(series)}</figcaption>"
    return Markup(f'<figure id="{stem.name}">{image}{told}</figure>')


def _is_wide(path: Path) -> bool:
    """Whether a figure is as wide as two columns of a paper; too much for a phone at once."""
    size = re.search(r'<svg [^>]*\bwidth="([\d.]+)pt"', path.read_text("utf-8")) if path.suffix == ".svg" else None
    return size is not None and float(size[1]) > 72 * (COLUMN_WIDTHS[1] + COLUMN_WIDTHS[2]) / 2


def gallery(blocks: Iterable[Markup]) -> Markup:
    """Figures side by side, as many as there is room for."""
    drawn = "".join(blocks)
    return Markup(f'<div class="gallery">{drawn}</div>' if drawn else "<p>No figure was drawn.</p>")
