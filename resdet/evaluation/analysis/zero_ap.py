"""Likely causes of an AP50 close to zero, from the data.

Validation refuses what cannot be right (ids that the set does not have, boxes in the first
pixel, corners that leave the image). What it cannot refuse is tested here: the same detections
are scored again as if one usual mistake had been made, and where that gives a real AP the note
names the mistake and that AP.

Not for: fixing anything, or numbers that are merely low.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from resdet import profile
from resdet.evaluation.inputs.arrays import BoolArray, FloatArray, IntArray
from resdet.evaluation.inputs.detections import Columns
from resdet.evaluation.inputs.ground_truth import GroundTruth
from resdet.evaluation.inputs.validation import NORMALISED_TO
from resdet.evaluation.voc.class_scores import ClassDetections, ClassObjects, overlaps, pairs
from resdet.evaluation.voc.voc_arrays import VocGroundTruth, ground_truth_from_coco, inclusive
from resdet.evaluation.voc.voc_rules import ROWS_AT_ONCE, VocRule, judge_voc

# Of AP50: what counts as close to zero, and what another reading must give to be named.
NOTHING, SOMETHING = 0.01, 0.05
# Below it Detectron2 keeps no detection (SCORE_THRESH_TEST).
SCORE_THRESHOLD = 0.05

# Columns read otherwise, and the sentence that reports it, with a place for what AP50 would be.
Reading = tuple[dict[str, Any], str]


def notes_on_zero(
    ap50: float | None,
    truth: GroundTruth | VocGroundTruth,
    columns: Columns,
    used: BoolArray | None = None,
) -> list[str]:
    """The likely causes of an AP50 under one percent, one sentence each; else an empty list.

    Args:
        ap50: in [0, 1]; None where it is undefined.
        truth: the set, with objects to find.
        columns: validated detections; without any there is another note already.
        used: the images that were scored; all when left out.
    """
    if ap50 is None or ap50 >= NOTHING:
        return []
    return _likely_causes(truth, columns, used)


@profile.timed("why an AP is 0")
def _likely_causes(
    truth: GroundTruth | VocGroundTruth, columns: Columns, used: BoolArray | None
) -> list[str]:
    ids = truth.index.category_ids if isinstance(truth, GroundTruth) else ()
    objects = ground_truth_from_coco(truth) if isinstance(truth, GroundTruth) else truth
    if used is not None:
        objects, columns = _on_images(objects, columns, used)
    if len(columns) == 0 or objects.difficult.all():
        return []
    suspicion = _Suspicion(objects, columns, ids)
    # Without the number, which differs from metric to metric: a note is shown once.
    head = f"AP50 is under {100 * NOTHING:g} %. "
    if suspicion.now >= SOMETHING:
        return [
            f"{head}By its boxes and VOC's rule (area) it is {100 * suspicion.now:.1f} %: look at "
            "the masks."
        ]
    causes = list(suspicion.causes())
    if not causes:
        return [
            f"{head}No other reading of image ids, class numbers, boxes or scores that was tried "
            f"gives {100 * SOMETHING:g} %. {_largest_overlap(objects, columns)}"
        ]
    return [head + cause for cause in causes]


def _on_images(
    truth: VocGroundTruth, columns: Columns, used: BoolArray
) -> tuple[VocGroundTruth, Columns]:
    there, rows = used[truth.image], np.flatnonzero(used[columns.image])
    part = dataclasses.replace(
        truth, image=truth.image[there], label=truth.label[there], boxes=truth.boxes[there],
        difficult=truth.difficult[there],
    )  # fmt: skip
    return part, Columns(
        columns.image[rows], columns.category[rows], columns.boxes[rows], columns.scores[rows],
        columns.name, origin=columns.origin,
    )  # fmt: skip


class _Suspicion:
    """Tests one mistake after another; AP50 here is by VOC's area rule for every metric."""

    def __init__(self, truth: VocGroundTruth, columns: Columns, category_ids: Sequence[int]):
        self.truth, self.columns, self.category_ids = truth, columns, category_ids
        self.now = self._ap50() or 0.0

    def causes(self) -> Iterator[str]:
        yield from self._no_shared_image()
        yield from self._best(self._other_images())
        yield from self._best(self._other_classes(), self._mapped_classes(), self._one_class())
        yield from self._best(self._other_boxes())
        yield from self._scores()

    def _best(self, *kinds: Iterable[Reading]) -> Iterator[str]:
        """The reading that gives most, if that is something.

        Of a later kind, which explains more with more freedom, only if that gives far more.
        """
        most, sentence = max(SOMETHING, 5 * self.now), None
        for readings in kinds:
            expected = most if sentence is None else 1.2 * most
            for columns, text in readings:
                value = self._ap50(**columns)
                if value is not None and value >= max(expected, most):
                    most, sentence = value, text
        if sentence is not None:
            yield sentence.format(f"AP50 (VOC, area) would be {100 * most:.1f} %")

    def _ap50(
        self,
        *,
        image: IntArray | None = None,
        category: IntArray | None = None,
        boxes: FloatArray | None = None,
        scores: FloatArray | None = None,
    ) -> float | None:
        """AP50 with columns replaced; those that fall out of the set (-1) are left out."""
        columns = dataclasses.replace(
            self.columns,
            image=self.columns.image if image is None else image,
            category=self.columns.category if category is None else category,
            boxes=self.columns.boxes if boxes is None else boxes,
            scores=self.columns.scores if scores is None else scores,
        )
        kept = np.flatnonzero((columns.image >= 0) & (columns.category >= 0))
        columns = Columns(
            columns.image[kept], columns.category[kept], columns.boxes[kept],
            columns.scores[kept], columns.name,
        )  # fmt: skip
        return judge_voc(self.truth, columns, VocRule()).ap50

    def _no_shared_image(self) -> Iterator[str]:
        seen, expected = np.unique(self.columns.image), np.unique(self.truth.image)
        if not np.isin(seen, expected).any():
            yield (
                f"None of the {len(seen):,} images with detections has an object; the "
                f"{len(expected):,} with objects have no detection. Are the image ids those of "
                "another list, such as places in it?"
            )

    def _other_images(self) -> Iterator[Reading]:
        rank = self.truth.index.image_rank()
        by_rank = np.argsort(rank)
        for step, word in ((1, "after"), (-1, "before")):
            place = _shifted(rank[self.columns.image], step, len(rank))
            yield (
                {"image": np.where(place < 0, -1, by_rank[place])},
                f"If every detection were on the image {word} its own, {{}}. Was the image id "
                "counted from another number?",
            )

    def _other_classes(self) -> Iterator[Reading]:
        count = len(self.truth.classes)
        for step, word in ((1, "after"), (-1, "before")):
            yield (
                {"category": _shifted(self.columns.category, step, count)},
                f"If every detection were of the class {word} its own, {{}}: the classes are "
                "shifted by one. Is there a background class, or is one list counted from 0 and "
                "the other from 1?",
            )
        ids = np.array(self.category_ids, dtype=np.int64)
        if len(ids) == 0 or int(ids[-1]) - int(ids[0]) == count - 1:
            return
        for first in (0, 1):
            yield (
                {"category": _shifted(ids[self.columns.category], -first, count)},
                f"If category_id were a class number from {first} on, {{}}: these are contiguous "
                f"numbers, the set's {count} ids lie between {ids[0]} and {ids[-1]}. Write the "
                "set's ids.",
            )

    def _mapped_classes(self) -> Iterator[Reading]:
        """Boxes on objects of other classes: which, and what a map between them would give."""
        count = len(self.truth.classes)
        table = np.zeros((count, count), dtype=np.int64)
        for detection, item, overlap in _all_overlaps(self.truth, self.columns):
            near = overlap >= 0.5
            pair = self.columns.category[detection[near]], self.truth.label[item[near]]
            np.add.at(table, pair, 1)
        target = np.where(table.any(axis=1), table.argmax(axis=1), np.arange(count))
        names, moved = self.truth.classes, np.flatnonzero(target != np.arange(count))
        examples = ", ".join(f"{names[i]} on {names[target[i]]}" for i in moved[:3])
        more = ", …" if len(moved) > 3 else ""
        examples = examples.replace("{", "{{").replace("}", "}}")
        yield (
            {"category": target[self.columns.category]},
            f"The boxes are on objects of other classes ({examples}{more}): with the classes "
            "mapped so {}. Is the list of class names in another order?",
        )

    def _one_class(self) -> Iterator[Reading]:
        """A detector that finds objects and does not tell their classes apart."""
        own = np.unique(self.columns.category)
        if len(own) > 1 or len(self.truth.classes) < 2:
            return
        best = np.zeros(len(self.columns))
        category = self.columns.category.copy()
        for detection, item, overlap in _all_overlaps(self.truth, self.columns):
            order = np.argsort(overlap)  # of several objects the nearest comes last
            detection, item, overlap = detection[order], item[order], overlap[order]
            near = overlap > np.maximum(best[detection], 0.5)
            category[detection[near]] = self.truth.label[item[near]]
            best[detection[near]] = overlap[near]
        name = self.truth.classes[int(own[0])].replace("{", "{{").replace("}", "}}")
        yield (
            {"category": category},
            f"All {len(category):,} detections are of one class ({name}): with the class of the "
            "object that each is on {}. Is this a detector that tells no classes apart?",
        )

    def _written(self) -> FloatArray:
        """The four numbers as the file has them: x, y, width, height, or VOC's corners."""
        boxes, origin = self.columns.boxes, self.columns.origin
        if origin == 0:
            return boxes
        return np.concatenate([boxes[:, :2] + origin, boxes[:, :2] + boxes[:, 2:]], axis=1)

    def _other_boxes(self) -> Iterator[Reading]:
        for form, read in self._box_forms():
            text = f"If boxes were {form}, {{}}. Write what the format asks for."
            yield {"boxes": read(self._written())}, text

    def _box_forms(self) -> Iterator[tuple[str, Callable[[FloatArray], FloatArray]]]:
        def corners(b: FloatArray) -> FloatArray:
            return np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1)

        def centre(b: FloatArray) -> FloatArray:
            return np.concatenate([b[:, :2] - b[:, 2:] / 2, b[:, 2:]], axis=1)

        own: Callable[[FloatArray], FloatArray] = corners if self.columns.origin else lambda b: b
        if self.columns.origin:
            yield "x, y, width, height", lambda b: b
        else:
            yield "corners (x1, y1, x2, y2)", corners
        yield "centre, width, height", centre
        yield "y before x", lambda b: own(b[:, [1, 0, 3, 2]])
        factor = self._factor()
        if factor is not None:
            size = f"{factor:.3g} times as large, as of a resized image"
            yield size, lambda b: own(b * factor)
        sizes = self.truth.index.sizes[self.columns.image]
        written = self._written()
        if ((written >= 0) & (written <= NORMALISED_TO)).all() and not np.isnan(sizes).any():
            scale = np.concatenate([sizes, sizes], axis=1)
            yield "fractions of the image's size", lambda b: own(b * scale)
            yield "corners in fractions of the image's size", lambda b: corners(b * scale)
            yield "centre and size in fractions of the image's", lambda b: centre(b * scale)

    def _factor(self) -> float | None:
        """By how much the objects of an image reach further than its detections, as a rule."""
        columns, count = self.columns, len(self.truth.index.image_ids)
        reach, expected = np.zeros(count), np.zeros(count)
        np.maximum.at(reach, columns.image, (columns.boxes[:, :2] + columns.boxes[:, 2:]).max(1))
        np.maximum.at(expected, self.truth.image, self.truth.boxes[:, 2:].max(1))
        both = (reach > 0) & (expected > 0)
        factor = float(np.median(expected[both] / reach[both])) if both.any() else 1.0
        return None if 0.9 < factor < 1.1 else factor

    def _scores(self) -> Iterator[str]:
        scores = self.columns.scores
        low, high = float(scores.min()), float(scores.max())
        if high < SCORE_THRESHOLD:
            yield (
                f"All {len(scores):,} scores are under {SCORE_THRESHOLD:g}, the largest is "
                f"{high:.3g}: the detector is sure of nothing. Was it trained, and were its "
                "weights loaded?"
            )
        if low == high and len(scores) > 1:
            yield f"All {len(scores):,} scores are {high:g}, so nothing ranks the detections."
        text = "If the lowest score came first, {}. Are these distances or losses?"
        yield from self._best([({"scores": -scores}, text)])


def _shifted(places: IntArray, step: int, count: int) -> IntArray:
    """Places moved by `step`; -1 for those that fall out."""
    moved = places + step
    return np.where((moved >= 0) & (moved < count), moved, -1)


def _all_overlaps(
    truth: VocGroundTruth, columns: Columns
) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
    """Every detection with every object of its image, and their overlap; some detections at a
    time."""
    objects = ClassObjects(truth.image, truth.boxes, truth.difficult)
    for start in range(0, len(columns), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        boxes = columns.boxes[rows]
        corners = inclusive(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1))
        detections = ClassDetections(columns.image[rows], corners, columns.scores[rows])
        detection, item = pairs(objects, detections)
        yield detection + start, item, overlaps(detections.boxes[detection], objects.boxes[item])


def _largest_overlap(truth: VocGroundTruth, columns: Columns) -> str:
    own = any_ = 0.0
    for detection, item, overlap in _all_overlaps(truth, columns):
        mine = columns.category[detection] == truth.label[item]
        own = max(own, float(overlap[mine].max(initial=0.0)))
        any_ = max(any_, float(overlap.max(initial=0.0)))
    return (
        f"The largest overlap of a detection with an object of its class is {own:.2f}, of any "
        f"class {any_:.2f}."
    )
