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
from resdet.evaluation.inputs.arrays import IntArray
from resdet.evaluation.inputs.findings import (
    REFUSE,
    WARN,
    Finding,
    findings_on,
    refuse_if_any,
    share,
)


@dataclass(frozen=True)
class ClsResults(Guesses):
    """Labels without boxes."""

    title: str = "the guesses"


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
    faulty: list[int] = []
    lines = lines_in(path)
    for number, line in enumerate(lines, 1):
        values = numbers_in(line)
        if values is None or not are_whole(values):
            faulty.append(number)
            continue
        images += [number] * len(values)
        labels += values
    refuse_lines(path, lines, faulty, "ids, whole numbers with blanks between them")
    image, label = np.array(images, dtype=np.int64), np.array(labels, dtype=np.int64)
    return ClsResults(len(lines), image, label, Path(path).name)


def check_cls_results(results: ClsResults, num_images: int) -> list[Finding]:
    """What is wrong with guesses for a set of so many images; empty when they are clean."""
    return [
        *check_lines(results, num_images),
        *outside_range(
            "unknown-category", results.label, CLASSES, results.name, "Labels",
            "Write ILSVRC2012_ID, as in meta.mat or map_clsloc.txt of the development kit.",
        ),
        *check_surplus(
            results, num_images,
            f"The development kit allows no more than {GUESSES}: leave the others out.", REFUSE,
        ),
        *_check_repeats(results),
        *check_empty_lines(results),
    ]  # fmt: skip


def _check_repeats(results: ClsResults) -> list[Finding]:
    pairs = np.column_stack([results.image, results.label])
    _, firsts = np.unique(pairs, axis=0, return_index=True)
    again = np.setdiff1d(np.arange(len(pairs)), firsts)
    return findings_on(
        "duplicates", again, lambda r: f"{results.name(r)}: {results.label[r]}",
        f"Labels that their line has before: {share(len(again), len(pairs), 'labels')}.",
        "Write another label, or none: a repeated one never helps.", WARN,
    )  # fmt: skip


def write_cls_results(path: Path | str, results: ClsResults) -> list[Finding]:
    """Writes the file, after a check; gives the warnings of the check.

    Raises:
        CheckFailed: the check refuses; nothing is written.
    """
    warnings = refuse_if_any(f"{path}", check_cls_results(results, results.num_images))
    write_lines(path, results, map(str, results.label.tolist()))
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
