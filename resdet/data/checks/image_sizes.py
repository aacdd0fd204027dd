"""The size of every image of a set: the annotation's, compared with the file's (F16, F30).

Not for: boxes (`boxes`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from resdet.data.checks.faults import Faults
from resdet.data.images.scan import Headers, read_headers
from resdet.data.options import DataOptions


class Stated(NamedTuple):
    """An image and the size that its annotation states; `source` is the annotation's name."""

    image_id: str | int
    path: str
    size: tuple[int, int] | None
    source: str


@dataclass
class Sizes:
    """Sizes by path, of the images that can be used; `counts` are the repairs."""

    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def checked_sizes(stated: Sequence[Stated], faults: Faults, options: DataOptions) -> Sizes:
    """(width, height) of each image as the reader gives it; differences are faults.

    Without `check_images` only images whose annotation states no size are opened.
    """
    expected = [s for s in stated if options.check_images or s.size is None]
    headers = read_headers([s.path for s in expected], options)
    for line in headers.faults.values():
        faults.add("images", line)
    result = Sizes(counts=Counter(headers.counts))
    others = []
    for entry in stated:
        facts = headers.facts.get(entry.path)
        if facts is not None:
            result.sizes[entry.path] = facts.size(options)
            if entry.size is not None and entry.size != result.sizes[entry.path]:
                others.append(entry)
        elif entry.size is not None and entry.path not in headers.faults:
            result.sizes[entry.path] = entry.size
    if others:
        _refuse(others, stated, headers, result, faults, options)
    return result


def _refuse(
    others: Sequence[Stated],
    stated: Sequence[Stated],
    headers: Headers,
    result: Sizes,
    faults: Faults,
    options: DataOptions,
) -> None:
    swapped = rotated = 0
    for entry in others:
        width, height = result.sizes[entry.path]
        is_swapped = entry.size == (height, width)
        is_rotated = is_swapped and headers.facts[entry.path].orientation in (5, 6, 7, 8)
        swapped += is_swapped
        rotated += is_rotated
        why = ", exactly swapped" if is_swapped else ""
        why += ", and the file has an EXIF rotation" if is_rotated else ""
        stated_size = "" if entry.size is None else f"{entry.size[0]}x{entry.size[1]}"
        name = os.path.basename(entry.path)
        faults.add("sizes", f"{name} is {width}x{height}, {entry.source} has {stated_size}{why}")
    number = len(others)
    heading = (
        f"{number:,} {'image has' if number == 1 else 'images have'} another size than "
        f"{'its' if number == 1 else 'their'} annotation; {swapped:,} of them exactly swapped, "
        f"{rotated:,} of these with an EXIF rotation:"
    )
    turned = [s for s in stated if _is_turned(s, headers)]
    if options.exif == "apply" and rotated == number == len(turned):
        fix = (
            "All rotated images of the set were annotated as they are stored: set INPUT.EXIF "
            "ignore, which holds for the whole set."
        )
    elif rotated == number and options.exif == "ignore":
        fix = "These were annotated upright: leave INPUT.EXIF at apply."
    else:
        fix = "Put the annotated images there, or correct the sizes and boxes."
    faults.explain("sizes", heading=heading, fix=fix)


def _is_turned(entry: Stated, headers: Headers) -> bool:
    facts = headers.facts.get(entry.path)
    return facts is not None and facts.orientation in (5, 6, 7, 8) and facts.width != facts.height
