"""Which runs are set against which, the gains, and the sentences a reader may quote.

Four runs of two nets, each pretrained and from scratch, hold three questions: what pretraining
gave to each net, and which pretrained net is ahead. Two runs hold one. A sentence claims what the
runs can carry and no more: after a short schedule the gap between a pretrained and a random start
is speed of learning, and one seed per net says nothing about seeds.

Not for: whether the runs may be compared at all (`sameness`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resdet.evaluation.significance import Interval
from resdet.report.runs import Column
from resdet.report.sameness import Verdict
from resdet.report.scores import Metric

SCRATCH_SOURCE = "He et al. 2018, Rethinking ImageNet Pre-training, arXiv:1811.08883"


@dataclass(frozen=True)
class Pair:
    """Two runs, places in the list of columns; the gain is that of `after` over `before`.

    `kind`: "pretraining" (one net, from scratch and pretrained), "net" (two nets, the same
    start) or "other".
    """

    before: int
    after: int
    kind: str


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
class Gain:
    """One pair on one data set by one metric; all values are fractions.

    `classes` holds those that have a value in both runs, largest gain first.
    """

    pair: Pair
    data_set: str
    metric: Metric
    before: float
    after: float
    classes: tuple[ClassGain, ...] = ()
    interval: Interval | None = None

    @property
    def absolute(self) -> float:
        return self.after - self.before

    @property
    def relative(self) -> float | None:
        return relative(self.before, self.after)


def relative(before: float, after: float) -> float | None:
    """Gain as a share of where it started; None from 0."""
    return (after - before) / before if before else None


def pairs(columns: Sequence[Column]) -> list[Pair]:
    """The questions that these runs hold, first what pretraining gave, then net against net.

    Where neither is asked, each run is set against the first.
    """
    found = []
    for i, scratch in enumerate(columns):
        for j, pretrained in enumerate(columns):
            same_net = scratch.net == pretrained.net
            if same_net and pretrained.pretrained and not scratch.pretrained:
                found.append(Pair(i, j, "pretraining"))
    if len(found) > len({c.net for c in columns}):
        found = _same_seed(found, columns)
    start = any(c.pretrained for c in columns)
    rivals = [i for i, c in enumerate(columns) if c.pretrained == start]
    nets = list(dict.fromkeys(columns[i].net for i in rivals))
    first = [i for i in rivals if columns[i].net == nets[0]]
    for net in nets[1:]:
        others = [i for i in rivals if columns[i].net == net]
        found += [Pair(i, j, "net") for i, j in zip(first, others, strict=False)]
    return found or [Pair(0, i, "other") for i in range(1, len(columns))]


def _same_seed(found: list[Pair], columns: Sequence[Column]) -> list[Pair]:
    """Several seeds: a pair shares its seed where there is such a pair."""
    equal = [p for p in found if columns[p.before].seed == columns[p.after].seed]
    return equal or found


def gain(
    pair: Pair,
    data_set: str,
    metric: Metric,
    values: Sequence[float | None],
    per_class: Sequence[Mapping[str, float | None]],
    interval: Interval | None = None,
) -> Gain | None:
    """The gain of a pair, or None where one of the two has no value."""
    before, after = values[pair.before], values[pair.after]
    if before is None or after is None:
        return None
    classes = []
    for name, low in per_class[pair.before].items():
        high = per_class[pair.after].get(name)
        if low is not None and high is not None:
            classes.append(ClassGain(name, low, high))
    classes.sort(key=lambda c: (-c.absolute, c.name))
    return Gain(pair, data_set, metric, before, after, tuple(classes), interval)


# -- sentences -----------------------------------------------------------------------------


def headline(columns: Sequence[Column], gains: Sequence[Gain], verdict: Verdict) -> str:
    """The report in one line; a test on training images is said here (`faults.md` F6)."""
    if not verdict.comparable:
        return "Not comparable: more than the backbone differs"
    if any(c.run.info.get("leak") for c in columns):
        return "Tested on training images: these numbers say nothing about transfer"
    pretraining = [g for g in gains if g.pair.kind == "pretraining"]
    if pretraining:
        first, *others = pretraining
        words = [f"{points(first.absolute)} points to {columns[first.pair.after].net}"]
        words += [f"{points(g.absolute)} to {columns[g.pair.after].net}" for g in others]
        return f"Pretraining gives {_and(words)}"
    if len(gains) == 1:
        return _ahead(columns, gains[0])
    return f"{_and([c.label for c in columns])} under one detector"


def _ahead(columns: Sequence[Column], g: Gain) -> str:
    before, after = columns[g.pair.before].label, columns[g.pair.after].label
    if is_level(g):
        return f"{before} and {after} are level"
    ahead, behind = (after, before) if g.absolute > 0 else (before, after)
    return f"{ahead} is {percent(abs(g.absolute))} points ahead of {behind}"


def is_level(g: Gain) -> bool:
    """No difference in the first decimal of a percent."""
    return percent(abs(g.absolute)) == percent(0)


def standfirst(
    columns: Sequence[Column], gains: Sequence[Gain], noise: Mapping[Pair, Interval]
) -> list[str]:
    """The numbers behind the headline, and which differences the test images cannot carry.

    Args:
        gains: by the ranking metric of the first set.
        noise: of VOC's area rule, for the pairs that have one.
    """
    if not gains:
        return []
    said = []
    pretraining = [g for g in gains if g.pair.kind == "pretraining"]
    if pretraining:
        each = [
            f"{columns[g.pair.after].net} {percent(g.before)} from scratch, {percent(g.after)} "
            "pretrained"
            for g in pretraining
        ]
        said.append(f"{gains[0].metric.title} on {gains[0].data_set}: {'; '.join(each)}.")
    for g in gains:
        if g.pair.kind != "pretraining":
            said.append(_between(columns, g, alone=not pretraining))
        if (interval := noise.get(g.pair)) is not None and interval.has_zero:
            said.append(
                f"{interval.images:,} images cannot tell these two apart: by the area rule, the "
                f"95 % interval of the difference is {points(interval.low)} to "
                f"{points(interval.high)} points."
            )
    return said


def _between(columns: Sequence[Column], g: Gain, *, alone: bool) -> str:
    before, after = columns[g.pair.before], columns[g.pair.after]
    names = [c.label if alone else f"{c.net}" for c in (before, after)]
    which = f"{g.metric.title} on {g.data_set}: " if alone else f"Both {before.start}, "
    change = points(g.absolute)
    if g.relative is not None:
        change += f" points, {relative_percent(g.relative)} relative"
    return (
        f"{which}{names[0]} reaches {percent(g.before)}, {names[1]} {percent(g.after)} ({change})."
    )


def meaning(columns: Sequence[Column], gains: Sequence[Gain]) -> list[str]:
    """What the gains mean, and what they do not; nothing where there is none."""
    if not gains:
        return []
    kinds = {g.pair.kind for g in gains}
    said = []
    if "pretraining" in kinds:
        said.append(
            f"With and without pretraining, everything but {_what_differs(columns)} "
            f"is the same{_schedule(columns)}. The gap at this schedule is speed of learning, not "
            "a limit: from scratch catches up when training goes on long enough "
            f"({SCRATCH_SOURCE})."
        )
        said += _cost(columns)
    if "net" in kinds and len({c.seed for c in columns}) == 1:
        said.append(
            "Each net was trained with one seed, so how far another seed would move its number "
            "is not known here. A difference of a point or two decides nothing."
        )
    narrow = dict.fromkeys(
        f"{c.net} with {c.config['MODEL.NET.WIDTH']:g}" for c in columns if c.full_net != c.net
    )
    if narrow:
        said.append(
            f"Members of their families by depth, not by width: {_and(list(narrow))} of the usual "
            "channels."
        )
    trained_on = [str((c.card.get("data") or {}).get("name", "")) for c in columns]
    if gains[0].data_set.startswith("digits_") and any(t.startswith("digits_") for t in trained_on):
        said.append(
            "The embedded classification set shares its glyphs and photo regions with the "
            "detection training set (never with the test set): this shows the mechanism of "
            "transfer, not the size that it has from ImageNet to PASCAL VOC."
        )
    return said


def interval_said(noise: Mapping[Pair, Interval]) -> str:
    """How the intervals were had, or why there is none."""
    if noise:
        first = next(iter(noise.values()))
        return (
            f"Intervals are given for VOC's area rule: paired bootstrap over the {first.images:,} "
            f"test images, {first.draws:,} draws with repeats, the same for both, percentiles. "
            "They hold the noise of the images, not that of seeds. The 11-point number has none: "
            "it jumps where a recall is just reached, and resampling does not describe that."
        )
    return (
        "No interval is given for the gains: they are single measurements, and how far other "
        "images or another seed would move them is not known."
    )


def _what_differs(columns: Sequence[Column]) -> str:
    keys = ("MODEL.NET.NORM", "MODEL.BACKBONE.FREEZE_AT")
    words = "the starting weights of trunk and tail"
    if any(len({c.config.get(key) for c in columns}) > 1 for key in keys):
        words += ", what is frozen and how batch norm is treated"
    return words


def _schedule(columns: Sequence[Column]) -> str:
    iterations = {c.config.get("SOLVER.MAX_ITER") for c in columns}
    batch = {c.config.get("SOLVER.IMS_PER_BATCH") for c in columns}
    if len(iterations) > 1 or len(batch) > 1 or None in iterations | batch:
        return ""
    (n,), (images,) = iterations, batch
    return f": {n:,} iterations of {images} images, same data, same rate"


def _cost(columns: Sequence[Column]) -> list[str]:
    """Pretraining is not free; its time is said where the cards have it."""
    parts = []
    for c in columns:
        spent = (c.card.get("training") or {}).get("seconds") if c.pretrained else None
        if spent is not None and c.seconds is not None:
            parts.append(f"{c.net} {duration(spent)} before {duration(c.seconds)} of detection")
    return [f"Pretraining took time that is not in the schedule: {'; '.join(parts)}."] * bool(parts)


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


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
    return "–" if value is None else _signed(f"{value * 100:.1f}")


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
    """Seconds as people say them.

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
