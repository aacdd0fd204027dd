"""Which images of a set are looked at: the worst, the most different, some by chance.

A box is right, wrong or ignored as in the report (`render.pictures.judged`). The rules, in words
that stand on the page:

- worst: most errors, wrong boxes and missed objects together; of equal ones those with fewer right
  boxes.
- most different: most objects that one run finds and the other misses, either way; of equal ones
  the larger difference in wrong boxes.
- by chance: by a seed.

What is equal then stands in the order of the set.

Not for: drawing (`image_panels`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from resdet.printable import counted
from resdet.report.render.pictures import IOU_THRESHOLD, is_ignored, judged
from resdet.report.scores import SetScores


@dataclass(frozen=True)
class ImageCounts:
    """One run on one image: how many boxes are right and wrong, how many objects are missed.

    Attributes:
        found: places of the objects that are found, in the list of the image's objects.
    """

    right: int
    wrong: int
    missed: int
    found: frozenset[int] = frozenset()

    @property
    def errors(self) -> int:
        return self.wrong + self.missed


def counts_of(
    scores: SetScores, truth: SetScores, image_id: Any, *, threshold: float
) -> ImageCounts:
    """Of the boxes with at least this score, against the objects of `truth`."""
    objects = truth.truth_of(image_id)
    verdicts = judged(objects, scores.detections_of(image_id, threshold=threshold))
    found = frozenset(place for _, verdict, place in verdicts if verdict == "right")
    wrong = sum(verdict == "wrong" for _, verdict, _ in verdicts)
    counted = sum(not is_ignored(item) for item in objects)
    return ImageCounts(len(found), wrong, counted - len(found), found)


@dataclass(frozen=True)
class Choice:
    """Images in the order in which they are shown, and the rule in words.

    Attributes:
        measure: of an image id, its number by the rule in words; "" where there is none.
    """

    image_ids: tuple[Any, ...]
    rule: str
    measure: Callable[[Any], str] = lambda _: ""


def worst(scores: SetScores, threshold: float) -> Choice:
    """All images of the run, the worst first."""
    counts = {
        i: counts_of(scores, scores, i, threshold=threshold)
        for i in dict.fromkeys(scores.evaluated)
    }
    order = sorted(counts, key=lambda i: (-counts[i].errors, counts[i].right))
    return Choice(
        tuple(order),
        "The images with the most errors: wrong boxes and missed objects together"
        f"{_bounds(threshold)}; of equal ones those with fewer right boxes.",
        lambda i: counted(counts[i].errors, "error"),
    )


def most_different(both: Sequence[SetScores], threshold: float) -> Choice:
    """All images of two runs on one set, those on which they differ most first."""
    first, second = (
        {i: counts_of(s, both[0], i, threshold=threshold) for i in dict.fromkeys(both[0].evaluated)}
        for s in both
    )
    apart = {i: len(first[i].found ^ second[i].found) for i in first}
    order = sorted(apart, key=lambda i: (-apart[i], -abs(first[i].wrong - second[i].wrong)))
    return Choice(
        tuple(order),
        "The images on which the two differ most: objects that one finds and the other misses, "
        f"either way{_bounds(threshold)}; of equal ones those with the larger difference in wrong "
        "boxes.",
        lambda i: f"{counted(apart[i], 'object')} found by one alone",
    )


def by_chance(scores: SetScores, seed: int) -> Choice:
    """All images of the run in an order by chance, the same for each seed."""
    order = list(dict.fromkeys(scores.evaluated))
    random.Random(seed).shuffle(order)
    return Choice(tuple(order), f"Images by chance, seed {seed}.")


def _bounds(threshold: float) -> str:
    return f", at a score of at least {threshold:g} and IoU {IOU_THRESHOLD:g}"
