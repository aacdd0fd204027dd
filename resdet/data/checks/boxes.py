"""One rule for boxes, for VOC and COCO, loader and evaluator (`docs/faults.md` F11, F12, F14).

A box that is dropped or clipped is so in the records, which training and ground truth share.

    item     one object with its record and its number in its file
    words    how messages of a format name it: in that format's numbers

Not for: formats; readers bring (x0, y0, x1, y1), half-open, finite.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from resdet.data.checks.faults import Faults
from resdet.data.options import DataOptions, count_for, to_type

# COCO rounds x and width to 0.01 each, so their sum may pass the border by a rounding.
ROUNDING = 0.02
# Boxes that leave their image by more than this many pixels, in more than this share of a set,
# are systematic (F14).
FAR_OUTSIDE = 2.0
SUSPICIOUS_SHARE = 0.01
# In a published set so many of a thousand boxes may be odd, and are counted: it is fixed.
TOLERATED_PER_THOUSAND = 1


NUMBERS = "Write four finite numbers, [x, y, width, height]."


class Item(NamedTuple):
    """One object: `annotation` will belong to `record`, which has width and height."""

    record: dict[str, Any]
    number: int
    annotation: dict[str, Any]


class Words(Protocol):
    """How a format's messages describe a box."""

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
    written_as: str = "",
    is_published: bool = False,
    no_boxes: Sequence[str] = (),
) -> tuple[list[Item], Counter[str]]:
    """The items that are used, clipped where that is set, and what was done.

    Args:
        written_as: "corners" or "sizes", what the format expects; where faulty boxes all fit as the
            other, the page reports it (F14).
        is_published: an official set, of which one box in a thousand may be odd.
        no_boxes: a sentence for each object that has no box at all; counted with those without
            area.
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
        counts["boxes under 1 px"] += min(x1 - x0, y1 - y0) < 1
    tolerated = len(items) * TOLERATED_PER_THOUSAND // 1000 if is_published else 0
    stated = count_for(options.drop_degenerate, faults.name)
    dropped = len(empty) + len(no_boxes)
    if dropped > tolerated and dropped != stated:
        _refuse_empty(empty, items, words, faults, options, written_as, no_boxes)
    if len(leaving) > tolerated:
        _refuse_leaving(leaving, items, words, faults, written_as)
    counts["objects without area dropped"] = dropped
    counts["boxes that leave their image, kept"] = len(leaving)
    if options.clip_boxes:
        counts["boxes clipped"] = sum(map(_clip, kept))
    return kept, counts


def _clip(item: Item) -> bool:
    """Cuts the box to its image; whether that changed it."""
    x0, y0, x1, y1 = item.annotation["bbox"]
    width, height = float(item.record["width"]), float(item.record["height"])
    clipped = [max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)]
    is_changed = clipped != [x0, y0, x1, y1]
    item.annotation["bbox"] = clipped
    return is_changed


def _refuse_empty(
    empty: Sequence[Item],
    items: Sequence[Item],
    words: Words,
    faults: Faults,
    options: DataOptions,
    written_as: str,
    no_boxes: Sequence[str],
) -> None:
    kind, number = "boxes without area", len(empty) + len(no_boxes)
    for line in no_boxes:
        faults.add(kind, line)
    for item in empty:
        faults.add(kind, f"{words.where(item)}: {words.no_area(item)}")
    stated = count_for(options.drop_degenerate, faults.name)
    typed = to_type("DATASETS.DROP_DEGENERATE", options.drop_degenerate, faults.name, number)
    faults.explain(
        kind,
        fix=f"{NUMBERS} "
        * bool(no_boxes)
        + "Swap what is swapped, or delete the object; to leave out "
        f"{'this object' if number == 1 else f'all {number:,} such objects'}: "
        f"{typed}{f' (not {stated})' if stated else ''}.",
    )
    if written_as == "corners" and number > 1 and _all_fit_as_sizes(items):
        faults.explain(
            kind,
            heading=f"{number:,} of {len(items):,} boxes have no area as corners, and all of them "
            "fit as x, y, width, height. Did the exporter write sizes?",
        )


def _refuse_leaving(
    leaving: Sequence[Item],
    items: Sequence[Item],
    words: Words,
    faults: Faults,
    written_as: str,
) -> None:
    kind = "boxes outside"
    for item in leaving:
        faults.add(kind, f"{words.where(item)}: {words.outside(item)}")
    faults.explain(
        kind,
        fix="Fix the files. An excess of a pixel or two is clipped, in training and ground truth "
        "alike, with DATASETS.CLIP_BOXES 2.",
    )
    far = sum(_excess(item) > FAR_OUTSIDE for item in leaving)
    if written_as == "sizes" and far > SUSPICIOUS_SHARE * len(items) and _all_fit_as_corners(items):
        faults.explain(
            kind,
            heading=f"{far:,} of {len(items):,} boxes stick out of their images as [x, y, width, "
            "height], and all of them fit as [x1, y1, x2, y2]:",
            fix="COCO expects width and height. Fix the exporter, or convert the file.",
        )


def _excess(item: Item) -> float:
    x0, y0, x1, y1 = item.annotation["bbox"]
    return float(max(-x0, -y0, x1 - item.record["width"], y1 - item.record["height"]))


def _all_fit_as_corners(items: Sequence[Item]) -> bool:
    """Whether every [x, y, width, height] is a box within its image as [x1, y1, x2, y2]."""
    for item in items:
        x0, y0, x1, y1 = item.annotation["bbox"]
        right, bottom = x1 - x0, y1 - y0
        width, height = item.record["width"] + 1, item.record["height"] + 1
        if not (0 <= x0 < right <= width and 0 <= y0 < bottom <= height):
            return False
    return True


def _all_fit_as_sizes(items: Sequence[Item]) -> bool:
    """Whether every [x1, y1, x2, y2] is a box within its image as [x, y, width, height]."""
    for item in items:
        x0, y0, x1, y1 = item.annotation["bbox"]
        width, height = item.record["width"] + 1, item.record["height"] + 1
        if not (x1 > 0 and y1 > 0 and x0 + x1 <= width and y0 + y1 <= height):
            return False
    return True
