"""The images on which two detectors differ most: what one of them finds and the other misses.

The rule, and nobody's taste: of all images of the set, those where one detector finds the most
objects more than the other, at the score and overlap of the pictures; of equal ones those whose
objects found by both are fewer, then the first in the set. Images whose file is not at hand are
passed over, and the page says how many.

Not for: a fair impression of a detector; the pictures spread over the set are (`pictures`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from resdet.report.pictures import (
    IOU_THRESHOLD,
    QUALITIES,
    SCORE_THRESHOLD,
    Drawing,
    Sample,
    draw_sample,
    judged,
)
from resdet.report.scores import SetScores
from resdet.report.story import Pair

EACH = 3
MAX_BYTES = 900_000


@dataclass(frozen=True)
class Contrast:
    """Images on which one run of a pair finds the most that the other misses.

    Attributes:
        winner, loser: places of the runs in the list of columns.
        samples: panels of the winner and the loser, in this order.
        more: objects that the winner finds more, per sample.
        unseen: images that stand before the last one shown and whose file is not at hand.
    """

    pair: Pair
    winner: int
    loser: int
    samples: tuple[Sample, ...]
    more: tuple[int, ...]
    unseen: int = 0


def rule(found: Sequence[Contrast]) -> str:
    """How these images were chosen, and how many are wanting, for people."""
    text = (
        "Chosen by rule: of all images those where one detector finds most objects more than "
        f"the other, at a score of at least {SCORE_THRESHOLD:g} and IoU {IOU_THRESHOLD:g}."
    )
    if unseen := sum(c.unseen for c in found):
        text += f" {unseen:,} that would stand here are left out: no file of them is at hand."
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
    drawn = []
    for pair in asked:
        before, after = pair.before[0], pair.after[0]
        found = [_found(scores[place]) for place in (before, after)]
        for winner, loser, mine, others in (
            (after, before, found[1], found[0]),
            (before, after, found[0], found[1]),
        ):
            drawn.append((pair, winner, loser, *_pick(scores, winner, loser, mine, others, each)))
    return [c for c in _encoded(drawn, max_bytes) if c.samples]


Picked = list[tuple[Any, int, list[Drawing]]]


def _found(scores: SetScores) -> dict[Any, set[int]]:
    """Per evaluated image the places of the objects that are found."""
    return {
        image_id: {
            place
            for _, verdict, place in judged(
                scores.truth_of(image_id),
                scores.detections_of(image_id, threshold=SCORE_THRESHOLD),
            )
            if verdict == "right"
        }
        for image_id in dict.fromkeys(scores.evaluated)
    }


def _pick(
    scores: Sequence[SetScores],
    winner: int,
    loser: int,
    mine: dict[Any, set[int]],
    others: dict[Any, set[int]],
    each: int,
) -> tuple[Picked, int]:
    """The images with their drawings, and how many were passed over."""
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
            picked.append((image_id, len(mine[image_id]) - len(others[image_id]), drawings))
    return picked, unseen


def _encoded(
    drawn: Sequence[tuple[Pair, int, int, Picked, int]], max_bytes: int
) -> Iterator[Contrast]:
    """As pictures, all in one quality: the best that the page bears."""
    made = list(_at_quality(drawn, QUALITIES[0]))
    for quality in QUALITIES[1:]:
        if sum(len(p.jpeg) for c in made for s in c.samples for p in s.panels) <= max_bytes:
            break
        made = list(_at_quality(drawn, quality))
    yield from made


def _at_quality(
    drawn: Sequence[tuple[Pair, int, int, Picked, int]], quality: int
) -> Iterator[Contrast]:
    for pair, winner, loser, picked, unseen in drawn:
        samples = tuple(
            Sample(str(image_id), tuple(d.panel(quality) for d in drawings))
            for image_id, _, drawings in picked
        )
        more = tuple(count for _, count, _ in picked)
        yield Contrast(pair, winner, loser, samples, more, unseen if picked else 0)
