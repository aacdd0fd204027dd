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
    drawn: list[tuple[Pair, int, int, Picked]] = []
    found: dict[int, dict[Any, set[int]]] = {}
    for pair in asked:
        before, after = pair.before[0], pair.after[0]
        for place in (before, after):
            if place not in found:
                found[place] = _found(scores[place], scores[0])
        for winner, loser in ((after, before), (before, after)):
            drawn.append((pair, winner, loser, _pick(scores, winner, loser, found, each)))
    return [c for c in _encoded(drawn, max_bytes) if c.samples]


# Per image how many objects more the winner finds, its drawings, the images passed over before it.
Picked = list[tuple[Any, int, list[Drawing], int]]


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
    found: dict[int, dict[Any, set[int]]],
    each: int,
) -> Picked:
    """The images that stand first by the rule and have a file."""
    mine, others = found[winner], found[loser]
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
            more = len(mine[image_id]) - len(others[image_id])
            picked.append((image_id, more, drawings, unseen))
    return picked


def _encoded(drawn: Sequence[tuple[Pair, int, int, Picked]], max_bytes: int) -> list[Contrast]:
    """As pictures, all in one quality, the best that the page bears; then fewer of each, to 1."""
    most = max((len(picked) for *_, picked in drawn), default=0)
    tries = [(most, quality) for quality in QUALITIES]
    tries += [(fewer, QUALITIES[-1]) for fewer in range(most - 1, 0, -1)]
    made: list[Contrast] = []
    for count, quality in tries:
        made = list(_at_quality(drawn, quality, count))
        if sum(len(p.jpeg) for c in made for s in c.samples for p in s.panels) <= max_bytes:
            break
    return made


def _at_quality(
    drawn: Sequence[tuple[Pair, int, int, Picked]], quality: int, count: int
) -> Iterator[Contrast]:
    for pair, winner, loser, every in drawn:
        picked = every[:count]
        samples = tuple(
            Sample(str(image_id), tuple(d.panel(quality) for d in drawings))
            for image_id, _, drawings, _ in picked
        )
        more = tuple(number for _, number, _, _ in picked)
        yield Contrast(pair, winner, loser, samples, more, picked[-1][3] if picked else 0)
