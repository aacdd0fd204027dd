"""ILSVRC's result files, read, checked and written: detections (DET) and localisation (LOC).

    DET   one line per box:    <image index> <DET id> <score> <xmin> <ymin> <xmax> <ymax>
    LOC   one line per image:  <label> <xmin> <ymin> <xmax> <ymax>, up to five times, best first

Image indices are those of ImageSets/DET/val.txt, from 1; LOC's lines follow the file names. Ids
are the devkit's (meta_det.mat 1 to 200, meta_clsloc.mat 1 to 1000), not the order of sorted
wnids. Boxes count from 1, both ends inside, as in VOC.

Not for: classification (`cls_files`), scores (`ilsvrc_metrics`), or annotations, which are VOC's
XML (`annotation_files`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resdet.atomic import write_text
from resdet.evaluation.ilsvrc.guess_lines import (
    GUESSES,
    Guesses,
    are_whole,
    check_empty_lines,
    check_lines,
    check_surplus,
    lines_in,
    numbers_in,
    outside_range,
    refuse_lines,
    write_lines,
)
from resdet.evaluation.ilsvrc.ilsvrc_synsets import CLASSES
from resdet.evaluation.inputs.arrays import FloatArray, IntArray
from resdet.evaluation.inputs.findings import (
    WARN,
    Finding,
    findings_on,
    refuse_if_any,
    share,
)
from resdet.evaluation.inputs.validation import MANY_BOXES, NORMALISED_TO

DET_CLASSES, LOC_CLASSES = 200, CLASSES


@dataclass(frozen=True)
class DetResults:
    """Detections; row i of each array is detection i, in the order given.

    image: index from 1. label: DET id from 1. boxes: (detections, 4), VOC's way.
    lines: where in the file each stood.
    """

    image: IntArray
    label: IntArray
    scores: FloatArray
    boxes: FloatArray
    title: str = "the detections"
    lines: IntArray | None = None

    def name(self, row: int) -> str:
        if self.lines is not None:
            return f"line {self.lines[row]}"
        return f"detection {row} (image {self.image[row]})"


@dataclass(frozen=True)
class LocResults(Guesses):
    """Labels with boxes, (guesses, 4), VOC's way."""

    boxes: FloatArray
    title: str = "the guesses"


# -- reading -----------------------------------------------------------------------------------


def read_det_results(path: Path | str) -> DetResults:
    """The detections in a DET result file; `check_det_results` checks their values.

    Raises:
        DataError: no such file.
        CheckFailed: a line is not seven numbers, the first two of them whole; names the lines.
    """
    rows: list[list[float]] = []
    places: list[int] = []
    faulty: list[int] = []
    lines = lines_in(path)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        values = numbers_in(line)
        if values is None or len(values) != 7 or not are_whole(values[:2]):
            faulty.append(number)
        else:
            rows.append(values)
            places.append(number)
    refuse_lines(
        path, lines, faulty, "`image_index DET_id score xmin ymin xmax ymax`, the first two whole"
    )
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return DetResults(
        table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3:],
        Path(path).name, np.array(places, dtype=np.int64),
    )  # fmt: skip


def read_loc_results(path: Path | str) -> LocResults:
    """The guesses in a LOC result file, all groups of a line; an empty line is an image without.

    Raises:
        DataError: no such file.
        CheckFailed: a line is not groups of five numbers with a whole label; names the lines.
    """
    images: list[int] = []
    rows: list[list[float]] = []
    faulty: list[int] = []
    lines = lines_in(path)
    for number, line in enumerate(lines, 1):
        values = numbers_in(line)
        if values is None or len(values) % 5 or not are_whole(values[::5]):
            faulty.append(number)
            continue
        for start in range(0, len(values), 5):
            images.append(number)
            rows.append(values[start : start + 5])
    refuse_lines(path, lines, faulty, "groups of `label xmin ymin xmax ymax` with a whole label")
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    image = np.array(images, dtype=np.int64)
    return LocResults(
        len(lines), image, table[:, 0].astype(np.int64), table[:, 1:], Path(path).name
    )


# -- checking ----------------------------------------------------------------------------------


def check_det_results(
    results: DetResults, num_images: int, num_classes: int = DET_CLASSES
) -> list[Finding]:
    """What is wrong with detections for a set of so many images; empty when they are clean."""
    columns = (results.image, results.label, results.scores, results.boxes)
    _refuse_unequal_lengths(columns, "image, label, scores, boxes")
    findings = [
        *outside_range("unknown-image", results.image, num_images, results.name, "Image indices",
                  "They are the numbers in the list of images (ImageSets/DET/val.txt)."),
        *outside_range("unknown-category", results.label, num_classes, results.name, "DET ids",
                  "Write ILSVRC2015_DET_ID, as in meta_det.mat."),
        *_check_numbers(results.boxes, results.scores, results.name),
    ]  # fmt: skip
    total = len(results.scores)
    table = np.column_stack([results.image, results.label, results.scores, results.boxes])
    _, firsts = np.unique(table, axis=0, return_index=True)
    repeats = np.setdiff1d(np.arange(total), firsts)
    findings += findings_on(
        "duplicates", repeats, results.name,
        f"Lines that stand more than once: {share(len(repeats), total)} are repeats.",
        "Each repeat counts as a false detection. Keep each detection once.",
    )  # fmt: skip
    empty = np.setdiff1d(np.arange(1, num_images + 1), results.image)
    findings += findings_on(
        "images-without-detections", empty, lambda number: f"image {number}",
        f"Images without any detection: {share(len(empty), num_images, 'images')}.",
        "If they were never visited, this AP is too low; the format cannot tell.", WARN,
    )  # fmt: skip
    return findings


def check_loc_results(
    results: LocResults, num_images: int, num_classes: int = LOC_CLASSES
) -> list[Finding]:
    """What is wrong with guesses for a set of so many images; empty when they are clean.

    Raises:
        ValueError: the columns are not of one length, or the guesses not image by image.
    """
    _refuse_unequal_lengths((results.image, results.label, results.boxes), "image, label, boxes")
    _refuse_disorder(results)
    return [
        *check_lines(results, num_images),
        *outside_range("unknown-category", results.label, num_classes, results.name, "Labels",
                  "Write ILSVRC2015_CLSLOC_ID, as in meta_clsloc.mat."),
        *_check_numbers(results.boxes, None, results.name),
        *check_surplus(results, num_images, f"Only the first {GUESSES} count.", WARN),
        *check_empty_lines(results),
    ]  # fmt: skip


def _refuse_unequal_lengths(columns: Sequence[IntArray | FloatArray], names: str) -> None:
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise ValueError(f"{names} have {lengths} rows; give one of each per box")


def _refuse_disorder(results: LocResults) -> None:
    """A guess's place among its image's is known only where guesses stand image by image."""
    image = results.image
    if len(image) and not 1 <= image.min() <= image.max() <= results.num_images:
        raise ValueError(
            f"image is {image.min()} to {image.max()}, expected 1 to {results.num_images}: the "
            "number of the image's line"
        )
    rows = np.flatnonzero(np.diff(image) < 0)
    if len(rows):
        raise ValueError(
            f"guess {rows[0] + 1} is of image {image[rows[0] + 1]}, the one before it of image "
            f"{image[rows[0]]}; give guesses image by image, best first"
        )


def _check_numbers(
    boxes: FloatArray, scores: FloatArray | None, name: Callable[[int], str]
) -> list[Finding]:
    total = len(boxes)

    def box_text(row: int) -> str:
        return f"{name(row)}: box {' '.join(f'{v:g}' for v in boxes[row])}"

    finite = np.isfinite(boxes).all(axis=1)
    if scores is not None:
        finite &= np.isfinite(scores)
    backward = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    normalised = total > MANY_BOXES and ((boxes >= 0) & (boxes <= NORMALISED_TO)).all()
    return [
        *findings_on(
            "not-finite", np.flatnonzero(~finite), box_text,
            f"Scores or boxes that are NaN or infinite: {share(int((~finite).sum()), total)}.",
            "They come from the model: look for a loss that was not finite in its log.",
        ),
        *findings_on(
            "size", np.flatnonzero(backward), box_text,
            f"Boxes that end before they begin: {share(int(backward.sum()), total)}.",
            "Write corners, xmin ymin xmax ymax; are these width and height?",
        ),
        *findings_on(
            "normalised", range(total if normalised else 0), box_text,
            f"All {total:,} boxes lie in the first pixel: they look divided by width and height.",
            "Multiply them by the image's size.",
        ),
    ]  # fmt: skip


# -- writing -----------------------------------------------------------------------------------


def write_det_results(
    path: Path | str, results: DetResults, num_images: int, num_classes: int = DET_CLASSES
) -> list[Finding]:
    """Writes a DET result file, after a check; every number reads back as the same float.

    Returns:
        The warnings of the check.

    Raises:
        CheckFailed: the check refuses; nothing is written.
    """
    findings = check_det_results(results, num_images, num_classes)
    warnings = refuse_if_any(f"{path}", findings)
    rows = zip(
        results.image.tolist(), results.label.tolist(), results.scores.tolist(),
        results.boxes.tolist(), strict=True,
    )  # fmt: skip
    text = "".join(
        f"{image} {label} {' '.join(map(repr, [score, *box]))}\n"
        for image, label, score, box in rows
    )
    write_text(path, text)
    return warnings


def write_loc_results(
    path: Path | str, results: LocResults, num_images: int, num_classes: int = LOC_CLASSES
) -> list[Finding]:
    """Writes a LOC result file, after a check; a line per image, empty without a guess.

    Returns:
        The warnings of the check.

    Raises:
        CheckFailed: the check refuses; nothing is written.
    """
    findings = check_loc_results(results, num_images, num_classes)
    warnings = refuse_if_any(f"{path}", findings)
    rows = zip(results.label.tolist(), results.boxes.tolist(), strict=True)
    write_lines(path, results, (f"{label} {' '.join(map(repr, box))}" for label, box in rows))
    return warnings
