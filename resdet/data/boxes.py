"""One rule for boxes, for VOC and COCO, loader and evaluator alike (`faults.md` F11, F12, F14).

A box that is dropped or clipped is so in the records, which training and ground truth share.

    item     one object with its record and its number in its file
    words    how messages of a format call it: in that format's own numbers

Not for: formats; readers bring (x0, y0, x1, y1), half-open, finite.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from resdet.data.faults import Faults
from resdet.data.options import DataOptions

# COCO rounds x and width to 0.01 each, so their sum may pass the border by a rounding.
ROUNDING = 0.02
# Boxes that leave their image by more than this many pixels, in more than this share of a set,
# are no accident (F14).
FAR_OUTSIDE = 2.0
SUSPICIOUS_SHARE = 0.01
# In a published set so many of a thousand boxes may be odd, and are counted: nobody can mend it.
TOLERATED_PER_THOUSAND = 1


class Item(NamedTuple):
    """One object: `annotation` will belong to `record`, which has width and height."""

    record: dict[str, Any]
    number: int
    annotation: dict[str, Any]


class Words(Protocol):
    """How a format's messages speak of a box."""

    def where(self, item: Item) -> str:
        """File and object, such as "Annotations/000123.xml, object 2 (dog)"."""

    def no_area(self, item: Item) -> str:
        """What is wrong with a box without area, in the numbers of the file."""

    def outside(self, item: Item) -> str:
        """By which number a box leaves its image."""


def check_boxes(
    items: Sequence[Item],
    words: Words,
    faults: Faults,
    options: DataOptions,
    *,
    is_published: bool = False,
) -> tuple[list[Item], Counter[str]]:
    """The items that are used, clipped where that was asked for, and what was done.

    Args:
        is_published: an official set, of which one box in a thousand may be odd.
    """
    counts: Counter[str] = Counter()
    kept: list[Item] = []
    empty: list[Item] = []
    leaving: list[Item] = []
    for item in items:
        x0, y0, x1, y1 = item.annotation["bbox"]
        width, height = item.record["width"], item.record["height"]
        if not (x0 < x1 and y0 < y1 and x0 < width and y0 < height and x1 > 0 and y1 > 0):
            empty.append(item)
            continue
        kept.append(item)
        excess = max(-x0, -y0, x1 - width, y1 - height)
        if excess > max(options.clip_boxes, ROUNDING):
            leaving.append(item)
        elif excess > 0 and options.clip_boxes:
            _clip(item)
            counts["boxes clipped"] += 1
        if min(x1 - x0, y1 - y0) < 1:
            counts["boxes under 1 px"] += 1
    tolerated = len(items) * TOLERATED_PER_THOUSAND // 1000 if is_published else 0
    if (
        empty
        and len(empty) not in range(1, tolerated + 1)
        and len(empty) != options.drop_degenerate
    ):
        _refuse_empty(empty, words, faults, options)
    else:
        counts["objects without area dropped"] = len(empty)
    if len(leaving) > tolerated:
        _refuse_leaving(leaving, words, faults)
    else:
        counts["boxes that leave their image, kept"] = len(leaving)
    return kept, counts


def _clip(item: Item) -> None:
    x0, y0, x1, y1 = item.annotation["bbox"]
    width, height = float(item.record["width"]), float(item.record["height"])
    item.annotation["bbox"] = [max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)]


def _refuse_empty(
    empty: Sequence[Item], words: Words, faults: Faults, options: DataOptions
) -> None:
    for item in empty:
        faults.add("boxes without area", f"{words.where(item)}: {words.no_area(item)}")
    number = len(empty)
    stated = f" (not {options.drop_degenerate})" if options.drop_degenerate else ""
    faults.explain(
        "boxes without area",
        mend="Swap what is swapped, or delete the object; to leave out "
        f"{'this object' if number == 1 else f'all {number:,} such objects'}: "
        f"DATASETS.DROP_DEGENERATE {number}{stated}.",
    )


def _refuse_leaving(leaving: Sequence[Item], words: Words, faults: Faults) -> None:
    for item in leaving:
        faults.add("boxes outside", f"{words.where(item)}: {words.outside(item)}")
    faults.explain(
        "boxes outside",
        mend="Mend the files. An excess of a pixel or two is clipped, in training and ground truth "
        "alike, with DATASETS.CLIP_BOXES 2.",
    )


def are_corners(items: Sequence[Item]) -> int:
    """How many [x, y, width, height] leave their image, if as [x1, y1, x2, y2] all fit; else 0."""
    far = 0
    for item in items:
        x0, y0, x1, y1 = item.annotation["bbox"]
        width, height = item.record["width"], item.record["height"]
        corner_x, corner_y = x1 - x0, y1 - y0
        if not (0 <= x0 < corner_x <= width + 1 and 0 <= y0 < corner_y <= height + 1):
            return 0
        far += max(-x0, -y0, x1 - width, y1 - height) > FAR_OUTSIDE
    return far if far > SUSPICIOUS_SHARE * len(items) else 0


def are_sizes(items: Sequence[Item]) -> int:
    """How many [x1, y1, x2, y2] have no area, if as [x, y, width, height] all fit; else 0."""
    empty = 0
    for item in items:
        x0, y0, x1, y1 = item.annotation["bbox"]
        width, height = item.record["width"], item.record["height"]
        if not (x1 > 0 and y1 > 0 and x0 + x1 <= width + 1 and y0 + y1 <= height + 1):
            return 0
        empty += x1 <= x0 or y1 <= y0
    return empty if empty > SUSPICIOUS_SHARE * len(items) else 0
