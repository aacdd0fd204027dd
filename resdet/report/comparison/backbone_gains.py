"""The gains, and the sentences of the report.

A sentence claims only what the runs support: after a short schedule the gap between a pretrained
and a random start is speed of learning, and one seed per net shows nothing about seeds.

Not for: which runs are compared with which (`pairs`), or whether they may be (`comparability`).
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from resdet.evaluation.analysis import image_noise
from resdet.evaluation.analysis.image_noise import Interval
from resdet.evaluation.analysis.seed_noise import SeedDifference, seed_difference
from resdet.printable import listed
from resdet.report.comparison.comparability import Comparability
from resdet.report.comparison.pairs import Pair
from resdet.report.runs import Column, by_group
from resdet.report.scores import Metric

SCRATCH_SOURCE = "He et al. 2018, Rethinking ImageNet Pre-training, arXiv:1811.08883"


@dataclass(frozen=True)
class ClassGain:
    name: str
    before: float
    after: float

    @property
    def absolute(self) -> float:
        return self.after - self.before

    @property
    def relative(self) -> float | None:
        return relative(self.before, self.after)


@dataclass(frozen=True)
class BackboneGain:
    """One pair on one data set by one metric; all values are fractions, of several seeds the mean.

    Attributes:
        values: of the runs before and after, one per seed.
        classes: those that have a value in every run, largest gain first.
        interval: of the noise of the test images; None where there is none.
    """

    pair: Pair
    data_set: str
    metric: Metric
    values: tuple[tuple[float, ...], tuple[float, ...]]
    classes: tuple[ClassGain, ...] = ()
    interval: Interval | None = None

    @property
    def before(self) -> float:
        return self.seeds.before.mean

    @property
    def after(self) -> float:
        return self.seeds.after.mean

    @property
    def absolute(self) -> float:
        return self.after - self.before

    @property
    def relative(self) -> float | None:
        return relative(self.before, self.after)

    @functools.cached_property
    def seeds(self) -> SeedDifference:
        """Both sides' mean and spread, and the noise of seeds where both have several."""
        return seed_difference(*self.values)


def relative(before: float, after: float) -> float | None:
    """Gain as a share of where it started; None from 0."""
    return (after - before) / before if before else None


def side(columns: Sequence[Column], places: Sequence[int]) -> str:
    """The name of one side of a pair: the run, or the backbone of the seeds."""
    first = columns[places[0]]
    return first.label if len(places) == 1 else first.side


def letters(columns: Sequence[Column], places: Sequence[int]) -> str:
    """ "A", or "A, C" of several seeds."""
    return ", ".join(columns[i].letter for i in places)


def gain(
    pair: Pair,
    data_set: str,
    metric: Metric,
    values: Sequence[float | None],
    per_class: Sequence[Mapping[str, float | None]],
    interval: Interval | None = None,
) -> BackboneGain | None:
    """The gain of a pair, or None where one of its runs has no value."""
    before = _all_known(values[i] for i in pair.before)
    after = _all_known(values[i] for i in pair.after)
    if before is None or after is None:
        return None
    classes = []
    for name in per_class[pair.before[0]]:
        low = _all_known(per_class[i].get(name) for i in pair.before)
        high = _all_known(per_class[i].get(name) for i in pair.after)
        if low is not None and high is not None:
            classes.append(ClassGain(name, fmean(low), fmean(high)))
    classes.sort(key=lambda c: (-c.absolute, c.name))
    return BackboneGain(pair, data_set, metric, (before, after), tuple(classes), interval)


def _all_known(values: Iterable[float | None]) -> tuple[float, ...] | None:
    listed = tuple(values)
    return None if None in listed else tuple(v for v in listed if v is not None)


# -- sentences -----------------------------------------------------------------------------


def headline(
    columns: Sequence[Column],
    gains: Sequence[BackboneGain],
    verdict: Comparability,
    in_noise: Collection[Pair],
) -> str:
    """The report in one line; a test on training images is reported here (`docs/faults.md` F6).

    Args:
        in_noise: pairs whose gap is inside noise; no net is named as ahead there, no gain given.
    """
    if not verdict.comparable:
        return "Not comparable: more than the backbone differs"
    if any(c.run.info.get("leak") for c in columns):
        return "Tested on training images: these numbers show nothing about transfer"
    pretraining = [g for g in gains if g.pair.kind == "pretraining"]
    if pretraining:
        words = [
            f"{points(g.absolute)}{' to' if i else ' points to'} {_receiver(columns, g, gains)}"
            + _part(columns, g, gains)
            + (" (inside noise)" if g.pair in in_noise else "")
            for i, g in enumerate(pretraining)
        ]
        return f"Pretraining gives {listed(words)}"
    if len(gains) == 1:
        ahead = _ahead(columns, gains[0], in_noise=gains[0].pair in in_noise)
        if verdict.across_starts and verdict.several_nets:
            ahead += ", each from its start"
        return f"{ahead}, each under its recipe" if verdict.across_recipes else ahead
    under = "on the same images" if verdict.results_only else "under one detector"
    if verdict.across_recipes:
        under += ", each under its recipe"
    return f"{listed(list(dict.fromkeys(c.side for c in columns)))} {under}"


def _receiver(columns: Sequence[Column], g: BackboneGain, gains: Sequence[BackboneGain]) -> str:
    """The pretrained net, or its label where it was pretrained in two ways from one kind of start.

    A gain alone does not say which start it is of: `_part` does.
    """
    after = columns[g.pair.after[0]]
    received = [columns[o.pair.after[0]] for o in gains if o.pair.kind == "pretraining"]
    alike = [c for c in received if (c.net, c.start) == (after.net, after.start)]
    return side(columns, g.pair.after) if len(alike) > 1 else after.net


def _part(columns: Sequence[Column], g: BackboneGain, gains: Sequence[BackboneGain]) -> str:
    """What of the detector was pretrained, where that is not the backbone in all gains."""
    if not any(columns[o.pair.after[0]].from_detector for o in gains):
        return ""
    is_whole = columns[g.pair.after[0]].from_detector
    return " as a whole detector" if is_whole else " as a backbone"


def _ahead(columns: Sequence[Column], g: BackboneGain, *, in_noise: bool) -> str:
    before, after = side(columns, g.pair.before), side(columns, g.pair.after)
    if is_level(g):
        return f"{before} and {after} are level"
    if in_noise:
        gap = percent(abs(g.absolute))
        return f"{before} and {after} cannot be told apart: {gap} points, inside noise"
    ahead, behind = (after, before) if g.absolute > 0 else (before, after)
    return f"{ahead} is {percent(abs(g.absolute))} points ahead of {behind}"


def is_level(g: BackboneGain) -> bool:
    """No difference in the first decimal of a percent."""
    return percent(abs(g.absolute)) == percent(0)


def standfirst(
    columns: Sequence[Column],
    gains: Sequence[BackboneGain],
    noise: Mapping[Pair, str],
    outside: Collection[Pair],
) -> list[str]:
    """The numbers behind the headline, and whether they leave the noise.

    Args:
        gains: of the first set, by its `gain_metric`.
        noise: the sentence on a pair's.
        outside: pairs whose gap is known to leave that of the test images.
    """
    if not gains:
        return []
    sentences = []
    pretraining = [g for g in gains if g.pair.kind == "pretraining"]
    if pretraining:
        each = [
            f"{_receiver(columns, g, gains)} {percent(g.before)} from scratch, "
            f"{percent(g.after)} {columns[g.pair.after[0]].start}"
            for g in pretraining
        ]
        sentences.append(f"{gains[0].metric.title} on {gains[0].data_set}: {'; '.join(each)}.")
        if all(g.pair in outside for g in pretraining):
            what = "gain" if all(g.absolute > 0 for g in pretraining) else "difference"
            which = f"Both {what}s are" if len(pretraining) == 2 else f"The {what} is"
            which = f"All these {what}s are" if len(pretraining) > 2 else which
            sentences.append(f"{which} larger than the noise of the test images.")
    for g in gains:
        if g.pair.kind != "pretraining":
            sentences.append(_between(columns, g, alone=not pretraining))
        if g.pair in noise and g.pair.kind != "pretraining":
            sentences.append(noise[g.pair])
        elif g.pair in noise and g.pair not in outside:
            name = f"{_receiver(columns, g, gains)}{_part(columns, g, gains)}"
            whose = f"{name}: " if len(pretraining) > 1 else ""
            sentences.append(f"{whose}{noise[g.pair]}")
    return sentences


def _between(columns: Sequence[Column], g: BackboneGain, *, alone: bool) -> str:
    before, after = (columns[places[0]] for places in (g.pair.before, g.pair.after))
    names = [side(columns, places) for places in (g.pair.before, g.pair.after)]
    which = f"{g.metric.title} on {g.data_set}: " if alone else ""
    if not alone and g.pair.kind == "net" and before.start == after.start:
        names = [before.net, after.net]
        which = f"Both {before.start}, "
    change = points(g.absolute)
    if g.relative is not None:
        change += f" points, {relative_percent(g.relative)} relative"
    return (
        f"{which}{names[0]} reaches {percent(g.before)}, {names[1]} {percent(g.after)} ({change})."
    )


def meaning(columns: Sequence[Column], gains: Sequence[BackboneGain]) -> list[str]:
    """What the gains mean, and what they do not; nothing where there is none."""
    if not gains:
        return []
    kinds = {g.pair.kind for g in gains}
    sentences = []
    if "pretraining" in kinds:
        sentences.append(
            f"With and without pretraining, everything but {_what_differs(columns)} "
            f"is the same{_schedule(columns)}."
        )
        if any(not columns[g.pair.after[0]].from_detector for g in gains):
            sentences[-1] += (
                " The gap at this schedule is speed of learning where there are images enough: on "
                "COCO, and on a tenth of it, from scratch catches up with a pretrained backbone "
                f"when training goes on long enough ({SCRATCH_SOURCE})."
            )
        sentences += _cost(columns)
    if "net" in kinds and max(map(len, gains[0].values)) == 1:
        sentences.append(
            "Each net was trained with one seed, so how far another seed would move its number "
            "is not known here. A difference of a point or two decides nothing."
        )
    narrow = dict.fromkeys(
        f"{c.net} with {c.config['MODEL.NET.WIDTH']:g}" for c in columns if c.full_net != c.net
    )
    if narrow:
        sentences.append(
            f"Members of their families by depth, not by width: {listed(list(narrow))} of the "
            "usual channels."
        )
    trained_on = [str((c.card.get("data") or {}).get("name", "")) for c in columns]
    if gains[0].data_set.startswith("digits_") and any(t.startswith("digits_") for t in trained_on):
        sentences.append(
            "The embedded classification set shares its glyphs and photo regions with the "
            "detection training set (never with the test set): this shows the mechanism of "
            "transfer, not the size that it has from ImageNet to PASCAL VOC."
        )
    return sentences


def _what_differs(columns: Sequence[Column]) -> str:
    keys = ("MODEL.NET.NORM", "MODEL.BACKBONE.FREEZE_AT")
    words = "the starting weights of trunk and tail"
    if any(c.from_detector for c in columns):
        words += " (where a start is a whole detector, of all of it)"
    if any(len({c.config.get(key) for c in columns}) > 1 for key in keys):
        words += ", what is frozen and how batch norm is treated"
    return words


def _schedule(columns: Sequence[Column]) -> str:
    # A rule may have ended them before.
    iterations = {c.run.info.get("steps") or c.config.get("SOLVER.MAX_ITER") for c in columns}
    batch = {c.config.get("SOLVER.IMS_PER_BATCH") for c in columns}
    if len(iterations) > 1 or len(batch) > 1 or None in iterations | batch:
        return ""
    (n,), (images,) = iterations, batch
    return f": {n:,} iterations of {images} images, same data, same rate"


def _cost(columns: Sequence[Column]) -> list[str]:
    """The time of pretraining, where the cards have it."""
    parts = []
    for places in by_group(columns).values():
        c = columns[places[0]]  # of several seeds the first
        spent = (c.card.get("training") or {}).get("seconds") if c.pretrained else None
        times = [] if spent is None else [duration(spent)]
        if c.detector:
            known = c.detector.seconds is not None
            times.append(
                f"{duration(c.detector.seconds) if known else 'an unknown time'} as a detector"
            )
        if times and c.seconds is not None:
            parts.append(f"{c.net} {listed(times)} before {duration(c.seconds)} of detection")
    return [f"Pretraining took time that is not in the schedule: {'; '.join(parts)}."] * bool(parts)


# -- numbers as people read them ------------------------------------------------------------


def percent(value: float | None) -> str:
    """A fraction as percent with one decimal; a dash for what does not exist.

    Example:
        >>> percent(0.6789), percent(None)
        ('67.9', '–')
    """
    return "–" if value is None else f"{value * 100:.1f}"


def points(value: float | None) -> str:
    """A difference of fractions in points, always signed.

    Example:
        >>> points(0.0314), points(-0.018), points(0)
        ('+3.1', '−1.8', '0.0')
    """
    return "–" if value is None else image_noise.points(value)


def relative_percent(value: float | None) -> str:
    """A relative gain in percent, always signed.

    Example:
        >>> relative_percent(0.283), relative_percent(None)
        ('+28.3 %', '–')
    """
    if value is None:
        return "–"
    return _signed(f"{value * 100:.0f}" if abs(value) >= 1 else f"{value * 100:.1f}") + " %"


def _signed(text: str) -> str:
    if not float(text):
        return text.lstrip("-")
    return "−" + text[1:] if text.startswith("-") else "+" + text


def duration(seconds: float | None) -> str:
    """Seconds as readable text.

    Example:
        >>> duration(4.2), duration(87), duration(3725)
        ('4 s', '1 min 27 s', '1 h 02 min')
    """
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
