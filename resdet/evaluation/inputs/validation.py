"""Is this results file what it claims to be? Checked before every number, and on its own.

The whole file is read, the faults are grouped by kind, each with its count, its first
place, and what would fix it. Nothing is changed or guessed. `docs/faults.md`, F80 to F87.

Not for: the ground truth (`ground_truth` reads that), or scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resdet import profile
from resdet.evaluation.inputs.arrays import FloatArray, ImageId, IntArray, stable_order
from resdet.evaluation.inputs.detections import Columns, load_columns
from resdet.evaluation.inputs.findings import (
    REFUSE,
    WARN,
    Finding,
    finding,
    findings_on,
    share,
    without_consequences,
)
from resdet.evaluation.inputs.ground_truth import GroundTruth, SetIndex, read_ground_truth
from resdet.evaluation.inputs.image_ids import EXACT
from resdet.printable import one_line

DETECTIONS_PER_IMAGE = 100
# What all boxes of a file have in common may be an accident of a few; of more than this never.
MANY_BOXES = 20
# So many different detections, each as often as all others, are a list written several times.
COPIED = 3
NORMALISED_TO = 1.5
# xywh or corners (F14, F82): share of boxes that leave their image, and by how much at least.
LEAVING_SHARE = 0.01
LEAVING_PIXELS = 2.0
ROWS_AT_ONCE = 1 << 14


def check_results(
    results: Sequence[Any] | Path | str,
    gt: Mapping[str, Any] | Path | str | GroundTruth | SetIndex,
    evaluated_ids: Sequence[ImageId] | None = None,
    *,
    task: str = "bbox",
    subset: Sequence[ImageId] | None = None,
    image_ids: str = EXACT,
) -> list[Finding]:
    """What is wrong with a list of results in COCO's format; an empty list when it is clean.

    Args:
        results: the list, or the path of the JSON file.
        gt: the set that they are about, as COCO's instances JSON.
        evaluated_ids: the images that the detector saw, with or without detections; None when
            not recorded.
        task: "bbox" or "segm".
        subset: images meant to be scored, when not all are.
        image_ids: how the results name images, one of `image_ids.WAYS`.

    Raises:
        DataError: a path does not exist, or the ground truth is faulty.
        CheckFailed: the file holds no list at all.
    """
    index = gt if isinstance(gt, SetIndex) else read_ground_truth(gt).index
    columns, findings, _ = load_columns(results, index, task, keep_masks=False, image_ids=image_ids)
    return without_consequences(findings + check_columns(columns, index, evaluated_ids, subset))


@profile.timed("check results")
def check_columns(
    columns: Columns,
    index: SetIndex,
    evaluated_ids: Sequence[ImageId] | None = None,
    subset: Sequence[ImageId] | None = None,
) -> list[Finding]:
    """What is wrong with detections whose form is right, whatever they were read from."""
    findings = _check_images(columns, index, evaluated_ids, subset)
    if len(columns) == 0:
        return findings
    findings += _check_scores(columns)
    normalised = _check_normalised(columns)
    findings += normalised
    findings += _check_sizes(columns, index)
    if not normalised:
        findings += _check_place(columns, index)
    findings += _check_duplicates(columns)
    if columns.origin == 0:  # VOC has no such limit
        findings += _check_crowded(columns, index)
    return findings


def _check_images(
    columns: Columns,
    index: SetIndex,
    evaluated_ids: Sequence[ImageId] | None,
    subset: Sequence[ImageId] | None,
) -> list[Finding]:
    """F85 and F91: an image without detections, and one that was never visited, look alike."""
    ids, known = index.image_ids, set(index.image_ids)
    chosen = known if subset is None else set(subset)
    expected = [i for i in ids if i in chosen]
    visited = set(evaluated_ids) if evaluated_ids is not None else None
    findings = []
    for what, given in (("evaluated", evaluated_ids), ("the subset", subset)):
        strange = [i for i in given or () if i not in known]
        if strange:
            findings.append(
                Finding(
                    "unknown-image", len(strange), [one_line(i) for i in strange[:5]],
                    "Is it the right ground truth?", REFUSE,
                    f"Images named as {what} that {index.title} does not have: {len(strange):,}.",
                )
            )  # fmt: skip
    if visited is None:
        return findings + _check_empty_images(columns, index)
    missing = [i for i in expected if i not in visited]
    if missing:
        covered = len(expected) - len(missing)
        findings.append(
            Finding(
                "missing-images", len(missing), [str(i) for i in missing[:5]],
                "Detect on the rest, or score the part from Python: evaluate_coco and evaluate_voc "
                "of resdet.evaluation take subset=IDS, and then report "
                f'"On {covered:,} of {len(ids):,} images."', REFUSE,
                f"Expected {len(expected):,} images, results cover {covered:,}; missing first: "
                f"{missing[0]}.",
            )
        )  # fmt: skip
    seen = np.array([i in visited for i in ids], dtype=np.bool_)
    rows = np.flatnonzero(~seen[columns.image])
    return findings + findings_on(
        "unvisited-image", rows, columns.name,
        f"Detections on images that are not named as evaluated: {share(len(rows), len(columns))}.",
        "The list of evaluated images is of another run; write both together.",
    )  # fmt: skip


def _check_empty_images(columns: Columns, index: SetIndex) -> list[Finding]:
    empty = np.flatnonzero(np.bincount(columns.image, minlength=len(index.image_ids)) == 0)
    if len(empty) == 0:
        return []
    if len(columns) == 0 and columns.left_out:
        return []  # what the images have is not known
    total = len(index.image_ids)
    return [
        finding(
            "images-without-detections", empty, lambda i: str(index.image_ids[i]),
            f"{100 * len(empty) / total:.3g} % of the images have no detection at all "
            f"({share(len(empty), total, 'images')}).",
            "If they were never visited, this AP is too low; no record lists which were.", WARN,
        )
    ]  # fmt: skip


def _check_scores(columns: Columns) -> list[Finding]:
    rows = np.flatnonzero((columns.scores < 0) | (columns.scores > 1))
    return findings_on(
        "score-range", rows, lambda r: f"{columns.name(r)}: score {columns.scores[r]:g}",
        f"Scores outside 0 to 1: {share(len(rows), len(columns))}.",
        "Are they logits? AP is the same; score thresholds are not.", WARN,
    )  # fmt: skip


def _check_normalised(columns: Columns) -> list[Finding]:
    """F83: coordinates divided by width and height."""
    written = _as_written(columns.boxes, columns.origin)
    # Boxes of nothing but zeros were divided by nothing; they are a fault of their own.
    if not ((written >= 0) & (written <= NORMALISED_TO)).all() or not written.any():
        return []
    count = len(columns)
    return [
        finding(
            "normalised", range(count), lambda r: _box_text(columns, r),
            f"All {count:,} boxes lie in the first pixel: they look divided by width and height.",
            "Multiply them by the image's size.", REFUSE if count > MANY_BOXES else WARN,
        )
    ]  # fmt: skip


def _advice_on_negative(columns: Columns, index: SetIndex) -> str:
    """What VOC's files have in place of corners, where one reading fits all lines; else corners in
    the other order."""
    if columns.origin:
        written = _as_written(columns.boxes, columns.origin)
        if ((written[:, 3] >= 0) & (written[:, 3] <= 1)).all() and (columns.scores > 1).any():
            return "The score seems to stand last: write `image score x1 y1 x2 y2`."
        if (written[:, 2:] > 0).all() and _all_inside(columns, index, written):
            return (
                "They look like x, y, width, height: write corners, `image score x y x+width-1 "
                "y+height-1`."
            )
    return "Their corners are swapped: write the upper left one and a positive size."


def _all_inside(columns: Columns, index: SetIndex, boxes: FloatArray) -> bool:
    """Whether boxes (x, y, width, height) in place of the columns' lie in their images, so far as
    sizes are known."""
    sizes = index.sizes[columns.image]
    known = ~np.isnan(sizes).any(axis=1)
    far = boxes[known, :2] + boxes[known, 2:]
    is_in = (boxes[known] >= -1).all() and (far <= sizes[known] + LEAVING_PIXELS).all()
    return bool(known.any() and is_in)


def _check_sizes(columns: Columns, index: SetIndex) -> list[Finding]:
    """F82: boxes that match nothing. pycocotools scores them as wrong detections.

    A width or height of 0 comes from rounding or clipping; it is refused only where all of many
    boxes have it.
    Negative ones have their corners swapped, and mean another box.
    """
    sides = columns.boxes[:, 2:]
    negative = (sides < 0).any(axis=1)
    rows = np.flatnonzero((sides == 0).any(axis=1) & ~negative)
    if columns.segmentations is not None or columns.mask_keys is not None:
        return findings_on(
            "zero-boxes", rows, columns.name,
            f"Masks without a pixel: {share(len(rows), len(columns))}.",
            "They match no object, so each counts as wrong, as in COCO's own evaluation.", WARN,
        )  # fmt: skip
    every = len(rows) == len(columns)
    swapped = np.flatnonzero(negative)
    return [
        *findings_on(
            "zero-boxes", rows, lambda r: _box_text(columns, r),
            f"Boxes of zero width or height: {share(len(rows), len(columns))}.",
            "Write [x, y, width, height]; no box has an area." if every else
            "They match no object, so each counts as wrong. Leave them out when writing.",
            REFUSE if every and len(columns) > MANY_BOXES else WARN,
        ),
        *findings_on(
            "size", swapped, lambda r: _box_text(columns, r),
            f"Boxes of negative width or height: {share(len(swapped), len(columns))}.",
            _advice_on_negative(columns, index),
        ),
    ]  # fmt: skip


def _check_place(columns: Columns, index: SetIndex) -> list[Finding]:
    """F82: boxes that leave their images: corners for width and height, or a resized image."""
    excess = _excess(columns, index)
    outside = excess > 0
    if not outside.any():
        return []
    known = np.flatnonzero(~np.isnan(index.sizes[columns.image]).any(axis=1))
    if columns.origin == 0 and _corners_fit(columns, index, excess, known):
        rows = np.flatnonzero(excess > LEAVING_PIXELS)
        return [
            finding(
                "corners", rows, lambda r: _box_text(columns, r),
                f"{share(len(rows), len(columns), 'boxes')} leave their image as "
                "[x, y, width, height]; read as corners all fit.",
                "COCO expects width and height: write [x1, y1, x2 - x1, y2 - y1].",
                REFUSE if len(columns) > MANY_BOXES else WARN,
            )
        ]  # fmt: skip
    if form := _other_axes(columns, index, excess):
        rows = np.flatnonzero(excess > LEAVING_PIXELS)
        return [
            finding(
                "axes", rows, lambda r: _box_text(columns, r),
                f"{share(len(rows), len(columns), 'boxes')} leave their image; read as {form} all "
                "fit: x and y are swapped.",
                "Write x before y, as the format asks for.", WARN,
            )
        ]  # fmt: skip
    resized = _check_resized(columns, index, known)
    if resized:
        return resized
    return _outside(columns, np.flatnonzero(outside), excess)


def _outside(columns: Columns, rows: IntArray, excess: FloatArray) -> list[Finding]:
    far = int((excess > 1).sum())
    return [
        finding(
            "outside", rows, lambda r: f"{_box_text(columns, r)} by {excess[r]:.3g} px",
            f"Boxes that leave their image: {share(len(rows), len(columns))}, {far:,} of them by "
            "more than a pixel.",
            "Legal, but clipped boxes score higher; is it another image size?", WARN,
        )
    ]  # fmt: skip


def _excess(columns: Columns, index: SetIndex) -> FloatArray:
    """How far each box leaves its image, in pixels; 0 when it does not. float32 noise is none.

    0 where the set does not have the size of the image.
    """
    excess = np.zeros(len(columns))
    for rows in _blocks(len(columns)):
        x, y, width, height = columns.boxes[rows].T
        image_width, image_height = index.sizes[columns.image[rows]].T
        with np.errstate(over="ignore"):
            beyond = np.maximum(x + width - image_width, y + height - image_height)
        np.maximum(beyond, -np.minimum(x, y), out=beyond)
        excess[rows] = np.where(beyond > 1e-3, beyond, 0.0)
    return excess


def _blocks(count: int) -> Iterator[slice]:
    """Rows so few that their columns stay in the processor's cache."""
    return (slice(i, i + ROWS_AT_ONCE) for i in range(0, count, ROWS_AT_ONCE))


def _corners_fit(columns: Columns, index: SetIndex, excess: FloatArray, known: IntArray) -> bool:
    """Do many boxes leave their images as xywh, while all fit when read as two corners?"""
    if (excess > LEAVING_PIXELS).sum() <= LEAVING_SHARE * len(columns):
        return False
    boxes, sizes = columns.boxes[known], index.sizes[columns.image[known]]
    ordered = (boxes[:, 2:] > boxes[:, :2]).all()
    inside = (boxes[:, 2:] <= sizes + LEAVING_PIXELS).all() and (boxes >= -1).all()
    return bool(ordered and inside)


def _other_axes(columns: Columns, index: SetIndex, excess: FloatArray) -> str:
    """What the numbers are where y comes first and so all boxes fit; "" where that does not."""
    if (excess > LEAVING_PIXELS).sum() <= LEAVING_SHARE * len(columns):
        return ""
    turned = columns.boxes[:, [1, 0, 3, 2]]
    if _all_inside(columns, index, turned):
        return "y1, x1, y2, x2" if columns.origin else "y, x, height, width"
    corners = np.concatenate([turned[:, :2], turned[:, 2:] - turned[:, :2]], axis=1)
    fits = not columns.origin and (corners[:, 2:] > 0).all()
    return "y1, x1, y2, x2" if fits and _all_inside(columns, index, corners) else ""


def _check_resized(columns: Columns, index: SetIndex, known: IntArray) -> list[Finding]:
    """F83: most images are left by a like factor: pixels of the image as the net saw it."""
    reach = np.zeros((len(index.image_ids), 2))
    with np.errstate(over="ignore"):
        far = columns.boxes[known, :2] + columns.boxes[known, 2:]
    np.maximum.at(reach, columns.image[known], far)
    images = np.unique(columns.image[known])
    factor = (reach[images] / index.sizes[images]).max(axis=1)
    beyond = factor > 1.1
    if len(columns) <= MANY_BOXES or beyond.mean() < 0.5:
        return []
    rows = images[beyond]
    return [
        finding(
            "resized", rows, lambda i: f"image {index.image_ids[i]}",
            f"In {share(len(rows), len(images), 'images')} the boxes reach beyond the image, "
            f"{np.median(factor[beyond]):.2f} times its size in the middle: they look like pixels "
            "of a resized image.",
            "Scale them back to the size that the ground truth gives.", WARN,
        )
    ]  # fmt: skip


def _check_duplicates(columns: Columns) -> list[Finding]:
    """F84: the same image, class, box and score more than once.

    A few repeats are scored as pycocotools does; a file of many that has all of them is another.
    """
    suspects = _suspects(columns)
    if len(suspects) == 0:
        return []
    order, group = _equal_rows(columns, suspects)
    counts = np.bincount(group)
    if counts.max() == 1:
        return []
    firsts = np.flatnonzero(np.diff(group, prepend=-1))
    rows = np.setdiff1d(order, order[firsts])
    what = f"Detections that stand more than once: {share(len(rows), len(columns))} are repeats."
    times = "several"
    whole = len(suspects) == len(columns) and (counts == counts[0]).all()
    if whole:
        times = str(counts[0])
        what = f"The file contains every detection {times} times."
    return [
        finding(
            "duplicates", rows, lambda r: _box_text(columns, r), what,
            f"Was it written by {times} processes, or joined twice? Keep each detection once: each "
            "repeat counts as wrong.",
            REFUSE if whole and len(counts) >= COPIED else WARN,
        )
    ]  # fmt: skip


def _suspects(columns: Columns) -> IntArray:
    """Rows with an equal row, and a few more: those whose numbers, mixed to 32 bits, are equal."""
    mixed = np.empty(len(columns), dtype=np.uint32)
    factor = np.uint64(0x9E3779B97F4A7C15)  # any odd one that mixes well
    for rows in _blocks(len(columns)):
        numbers = [*columns.boxes[rows].T, columns.scores[rows]]
        keys = (columns.image[rows] * 65_521 + columns.category[rows]).astype(np.uint64) * factor
        for number in numbers:
            keys = (keys ^ (number + 0.0).view(np.uint64)) * factor  # + 0.0: -0.0 is 0.0
        mixed[rows] = keys >> np.uint64(32)
    order = stable_order(mixed)
    mixed = mixed[order]
    same = np.flatnonzero(mixed[1:] == mixed[:-1])
    return np.unique(np.concatenate([order[same], order[same + 1]]))


def _equal_rows(columns: Columns, rows: IntArray) -> tuple[IntArray, IntArray]:
    """`rows` in a stable order that brings equal ones together, and the group of each in it."""
    keys = [columns.image, columns.category, *columns.boxes.T, columns.scores]
    keys = [key[rows] for key in keys]
    if columns.mask_keys is not None:
        keys.append(columns.mask_keys[rows])
    if columns.segmentations is not None:
        table: dict[str, int] = {}
        texts = (str(columns.segmentations[row]["counts"]) for row in rows)
        keys.append(np.array([table.setdefault(t, len(table)) for t in texts]))
    order = np.lexsort(keys)
    differs = np.zeros(len(order), dtype=np.bool_)
    for key in keys:
        differs[1:] |= key[order][1:] != key[order][:-1]
    return rows[order], np.cumsum(differs)


def _check_crowded(columns: Columns, index: SetIndex) -> list[Finding]:
    """F86: the server keeps 100 per image; pycocotools 100 per image and class."""
    counts = np.bincount(columns.image, minlength=len(index.image_ids))
    images = np.flatnonzero(counts > DETECTIONS_PER_IMAGE)
    if len(images) == 0:
        return []
    return [
        finding(
            "over-100", images, lambda i: f"image {index.image_ids[i]}: {counts[i]}",
            f"More than {DETECTIONS_PER_IMAGE} detections: on "
            f"{share(len(images), len(counts), 'images')}, at most {counts.max()}.",
            "pycocotools counts the best 100 per image and class, COCO's server 100 per image: "
            "keep the best 100 of each image to see the server's number.", WARN,
        )
    ]  # fmt: skip


def _as_written(boxes: FloatArray, origin: float) -> FloatArray:
    """The numbers that the file has: x, y, width, height, or VOC's corners (origin 1)."""
    if origin == 0:
        return boxes
    return np.concatenate([boxes[:, :2] + origin, boxes[:, :2] + boxes[:, 2:]], axis=1)


def _box_text(columns: Columns, row: int) -> str:
    numbers = ", ".join(f"{v:g}" for v in _as_written(columns.boxes[[row]], columns.origin)[0])
    return f"{columns.name(row)}: {'box' if columns.origin else 'bbox'} [{numbers}]"
