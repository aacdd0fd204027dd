"""VOC's XML, written piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def tags(**values: object) -> str:
    return "".join(f"<{tag}>{value}</{tag}>" for tag, value in values.items())


def voc_object(name: object, box: Sequence[object], more: str = "", **values: object) -> str:
    """An <object>; between its name and its box stand `more` and these tags."""
    corners = tags(**dict(zip(CORNERS, box, strict=True)))
    return tags(object=tags(name=name) + more + tags(**values) + tags(bndbox=corners))


def annotation(*parts: str, size: Sequence[object] | None = None) -> str:
    """An <annotation> of objects and other tags; a size is (width, height) or has a depth too."""
    sizes = ""
    if size is not None:
        names = ("width", "height", "depth")[: len(size)]
        sizes = tags(size=tags(**dict(zip(names, size, strict=True))))
    return tags(annotation=sizes + "".join(parts))
