"""Whether a gain is larger than the noise of the images, and of the seeds.

Two noises move a gap. Other test images of the same kind would give another one (`image_noise`),
and so would other seeds of the same two backbones (`seed_noise`). Each has its 95 % interval. Where
both are known they are taken together: the squares of the half widths add up. That is never
narrower than either, and rather too wide: what few seeds spread on few images holds a part of the
images' noise already.

The interval of images exists for VOC's area rule, for ILSVRC DET's and for COCO's AP and AP50, not
for the 11-point rule (`image_noise` explains why). So on a set that ranks by 11 points all gains,
and the title of the report, are by the area rule: a gain and its interval are always of one metric.

Not for: the intervals themselves, or whether runs may be compared at all (`comparability`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from resdet.evaluation.analysis.image_noise import (
    LEVEL,
    MIN_IMAGES,
    Interval,
    coco_intervals,
    difference_interval,
    image_verdict,
    images_to_settle,
    rounded_up,
)
from resdet.evaluation.analysis.seed_noise import SeedDifference, seed_verdict, seeds_to_settle
from resdet.report.comparison.backbone_gains import (
    BackboneGain,
    letters,
    percent,
    points,
    side,
)
from resdet.report.comparison.pairs import Pair
from resdet.report.render.charts import Span, SpanRow, interval_chart
from resdet.report.render.figures import Figure, look
from resdet.report.render.tables import Cell, Table
from resdet.report.runs import Column
from resdet.report.scores import Metric, SetScores

YES, IMAGES_ONLY, NO, UNKNOWN = "yes", "images only", "no", "not known"
ANSWERS = {
    YES: "yes, for other images and other seeds",
    NO: "no",
    UNKNOWN: "not known",
}


@dataclass(frozen=True)
class Bet:
    """One gain with what is known of its noise."""

    gain: BackboneGain

    @property
    def pair(self) -> Pair:
        return self.gain.pair

    @property
    def images(self) -> Interval | None:
        return self.gain.interval

    @functools.cached_property
    def together(self) -> tuple[float, float] | None:
        """Limits of both noises; None where one of them is not known."""
        seeds, images = self.gain.seeds, self.images
        if images is None or seeds.low is None or seeds.high is None:
            return None
        half = math.hypot((seeds.high - seeds.low) / 2, (images.high - images.low) / 2)
        return seeds.difference - half, seeds.difference + half

    @property
    def answer(self) -> str:
        """YES, IMAGES_ONLY, NO or UNKNOWN: would the sign of the gap remain?"""
        inside = [
            None if self.images is None else self.images.has_zero,
            self.gain.seeds.has_zero,
            None if self.together is None else self.together[0] <= 0 <= self.together[1],
        ]
        if True in inside:
            return NO
        if inside[0] is None:
            return UNKNOWN
        return IMAGES_ONLY if inside[1] is None else YES

    @property
    def words(self) -> str:
        """The answer for people; of a noise that is not known, why."""
        if self.answer == UNKNOWN and self.gain.seeds.has_zero is False:
            return "for other seeds; too few images to know of others"
        if self.answer != IMAGES_ONLY:
            return ANSWERS[self.answer]
        counts = [len(values) for values in self.gain.values]
        why = "one seed on one side" if min(counts) == 1 else "all seeds of a side equal"
        why = "one seed each" if max(counts) == 1 else why
        return f"for other images; {why}, so seeds are not known"

    @property
    def unsupported_reason(self) -> str:
        """Which noise the gap does not leave, "" where none is known to hold it."""
        if self.answer != NO:
            return ""
        names = []
        if self.images is not None and self.images.has_zero:
            names.append("the images")
        if self.gain.seeds.has_zero:
            names.append("the seeds")
        return f"inside the noise of {' and of '.join(names) or 'images and seeds together'}"

    def sentences(self) -> list[str]:
        """The verdicts, and how many images or seeds would settle them."""
        verdicts = [image_verdict(self.images)]
        if max(map(len, self.gain.values)) > 1:
            verdicts.append(seed_verdict(self.gain.seeds))
        if self.together is not None:
            verdicts.append(f"Both noises together: {_limits(*self.together)} points.")
        return verdicts

    def to_json(self) -> dict[str, Any]:
        seeds = self.gain.seeds
        known = seeds.low is not None
        return {
            "answer": self.answer,
            "images_to_settle": self.images and images_to_settle(self.images),
            "seeds": {
                "before": list(self.gain.values[0]),
                "after": list(self.gain.values[1]),
                "deviations": [seeds.before.deviation, seeds.after.deviation],
                "level": LEVEL if known else None,
                "low": seeds.low,
                "high": seeds.high,
                "method": "Welch" if known else None,
                "to_settle": seeds_to_settle(seeds),
            },
            "together": dict(zip(("low", "high"), self.together, strict=True))
            if self.together
            else None,
        }


@dataclass(frozen=True)
class Trust:
    """What a set's gains are worth: the bets, and all that is shown of them.

    seeds: of backbones that have several. how: the intervals were computed, or why there is none.
    """

    bets: tuple[Bet, ...]
    table: Table | None
    seeds: Table | None
    figure: Figure | None
    sentences: tuple[str, ...]
    how: str

    @property
    def in_noise(self) -> set[Pair]:
        """Pairs whose gap may as well be the other way round, by the first rule that can tell."""
        return {pair for pair, bet in self._telling.items() if bet.answer == NO}

    @property
    def outside(self) -> set[Pair]:
        """Pairs whose gap leaves the noise of the images, and that of the seeds where known."""
        return {p for p, bet in self._telling.items() if bet.answer in (YES, IMAGES_ONLY)}

    def short(self, ranking: Metric) -> dict[Pair, str]:
        """The sentence of each pair at the top of the page."""
        sentences = {
            pair: short(bet, name_rule=bet.gain.metric != ranking)
            for pair, bet in self._telling.items()
        }
        return {pair: text for pair, text in sentences.items() if text}

    @property
    def _telling(self) -> dict[Pair, Bet]:
        return {bet.pair: bet for bet in reversed(self.bets)}


def trust(columns: Sequence[Column], gains: Sequence[BackboneGain]) -> Trust:
    """Of gains by all rules, the page's first: it stands alone where none has an interval."""
    bets: list[Bet] = []
    for pair in dict.fromkeys(g.pair for g in gains):
        of_pair = [Bet(g) for g in gains if g.pair == pair]
        bets += [bet for bet in of_pair if bet.images is not None] or of_pair[:1]
    return Trust(
        tuple(bets),
        table(columns, bets),
        seeds_table(columns, bets),
        figure(columns, bets),
        tuple(_named_sentences(columns, bets)),
        how(bets),
    )


def _named_sentences(columns: Sequence[Column], bets: Sequence[Bet]) -> Iterator[str]:
    for bet in bets:
        name = f"{letters(columns, bet.pair.before)} → {letters(columns, bet.pair.after)}"
        yield f"{name}, {bet.gain.metric.title}: {' '.join(bet.sentences())}"


def image_intervals(scores: Sequence[SetScores], pair: Pair) -> dict[str, Interval | None]:
    """The noise of the images in a pair's gap, by the rules that have it: "VOC area",
    "ILSVRC DET", or "AP" and "AP50".

    Args:
        scores: of all runs on one set.
    """
    before, after = ([scores[i] for i in places] for places in (pair.before, pair.after))
    metric = scores[0].gain_metric
    if metric.key == "mean_ap":
        sides = ([s.ranked_by_set for s in side] for side in (before, after))
        return {metric.rule: difference_interval(*sides)}
    sides = ([s.ranked for s in side] for side in (before, after))
    return dict(coco_intervals(*sides))


def short(bet: Bet, *, name_rule: bool) -> str:
    """One sentence for the top of the page; `name_rule` where another rule ranks."""
    rule = f" by {bet.gain.metric.title}" if name_rule else ""
    images, seeds = bet.images, bet.gain.seeds
    sentences = []
    if images is not None:
        limits = f"95 % interval {_limits(images.low, images.high)} points{rule}"
        sentences.append(
            f"{images.images:,} images cannot tell these two apart: {limits}."
            if images.has_zero
            else f"Outside the noise of {images.images:,} images: {limits}."
        )
    if seeds.low is not None and seeds.high is not None:
        where = "Inside" if seeds.has_zero else "Outside"
        count = min(map(len, bet.gain.values))
        limits = _limits(seeds.low, seeds.high)
        sentences.append(f"{where} the noise of {count} seeds: {limits} points.")
    if bet.together is not None and bet.together[0] <= 0 <= bet.together[1]:
        sentences.append(f"Both noises together: {_limits(*bet.together)} points.")
    return " ".join(sentences)


def table(columns: Sequence[Column], bets: Sequence[Bet]) -> Table | None:
    """One row per gain: its noises, what would settle it, and the answer; None without a bet."""
    if not bets:
        return None
    several = any(max(map(len, bet.gain.values)) > 1 for bet in bets)
    titles = ["gain", "points", "noise of images"]
    titles += ["noise of seeds", "both"] if several else []
    head = tuple(Cell(title, is_text=True) for title in [*titles, "bet on the sign?"])
    rows = []
    for bet in bets:
        g, seeds = bet.gain, bet.gain.seeds
        name = f"{letters(columns, g.pair.before)} → {letters(columns, g.pair.after)}"
        row = [
            Cell(name, g.metric.title, is_text=True),
            Cell(points(g.absolute)),
            _images_cell(bet.images),
        ]
        if several:
            row.append(_seeds_cell(seeds))
            row.append(Cell(_limits(*bet.together) if bet.together else "–"))
        row.append(Cell(bet.words, bet.unsupported_reason, is_text=True))
        rows.append(tuple(row))
    caption = (
        "95 % intervals of the gain, in points. Below one that holds 0: how many would show a gap "
        "of this size in 4 of 5 cases."
    )
    return Table("Can you bet on it?", head, tuple(rows), caption)


def seeds_table(columns: Sequence[Column], bets: Sequence[Bet]) -> Table | None:
    """Mean and standard deviation of each backbone's seeds; None where each has one."""
    rows, seen = [], set()
    for bet in bets:
        seeds = bet.gain.seeds
        for places, spread in ((bet.pair.before, seeds.before), (bet.pair.after, seeds.after)):
            if len(places) < 2 or (places, bet.gain.metric) in seen:
                continue
            seen.add((places, bet.gain.metric))
            each = ", ".join(percent(v) for v in spread.values)
            rows.append((
                Cell(side(columns, places), letters(columns, places), is_text=True),
                Cell(bet.gain.metric.title, is_text=True),
                Cell(percent(spread.mean)),
                Cell(percent(spread.deviation)),
                Cell(each, is_text=True),
            ))  # fmt: skip
    titles = ("backbone", "metric", "mean", "standard deviation", "each seed")
    head = tuple(Cell(title, is_text=True) for title in titles)
    return Table("Seeds", head, tuple(rows), "Percent.") if rows else None


def figure(columns: Sequence[Column], bets: Sequence[Bet]) -> Figure | None:
    """Each gain as a dot with its intervals, beside 0; None where no interval is known."""
    rows = []
    for bet in bets:
        seeds = bet.gain.seeds
        spans = []
        if bet.images is not None:
            spans.append(Span("images", 100 * bet.images.low, 100 * bet.images.high))
        if seeds.low is not None and seeds.high is not None:
            spans.append(Span("seeds", 100 * seeds.low, 100 * seeds.high))
        if bet.together is not None:
            spans.append(Span("both", 100 * bet.together[0], 100 * bet.together[1]))
        if spans:
            name = f"{letters(columns, bet.pair.before)} → {letters(columns, bet.pair.after)}"
            dot = look(columns[bet.pair.after[0]])
            rows.append(
                SpanRow(name, bet.gain.metric.title, 100 * bet.gain.absolute, tuple(spans), dot)
            )
    if not rows:
        return None
    return Figure(
        "gain_intervals",
        "Gains and their noise",
        "The gain in points with its 95 % intervals. An interval that crosses the line at 0 leaves "
        "open which of the two is ahead.",
        interval_chart(
            rows, label="Gain of each pair with its intervals", x_title="gain in points"
        ),
    )


def how(bets: Sequence[Bet]) -> str:
    """How the intervals were computed, or why there is none."""
    known = [bet.images for bet in bets if bet.images is not None]
    welch = "Noise of seeds: Welch's interval for the difference of two means."
    of_seeds = any(bet.gain.seeds.low is not None for bet in bets)
    if not known and of_seeds:
        return f"{welch} That of images is not known: there are fewer than {MIN_IMAGES}."
    if not known:
        return (
            "No interval is given for the gains: they are single measurements, and how far other "
            "images or another seed would move them is not known."
        )
    text = (
        f"Noise of images: paired bootstrap over the {known[0].images:,} test images, "
        f"{known[0].draws:,} draws with repeats, the same for both, percentiles. "
    )
    if any(bet.gain.metric.rule == "VOC area" for bet in bets):
        text += (
            "It is given for VOC's area rule. The 11-point number has none: it jumps where a "
            "recall is just reached, and resampling does not describe that. "
        )
    if of_seeds:
        return f"{text}{welch} Both: half widths added up in squares."
    return text + "It does not hold the noise of seeds."


def _images_cell(interval: Interval | None) -> Cell:
    if interval is None:
        return Cell("–")
    needed = images_to_settle(interval) if interval.has_zero else None
    return Cell(_limits(interval.low, interval.high), _settled(needed, "images"))


def _seeds_cell(seeds: SeedDifference) -> Cell:
    if seeds.low is None or seeds.high is None:
        return Cell("–")
    needed = seeds_to_settle(seeds) if seeds.has_zero else None
    return Cell(_limits(seeds.low, seeds.high), _settled(needed, "seeds"))


def _limits(low: float, high: float) -> str:
    return f"{points(low)} to {points(high)}"


def _settled(needed: int | None, what: str) -> str:
    return f"about {rounded_up(needed)} {what} would settle it" if needed else ""
