"""How often a 95 % interval of the difference of two detectors holds the true difference.

    python -m benchmarks.evaluation.coverage [--problems 1000] [--draws 1000] [--world few ...]

Two detectors look at images from a world whose true difference is known, as it is measured on
a million images of it. Each problem is a small test set from that world; `resdet.evaluation.
significance` gives its interval, and how often that holds the true difference is counted. Beside
it stand the same draws with their repeats dropped, as a peer has them (hotcoco 0.4.0 to 1.3.0:
images are drawn with replacement and then made unique), and VOC's 11-point AP, which is why
resdet gives that none.

The worlds have what makes detection unlike a coin: images that are hard for both detectors,
objects that come in crowds, rare classes, boxes that fit well or badly, false positives.

Not for: speed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from resdet.evaluation.analysis.image_noise import (
    DRAWS,
    LEVEL,
    coco_intervals,
    difference_interval,
    draw_differences,
    mean_ap,
)
from resdet.evaluation.analysis.ranked_detections import Detector, Ranked
from resdet.evaluation.coco.matching import OVERLAPS, RECALLS

TRUE_IMAGES = 1_000_000
# So large that AP is no longer biased by the size of its set.
LARGE_SET = 100_000
ELEVEN_POINTS = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True)
class World:
    """A kind of images and two detectors.

    images: in a test set. rates: objects of each class per image, on average. skills: of the two
    detectors; a point of skill is a standard deviation of the objects' difficulty. noise: of a
    detector's own, what the two do not share. false: false positives per image and class. ends:
    the share of objects that each detector can find at all, where its recall ends.
    """

    images: int
    rates: tuple[float, ...]
    skills: tuple[float, float] = (0.5, 0.7)
    noise: float = 0.7
    false: float = 0.5
    ends: tuple[float, float] = (1.0, 1.0)


WORLDS = {
    "few": World(100, (1.0, 0.5, 0.5, 0.3, 0.3)),
    "small": World(300, (1.0, 0.6, 0.4, 0.3, 0.3, 0.2, 0.2, 0.2, 0.1, 0.1)),
    "rare": World(300, (2.0, *(0.05,) * 9)),
    "demo": World(600, (0.33,) * 10, skills=(0.3, 0.5)),
    "apart": World(300, (0.5,) * 5, skills=(0.0, 1.0)),
    "equal": World(300, (0.5,) * 5, skills=(0.5, 0.5)),
    "large": World(2000, (0.3,) * 5),
    # One of the 11 recalls is just missed by one detector and just reached by the other.
    "step": World(500, (2.0,), skills=(3.0, 3.0), false=0.1, ends=(0.9, 0.905)),
}


def sample(
    world: World, num_images: int, generator: np.random.Generator
) -> tuple[dict[str, Ranked], dict[str, Ranked]]:
    """Both detectors on `num_images` new images of the world, at COCO's ten overlaps."""
    hard = generator.normal(0, 0.6, num_images)
    crowded = generator.gamma(2, 0.5, num_images)
    cluttered = generator.gamma(2, 0.5, num_images)
    sides: tuple[dict[str, Ranked], dict[str, Ranked]] = ({}, {})
    for number, rate in enumerate(world.rates):
        positives = generator.poisson(rate * crowded)
        image = np.repeat(np.arange(num_images), positives)
        difficulty = generator.normal(0, 1, len(image)) + hard[image]
        hidden = generator.random(len(image))
        for side, skill, end in zip(sides, world.skills, world.ends, strict=True):
            margin = skill - difficulty + generator.normal(0, world.noise, len(image))
            # Hopeless ones give no box; the others a box that fits the better, the easier.
            seen = (margin > -1.5) & (hidden <= end)
            fit = 1 / (1 + np.exp(-margin - 1 + generator.normal(0, 0.5, len(image))))
            false = np.repeat(np.arange(num_images), generator.poisson(world.false * cluttered))
            score = np.r_[
                margin[seen] + generator.normal(0, 0.5, int(seen.sum())),
                generator.normal(-0.7, 1, len(false)),
            ]
            right = np.concatenate(
                [fit[seen] >= OVERLAPS[:, None], np.zeros((len(OVERLAPS), len(false)), bool)],
                axis=1,
            )
            order = np.argsort(-score, kind="stable")
            right = right[:, order]
            side[str(number)] = Ranked(
                np.r_[image[seen], false][order], right, np.zeros_like(right), positives
            )
    return sides


def metrics() -> dict[str, tuple[np.ndarray | None, Callable[[np.ndarray], np.ndarray]]]:
    """Name to the recalls it is read off at, and what it makes of AP at the ten overlaps."""
    return {
        "VOC area": (None, lambda ap: ap[..., 0]),
        "COCO AP50": (RECALLS, lambda ap: ap[..., 0]),
        "COCO AP": (RECALLS, lambda ap: ap.mean(axis=-1)),
        "VOC 11-point": (ELEVEN_POINTS, lambda ap: ap[..., 0]),
    }


def differences(
    before: Detector, after: Detector, weights: np.ndarray, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """(D,) by each of the metrics named, for the draws given."""
    values = {}
    for name in names:
        recalls, value = metrics()[name]
        pair = (before, after) if name == "COCO AP" else (at_half(before), at_half(after))
        low, high = (mean_ap(detector, weights, recalls) for detector in pair)
        values[name] = value(high - low)
    return values


def at_half(detector: Detector) -> Detector:
    """The same at an overlap of 0.5 only, as VOC has it."""
    return {
        name: Ranked(c.image, c.right[:1], c.ignored[:1], c.positives)
        for name, c in detector.items()
    }


def true_differences(
    world: World, num_images: int, generator: np.random.Generator
) -> dict[str, float]:
    """By each metric, on very many images: the mean over sets of up to `LARGE_SET`."""
    size = min(num_images, LARGE_SET)
    ones = np.ones((1, size), dtype=np.int64)
    measured = [
        differences(*sample(world, size, generator), ones, list(metrics()))
        for _ in range(num_images // size)
    ]
    return {name: float(np.mean([d[name] for d in measured])) for name in metrics()}


Limits = tuple[float, float]


def resdet_limits(before: Detector, after: Detector, draws: int, seed: int) -> dict[str, Limits]:
    """resdet's own intervals, and the 11-point one that it does not give."""
    halves = [at_half(before)], [at_half(after)]
    intervals = {"VOC area": difference_interval(*halves, draws=draws, seed=seed)}
    for name, interval in coco_intervals([before], [after], draws=draws, seed=seed).items():
        intervals[f"COCO {name}"] = interval
    limits = {name: (i.low, i.high) for name, i in intervals.items() if i is not None}
    recalls, value = metrics()["VOC 11-point"]
    _, drawn = draw_differences(*halves, recalls=recalls, draws=draws, seed=seed)
    return limits | {"VOC 11-point": percentiles(value(drawn))}


def deduplicated_limits(
    before: Detector, after: Detector, draws: int, seed: int, names: Sequence[str]
) -> dict[str, Limits]:
    """The same draws, but an image drawn three times counts once."""
    num_images = len(before["0"].positives)
    even = np.full(num_images, 1 / num_images)
    weights = np.random.default_rng(seed).multinomial(num_images, even, size=draws)
    drawn = differences(before, after, np.minimum(weights, 1), names)
    return {name: percentiles(d) for name, d in drawn.items()}


def percentiles(drawn: np.ndarray) -> Limits:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Coverage:
    """Of one metric: shares of problems whose interval holds the true difference.

    Attributes:
        missed: how often it lies above and below the interval.
        deduplicated: the share with repeats dropped, None where it was not asked for.
        width_ratio: median width with repeats dropped over the width with them.
    """

    covered: float
    missed: tuple[int, int]
    deduplicated: float | None
    width_ratio: float | None


def measure(
    world: World,
    problems: int,
    draws: int,
    seed: int = 0,
    *,
    true_images: int = TRUE_IMAGES,
    deduplicated: Sequence[str] = ("VOC area", "COCO AP"),
) -> dict[str, Coverage]:
    """Coverage of every metric over `problems` test sets of a world."""
    generator = np.random.default_rng(seed)
    true = true_differences(world, true_images, generator)
    own: dict[str, list[Limits]] = {name: [] for name in true}
    once: dict[str, list[Limits]] = {name: [] for name in deduplicated}
    for problem in range(problems):
        pair = sample(world, world.images, generator)
        for name, limits in resdet_limits(*pair, draws, problem).items():
            own[name].append(limits)
        for name, limits in deduplicated_limits(*pair, draws, problem, deduplicated).items():
            once[name].append(limits)
    return {name: _coverage(value, own[name], once.get(name)) for name, value in true.items()}


def _coverage(true: float, own: list[Limits], once: list[Limits] | None) -> Coverage:
    low, high = np.array(own).T
    above, below = int((true > high).sum()), int((true < low).sum())
    covered = 1 - (above + below) / len(own)
    if not once:
        return Coverage(covered, (above, below), None, None)
    low_once, high_once = np.array(once).T
    held = float(((low_once <= true) & (true <= high_once)).mean())
    ratio = float(np.median((high_once - low_once) / (high - low)))
    return Coverage(covered, (above, below), held, ratio)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--world", nargs="+", choices=WORLDS, default=list(WORLDS))
    args = parser.parse_args(argv)
    print(f"{args.problems:,} problems a world, {args.draws:,} draws; true difference from")
    print(f"{TRUE_IMAGES:,} images. Percent of intervals that hold it; in brackets how often it")
    print("lies above and below them; then with repeats dropped, and the width that is left.")
    for name in args.world:
        world = WORLDS[name]
        print(f"\n{name}: {world.images:,} images, {len(world.rates)} classes")
        for metric, c in measure(world, args.problems, args.draws).items():
            line = f"  {metric:13} {100 * c.covered:5.1f}  ({c.missed[0]}, {c.missed[1]})"
            if c.deduplicated is not None and c.width_ratio is not None:
                line += f"   repeats dropped {100 * c.deduplicated:5.1f}, x{c.width_ratio:.2f}"
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
