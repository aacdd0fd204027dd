"""A classifier's scores as ImageNet's server takes them: five ids per image, in one text file.

Lines follow the file names of the images, wherever the images lay when they were scored. The file
is read again and held against the scores; where the classes of the images are known, its errors
are those of the scores.

Not for: uploading, or making scores (`resdet evaluate cls`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from resdet.bounded_files import sha256_of_file
from resdet.errors import CheckFailed, ConfigError, first_few
from resdet.evaluation.classification.classifier_errors import best_classes
from resdet.evaluation.classification.score_files import ClassScores, load_scores
from resdet.evaluation.ilsvrc.cls_files import (
    ClsResults,
    check_cls_results,
    cls_errors,
    cls_results,
    read_cls_results,
    write_cls_results,
)
from resdet.evaluation.ilsvrc.guess_lines import GUESSES
from resdet.evaluation.ilsvrc.ilsvrc_synsets import wnids_by_id
from resdet.evaluation.inputs.findings import Finding
from resdet.submission import archive
from resdet.submission.package_check import Checked
from resdet.submission.servers import TestSet, ilsvrc_test_set

FILE = "ilsvrc-cls.txt"
_NAME = re.compile(r"ILSVRC2012_(?P<part>test|val)_(?P<number>\d{8})\.JPEG")


@dataclass(frozen=True)
class ClsPackage:
    """A file that was made and found clean.

    Attributes:
        test_set: what the images are to the server; None where they are neither its test nor its
            validation images, by their names: a rehearsal.
        errors: images wrong at the first guess and at five, None where the classes are not known.
    """

    path: Path
    sha256: str
    data_set: str
    images: int
    test_set: TestSet | None
    errors: tuple[int, int] | None
    warnings: tuple[Finding, ...]


def package(scores_path: Path, *, output: Path | None = None) -> ClsPackage:
    """Makes the file of scores.

    Args:
        output: a folder; by default submissions/ilsvrc-cls beside the scores' folder.

    Raises:
        DataError: the scores do not load. ConfigError: their classes are not ImageNet's.
        CheckFailed: test images are missing, or the file, read back, is another; there is no file.
    """
    scores = load_scores(scores_path)
    ids = _ids(scores)
    order = _order(scores)
    test_set = _test_set(scores)
    results = cls_results(ids[best_classes(scores, GUESSES)[order]])
    folder = output or scores_path.parent.parent / "submissions" / "ilsvrc-cls"
    path = folder / FILE
    with archive.made_aside(path) as aside:
        warnings = write_cls_results(aside, results)
        _refuse_difference(read_cls_results(aside), results)
    errors = cls_errors(results, ids[scores.labels[order]]) if scores.has_labels else None
    return ClsPackage(
        path,
        sha256_of_file(path),
        scores.data_set,
        len(scores),
        test_set,
        errors,
        tuple(warnings),
    )


def check_cls_file(path: Path, images: int) -> Checked:
    """Everything that is wrong with anyone's file for a set of so many images.

    Raises:
        DataError: no such file. CheckFailed: it is no such file at all.
    """
    results = read_cls_results(path)
    findings = check_cls_results(results, images)
    lines = min(results.num_images, images)
    seen: dict[str, int | None] = {
        "expected": images, "evaluated": lines, "missing": images - lines
    }  # fmt: skip
    return Checked(path.name, len(results.label), seen, tuple(findings))


def _ids(scores: ClassScores) -> np.ndarray:
    """The id of each class, from 1."""
    place = {wnid: i for i, wnid in enumerate(wnids_by_id(), 1)}
    unknown = [name for name in scores.classes if name not in place]
    if unknown or len(scores.classes) != len(place):
        raise ConfigError(
            f"the scores have {len(scores.classes):,} classes ({', '.join(scores.classes[:3])}, …),"
            f" of which {len(unknown):,} are not among ImageNet's {len(place):,} wnids "
            "(n01440764, …). Score with --classes FILE, a wnid per output."
        )
    return np.array([place[name] for name in scores.classes], dtype=np.int64)


def _order(scores: ClassScores) -> np.ndarray:
    """The images in the order of their file names."""
    names = [PurePosixPath(name).name for name in scores.images]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"{scores.data_set}: {len(names) - len(set(names)):,} images have the file name of "
            "another, so they have no order. The server's images have names of their own."
        )
    return np.argsort(np.array(names))


def _test_set(scores: ClassScores) -> TestSet | None:
    """By the names of the images.

    Raises:
        CheckFailed: they are test images, and some are missing: every later line would move.
    """
    matches = [_NAME.fullmatch(PurePosixPath(name).name) for name in scores.images]
    parts = {m["part"] if m else None for m in matches}
    (part,) = parts if len(parts) == 1 else (None,)
    if part is None:
        return None
    test_set = ilsvrc_test_set(part)
    there = {int(m["number"]) for m in matches if m}
    missing = sorted(set(range(1, test_set.images + 1)) - there)
    if missing and part == "test":
        lines = [f"ILSVRC2012_test_{number:08d}.JPEG" for number in missing]
        raise CheckFailed(
            f"{scores.data_set} has {len(there):,} of the {test_set.images:,} test images; lines "
            f"stand for images by their number, so a file would be wrong from there on.\n"
            f"{first_few(lines, 5)}\nScore all of them: images:FOLDER of ILSVRC2012_img_test."
        )
    return test_set


def _refuse_difference(packed: ClsResults, given: ClsResults) -> None:
    same = packed.num_images == given.num_images and np.array_equal(packed.label, given.label)
    if not same or not np.array_equal(packed.image, given.image):
        raise CheckFailed(
            "the file, read back, differs from the scores that it was made of. None was made; "
            "report it with them."
        )
