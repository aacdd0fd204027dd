"""Rows of a ranking from run folders, in the order of AP, and groups that cannot be told apart.

AP is COCO's mAP@[.5,.95], or of a set that is not scored by COCO's rules the set's own AP that has
an interval (VOC's by area); averaged over the seeds of a row. The difference of two rows has the
noise of the images (paired bootstrap) and of the seeds (one spread for all rows, as the heads and
their steps are the same); their half widths are taken together as squares. A group is a row and all
behind it whose difference to it may be 0.

Not for: how rows are shown (`leaderboard_page`).
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resdet.errors import RunError
from resdet.evaluation.analysis.image_noise import (
    Interval,
    images_to_settle,
    points,
    rounded_up,
)
from resdet.evaluation.analysis.seed_noise import t_quantile
from resdet.evaluation.transferability.rank_correlation import RankCorrelation, kendall
from resdet.report.comparison.comparability import Comparability, judge
from resdet.report.comparison.gain_noise import image_intervals
from resdet.report.comparison.pairs import Pair
from resdet.report.ranking.full_trainings import full_trainings
from resdet.report.runs import Column, read_columns
from resdet.report.scores import Metric, SetScores, read_scores

LEVEL = 0.95
# Two rows always agree or differ wholly.
FEWEST_CORRELATED = 3
# What may say the order without training: entry of a row's facts, and its name.
GRADIENT_FREE = {"logme": "LogME", "total_logme": "LogME with boxes"}


@dataclass(frozen=True)
class Behind:
    """How far a row is behind another, in fractions of AP: 95 % limits, both noises.

    Attributes:
        images: the noise of the images alone; None with fewer than 50, or of other images.
        low, high: None where the noise of the images is not known.
        has_seeds: the limits hold the noise of seeds, too.
        seeds: half width of the noise of seeds alone; 0 where it is not known.
    """

    difference: float
    images: Interval | None
    low: float | None
    high: float | None
    has_seeds: bool
    seeds: float = 0.0

    @property
    def may_be_none(self) -> bool:
        """Whether 0 is inside; True where nothing is known."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high


@dataclass(frozen=True)
class LeaderRow:
    """One backbone.

    Attributes:
        values: AP of each seed, fractions. runs: their folders.
        facts: of cost and scores, by name.
        classes: AP of each class, mean over the seeds; None for classes without an object.
        behind: the first row; None for the first.
        group: number of its group, from 1.
        full: AP of full trainings of the backbone, where the user named such.
    """

    label: str
    values: tuple[float, ...]
    runs: tuple[Path, ...]
    facts: Mapping[str, Any]
    classes: Mapping[str, float | None]
    behind: Behind | None = None
    group: int = 1
    full: tuple[float, ...] = ()

    @property
    def ap(self) -> float:
        return statistics.mean(self.values)

    def worst_classes(self, number: int = 3) -> list[tuple[str, float]]:
        known = [(ap, name) for name, ap in self.classes.items() if ap is not None]
        return [(name, ap) for ap, name in sorted(known)[:number]]


@dataclass(frozen=True)
class Leaderboard:
    """A ranking.

    Attributes:
        rows: by falling AP.
        seed_deviation: of one training, over all rows; None with one seed each.
        verdict: whether the rows differ in the backbone alone.
        correlations: how rankings agree, by a name for people.
        full_metric: of the full trainings; None without one.
    """

    data_set: str
    images: int
    metric: Metric
    rows: tuple[LeaderRow, ...]
    seed_deviation: float | None
    verdict: Comparability
    correlations: Mapping[str, RankCorrelation] = field(default_factory=dict)
    keys: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    full_metric: Metric | None = None

    @functools.cached_property
    def groups(self) -> list[list[int]]:
        """Places of the rows of each group."""
        found: dict[int, list[int]] = {}
        for place, row in enumerate(self.rows):
            found.setdefault(row.group, []).append(place)
        return list(found.values())

    def group_sentences(self) -> list[str]:
        """Of each group of several: that they cannot be told apart, and what would."""
        ties = [self._tie(group) for group in self.groups if len(group) > 1]
        return [*ties, *(self._noisy(self.rows[place]) for place in self.may_be_first)]

    @property
    def may_be_first(self) -> list[int]:
        """Rows that stand behind one that is told from the first, and are not told from it."""
        behind = [(place, row) for place, row in enumerate(self.rows) if row.group > 1]
        return [place for place, row in behind if row.behind and row.behind.may_be_none]

    def _noisy(self, row: LeaderRow) -> str:
        behind = row.behind
        assert behind is not None
        limits = f"{points(behind.low or 0)} to {points(behind.high or 0)}"
        return (
            f"{row.label} is ranked behind rows that are behind {self.rows[0].label} beyond the "
            f"noise, and may equal {self.rows[0].label} itself ({limits}): its own noise is larger."
        )

    def _tie(self, group: Sequence[int]) -> str:
        first, last = self.rows[group[0]], self.rows[group[-1]]
        head = f"{group[0] + 1} to {group[-1] + 1} cannot be told apart"
        behind = last.behind if group[0] == 0 else None
        if behind is None or behind.images is None:
            return f"{head} ({first.label} to {last.label})."
        limits = f"{points(behind.low or 0)} to {points(behind.high or 0)}"
        gap = f"{last.label} is {points(behind.difference)} points from {first.label}"
        text = f"{head}: {gap} ({limits})."
        if behind.difference and behind.seeds >= abs(behind.difference):
            return f"{text} The seeds alone may move it as far: more test images would not show it."
        needed = _images_to_settle(behind.images, behind.seeds)
        if needed is not None and needed > behind.images.images:
            more = rounded_up(needed - behind.images.images)
            text += f" If the true gap is this large, about {more} more test images would show it."
        return text

    def to_json(self) -> dict[str, Any]:
        return {
            "data_set": self.data_set,
            "images": self.images,
            "metric": self.metric.title,
            "full_metric": self.full_metric and self.full_metric.title,
            "verdict": self.verdict.stamp,
            "reasons": list(self.verdict.reasons),
            "seed_deviation": self.seed_deviation,
            "seconds": self.seconds,
            "rows": [_row_json(place, row) for place, row in enumerate(self.rows, 1)],
            "ties": self.group_sentences(),
            "correlations": {name: c.to_json() for name, c in self.correlations.items()},
        }


def _images_to_settle(interval: Interval, seeds: float) -> int | None:
    """With which the interval of both noises would leave 0 out: squares of half widths add up, so
    that the images' may fill what the seeds' leaves of the difference."""
    left = math.sqrt(max(0.0, interval.difference**2 - seeds**2))
    return images_to_settle(replace(interval, difference=left))


def _row_json(place: int, row: LeaderRow) -> dict[str, Any]:
    behind = row.behind
    return {
        "rank": place,
        "group": row.group,
        "backbone": row.label,
        "AP": row.ap,
        "seeds": list(row.values),
        "behind_first": behind and {
            "difference": behind.difference, "low": behind.low, "high": behind.high,
            "level": LEVEL, "with_seeds": behind.has_seeds,
        },
        "full_training": list(row.full) or None,
        **dict(row.facts),
        "classes": dict(row.classes),
        "runs": [str(path) for path in row.runs],
    }  # fmt: skip


def read_leaderboard(
    rows: Sequence[tuple[str, Sequence[Path], Mapping[str, Any]]],
    *,
    data: str,
    full: Sequence[str] = (),
    remembered: Sequence[str] = (),
    seconds: float = 0.0,
) -> Leaderboard:
    """The ranking of rows that are trained.

    Args:
        rows: label, run folders of its seeds, and facts of each backbone; at least two.
        data: the set, as the user named it.
        full: LABEL=RUN of full trainings, several of one label being its seeds.
        remembered: those of `full` that an earlier call named: what became unreadable is left out.
        seconds: that the ranking took.

    Raises:
        RunError, DataError, CheckFailed: as `scores.read_scores`; a full training without results,
            of several sets, or of other classes.
        ConfigError: a word of `full` that names no row.
    """
    columns = read_columns([path for _, runs, _ in rows for path in runs], most=None)
    sets = columns[0].run.detected_sets()
    if len(sets) != 1:
        raise RunError(f"{columns[0].run.path} has results of {len(sets)} sets, expected one.")
    by = "coco" if read_scores(columns[0], sets[0]).coco else "set"
    scores = [read_scores(column, sets[0], by) for column in columns]
    metric = scores[0].gain_metric
    of_row, place = [], 0
    for _, runs, _ in rows:
        of_row.append(list(range(place, place + len(runs))))
        place += len(runs)
    trained, full_metric = full_trainings(
        {label: facts for label, _, facts in rows}, full, scores[0], remembered
    )
    made = [
        (_row(rows[n], scores, of_row[n], trained.get(rows[n][0], ())), of_row[n])
        for n in range(len(rows))
    ]
    made.sort(key=lambda pair: -pair[0].ap)
    deviation = _seed_deviation([row.values for row, _ in made])
    verdict = judge(columns, {sets[0]: scores}, backbones=of_row)
    changed = _changed_weights(rows, columns, of_row)
    ordered = _grouped(made, scores, deviation)
    return Leaderboard(
        data_set=data,
        images=len(scores[0].evaluated),
        metric=metric,
        rows=tuple(ordered),
        seed_deviation=deviation[0] if deviation else None,
        verdict=replace(verdict, reasons=(*verdict.reasons, *changed)),
        correlations=_correlations(ordered),
        full_metric=full_metric,
        keys=dict(columns[0].config),
        seconds=seconds,
    )


def _row(
    row: tuple[str, Sequence[Path], Mapping[str, Any]],
    scores: Sequence[SetScores],
    places: Sequence[int],
    full: tuple[float, ...],
) -> LeaderRow:
    label, runs, facts = row
    metric = scores[0].gain_metric
    values = [scores[place].value(metric) for place in places]
    tables = [scores[place].per_class(metric) for place in places]
    classes = {}
    for name in tables[0]:
        known = [v for v in (table.get(name) for table in tables) if v is not None]
        classes[name] = statistics.mean(known) if known else None
    known_values = tuple(0.0 if value is None else value for value in values)
    return LeaderRow(label, known_values, tuple(runs), dict(facts), classes, full=full)


def _changed_weights(
    rows: Sequence[tuple[str, Sequence[Path], Mapping[str, Any]]],
    columns: Sequence[Column],
    of_row: Sequence[Sequence[int]],
) -> list[str]:
    """Rows whose file held other weights by the time that a further part of the row began."""
    reasons = []
    for (label, runs, facts), places in zip(rows, of_row, strict=True):
        known = {"its measures": str(facts.get("sha256") or "")}
        known |= {columns[place].run.path.name: columns[place].loaded for place in places}
        if len(set(filter(None, known.values()))) > 1:
            texts = ", ".join(f"{h[:12]} of {part}" for part, h in known.items() if h)
            reasons.append(
                f"the weights of {label} changed on the way (hash {texts}); remove "
                f"{runs[0].parent}, and rank makes the row again"
            )
    return reasons


def _seed_deviation(values: Sequence[Sequence[float]]) -> tuple[float, int] | None:
    """Of one training, from all rows together, and its degrees of freedom."""
    squares = sum((len(v) - 1) * statistics.variance(v) for v in values if len(v) > 1)
    degrees = sum(len(v) - 1 for v in values)
    return (math.sqrt(squares / degrees), degrees) if degrees else None


def _grouped(
    made: Sequence[tuple[LeaderRow, list[int]]],
    scores: Sequence[SetScores],
    deviation: tuple[float, int] | None,
) -> list[LeaderRow]:
    ranked: list[LeaderRow] = []
    leader, group = 0, 1
    for place, (row, mine) in enumerate(made):
        behind = None
        if place:
            behind = _behind(made[0], (row, mine), scores, deviation)
            to_leader = behind
            if leader:
                to_leader = _behind(made[leader], (row, mine), scores, deviation)
            if not to_leader.may_be_none:
                leader, group = place, group + 1
        ranked.append(replace(row, behind=behind, group=group))
    return ranked


def _behind(
    first: tuple[LeaderRow, list[int]],
    other: tuple[LeaderRow, list[int]],
    scores: Sequence[SetScores],
    deviation: tuple[float, int] | None,
) -> Behind:
    difference = other[0].ap - first[0].ap
    interval = _image_interval(scores, first[1], other[1])
    if interval is None:
        return Behind(difference, None, None, None, False)
    seeds = 0.0
    if deviation:
        spread, degrees = deviation
        counts = [len(row.values) for row, _ in (first, other)]
        seeds = t_quantile((1 + LEVEL) / 2, degrees) * spread
        seeds *= math.sqrt(sum(1 / n for n in counts))
    half = math.hypot((interval.high - interval.low) / 2, seeds)
    low, high = difference - half, difference + half
    return Behind(difference, interval, low, high, bool(deviation), seeds)


def _image_interval(
    scores: Sequence[SetScores], first: Sequence[int], other: Sequence[int]
) -> Interval | None:
    """None where the two were not scored on the same images and objects, as the verdict states:
    draws of images would pair unlike ones."""
    if len({(scores[p].truth_hash, frozenset(scores[p].evaluated)) for p in (*first, *other)}) > 1:
        return None
    metric = scores[0].gain_metric
    intervals = image_intervals(scores, Pair(tuple(first), tuple(other), "other"))
    return intervals.get(metric.rule if metric.key == "mean_ap" else metric.key)


def _correlations(rows: Sequence[LeaderRow]) -> dict[str, RankCorrelation]:
    """Of the gradient-free scores with AP, and of all with the full trainings."""
    found = {}
    by_name = {"AP of the quick detector": [row.ap for row in rows]}
    for key, name in GRADIENT_FREE.items():
        known = [row.facts[key] for row in rows if isinstance(row.facts.get(key), int | float)]
        if len(known) == len(rows):
            by_name[name] = [float(value) for value in known]
    quick = by_name["AP of the quick detector"]
    for name, values in list(by_name.items())[1:]:
        if len(rows) >= FEWEST_CORRELATED:
            found[f"{name} and the quick detector's AP"] = kendall(values, quick)
    places = [n for n, row in enumerate(rows) if row.full]
    if len(places) >= FEWEST_CORRELATED:
        full = [statistics.mean(rows[n].full) for n in places]
        for name, values in by_name.items():
            found[f"{name} and full training"] = kendall([values[n] for n in places], full)
    return found
