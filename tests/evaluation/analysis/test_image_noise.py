"""Significance: the bootstrap is scoring of drawn sets, and its intervals cover."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.evaluation import coverage
from resdet.evaluation.analysis import image_noise
from resdet.evaluation.analysis.image_noise import (
    Interval,
    coco_intervals,
    difference_interval,
    image_verdict,
    images_to_settle,
    mean_ap,
)
from resdet.evaluation.analysis.ranked_detections import Ranked, rank_coco, rank_voc
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.coco.matching import RECALLS
from resdet.evaluation.inputs.detections import read_columns
from resdet.evaluation.inputs.ground_truth import read_ground_truth
from resdet.evaluation.voc import voc_evaluation as voc
from tests.support import coco_json

SceneMaker = Callable[..., Any]


def ranked(instances: Any, results: Any, **options: Any) -> dict[str, Ranked]:
    return rank_coco(*coco_json.arrays(instances, results), **options)


def made_up(num_images: int = 60, skill: float = 0.7, seed: int = 0) -> dict[str, Ranked]:
    """Three classes, 0 to 2 objects an image; a share of them found, some boxes made up."""
    objects = np.random.default_rng(99).integers(0, 3, (3, num_images))
    generator = np.random.default_rng(seed)
    made = {}
    for number, positives in enumerate(objects):
        image = np.repeat(np.arange(num_images), positives)
        found = image[generator.random(len(image)) < skill]
        invented = generator.integers(0, num_images, num_images // 3)
        is_right = np.r_[np.ones(len(found), bool), np.zeros(len(invented), bool)]
        order = np.argsort(-(generator.random(len(is_right)) + is_right), kind="stable")
        right = is_right[order][None]
        made[str(number)] = Ranked(
            np.r_[found, invented][order], right, np.zeros_like(right), positives
        )
    return made


# -- a draw is a set --------------------------------------------------------------------------


def test_every_image_once_is_pycocotools_number(random_scene: SceneMaker) -> None:
    """Oracle: pycocotools, AP and AP50 of random problems with crowds and ties."""
    crowds = 0
    for seed in range(30):
        instances, results = random_scene(seed, crowds=0.25, levels=9)
        expected = coco.evaluate(instances, results).numbers
        ap = mean_ap(ranked(instances, results), np.ones((1, 8), np.int64), RECALLS)[0]
        assert ap.shape == (10,)
        assert ap.mean() == pytest.approx(expected["AP"], abs=1e-12)
        assert ap[0] == pytest.approx(expected["AP50"], abs=1e-12)
        crowds += sum(a["iscrowd"] for a in instances["annotations"])
    assert crowds > 50


def copies(instances: Any, results: Any, weights: np.ndarray) -> Any:
    """The set that a draw stands for, each image written out as often as it was drawn."""
    times = {image["id"]: int(w) for image, w in zip(instances["images"], weights, strict=True)}

    def written_out(items: list[Any], key: str) -> list[Any]:
        return [
            {**item, key: item[key] * 100 + copy}
            for item in items
            for copy in range(times[item[key]])
        ]

    annotations = [
        {**item, "id": number}
        for number, item in enumerate(written_out(instances["annotations"], "image_id"), start=1)
    ]
    images = written_out(instances["images"], "id")
    drawn = {**instances, "images": images, "annotations": annotations}
    return drawn, written_out(results, "image_id")


def test_weights_are_copies_of_images_for_coco(random_scene: SceneMaker) -> None:
    """Oracle: pycocotools on the drawn set, its copies written out; with crowds and ties.

    No ties within an image and class: there its copies take turns, and weights do not.
    """
    rng = np.random.default_rng(5)
    compared = 0
    for seed in range(12):
        instances, results = random_scene(seed, crowds=0.2, levels=9)
        results = list({(d["image_id"], d["category_id"], d["score"]): d for d in results}.values())
        weights = rng.multinomial(8, np.full(8, 1 / 8), size=3)
        ap = mean_ap(ranked(instances, results), weights, RECALLS)
        for drawn, w in zip(ap, weights, strict=True):
            expected = coco.evaluate(*copies(instances, results, w)).numbers
            assert drawn.mean() == pytest.approx(expected["AP"], abs=1e-12)
            assert drawn[0] == pytest.approx(expected["AP50"], abs=1e-12)
            compared += 1
    assert compared == 36


def test_weights_are_copies_of_images_for_voc(random_scene: SceneMaker) -> None:
    """Oracle: `voc.evaluate` by area (exact against the devkit's rules) on the drawn set."""
    rng = np.random.default_rng(6)
    for seed in range(8):
        instances, results = random_scene(seed)
        for number, item in enumerate(instances["annotations"]):
            item["difficult"] = int(number % 5 == 4)
        for w in rng.multinomial(8, np.full(8, 1 / 8), size=2):
            truth, found = as_voc(*copies(instances, results, w))
            expected = voc.evaluate(truth, found, ap="area").mean_ap
            value = mean_ap(rank_voc(*as_voc(instances, results)), w[None])
            assert value[0, 0] == pytest.approx(expected, abs=1e-12)


def as_voc(instances: Any, results: Any) -> Any:
    source = read_ground_truth(instances)
    columns, _ = read_columns(results, source.index)
    truth = voc.ground_truth_from_coco(source)
    return truth, voc.detections_from_columns(columns, source.index, source.index.image_ids, "x")


def test_only_images_of_the_subset_can_be_drawn(random_scene: SceneMaker) -> None:
    """Oracle: pycocotools and `voc.evaluate` on the subset alone."""
    instances, results = random_scene(3)
    subset, ones = [2, 3, 5, 8], np.ones((1, 4), np.int64)
    expected = coco.evaluate(instances, results, subset=subset).numbers["AP50"]
    found = ranked(instances, results, subset=subset)
    assert mean_ap(found, ones, RECALLS)[0, 0] == pytest.approx(expected, abs=1e-12)
    truth, detections = as_voc(instances, results)
    chosen = voc.evaluate(truth, detections, ap="area", subset=subset).mean_ap
    value = mean_ap(rank_voc(truth, detections, subset=subset), ones)
    assert value[0, 0] == pytest.approx(chosen, abs=1e-12)
    with pytest.raises(ValueError, match="has no image 77 of the subset"):
        ranked(instances, results, subset=[2, 77])


def test_a_draw_means_the_same_images_in_whatever_order_a_file_has_them(
    random_scene: SceneMaker,
) -> None:
    """Two files of one set, one turned round: draw by draw the same numbers, by both rules."""
    instances, results = random_scene(3)
    turned = {**instances, "images": instances["images"][::-1]}
    weights = np.random.default_rng(0).multinomial(len(turned["images"]), [1 / 8] * 8, size=5)
    assert len(turned["images"]) == 8
    pairs = [[ranked(i, results) for i in (instances, turned)]]
    truths = [voc.ground_truth_from_coco(i) for i in (instances, turned)]
    corners = [[x, y, x + w, y + h] for x, y, w, h in (r["bbox"] for r in results)]
    found = voc.detections_from_boxes(
        truths[0].classes,
        [r["image_id"] for r in results],
        [r["category_id"] - 1 for r in results],
        np.array(corners, dtype=np.float64).reshape(-1, 4),
        [r["score"] for r in results],
    )
    pairs.append([rank_voc(truth, found) for truth in truths])
    for one, other in pairs:
        np.testing.assert_array_equal(mean_ap(one, weights), mean_ap(other, weights))


def test_a_class_without_objects_in_a_draw_is_left_out_of_it() -> None:
    """As in the number itself (F89)."""
    one, two, _ = made_up().values()
    nothing = np.zeros((1, 0), bool)
    empty = Ranked(np.zeros(0, np.int64), nothing, nothing, np.zeros(60, np.int64))
    ones = np.ones((1, 60), dtype=np.int64)
    all_three = mean_ap({"a": one, "b": two, "c": empty}, ones)
    assert all_three == mean_ap({"a": one, "b": two}, ones)
    assert np.isnan(mean_ap({"c": empty}, ones)).all()


# -- intervals --------------------------------------------------------------------------------


def test_a_detector_against_itself_has_no_noise() -> None:
    """Paired: the same draw for both."""
    found = difference_interval([made_up()], [made_up()], draws=50)
    assert found is not None
    assert (found.low, found.high, found.difference) == (0, 0, 0)
    assert images_to_settle(found) is None


def test_the_interval_spans_what_it_should() -> None:
    """A clear difference excludes 0 and has the sign of the gain; a re-roll of luck does not."""
    clear = difference_interval([made_up(skill=0.3)], [made_up(skill=0.9)], draws=200)
    assert clear is not None
    assert 0 < clear.low < clear.difference < clear.high
    luck = difference_interval([made_up(seed=1)], [made_up(seed=2)], draws=200)
    assert luck is not None
    assert luck.has_zero


def test_several_seeds_are_averaged_per_draw() -> None:
    """By hand: the mean of two detectors' AP; a side twice is the side once."""
    a, b, c = made_up(seed=1), made_up(seed=2), made_up(seed=3, skill=0.9)
    ones = np.ones((1, 60), np.int64)
    both = difference_interval([a, b], [c], draws=50)
    assert both is not None
    values = [float(mean_ap(d, ones)[0, 0]) for d in (a, b, c)]
    assert both.difference == pytest.approx(values[2] - (values[0] + values[1]) / 2)
    once = difference_interval([a], [c], draws=50)
    twice = difference_interval([a, a], [c], draws=50)
    assert once is not None and twice is not None
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))


def test_draws_do_not_depend_on_how_many_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed, the same interval, in one piece and one by one."""

    def limits(seed: int = 0) -> Any:
        found = difference_interval([made_up(seed=1)], [made_up(seed=2)], draws=120, seed=seed)
        assert found is not None
        return pytest.approx((found.low, found.high, found.deviation), rel=1e-9)

    whole = limits()
    monkeypatch.setattr(image_noise, "_CELLS", 1)
    assert limits().expected == whole
    assert limits(seed=1).expected != whole


def test_coco_has_ap_and_ap50_from_the_same_draws(random_scene: SceneMaker) -> None:
    """The measured difference is pycocotools'; below 50 images there is no interval."""
    instances, results = random_scene(1)
    worse = [item for item in results if item["image_id"] > 2]
    few = coco_intervals([ranked(instances, worse)], [ranked(instances, results)], draws=5)
    assert few == {"AP": None, "AP50": None}
    weights = np.full(8, 8)
    more, all_found = copies(instances, results, weights)
    _, part = copies(instances, worse, weights)
    found = coco_intervals([ranked(more, part)], [ranked(more, all_found)], draws=40)
    values = [coco.evaluate(more, d).numbers for d in (part, all_found)]
    assert list(found) == ["AP", "AP50"]
    for name, interval in found.items():
        assert interval is not None and values[0][name] is not None
        assert interval.images == 64
        assert interval.difference == pytest.approx(values[1][name] - values[0][name])
        assert interval.low < interval.difference < interval.high


def test_other_objects_and_classes_are_refused() -> None:
    """A pair is a pair only on the same objects."""
    with pytest.raises(ValueError, match="not matched against the same objects"):
        difference_interval([made_up(60)], [made_up(61)], draws=10)
    fewer = {name: c for name, c in made_up().items() if name != "2"}
    with pytest.raises(ValueError, match="class '2' was scored for one detector only"):
        difference_interval([made_up()], [fewer], draws=10)
    with pytest.raises(ValueError, match="no class to compare"):
        difference_interval([{}], [{}], draws=10)


# -- coverage ---------------------------------------------------------------------------------


def unlikely(trials: int, share: float, below: float = 0.001) -> tuple[int, int]:
    """The counts of a binomial that lie beyond in one of a thousand cases on either side."""
    chance = [
        math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(trials + 1)
    ]
    sums = np.cumsum(chance)
    return int(np.searchsorted(sums, below)), int(np.searchsorted(sums, 1 - below))


def test_a_95_percent_interval_covers_and_dropped_repeats_do_not() -> None:
    """The true difference is that of 50,000 images; the bounds are those of the binomial.

    Drawing without repeats keeps 63 % of the images: for a mean, sqrt(1 / 0.632 - 1) = 0.76 of
    the width is left, and 1.96 x 0.76 = 1.49 deviations hold 86 %.
    """
    problems = 120
    world = coverage.World(100, (1.0, 0.7))
    found = coverage.measure(
        world, problems, draws=150, true_images=50_000, deduplicated=("COCO AP",)
    )
    low, high = unlikely(problems, 0.95)
    assert (low, high) == (106, 120)
    for name in ("VOC area", "COCO AP50", "COCO AP"):
        assert low <= found[name].covered * problems <= high
    peer = found["COCO AP"]
    assert peer.width_ratio == pytest.approx(0.76, abs=0.05)
    assert peer.deduplicated is not None
    assert peer.deduplicated * problems <= unlikely(problems, 0.95, 0.05)[0]


# -- how many would settle it -----------------------------------------------------------------


def gap(difference: float, deviation: float, images: int = 100) -> Interval:
    half = 1.96 * deviation
    return Interval(difference - half, difference + half, 1000, images, difference, deviation)


def test_images_to_settle_by_hand() -> None:
    """A gap of one deviation needs (1.960 + 0.842)^2 = 7.85 times the images; of two, a quarter."""
    assert images_to_settle(gap(0.01, 0.01)) == 785
    assert images_to_settle(gap(-0.02, 0.01)) == 197
    assert images_to_settle(gap(0.0, 0.01)) is None


def test_that_many_images_do_settle_it_in_four_of_five_cases() -> None:
    """By simulation: of sets with that many images about 80 % have an interval without 0."""
    rng = np.random.default_rng(0)
    needed = images_to_settle(gap(0.02, 0.05))
    assert needed is not None
    deviation = 0.05 * math.sqrt(100 / needed)
    measured = rng.normal(0.02, deviation, 20_000)
    assert (np.abs(measured) > 1.96 * deviation).mean() == pytest.approx(0.8, abs=0.01)


# -- sentences --------------------------------------------------------------------------------


def test_a_gap_is_reported_to_be_inside_or_outside_image_noise() -> None:
    """With its limits, images, draws, and what would settle it, to two digits."""
    assert image_verdict(gap(0.05, 0.01, 600)) == (
        "The gap of +5.0 points is outside image noise: +3.0 to +7.0 points (95 % interval, 600 "
        "images, 1,000 draws)."
    )
    assert image_verdict(gap(-0.01, 0.02, 600)) == (
        "The gap of −1.0 points is inside image noise: −4.9 to +2.9 points (95 % interval, 600 "
        "images, 1,000 draws). If the true gap is this large, about 19,000 images would show it in "
        "4 of 5 cases."
    )
    assert image_verdict(None).startswith("Fewer than 50 images")


def test_json_has_the_interval_and_how_it_was_had() -> None:
    """Fractions, and the method in words."""
    page = gap(0.05, 0.01, 600).to_json()
    assert (page["difference"], page["images"], page["draws"]) == (0.05, 600, 1000)
    assert page["method"] == "paired bootstrap over images, percentiles"
