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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resdet.atomic import write_text
from resdet.errors import CheckFailed, DataError, first_few
from resdet.evaluation.inputs.arrays import FloatArray, IntArray
from resdet.evaluation.inputs.findings import (
    REFUSE,
    SHOWN,
    WARN,
    Finding,
    finding,
    refuse_if_any,
    share,
)
from resdet.evaluation.inputs.validation import MANY_BOXES, NORMALISED_TO

DET_CLASSES, LOC_CLASSES = 200, 1000
GUESSES = 5


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
class LocResults:
    """Guesses, image by image and best first; row i of each array is guess i.

    num_images: lines of the file, those without a guess too.
    image: number of the line from 1. label: from 1. boxes: (guesses, 4), VOC's way.
    """

    num_images: int
    image: IntArray
    label: IntArray
    boxes: FloatArray
    title: str = "the guesses"

    def place(self) -> IntArray:
        """0 for an image's first guess, 1 for its second, …"""
        first = np.searchsorted(self.image, self.image, side="left")
        return np.arange(len(self.image)) - first

    def name(self, row: int) -> str:
        return f"line {self.image[row]}, guess {self.place()[row] + 1}"


# -- reading -----------------------------------------------------------------------------------


def read_det_results(path: Path | str) -> DetResults:
    """The detections in a DET result file; `check_det_results` checks their values.

    Raises:
        DataError: no such file.
        CheckFailed: a line is not seven numbers, the first two of them whole; names the lines.
    """
    rows: list[list[float]] = []
    lines: list[int] = []
    faults = []
    for number, line in enumerate(lines_in(path), 1):
        if not line.strip():
            continue
        values = numbers_in(line)
        if values is None or len(values) != 7 or not are_whole(values[:2]):
            faults.append(f'line {number}: "{line.strip()[:60]}"')
        else:
            rows.append(values)
            lines.append(number)
    refuse_lines(
        path, faults, "`image_index DET_id score xmin ymin xmax ymax`, the first two whole"
    )
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return DetResults(
        table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3:],
        Path(path).name, np.array(lines, dtype=np.int64),
    )  # fmt: skip


def read_loc_results(path: Path | str) -> LocResults:
    """The guesses in a LOC result file, all groups of a line; an empty line is an image without.

    Raises:
        DataError: no such file.
        CheckFailed: a line is not groups of five numbers with a whole label; names the lines.
    """
    images: list[int] = []
    rows: list[list[float]] = []
    faults = []
    lines = lines_in(path)
    for number, line in enumerate(lines, 1):
        values = numbers_in(line)
        if values is None or len(values) % 5 or not are_whole(values[::5]):
            faults.append(f'line {number}: "{line.strip()[:60]}"')
            continue
        for start in range(0, len(values), 5):
            images.append(number)
            rows.append(values[start : start + 5])
    refuse_lines(path, faults, "groups of `label xmin ymin xmax ymax` with a whole label")
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    image = np.array(images, dtype=np.int64)
    return LocResults(
        len(lines), image, table[:, 0].astype(np.int64), table[:, 1:], Path(path).name
    )


def lines_in(path: Path | str) -> list[str]:
    """The lines of a result file.

    Raises:
        DataError: no such file. CheckFailed: it is no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. Give the path of a result file.") from None
    except (OSError, ValueError) as error:
        raise CheckFailed(f"{path} is not readable as text: {error}.") from None


def numbers_in(line: str) -> list[float] | None:
    """The numbers of a line; None where something else is in it."""
    try:
        return [float(part) for part in line.split()]
    except ValueError:
        return None


def are_whole(values: Iterable[float]) -> bool:
    """Whether all are whole numbers, of a size that a float holds exactly."""
    return all(abs(v) < 1e15 and v == int(v) for v in values)


def refuse_lines(path: Path | str, faults: Sequence[str], form: str) -> None:
    """Raises CheckFailed for lines that have not this form; shows the first."""
    if faults:
        raise CheckFailed(
            f"{path}: {len(faults):,} {'line is' if len(faults) == 1 else 'lines are'} not {form}."
            f"\n{first_few(faults, SHOWN)}"
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
    if len(firsts) < total:
        repeats = np.setdiff1d(np.arange(total), firsts)
        findings.append(
            finding(
                "duplicates", repeats, results.name,
                f"Lines that stand more than once: {share(len(repeats), total)} are repeats.",
                "Each repeat counts as a false detection. Keep each detection once.",
            )
        )  # fmt: skip
    seen = np.unique(results.image)
    empty = np.setdiff1d(np.arange(1, num_images + 1), seen)
    if len(empty):
        findings.append(
            finding(
                "images-without-detections", range(len(empty)), lambda i: f"image {empty[i]}",
                f"Images without any detection: {share(len(empty), num_images, 'images')}.",
                "If they were never visited, this AP is too low; the format cannot tell.", WARN,
            )
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
    findings = []
    if results.num_images != num_images:
        findings.append(
            Finding(
                "missing-images", abs(num_images - results.num_images), [],
                "Write one line per image in the order of the file names, empty where there is "
                "no guess.", REFUSE,
                f"{results.num_images:,} lines for {num_images:,} images.",
            )
        )  # fmt: skip
    findings += [
        *outside_range("unknown-category", results.label, num_classes, results.name, "Labels",
                  "Write ILSVRC2015_CLSLOC_ID, as in meta_clsloc.mat."),
        *_check_numbers(results.boxes, None, results.name),
    ]  # fmt: skip
    extra = np.flatnonzero(results.place() == GUESSES)
    if len(extra):
        findings.append(
            finding(
                "over-5", extra, lambda r: f"line {results.image[r]}",
                f"More than {GUESSES} guesses: on {share(len(extra), num_images, 'images')}.",
                f"Only the first {GUESSES} count.", WARN,
            )
        )  # fmt: skip
    empty = np.setdiff1d(np.arange(1, results.num_images + 1), results.image)
    if len(empty):
        findings.append(
            finding(
                "images-without-guess", range(len(empty)), lambda i: f"line {empty[i]}",
                f"Images without a guess: {share(len(empty), results.num_images, 'images')}.",
                "Each of them is an error.", WARN,
            )
        )  # fmt: skip
    return findings


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


def outside_range(
    rule: str,
    values: IntArray,
    count: int,
    name: Callable[[int], str],
    what: str,
    fix: str,
) -> list[Finding]:
    """Numbers that are not among 1 to `count`; counted from 0 is a kind of its own."""
    rows = np.flatnonzero((values < 1) | (values > count))
    if len(rows) == 0:
        return []
    low, high = int(values.min()), int(values.max())
    text = f"{what} outside 1 to {count:,}: {share(len(rows), len(values))}."
    if low == 0 and high < count:
        text = f"{what} lie between 0 and {high:,}, of 1 to {count:,}: they count from 0."
        fix = f"Add 1. {fix}"
    return [finding(rule, rows, lambda r: f"{name(r)}: {values[r]}", text, fix)]


def _check_numbers(
    boxes: FloatArray, scores: FloatArray | None, name: Callable[[int], str]
) -> list[Finding]:
    total = len(boxes)

    def box_text(row: int) -> str:
        return f"{name(row)}: box {' '.join(f'{v:g}' for v in boxes[row])}"

    finite = np.isfinite(boxes).all(axis=1)
    if scores is not None:
        finite &= np.isfinite(scores)
    findings = []
    rows = np.flatnonzero(~finite)
    if len(rows):
        findings.append(
            finding(
                "not-finite", rows, box_text,
                f"Scores or boxes that are NaN or infinite: {share(len(rows), total)}.",
                "They come from the model: look for a loss that was not finite in its log.",
            )
        )  # fmt: skip
    rows = np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(axis=1))
    if len(rows):
        findings.append(
            finding(
                "size", rows, box_text,
                f"Boxes that end before they begin: {share(len(rows), total)}.",
                "Write corners, xmin ymin xmax ymax; are these width and height?",
            )
        )  # fmt: skip
    if total > MANY_BOXES and ((boxes >= 0) & (boxes <= NORMALISED_TO)).all():
        findings.append(
            finding(
                "normalised", range(total), box_text,
                f"All {total:,} boxes lie in the first pixel: they look divided by width and "
                "height.", "Multiply them by the image's size.",
            )
        )  # fmt: skip
    return findings


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
    lines: list[list[str]] = [[] for _ in range(results.num_images)]
    for image, label, box in zip(
        results.image.tolist(), results.label.tolist(), results.boxes.tolist(), strict=True
    ):
        lines[image - 1].append(f"{label} {' '.join(map(repr, box))}")
    write_text(path, "".join(" ".join(line) + "\n" for line in lines))
    return warnings
