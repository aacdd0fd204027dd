"""Which runs are compared with which.

Four runs of two nets, each pretrained and from scratch, hold three questions: what pretraining
gave to each net, and which pretrained net is ahead. Two runs hold one. A start from a whole
detector holds one more: what it gives over a start from the net alone.

Not for: the gains (`backbone_gains`), or whether the runs may be compared (`comparability`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resdet.report.runs import RANDOM, Column, by_group


@dataclass(frozen=True)
class Pair:
    """Two backbones and their runs, places in the list of columns: one run each, or one per seed.

    The gain is that of `after` over `before`. `kind`: "pretraining" (one net, from scratch and
    pretrained), "net" (two nets, the same start) or "other".
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    kind: str


def pairs(columns: Sequence[Column]) -> list[Pair]:
    """The questions that these runs hold, first what pretraining gave, then net against net.

    The seeds of a backbone stand together. Where neither applies, each backbone is compared with
    the first, or each run where all are of one.
    """
    sides = [(columns[places[0]], tuple(places)) for places in by_group(columns).values()]
    result = []
    for scratch, before in sides:
        for pretrained, after in sides:
            same_net = scratch.net == pretrained.net
            if same_net and pretrained.pretrained and not scratch.pretrained:
                result.append(Pair(before, after, "pretraining"))
    start = any(c.pretrained for c in columns)
    rivals = [side for side in sides if side[0].pretrained == start]
    nets = list(dict.fromkeys(column.net for column, _ in rivals))
    first, *others = ([side for side in rivals if side[0].net == net] for net in nets)
    for other in others:
        result += _rivals(first, other)
    if result:
        return result + _detectors_after_backbones(sides)
    if len(sides) > 1:
        # What a detector adds to a backbone, and what weights add to random ones.
        sides.sort(key=lambda side: (side[0].from_detector, side[0].start != RANDOM))
        result = [Pair(sides[0][1], places, "other") for _, places in sides[1:]]
    return result or [Pair((0,), (i,), "other") for i in range(1, len(columns))]


def _detectors_after_backbones(sides: Sequence[tuple[Column, tuple[int, ...]]]) -> list[Pair]:
    """Of each net: what a start from a whole detector gives over one from its backbone."""
    return [
        Pair(before, after, "other")
        for backbone, before in sides
        for detector, after in sides
        if backbone.net == detector.net
        and detector.from_detector
        and backbone.pretrained
        and not backbone.from_detector
    ]


def _rivals(
    first: Sequence[tuple[Column, tuple[int, ...]]],
    others: Sequence[tuple[Column, tuple[int, ...]]],
) -> list[Pair]:
    """Two nets side by side: those of one pretraining first, then those of one start, the rest in
    the order given."""
    left = list(others)
    partner: dict[tuple[int, ...], tuple[int, ...]] = {}
    for alike in (lambda c: (c.start, c.group.recipe), lambda c: c.start, lambda _: None):
        for column, places in first:
            fit = [i for i, (c, _) in enumerate(left) if alike(c) == alike(column)]
            if fit and places not in partner:
                partner[places] = left.pop(fit[0])[1]
    starts = {places: column.start for column, places in (*first, *others)}
    return [
        Pair(places, other, "net" if starts[places] == starts[other] else "other")
        for places, other in ((p, partner[p]) for _, p in first if p in partner)
    ]
