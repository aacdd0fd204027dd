"""`resdet evaluate cls`: the files that a result leaves, with the images that it gets wrong.

    classifiers.json   what --json prints
    confusion.json     true class, predicted class and number of images, for each pair that occurs
    confusion.svg      the same as a picture
    report.html        all of it, with the wrong images

Not for: how they look (`resdet.report.render`).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from resdet.atomic import write_text
from resdet.errors import DataError
from resdet.evaluation.classification.classifier_errors import GUESSES, best_classes
from resdet.evaluation.classification.classifier_result import ClassifierResult
from resdet.report.render.charts import standalone
from resdet.report.render.classifier_page import (
    Thumbnail,
    WrongImage,
    classifier_html,
    thumbnail,
)
from resdet.report.render.confusion_chart import confusion_chart
from resdet.run.folder import write_json


def write_pages(folder: Path, result: ClassifierResult, args: argparse.Namespace) -> None:
    """Writes the four files; those that are there are replaced.

    Raises:
        DataError: --data is another set than the scores are of.
    """
    errors = result.last.errors
    assert errors is not None
    wrong = wrong_images(result, args.show, args.data)
    cells = errors.confusion()
    write_json(folder / "classifiers.json", result.to_json())
    write_json(
        folder / "confusion.json",
        {"classes": list(errors.classes), "columns": ["true", "predicted", "images"],
         "cells": [list(cell) for cell in cells]},
        indent=None,
    )  # fmt: skip
    write_text(folder / "confusion.svg", standalone(confusion_chart(errors.classes, cells)))
    write_text(folder / "report.html", classifier_html(result, wrong))


def wrong_images(result: ClassifierResult, limit: int, data_set: str | None) -> list[WrongImage]:
    """At most `limit` images whose first class is wrong, the surest first; pictures with --data."""
    errors, scores = result.last.errors, result.last.scores
    assert errors is not None
    rows = np.flatnonzero(errors.rank >= 1)
    sure = scores.log_probabilities[rows].max(axis=1) if len(rows) else np.empty(0)
    rows = rows[np.argsort(-sure, kind="stable")][:limit]
    chosen = replace(
        scores,
        log_probabilities=scores.log_probabilities[rows],
        labels=scores.labels[rows],
        images=tuple(scores.images[i] for i in rows.tolist()),
    )
    best = best_classes(chosen, GUESSES)
    pictures = _pictures(result, rows, data_set)
    found = []
    for row, guesses, picture in zip(rows.tolist(), best, pictures, strict=True):
        values = np.exp(scores.log_probabilities[row].astype(np.float64))
        found.append(
            WrongImage(
                scores.images[row],
                scores.classes[errors.labels[row]],
                float(values[errors.labels[row]]),
                int(errors.rank[row]),
                tuple((scores.classes[k], float(values[k])) for k in guesses.tolist()),
                picture,
            )
        )
    return found


def _pictures(
    result: ClassifierResult, rows: np.ndarray, data_set: str | None
) -> list[Thumbnail | None]:
    if data_set is None or len(rows) == 0:
        return [None] * len(rows)
    from resdet.cli.evaluate.class_members import image_names, load_set  # with torch

    data = load_set(data_set)
    if image_names(data) != result.last.scores.images:
        raise DataError(
            f"--data {data_set} has other images than the scores, which are of "
            f"{result.last.scores.data_set}. Give that set, or leave --data out."
        )
    return [thumbnail(data.read(int(row))) for row in rows]
