"""ILSVRC's files of classification (CLS), read, checked and written.

    one line per image, in the alphabetical order of the file names:  <id> <id> <id> <id> <id>

Up to five ILSVRC2012_ID, 1 to 1000, by falling confidence: the order of the development kit, not of
sorted wnids (`ilsvrc_synsets`). Source: the development kit of ILSVRC2012, its readme, task 1.

Not for: boxes, as DET and LOC have them (`ilsvrc_files`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resdet.atomic import write_text
from resdet.evaluation.ilsvrc.ilsvrc_files import (
    are_whole,
    lines_in,
    numbers_in,
    outside_range,
    refuse_lines,
)
from resdet.evaluation.ilsvrc.ilsvrc_synsets import CLASSES
from resdet.evaluation.inputs.arrays import IntArray
from resdet.evaluation.inputs.findings import (
    REFUSE,
    WARN,
    Finding,
    finding,
    refuse_if_any,
    share,
)

GUESSES = 5


@dataclass(frozen=True)
class ClsResults:
    """Guesses, image by image and best first; row i of each array is guess i.

    num_images: lines of the file, those without a guess too.
    image: number of the line from 1. label: id from 1.
    """

    num_images: int
    image: IntArray
    label: IntArray
    title: str = "the guesses"

    def place(self) -> IntArray:
        """0 for an image's first guess, 1 for its second, …"""
        first = np.searchsorted(self.image, self.image, side="left")
        return np.arange(len(self.image)) - first

    def name(self, row: int) -> str:
        return f"line {self.image[row]}, guess {self.place()[row] + 1}"


def cls_results(ids: IntArray) -> ClsResults:
    """Of (N, 5) ids, or fewer columns, best first."""
    number, guesses = ids.shape
    return ClsResults(number, np.repeat(np.arange(1, number + 1), guesses), ids.reshape(-1))


def read_cls_results(path: Path | str) -> ClsResults:
    """The guesses in a file; an empty line is an image without.

    Raises:
        DataError: no such file. CheckFailed: a line is not whole numbers; names the lines.
    """
    images: list[int] = []
    labels: list[float] = []
    faults = []
    lines = lines_in(path)
    for number, line in enumerate(lines, 1):
        values = numbers_in(line)
        if values is None or not are_whole(values):
            faults.append(f'line {number}: "{line.strip()[:60]}"')
            continue
        images += [number] * len(values)
        labels += values
    refuse_lines(path, faults, "ids, whole numbers with blanks between them")
    image, label = np.array(images, dtype=np.int64), np.array(labels, dtype=np.int64)
    return ClsResults(len(lines), image, label, Path(path).name)


def check_cls_results(results: ClsResults, num_images: int) -> list[Finding]:
    """What is wrong with guesses for a set of so many images; empty when they are clean."""
    findings = []
    if results.num_images != num_images:
        findings.append(
            Finding(
                "missing-images", abs(num_images - results.num_images), [],
                "Write one line per image in the order of the file names: one line too few moves "
                "all that follow.", REFUSE,
                f"{results.num_images:,} lines for {num_images:,} images.",
            )
        )  # fmt: skip
    findings += outside_range(
        "unknown-category", results.label, CLASSES, results.name, "Labels",
        "Write ILSVRC2012_ID, as in meta.mat or map_clsloc.txt of the development kit.",
    )  # fmt: skip
    extra = np.flatnonzero(results.place() == GUESSES)
    if len(extra):
        findings.append(
            finding(
                "over-5", extra, lambda r: f"line {results.image[r]}",
                f"More than {GUESSES} labels: on {share(len(extra), num_images, 'images')}.",
                f"The development kit allows no more than {GUESSES}: leave the others out.",
            )
        )  # fmt: skip
    findings += _repeats(results)
    empty = np.setdiff1d(np.arange(1, results.num_images + 1), results.image)
    if len(empty):
        findings.append(
            finding(
                "images-without-guess", range(len(empty)), lambda i: f"line {empty[i]}",
                f"Images without a label: {share(len(empty), results.num_images, 'images')}.",
                "Each of them is an error.", WARN,
            )
        )  # fmt: skip
    return findings


def _repeats(results: ClsResults) -> list[Finding]:
    pairs = np.column_stack([results.image, results.label])
    _, firsts = np.unique(pairs, axis=0, return_index=True)
    again = np.setdiff1d(np.arange(len(pairs)), firsts)
    if len(again) == 0:
        return []
    return [
        finding(
            "duplicates", again, lambda r: f"{results.name(r)}: {results.label[r]}",
            f"Labels that come again on their line: {share(len(again), len(pairs), 'labels')}.",
            "A repeated label is a guess given away.", WARN,
        )
    ]  # fmt: skip


def write_cls_results(path: Path | str, results: ClsResults) -> list[Finding]:
    """Writes the file, after a check; gives the warnings of the check.

    Raises:
        CheckFailed: the check refuses; nothing is written.
    """
    warnings = refuse_if_any(f"{path}", check_cls_results(results, results.num_images))
    lines: list[list[str]] = [[] for _ in range(results.num_images)]
    for image, label in zip(results.image.tolist(), results.label.tolist(), strict=True):
        lines[image - 1].append(str(label))
    write_text(path, "".join(" ".join(line) + "\n" for line in lines))
    return warnings


def cls_errors(results: ClsResults, truth: Sequence[int] | IntArray) -> tuple[int, int]:
    """How many images are wrong at the first guess, and at the first five.

    Args:
        truth: the id of each image, from 1.

    Raises:
        ValueError: another number of images.
    """
    ids = np.asarray(truth, dtype=np.int64)
    if len(ids) != results.num_images:
        raise ValueError(f"{len(ids)} true labels for {results.num_images} images")
    right = results.label == ids[results.image - 1]
    place = results.place()
    return tuple(  # type: ignore[return-value]
        results.num_images - len(np.unique(results.image[right & (place < top)]))
        for top in (1, GUESSES)
    )
