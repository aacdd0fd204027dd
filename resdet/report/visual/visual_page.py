"""Chosen images as one HTML page with everything inside, and as PNGs.

Not for: which images (`chosen_images`), or what is drawn (`image_panels`).
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from resdet import __version__
from resdet.atomic import atomic_path, write_text
from resdet.file_names import file_name
from resdet.report.render.html_template import html_of
from resdet.report.visual.image_panels import VisualImage

PAGE = "index.html"
PICTURES = "images"


def visual_html(
    images: Sequence[VisualImage],
    *,
    headline: str,
    rule: str,
    notes: Sequence[str] = (),
    sources: str = "",
    table: Sequence[Sequence[str]] = (),
    legend: str = "",
) -> str:
    """The page.

    Args:
        rule: how the images were chosen, and what the boxes are.
        notes: what is not there, in sentences.
        sources: the set's own statement on the origin of its pictures.
        table: rows below the pictures, the first is its head.
        legend: what the lines mean, where they are not right, wrong and missed.

    Raises:
        RunError: Jinja2 is not installed.
    """
    return html_of(
        "visual.html",
        styles=("report.css",),
        images=images,
        headline=headline,
        rule=rule,
        notes=notes,
        sources=sources,
        table=table,
        legend=legend,
        made=datetime.date.today().isoformat(),
        version=__version__,
    )


def write_visual(folder: Path, images: Sequence[VisualImage], html: str) -> list[Path]:
    """index.html and a PNG of each image into a folder, made if needed; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PICTURES).mkdir(exist_ok=True)
    paths = []
    for image in images:
        path = folder / PICTURES / f"{file_name(str(image.image_id))}.png"
        with atomic_path(path) as temporary:
            image.strip().save(temporary, "PNG")
        paths.append(path)
    write_text(folder / PAGE, html)
    return [folder / PAGE, *paths]
