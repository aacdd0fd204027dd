"""The images on which two detectors differ most: objects that one finds and the other misses.

By a fixed rule: of all images of the set, those where one detector finds the most
objects more than the other, at the score and overlap of the pictures; of equal ones those whose
objects found by both are fewer, then the first in the set. Images whose file is not at hand are
skipped, and the page states how many.

Not for: a fair impression of a detector; the pictures spread over the set are (`pictures`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resdet.report.comparison.pairs import Pair
from resdet.report.render.pictures import (
    IOU_THRESHOLD,
    SCORE_THRESHOLD,
    Drawing,
    ImageSample,
    draw_sample,
    encoded,
    fitting,
    judged,
)
from resdet.report.scores import SetScores

EACH = 3
MAX_BYTES = 900_000


@dataclass(frozen=True)
class Contrast:
    """Images on which one run of a pair finds the most that the other misses.

    Attributes:
        winner, loser: places of the runs in the list of columns.
        samples: panels of the winner and the loser, in this order.
        unseen: images that stand before the last one shown and whose file is not at hand.
    """

    winner: int
    loser: int
    samples: tuple[ImageSample, ...]
    unseen: int


def rule(contrasts: Sequence[Contrast]) -> str:
    """How these images were chosen, and how many are missing, for people."""
    text = (
        "Chosen by rule: of all images those where one detector finds most objects more than "
        f"the other, at a score of at least {SCORE_THRESHOLD:g} and IoU {IOU_THRESHOLD:g}."
    )
    if unseen := sum(c.unseen for c in contrasts):
        text += (
            f" {unseen:,} that come before some of these are left out: no file of them is at hand."
        )
    return text


def contrasts(
    scores: Sequence[SetScores],
    asked: Sequence[Pair],
    *,
    each: int = EACH,
    max_bytes: int = MAX_BYTES,
) -> list[Contrast]:
    """For every pair the images that either side wins, `each` at most; of several seeds the first.

    Args:
        scores: of all runs on one set.
    """
    found_objects: dict[int, dict[Any, set[int]]] = {}
    drawn: list[tuple[int, int, Picked]] = []
    for pair in asked:
        sides = pair.after[0], pair.before[0]
        for place in sides:
            if place not in found_objects:
                found_objects[place] = _found(scores[place], scores[0])
        for winner, loser in (sides, sides[::-1]):
            drawn.append((winner, loser, _pick(scores, winner, loser, found_objects, each)))

    def made(count: int, quality: int) -> list[Contrast]:
        shown = [(winner, loser, picked[:count]) for winner, loser, picked in drawn if picked]
        return [_encoded(winner, loser, picked, quality) for winner, loser, picked in shown]

    most = max((len(picked) for *_, picked in drawn), default=0)
    return fitting(made, most, max_bytes, lambda all_: [s for c in all_ for s in c.samples])


# Images by the rule: id, drawings, how many were skipped before it.
Picked = list[tuple[Any, list[Drawing], int]]


def _found(scores: SetScores, truth: SetScores) -> dict[Any, set[int]]:
    """Per evaluated image the places of the objects that are found.

    Args:
        truth: whose objects, in their order: that of another run's file may be another.
    """
    return {
        image_id: {
            place
            for _, verdict, place in judged(
                truth.truth_of(image_id),
                scores.detections_of(image_id, threshold=SCORE_THRESHOLD),
            )
            if verdict == "right"
        }
        for image_id in dict.fromkeys(truth.evaluated)
    }


def _pick(
    scores: Sequence[SetScores],
    winner: int,
    loser: int,
    found_objects: dict[int, dict[Any, set[int]]],
    each: int,
) -> Picked:
    """The images that stand first by the rule and have a file."""
    mine, others = found_objects[winner], found_objects[loser]
    order = sorted(
        (i for i in mine if len(mine[i]) > len(others[i])),
        key=lambda i: (len(others[i]) - len(mine[i]), len(mine[i] & others[i])),
    )
    picked: Picked = []
    unseen = 0
    for image_id in order:
        if len(picked) == each:
            break
        drawings = draw_sample([scores[winner], scores[loser]], image_id)
        if drawings is None:
            unseen += 1
        else:
            picked.append((image_id, drawings, unseen))
    return picked


def _encoded(winner: int, loser: int, picked: Picked, quality: int) -> Contrast:
    samples = tuple(encoded(image_id, drawings, quality) for image_id, drawings, _ in picked)
    return Contrast(winner, loser, samples, picked[-1][2])
