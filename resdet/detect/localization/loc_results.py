"""What a test of localisation leaves: result files, their errors, the rows of table 13.

    RUN/localization/<set>/<testing>_<net>_<classes>.txt   the challenge's file; <classes> is
                                                           known or predicted
    RUN/localization/<set>/rows.json                       a row for each, as table 13 has them

A row of the known class has one guess an image, for the class that it is known to have, and its
error is that of the box. A row of predicted classes has the five best of a classifier's scores,
each with its own box, best class first; its error is the challenge's.

Source: He et al. 2015, table 13.

Not for: the metric (`resdet.evaluation.ilsvrc.ilsvrc_metrics`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from resdet.bounded_files import sha256_of_file
from resdet.data.records import DetectionSet
from resdet.detect.localization.loc_images import boxes_of
from resdet.errors import ConfigError, first_few
from resdet.evaluation.classification.classifier_errors import best_classes
from resdet.evaluation.classification.score_files import ClassScores, load_scores
from resdet.evaluation.ilsvrc.guess_lines import GUESSES
from resdet.evaluation.ilsvrc.ilsvrc_files import LocResults, write_loc_results
from resdet.evaluation.ilsvrc.ilsvrc_metrics import LocTruth, evaluate_loc

KNOWN, PREDICTED = "known", "predicted"


@dataclass(frozen=True)
class LocRow:
    """A row of table 13.

    Attributes:
        data_set: name of the test set.
        testing: "centre" or "dense". net: `loc_testing.RPN` or `RCNN`.
        classes: `KNOWN` or `PREDICTED`.
        classifier: what predicted them.
        error: of the box for the known class, of label and box for predicted ones; in [0, 1].
        classification: top-5 error of the predicted classes; None for the known class.
        made_of: digest of nets, images, classes and way of testing. file_sha256: of the file.
    """

    data_set: str
    testing: str
    net: str
    classes: str
    classifier: str = ""
    error: float | None = None
    classification: float | None = None
    images: int = 0
    blacklisted: int = 0
    file: str = ""
    made_of: str = ""
    file_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Asked:
    """Classes whose boxes are asked for, by the id of the image, in the order of the set.

    known: the image's own; empty for a set without annotations. predicted: the best ones of
    `classifier`, empty without LOC.SCORES.
    """

    known: Mapping[Any, list[int]]
    predicted: Mapping[Any, list[int]]
    classifier: str

    @property
    def of_image(self) -> dict[Any, list[int]]:
        """All of them, each once."""
        ids = self.known or self.predicted
        return {
            i: list(dict.fromkeys([*self.known.get(i, ()), *self.predicted.get(i, ())]))
            for i in ids
        }

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(list(self.of_image.values())).encode()).hexdigest()


def classes_asked(data: DetectionSet, scores: str) -> Asked:
    """The images' own classes, and the five best of LOC.SCORES where it names a file.

    Raises:
        ConfigError: the set has neither annotations nor scores. As `predicted_classes`.
    """
    known = {r["image_id"]: [r["label"]] for r in data.records} if data.annotated else {}
    predicted, classifier = {}, ""
    if scores:
        best, classifier = predicted_classes(scores, data)
        ids = (record["image_id"] for record in data.records)
        predicted = dict(zip(ids, best.tolist(), strict=True))
    elif not data.annotated:
        raise ConfigError(
            f"{data.name} has no annotations, so its classes are not known. Give the scores of "
            "a classifier on it: LOC.SCORES FILE.npz (evaluate cls)."
        )
    return Asked(known, predicted, classifier)


def predicted_classes(path: Path | str, data: DetectionSet) -> tuple[np.ndarray, str]:
    """(images, 5) places in the set's classes, best first, of a file of scores; and its title.

    Images are found by their file names, wherever they lay when they were scored, and classes by
    their wnids.

    Raises:
        DataError: the scores do not load. ConfigError: they lack an image or are of other classes.
    """
    scores = load_scores(path)
    place = {name: i for i, name in enumerate(data.classes)}
    unknown = [name for name in scores.classes if name not in place]
    if unknown or len(scores.classes) != len(place):
        raise ConfigError(
            f"LOC.SCORES {path} has {len(scores.classes):,} classes "
            f"({', '.join(scores.classes[:3])}, …), of which {len(unknown):,} are not among the "
            f"{len(place):,} wnids of {data.name}. Score with --classes FILE, a wnid per output."
        )
    rows = _rows_of_images(scores, data, path)
    order = np.array([place[name] for name in scores.classes], dtype=np.int64)
    title = str(scores.net.get("title") or scores.net.get("name") or "")
    protocol = str(scores.protocol.get("tag") or scores.protocol.get("kind") or "")
    guesses = min(GUESSES, len(scores.classes))
    return order[best_classes(scores, guesses)[rows]], f"{title}, {protocol}".strip(", ")


def _rows_of_images(scores: ClassScores, data: DetectionSet, path: Path | str) -> np.ndarray:
    row = {PurePosixPath(name).name: n for n, name in enumerate(scores.images)}
    names = [Path(record["file_name"]).name for record in data.records]
    if missing := [name for name in names if name not in row]:
        raise ConfigError(
            f"LOC.SCORES {path} has no scores of {len(missing):,} of the {len(names):,} images of "
            f"{data.name}.\n{first_few(missing, 5)}\nScore them all: evaluate cls --data "
            "images:FOLDER."
        )
    return np.array([row[name] for name in names], dtype=np.int64)


def truth_of(data: DetectionSet) -> tuple[LocTruth, list[int]]:
    """The class and boxes of each image, and the images, from 1, whose boxes are blacklisted."""
    image, boxes = [], []
    for number, record in enumerate(data.records, 1):
        own = boxes_of(record)
        image += [number] * len(own)
        boxes.append(own)
    labels = np.array([record["label"] + 1 for record in data.records], dtype=np.int64)
    out = [n for n, record in enumerate(data.records, 1) if record.get("not_scored")]
    stacked = np.concatenate(boxes) if boxes else np.zeros((0, 4))
    return LocTruth(labels, np.array(image, dtype=np.int64), stacked), out


def guesses_of(
    boxes: Sequence[Mapping[str, Any]], asked: Mapping[Any, Sequence[int]], net: str
) -> LocResults:
    """The guesses of a result file: of each image a box for each class asked for, in that order.

    Args:
        boxes: as `loc_passes.localized` gives them. asked: the classes of each image, by its id,
            in the order of the set.
    """
    found = {(b["image_id"], b["category_id"]): b["bbox"] for b in boxes if b["net"] == net}
    guesses = [
        (number, label + 1, found[image_id, label])
        for number, (image_id, labels) in enumerate(asked.items(), 1)
        for label in labels
        if (image_id, label) in found
    ]
    image, label, box = ([guess[i] for guess in guesses] for i in range(3))
    table = np.array(box, dtype=np.float64).reshape(-1, 4)
    return LocResults(len(asked), np.array(image, dtype=np.int64), np.array(label, dtype=np.int64),
                      table)  # fmt: skip


def write_row(folder: Path, row: LocRow, results: LocResults, data: DetectionSet) -> LocRow:
    """Writes the file, and scores it where the set has annotations; gives the whole row."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{row.testing}_{row.net.replace('+', '-')}_{row.classes}.txt"
    write_loc_results(folder / name, results, len(data), len(data.classes))
    digest = sha256_of_file(folder / name)
    row = replace(row, file=name, images=len(data), file_sha256=digest)
    if not data.annotated:
        return row
    truth, out = truth_of(data)
    result = evaluate_loc(truth, results, blacklist=out, num_classes=len(data.classes))
    is_known = row.classes == KNOWN
    error = result.known_class if is_known else result.localization
    found = None if is_known else result.classification
    return replace(row, error=error, classification=found, blacklisted=result.blacklisted)


def is_written(folder: Path, row: Mapping[str, Any], made_of: str) -> bool:
    """Whether a row of rows.json is of this test, and its file is there as it was written."""
    file = folder / str(row.get("file"))
    return (
        row.get("made_of") == made_of
        and file.is_file()
        and sha256_of_file(file) == row.get("file_sha256")
    )


def table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The rows as table 13 has them, errors in percent."""

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.2f}"

    lines = []
    for row in rows:
        is_known = row["classes"] == KNOWN
        lines.append(
            [row["net"].upper(), row["testing"], percent(row["error"]) if is_known else "",
             row["classifier"], percent(row["classification"]) if not is_known else "",
             "" if is_known else percent(row["error"]), row["file"]]
        )  # fmt: skip
    return lines


HEAD = ("method", "testing", "box error, known class", "classifier", "its top-5 error",
        "top-5 localization error", "file")  # fmt: skip
