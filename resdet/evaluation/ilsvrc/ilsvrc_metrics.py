"""ILSVRC's metrics: AP of detection (DET), errors of localisation (LOC), by the devkit's rules.

DET is VOC's area rule with two differences. Small objects ask for less overlap: width x height /
((width + 10) x (height + 10)) where that is under 0.5, ten pixels of slack in each direction. And
a detection takes, of the objects that are free and whose own threshold it reaches, the one
with the largest overlap; a second detection of an object is wrong. Pairs of image and class on
the blacklist are not scored at all.

LOC: five guesses per image; an image is right if one of them has its label and overlaps an
object of that class by 0.5 or more. With the known class the guesses are for the class that the
image is known to have, and only the box is asked.

Source: the ILSVRC 2015 devkit's readme, sections 2.3 and 3; its eval_detection and eval_clsloc.

Not for: files (`ilsvrc_files`), or the number of categories won.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resdet.errors import DataError, first_few
from resdet.evaluation.ilsvrc.guess_lines import GUESSES
from resdet.evaluation.ilsvrc.ilsvrc_files import (
    DET_CLASSES,
    LOC_CLASSES,
    DetResults,
    LocResults,
    check_det_results,
    check_loc_results,
)
from resdet.evaluation.inputs.arrays import BoolArray, FloatArray, IntArray
from resdet.evaluation.inputs.findings import Finding, refuse_if_any
from resdet.evaluation.voc.class_scores import (
    ClassDetections,
    ClassObjects,
    average_precision,
    overlaps,
    pairs,
)

SLACK = 10  # pixels, of width and of height
OVERLAP = 0.5


@dataclass(frozen=True)
class DetTruth:
    """Objects of a DET set; row i of each array is object i.

    image: index from 1, as in the list of images. label: DET id from 1. boxes: VOC's way.
    """

    num_images: int
    image: IntArray
    label: IntArray
    boxes: FloatArray
    num_classes: int = DET_CLASSES


@dataclass(frozen=True)
class DetScore:
    """ap: in [0, 1], None without an object. positives, detections: those that were scored."""

    ap: float | None
    positives: int
    detections: int


@dataclass(frozen=True)
class DetResult:
    """AP by DET id, and their mean over the classes that have one."""

    classes: Mapping[int, DetScore]
    images: Mapping[str, int]
    blacklisted: int  # pairs of image and class
    warnings: tuple[Finding, ...] = ()

    @property
    def mean_ap(self) -> float | None:
        values = [s.ap for s in self.classes.values() if s.ap is not None]
        return float(np.mean(values)) if values else None

    @property
    def notes(self) -> list[str]:
        """Sentences without which the number would be misread."""
        absent = [str(label) for label, s in self.classes.items() if s.ap is None]
        if not absent:
            return []
        return [
            f"Mean of {len(self.classes) - len(absent)} of {len(self.classes)} classes; no object "
            f"of: {', '.join(absent[:10])}{', …' if len(absent) > 10 else ''}."
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "protocol": "ILSVRC DET",
            "mean_ap": self.mean_ap,
            "classes": {
                str(label): {"ap": s.ap, "positives": s.positives, "detections": s.detections}
                for label, s in self.classes.items()
            },
            "blacklisted": self.blacklisted,
            "images": dict(self.images),
        }


def det_thresholds(boxes: FloatArray) -> FloatArray:
    """The overlap that a detection of each object must reach.

    Args:
        boxes: (objects, 4), VOC's way: width = xmax - xmin + 1.

    Example:
        >>> det_thresholds(np.array([[1.0, 1, 10, 10], [1, 1, 100, 50]])).tolist()
        [0.25, 0.5]
    """
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return np.minimum(OVERLAP, np.prod(sides / (sides + SLACK), axis=1))


def evaluate_det(
    truth: DetTruth,
    results: DetResults,
    *,
    blacklist: Iterable[tuple[int, int]] = (),
) -> DetResult:
    """AP of each class by DET's rule, after the detections were validated.

    Args:
        truth: all objects of the set.
        results: as `read_det_results` gives them.
        blacklist: (image index, DET id): neither objects nor detections of that class in that
            image count.

    Raises:
        ValueError: an object's image or label is not in the set.
        CheckFailed: the detections are refused; the page gives the reason.
    """
    _refuse_strange_objects(truth)
    findings = check_det_results(results, truth.num_images, truth.num_classes)
    warnings = refuse_if_any(results.title, findings)
    pairs_out = set(blacklist)
    classes = {}
    for one in judged_classes(truth, results, pairs_out):
        ap = None
        if positives := len(one.objects):
            ap = average_precision(one.right, ~one.right, positives, "area", "devkit")
        classes[one.label] = DetScore(ap, positives, len(one.detections))
    images = {"expected": truth.num_images, "evaluated": truth.num_images, "missing": 0}
    return DetResult(classes, images, len(pairs_out), tuple(warnings))


@dataclass(frozen=True)
class JudgedClass:
    """The detections of one class in the order in which they are taken.

    Attributes:
        label: DET id.
        objects: rows of the truth that are to be found.
        detections: rows of the results that are scored.
        right: of each of these; the others are wrong.
    """

    label: int
    objects: IntArray
    detections: IntArray
    right: BoolArray


def judged_classes(
    truth: DetTruth, results: DetResults, blacklist: Iterable[tuple[int, int]] = ()
) -> Iterator[JudgedClass]:
    """Every class by DET's rule; arguments as of `evaluate_det`, which validates them."""
    # A pair as one number, so that membership is a search.
    width = truth.num_classes + 1
    pairs_out = np.array([image * width + label for image, label in blacklist], dtype=np.int64)
    objects_in = ~np.isin(truth.image * width + truth.label, pairs_out)
    found_in = ~np.isin(results.image * width + results.label, pairs_out)
    for label in range(1, truth.num_classes + 1):
        true = np.flatnonzero((truth.label == label) & objects_in)
        mine = np.flatnonzero((results.label == label) & found_in)
        # By falling score, then image, then as given: the devkit's stable sorts.
        mine = mine[np.lexsort((results.image[mine], -results.scores[mine]))]
        objects = ClassObjects(
            truth.image[true], truth.boxes[true], np.zeros(len(true), dtype=np.bool_)
        )
        detections = ClassDetections(results.image[mine], results.boxes[mine], results.scores[mine])
        yield JudgedClass(label, true, mine, judge_det(objects, detections))


def _refuse_strange_objects(truth: DetTruth) -> None:
    if not len(truth.image) == len(truth.label) == len(truth.boxes):
        raise ValueError(
            f"{len(truth.image)} images, {len(truth.label)} labels, {len(truth.boxes)} boxes; "
            "give one of each per object"
        )
    _refuse_numbers("image of object", truth.image, truth.num_images)
    _refuse_numbers("label of object", truth.label, truth.num_classes)


def _refuse_numbers(what: str, values: IntArray, most: int) -> None:
    rows = np.flatnonzero((values < 1) | (values > most))
    if len(rows):
        raise ValueError(
            f"{what} {rows[0]} is {values[rows[0]]}, expected 1 to {most}; outside are {len(rows)} "
            f"of {len(values)}"
        )


def judge_det(objects: ClassObjects, detections: ClassDetections) -> BoolArray:
    """Which detections of one class are right; all others are wrong.

    Args:
        detections: in the order in which they are taken.
    """
    detection, item = pairs(objects, detections)
    overlap = overlaps(detections.boxes[detection], objects.boxes[item])
    near = np.flatnonzero(overlap >= det_thresholds(objects.boxes)[item])
    # Of equal overlaps the first object's.
    near = near[np.lexsort((item[near], -overlap[near], detection[near]))]
    right = np.zeros(len(detections.image), dtype=np.bool_)
    taken = np.zeros(len(objects.image), dtype=np.bool_)
    for d, o in zip(detection[near].tolist(), item[near].tolist(), strict=True):
        if not right[d] and not taken[o]:
            right[d] = taken[o] = True
    return right


# -- localisation ------------------------------------------------------------------------------


@dataclass(frozen=True)
class LocTruth:
    """The one label of each image, and the boxes of its objects of that class.

    labels: (images,), from 1, in the order of the file names. image: number of the image from
    1, of each box. boxes: VOC's way.
    """

    labels: IntArray
    image: IntArray
    boxes: FloatArray


@dataclass(frozen=True)
class LocResult:
    """Errors in [0, 1].

    localization: label and box, of the images that are not blacklisted.
    known_class: the box alone, for guesses made for the known class, of the same images.
    classification: the label alone, of all images. None without an image.
    """

    localization: float | None
    known_class: float | None
    classification: float | None
    images: Mapping[str, int]
    blacklisted: int
    warnings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "protocol": "ILSVRC LOC",
            "top5_localization_error": self.localization,
            "known_class_localization_error": self.known_class,
            "top5_classification_error": self.classification,
            "blacklisted": self.blacklisted,
            "images": dict(self.images),
        }


def evaluate_loc(
    truth: LocTruth,
    results: LocResults,
    *,
    blacklist: Iterable[int] = (),
    num_classes: int = LOC_CLASSES,
) -> LocResult:
    """LOC's errors, after the guesses were validated.

    The same file gives all three: `localization` is the contest's ("top-5 error with predicted
    classes"); `known_class` is table 13's "LOC error on GT class" when the guesses were made for
    the known class, usually one per image.

    Args:
        truth: of all images in the order of their file names.
        results: as `read_loc_results` gives them; the first five guesses of an image count.
        blacklist: numbers, from 1, of images whose boxes are not usable; their labels count.

    Raises:
        ValueError: a box or the blacklist names an image that is not there, a label is not 1 to
            `num_classes`, or the guesses do not stand image by image.
        DataError: an image that is scored has no box, so that no guess could be right.
        CheckFailed: the guesses are refused; the page gives the reason.
    """
    count = len(truth.labels)
    _refuse_numbers("image of box", truth.image, count)
    _refuse_numbers("label of image", truth.labels, num_classes)
    findings = check_loc_results(results, count, num_classes)
    warnings = refuse_if_any(results.title, findings)
    scored = np.ones(count, dtype=np.bool_)
    out = sorted(set(blacklist))
    if out and not 1 <= out[0] <= out[-1] <= count:
        raise ValueError(f"blacklist names images {out[0]} to {out[-1]}, expected 1 to {count}")
    scored[[number - 1 for number in out]] = False
    _refuse_without_box(truth, scored)
    counted = np.flatnonzero(results.place() < GUESSES)
    image, label = results.image[counted] - 1, results.label[counted]
    named = label == truth.labels[image]
    hit = _hits(truth, image, results.boxes[counted])
    right = {
        name: np.bincount(image[rows], minlength=count) > 0
        for name, rows in (("label", named), ("box", hit), ("both", named & hit))
    }
    images = {"expected": count, "evaluated": count, "missing": 0}
    return LocResult(
        _error(right["both"][scored]),
        _error(right["box"][scored]),
        _error(right["label"]),
        images,
        len(out),
        tuple(warnings),
    )


def _refuse_without_box(truth: LocTruth, scored: BoolArray) -> None:
    boxed = np.bincount(truth.image - 1, minlength=len(scored)) > 0
    bare = np.flatnonzero(scored & ~boxed) + 1
    if len(bare):
        raise DataError(
            f"{len(bare):,} of {len(scored):,} images have no box of their class. Add them, or "
            f"name the images in the blacklist.\n{first_few([f'image {n}' for n in bare], 5)}"
        )


def _hits(truth: LocTruth, image: IntArray, boxes: FloatArray) -> BoolArray:
    """Which guesses overlap an object of their image's class by half or more."""
    objects = ClassObjects(truth.image - 1, truth.boxes, np.zeros(len(truth.image), dtype=np.bool_))
    guess, item = pairs(objects, ClassDetections(image, boxes, np.zeros(len(image))))
    near = overlaps(boxes[guess], truth.boxes[item]) >= OVERLAP
    hit = np.zeros(len(image), dtype=np.bool_)
    hit[guess[near]] = True
    return hit


def _error(right: BoolArray) -> float | None:
    return float((~right).mean()) if len(right) else None
