"""Figures inside a page: the drawing itself, and in words for those who do not see it."""

import base64
from collections.abc import Iterable
from pathlib import Path

from synthetic_rm.analysis.tables import Markup, escape


def figure_block(stem: Path, caption: str, *, spoken: str = "") -> Markup:
    """A figure that lies on disk as SVG or PNG, with its caption; "" where it was not drawn.

    Args:
        stem: path of the files without their ending; its name is the figure's anchor.
        caption: what is drawn.
        spoken: what is to be seen, told to those who do not see it.
    """
    kinds = {"svg+xml": stem.with_name(f"{stem.name}.svg"), "png": stem.with_name(f"{stem.name}.png")}
    kind = next((kind for kind, path in kinds.items() if path.exists()), None)
    if kind is None:
        return Markup("")
    data = base64.b64encode(kinds[kind].read_bytes()).decode("ascii")
    image = f'<img alt="{escape(f"{caption} {spoken}".strip())}" src="data:image/{kind};base64,{data}">'
    return Markup(f'<figure id="{stem.name}">{image}<figcaption>{escape(caption)}</figcaption></figure>')


def gallery(blocks: Iterable[Markup]) -> Markup:
    """Figures side by side, as many as there is room for."""
    drawn = "".join(blocks)
    return Markup(f'<div class="gallery">{drawn}</div>' if drawn else "<p>No figure was drawn.</p>")
