"""How far the difference of two detectors would move with other test images of the same kind.

A paired bootstrap over the images: they are drawn again with repeats, the same draw for both
detectors, and each draw is scored whole. An image drawn three times counts three times, its
objects and its detections alike; dropping the repeats draws smaller sets instead and gives
intervals a quarter too narrow. Detections are not matched again: matching never looks beyond one
image.

Repeats come as weights in the cumulative sums. That is exact: copies of a detection have the same
score, and the best precision from a recall on looks at the end of a run of copies. Only where two
detections of one image and class have equal scores, all copies of the first come first.

Percentile intervals are had for VOC's AP by area, for ILSVRC DET's, which is the area under the
same curve with other overlaps, and for COCO's AP and AP50;
`benchmarks/evaluation/coverage` measures how often they hold the true difference. VOC's 11-point AP
has none: whether a recall of 0.9 is just reached or just missed decides a tenth of it, and
resampling, which smooths over that jump, does not describe how often it happens.

Terms: D draws, M detections of a class, N images, T overlaps. All values are fractions.

Not for: the noise of seeds (`seed_noise`): an interval here knows nothing of it. Nor for matching
(`ranked_detections`), or whether two runs may be compared at all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from resdet.evaluation.analysis.ranked_detections import Detector, Ranked
from resdet.evaluation.coco import matching
from resdet.evaluation.inputs.arrays import FloatArray, IntArray

DRAWS = 1000
LEVEL = 0.95
# Below this, an interval is too narrow for its level.
MIN_IMAGES = 50
# Numbers in an array, of which there are a few at a time: 16 MB each.
_CELLS = 2_000_000
# Draws from which on whole rows are added up faster than their numbers.
_WIDE = 100
# Of the normal distribution: of an interval of 95 %, and of being right in 4 of 5 cases.
_Z_LEVEL, _Z_POWER = 1.959963984540054, 0.8416212335729143
POWER = 0.8


@dataclass(frozen=True)
class Interval:
    """Percentile interval of a difference; `has_zero` when it spans 0.

    difference: as measured. deviation: standard deviation over the draws.
    """

    low: float
    high: float
    draws: int
    images: int
    difference: float
    deviation: float
    level: float = LEVEL

    @property
    def has_zero(self) -> bool:
        return self.low <= 0 <= self.high

    def to_json(self) -> dict[str, float | int | str]:
        return {
            "level": self.level,
            "low": self.low,
            "high": self.high,
            "difference": self.difference,
            "method": "paired bootstrap over images, percentiles",
            "draws": self.draws,
            "images": self.images,
        }


# -- the bootstrap ----------------------------------------------------------------------------


def mean_ap(detector: Detector, weights: IntArray, recalls: FloatArray | None = None) -> FloatArray:
    """AP at each overlap, per draw the mean over the classes that have an object in it, (D, T).

    Args:
        weights: (D, N), how often each image was drawn; all ones is the set itself.
        recalls: evenly spaced from 0 to 1, where precision is read off (COCO's 101); None for
            the area under the curve (VOC's).

    Returns:
        NaN for a draw without any object.
    """
    drawn = np.ascontiguousarray(weights.T, dtype=np.float64)
    num_overlaps = max((len(c.right) for c in detector.values()), default=1)
    sums = np.zeros((num_overlaps, len(weights)))
    present = np.zeros(len(weights))
    for one in detector.values():
        positives = one.positives @ drawn
        sums += _class_ap(one, drawn, positives, recalls)
        present += positives > 0
    mean = np.full(sums.shape, np.nan)
    np.divide(sums, present, out=mean, where=present > 0)
    return mean.T


def _class_ap(
    one: Ranked, drawn: FloatArray, positives: FloatArray, recalls: FloatArray | None
) -> FloatArray:
    """(T, D), 0 where the draw has no object."""
    ap = np.zeros((len(one.right), len(positives)))
    # Precision matters at right detections only; what comes after the last changes nothing.
    ever = np.flatnonzero(one.right.any(axis=0))
    if not len(ever):
        return ap
    seen = _drawn_up_to(ever, one.image[: ever[-1] + 1], drawn)
    for t, (right, ignored) in enumerate(zip(one.right, one.ignored, strict=True)):
        hits = right[ever]
        if not hits.any():
            continue
        counted, left_out = seen[hits], np.flatnonzero(ignored)
        if len(left_out):
            sums = _accumulate(np.add, drawn[one.image[left_out]])
            before = np.searchsorted(left_out, ever[hits])
            counted[before > 0] -= sums[before[before > 0] - 1]
        right_count = _accumulate(np.add, drawn[one.image[ever[hits]]])
        ap[t] = _area(right_count, counted, positives, recalls)
    return ap


def _drawn_up_to(places: IntArray, image: IntArray, drawn: FloatArray) -> FloatArray:
    """(places, D) how many detections each draw has up to and with each place, block by block."""
    sums = np.empty((len(places), drawn.shape[1]))
    total = np.zeros(drawn.shape[1])
    rows = max(1, _CELLS // drawn.shape[1])
    for start in range(0, len(image), rows):
        block = drawn[image[start : start + rows]]
        block[0] += total
        block = _accumulate(np.add, block)
        low, high = np.searchsorted(places, [start, start + rows])
        sums[low:high] = block[places[low:high] - start]
        total = block[-1].copy()
    return sums


def _accumulate(step: np.ufunc, rows: FloatArray) -> FloatArray:
    """From the first row to the last; numpy's own goes number by number, so wide rows are added
    up in place."""
    if rows.shape[1] < _WIDE:
        return np.asarray(step.accumulate(rows, axis=0))
    for above, row in itertools.pairwise(rows):
        step(above, row, out=row)
    return rows


def _area(
    right_count: FloatArray, seen: FloatArray, positives: FloatArray, recalls: FloatArray | None
) -> FloatArray:
    """(D,) from the right ones and all detections up to each right one, (hits, D)."""
    precision = right_count / np.maximum(seen, 1)
    envelope = _accumulate(np.maximum, precision[::-1])[::-1]
    recall = right_count / np.maximum(positives, 1)
    if recalls is not None:
        # How many of the recalls are reached; only the nearest one needs a look.
        nearest = np.rint(recall * (len(recalls) - 1)).astype(np.int64)
        recall = (nearest + (recalls[nearest] <= recall)) / len(recalls)
    area = recall[0] * envelope[0] + (np.diff(recall, axis=0) * envelope[1:]).sum(axis=0)
    return np.asarray(np.where(positives > 0, area, 0.0))


def _draws(num_images: int, draws: int, seed: int, rows: int) -> Iterator[IntArray]:
    """(up to `rows`, N) counts per image; the same whatever `rows` is."""
    generator = np.random.default_rng(seed)
    even = np.full(num_images, 1 / num_images)
    for start in range(0, draws, rows):
        yield generator.multinomial(num_images, even, size=min(rows, draws - start))


def draw_differences(
    before: Sequence[Detector],
    after: Sequence[Detector],
    *,
    recalls: FloatArray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Difference at each overlap, (T,), as measured, and in each draw of the images, (D, T).

    Args:
        before, after: the trainings of each side, one or several seeds; their AP is averaged.

    Raises:
        ValueError: they were not scored on the same classes, images and objects.
    """
    _refuse_other_objects([*before, *after])
    num_images = len(next(iter(before[0].values())).positives)
    most = max(int(c.positives.sum()) for c in before[0].values())

    def difference(weights: IntArray) -> FloatArray:
        sides = [
            np.mean([mean_ap(d, weights, recalls) for d in s], axis=0) for s in (after, before)
        ]
        return np.asarray(sides[0] - sides[1])

    rows = max(1, _CELLS // max(most, num_images))
    parts = [difference(weights) for weights in _draws(num_images, draws, seed, rows)]
    return difference(np.ones((1, num_images), dtype=np.int64))[0], np.concatenate(parts)


def _refuse_other_objects(detectors: Sequence[Detector]) -> None:
    first = detectors[0] if detectors else {}
    if not first:
        raise ValueError("no class to compare: give detectors with at least one scored class")
    for other in detectors[1:]:
        if strange := set(first) ^ set(other):
            raise ValueError(f"class {sorted(strange)[0]!r} was scored for one detector only")
        for name, one in first.items():
            if not np.array_equal(one.positives, other[name].positives):
                raise ValueError(f"{name}: the detectors were not matched against the same objects")


def difference_interval(
    before: Sequence[Detector],
    after: Sequence[Detector],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval | None:
    """95 % interval of the AP by area, after minus before; None with fewer than 50 images.

    Args:
        before, after: `rank_voc` or `rank_det` of each training of a side, one or several seeds.
        draws: of the set of images; the same `seed` gives the same draws.

    Raises:
        ValueError: they were not scored on the same classes, images and objects.
    """
    measured, drawn = draw_differences(before, after, draws=draws, seed=seed)
    return _interval(before[0], float(measured[0]), drawn[:, 0])


def coco_intervals(
    before: Sequence[Detector],
    after: Sequence[Detector],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """The same of COCO's "AP" and "AP50", from the same draws.

    Args:
        before, after: `rank_coco` of each training of a side, at COCO's ten overlaps.
    """
    measured, drawn = draw_differences(
        before, after, recalls=matching.RECALLS, draws=draws, seed=seed
    )
    return {
        "AP": _interval(before[0], float(measured.mean()), drawn.mean(axis=1)),
        "AP50": _interval(before[0], float(measured[0]), drawn[:, 0]),
    }


def _interval(detector: Detector, measured: float, drawn: FloatArray) -> Interval | None:
    num_images = len(next(iter(detector.values())).positives)
    if num_images < MIN_IMAGES or math.isnan(measured):
        return None
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    deviation = float(np.nanstd(drawn, ddof=1))
    return Interval(float(low), float(high), len(drawn), num_images, measured, deviation)


def images_to_settle(interval: Interval) -> int | None:
    """Images of this kind on which a true difference of the measured size would show.

    "Show" is an interval without 0 in 4 of 5 such sets; its width falls with the square root of
    the number of images. An estimate and no promise: the true difference may be smaller than the
    measured one, and then more are needed. None where nothing was measured: no difference, or no
    spread.
    """
    if interval.difference == 0 or interval.deviation == 0:
        return None
    ratio = (_Z_LEVEL + _Z_POWER) * interval.deviation / abs(interval.difference)
    return math.ceil(interval.images * ratio**2)


# -- verdicts ---------------------------------------------------------------------------------


def image_verdict(interval: Interval | None) -> str:
    """Whether a difference is inside the noise of the images, and how many would settle it."""
    if interval is None:
        return f"Fewer than {MIN_IMAGES} images: how far others would move the gap is unknown."
    limits = (
        f"{points(interval.low)} to {points(interval.high)} points (95 % interval, "
        f"{interval.images:,} images, {interval.draws:,} draws)"
    )
    if not interval.has_zero:
        return f"The gap of {points(interval.difference)} points is outside image noise: {limits}."
    text = f"The gap of {points(interval.difference)} points is inside image noise: {limits}."
    if (needed := images_to_settle(interval)) is not None:
        text += (
            f" If the true gap is this large, about {rounded_up(needed)} images would show it in "
            "4 of 5 cases."
        )
    return text


def points(value: float) -> str:
    """A fraction in points, signed, never a zero with a sign."""
    text = f"{100 * value:+.1f}"
    return "0.0" if not float(text) else text.replace("-", "−")


def rounded_up(count: int) -> str:
    """Two digits: more would promise what an estimate cannot hold."""
    digits = max(0, len(str(count)) - 2)
    return f"{math.ceil(count / 10**digits) * 10**digits:,}"
