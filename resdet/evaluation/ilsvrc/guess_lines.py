"""ILSVRC's text files of numbers, and what files with a line of guesses per image have in common.

    <guess> <guess> …     one line per image, in the order of the file names; best guess first

Not for: what a guess is (`cls_files`: a label; `ilsvrc_files`: a label and a box).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resdet import bounded_files
from resdet.atomic import write_text
from resdet.errors import CheckFailed, DataError, first_few
from resdet.evaluation.inputs.arrays import IntArray
from resdet.evaluation.inputs.findings import (
    REFUSE,
    SHOWN,
    WARN,
    Finding,
    finding,
    findings_on,
    share,
)

GUESSES = 5


@dataclass(frozen=True)
class Guesses:
    """Labels, image by image and best first; row i of each array is guess i.

    num_images: lines of the file, those without a guess too.
    image: number of the line from 1. label: from 1.
    """

    num_images: int
    image: IntArray
    label: IntArray

    def place(self) -> IntArray:
        """0 for an image's first guess, 1 for its second, …"""
        first = np.searchsorted(self.image, self.image, side="left")
        return np.arange(len(self.image)) - first

    def name(self, row: int) -> str:
        return f"line {self.image[row]}, guess {self.place()[row] + 1}"


# -- reading -----------------------------------------------------------------------------------


def lines_in(path: Path | str) -> list[str]:
    """The lines of a result file.

    Raises:
        DataError: no such file. CheckFailed: it is no text.
    """
    try:
        return bounded_files.read_text(path, encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. Give the path of a result file.") from None
    except (OSError, ValueError) as error:
        raise CheckFailed(
            f"{path} is not readable as text: {error}. Give the lines themselves, not an archive."
        ) from None


def numbers_in(line: str) -> list[float] | None:
    """The numbers of a line; None where something else is in it."""
    try:
        return [float(part) for part in line.split()]
    except ValueError:
        return None


def are_whole(values: Iterable[float]) -> bool:
    """Whether all are whole numbers, of a size that a float holds exactly."""
    return all(abs(v) < 1e15 and v == int(v) for v in values)


def refuse_lines(path: Path | str, lines: Sequence[str], faulty: Sequence[int], form: str) -> None:
    """Raises CheckFailed where lines, by their numbers from 1, have not this form; shows some."""
    if faulty:
        shown = [f'line {number}: "{lines[number - 1].strip()[:60]}"' for number in faulty]
        raise CheckFailed(
            f"{path}: {len(faulty):,} {'line is' if len(faulty) == 1 else 'lines are'} not {form}."
            f"\n{first_few(shown, SHOWN)}"
        )


# -- checking ----------------------------------------------------------------------------------


def check_lines(guesses: Guesses, num_images: int) -> list[Finding]:
    """Lines too few or too many for a set of so many images."""
    if guesses.num_images == num_images:
        return []
    return [
        Finding(
            "missing-images", abs(num_images - guesses.num_images), [],
            "Write one line per image in the order of the file names, empty where there is no "
            "guess: one line too few moves all that follow.", REFUSE,
            f"{guesses.num_images:,} lines for {num_images:,} images.",
        )
    ]  # fmt: skip


def check_empty_lines(guesses: Guesses) -> list[Finding]:
    """Images without a guess: allowed, and each an error."""
    empty = np.setdiff1d(np.arange(1, guesses.num_images + 1), guesses.image)
    return findings_on(
        "images-without-guess", empty, lambda number: f"line {number}",
        f"Images without a guess: {share(len(empty), guesses.num_images, 'images')}.",
        "Each of them is an error.", WARN,
    )  # fmt: skip


def check_surplus(guesses: Guesses, num_images: int, fix: str, severity: str) -> list[Finding]:
    """Lines with more guesses than count."""
    extra = np.flatnonzero(guesses.place() == GUESSES)
    return findings_on(
        "over-5", extra, lambda r: f"line {guesses.image[r]}",
        f"More than {GUESSES} guesses: on {share(len(extra), num_images, 'images')}.",
        fix, severity,
    )  # fmt: skip


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


# -- writing -----------------------------------------------------------------------------------


def write_lines(path: Path | str, guesses: Guesses, texts: Iterable[str]) -> None:
    """Writes a line per image; `texts` has one for each guess."""
    lines: list[list[str]] = [[] for _ in range(guesses.num_images)]
    for image, text in zip(guesses.image.tolist(), texts, strict=True):
        lines[image - 1].append(text)
    write_text(path, "".join(" ".join(line) + "\n" for line in lines))
