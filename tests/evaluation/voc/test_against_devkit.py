"""VOC's AP by the MATLAB devkit's rules: ten problems worked by hand, and random ones.

The rules are VOCevaldet.m's (2007: 11 points; 2010 and later: VOCap.m, area), written here as a
plain loop. The ten problems hold the loop to sums done by hand, the loop holds ours to it on
hundreds more. "devkit" asks for an overlap of at least 0.5, "d2" for more, everything else alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resdet.evaluation.voc import voc_evaluation as voc

Make = Callable[..., tuple[voc.VocGroundTruth, voc.VocDetections]]
# 100 pixels each.
A, FAR = (1, 1, 10, 10), (31, 31, 40, 40)


def devkit_loop(objects: Any, found: Any, rule: str, iou: float, style: str) -> float | None:
    """VOCevaldet.m in plain Python: one class; objects and detections as in `voc_problem`."""
    truth: dict[str, list[list[Any]]] = {}
    for image, _, box, difficult in objects:
        truth.setdefault(image, []).append([box, difficult, False])
    positives = sum(not o[3] for o in objects)
    if positives == 0:
        return None
    order = sorted(range(len(found)), key=lambda i: (-found[i][2], found[i][0], i))
    tp, fp, curve = 0, 0, []
    for i in order:
        image, _, _, bb = found[i]
        largest, best = -np.inf, None
        for item in truth.get(image, []):
            gt = item[0]
            iw = min(bb[2], gt[2]) - max(bb[0], gt[0]) + 1
            ih = min(bb[3], gt[3]) - max(bb[1], gt[1]) + 1
            if iw > 0 and ih > 0:
                union = (
                    (bb[2] - bb[0] + 1) * (bb[3] - bb[1] + 1)
                    + (gt[2] - gt[0] + 1) * (gt[3] - gt[1] + 1)
                    - iw * ih
                )
                if iw * ih / union > largest:
                    largest, best = iw * ih / union, item
        if best is not None and (largest > iou if style == "d2" else largest >= iou):
            if not best[1]:
                tp, fp = (tp, fp + 1) if best[2] else (tp + 1, fp)
                best[2] = True
        else:
            fp += 1
        curve.append((tp, fp))
    return loop_ap(curve, positives, rule, style)


def loop_ap(curve: list[tuple[int, int]], positives: int, rule: str, style: str) -> float:
    precision = [t / (t + f) if t + f else 0.0 for t, f in curve]
    if rule == "11-point":
        total = 0.0
        for k, threshold in enumerate(np.arange(0.0, 1.1, 0.1)):
            reached = [
                p
                for p, (t, _) in zip(precision, curve, strict=True)
                if (t / positives >= threshold if style == "d2" else 10 * t >= k * positives)
            ]
            total += max(reached, default=0.0) / 11
        return total
    area, last = 0.0, 0
    for i, (t, _) in enumerate(curve):
        area += (t - last) / positives * max(precision[i:])
        last = t
    return area


# -- ten by hand -------------------------------------------------------------------------------


def check(
    make: Make,
    objects: list[tuple[Any, ...]],
    found: list[tuple[Any, ...]],
    area: float,
    eleven: float,
    style: str = "devkit",
) -> None:
    """Ours and the loop have the AP worked out. Rows are those of `voc_problem`, without class."""
    objects = [(image, "cow", box, *more) for image, box, *more in objects]
    found = [(image, "cow", score, box) for image, score, box in found]
    problem = make(objects, found, ["1", "2", "3", "4", "5"])
    flagged = [(*o, False)[:4] for o in objects]
    for rule, expected in (("area", area), ("11-point", eleven)):
        ours = voc.evaluate(*problem, ap=rule, style=style).classes["cow"].ap
        assert ours == pytest.approx(expected, abs=1e-12), rule
        loop = devkit_loop(flagged, found, rule, 0.5, style)
        assert loop == pytest.approx(expected, abs=1e-12), rule


def test_1_at_least_one_half(voc_problem: Make) -> None:
    """Overlap 10 x 5 = 50 of 100 + 50 - 50 = 100 pixels: exactly 0.5.

    devkit: >= 0.5, right: recall 1, precision 1: AP 1 by both. d2: > 0.5, wrong: AP 0.
    """
    objects, found = [("1", A)], [("1", 0.9, (1, 1, 10, 5))]
    check(voc_problem, objects, found, 1, 1)
    check(voc_problem, objects, found, 0, 0, style="d2")


def test_2_both_ends_of_a_box_are_inside(voc_problem: Make) -> None:
    """Columns 1 to 4 against 2 to 6, rows 1 to 4: 3 x 4 = 12 of 16 + 20 - 12 = 24 pixels: 0.5.

    Right, AP 1. Without the + 1 it were 2 x 3 = 6 of 9 + 12 - 6 = 15: 0.4, and AP 0.
    """
    check(voc_problem, [("1", (1, 1, 4, 4))], [("1", 0.9, (2, 1, 6, 4))], 1, 1)


def test_3_what_finds_a_difficult_object_does_not_count(voc_problem: Make) -> None:
    """FAR is difficult: it is not to be found (1 object is), and finding it, once or twice, is
    neither right nor wrong.

    .9 FAR: tp 0, fp 0. .8 A: tp 1, fp 0. .7 FAR: tp 1, fp 0. Recall 0, 1, 1, precision 0/0, 1, 1:
    AP 1 by both.
    """
    found = [("1", 0.9, FAR), ("1", 0.8, A), ("1", 0.7, FAR)]
    check(voc_problem, [("1", A), ("1", FAR, True)], found, 1, 1)


def test_4_the_largest_overlap_decides_difficult_or_not(voc_problem: Make) -> None:
    """.9 has 100 of 110 pixels with A, and all 110 with the difficult one: it is that one's, and A
    is still free. .8 is nowhere: wrong. .7 is A's.

    tp 0, 0, 1, fp 0, 1, 1: recall 0, 0, 1, precision 0/0, 0, 1/2: AP 1/2 by both. Were .9 A's: 1.
    """
    taller = (1, 1, 10, 11)
    found = [("1", 0.9, taller), ("1", 0.8, FAR), ("1", 0.7, A)]
    check(voc_problem, [("1", A), ("1", taller, True)], found, 1 / 2, 1 / 2)


def test_5_a_second_detection_of_an_object_is_wrong(voc_problem: Make) -> None:
    """.9 A, .8 A again (90 of 100 pixels), .7 FAR: tp 1, 1, 2, fp 0, 1, 1.

    Recall 1/2, 1/2, 1, precision 1, 1/2, 2/3. Area 1/2 x 1 + 1/2 x 2/3 = 5/6. Of the 11 points 0
    to .5 (six) have 1, .6 to 1 (five) 2/3: (6 + 10/3) / 11 = 28/33.
    """
    found = [("1", 0.9, A), ("1", 0.8, (1, 1, 10, 9)), ("1", 0.7, FAR)]
    check(voc_problem, [("1", A), ("1", FAR)], found, 5 / 6, 28 / 33)


def test_6_there_is_no_second_choice(voc_problem: Make) -> None:
    """.8 (110 pixels) has 100/110 = .909 with A, which .9 has taken, and 110/140 = .786 with the
    free one: it wants A, and is wrong.

    tp 1, 1, fp 0, 1 of 2 objects: recall 1/2, 1/2, precision 1, 1/2. Area 1/2; points 0 to .5
    have 1, the rest is never reached: 6/11.
    """
    objects = [("1", A), ("1", (1, 1, 10, 14))]
    check(voc_problem, objects, [("1", 0.9, A), ("1", 0.8, (1, 1, 10, 11))], 1 / 2, 6 / 11)


def test_7_equal_scores_keep_the_files_order(voc_problem: Make) -> None:
    """MATLAB's sort is stable: of three with .5 the first, wrong, stays first.

    fp, tp (A), tp (FAR) of 2: recall 0, 1/2, 1, precision 0, 1/2, 2/3; the best from each on: 2/3
    everywhere. AP 2/3 by both. With a right one first it were 5/6.
    """
    found = [("1", 0.5, (61, 61, 70, 70)), ("1", 0.5, A), ("1", 0.5, FAR)]
    check(voc_problem, [("1", A), ("1", FAR)], found, 2 / 3, 2 / 3)


def test_8_a_class_without_a_detection_has_0_and_one_without_an_object_none(
    voc_problem: Make,
) -> None:
    """No detection: no recall is reached, 0 by both. No object: tp / 0 is no recall (MATLAB: NaN);
    the mean is over the others."""
    check(voc_problem, [("1", A)], [], 0, 0)
    assert devkit_loop([], [("1", "cow", 0.9, A)], "area", 0.5, "devkit") is None
    problem = voc_problem(
        [("1", "cow", A)], [("1", "cow", 0.9, A), ("1", "dog", 0.9, A)], classes=["cow", "dog"]
    )
    result = voc.evaluate(*problem, style="devkit")
    assert (result.classes["cow"].ap, result.classes["dog"].ap, result.mean_ap) == (1, None, 1)


def test_9_images_without_objects_and_without_detections(voc_problem: Make) -> None:
    """.9 on image 2, which has no object: wrong. .8 on image 1: right. Image 3: never found.

    tp 0, 1, fp 1, 1 of 2: recall 0, 1/2, precision 0, 1/2. Area 1/2 x 1/2; points 0 to .5 have
    1/2: 3/11.
    """
    check(voc_problem, [("1", A), ("3", A)], [("2", 0.9, A), ("1", 0.8, A)], 1 / 4, 3 / 11)


def test_10_precision_that_rises_again(voc_problem: Make) -> None:
    """Four objects; right, wrong, right, wrong, right: tp 1 1 2 2 3, fp 0 1 1 2 2.

    Recall 1/4 1/4 1/2 1/2 3/4, precision 1 1/2 2/3 1/2 3/5; the best from each on: 1, 2/3, 2/3,
    3/5, 3/5. Area 1/4 x (1 + 2/3 + 3/5) = 17/30. Points 0, .1, .2 have 1, .3 to .5 have 2/3, .6
    and .7 have 3/5, the rest 0: (3 + 2 + 6/5) / 11 = 31/55.
    """
    found = [
        ("1", 0.9, A), ("1", 0.8, FAR), ("2", 0.7, A), ("5", 0.6, A), ("3", 0.5, A),
    ]  # fmt: skip
    check(voc_problem, [(i, A) for i in "1234"], found, 17 / 30, 31 / 55)


# -- random ones -------------------------------------------------------------------------------


@pytest.mark.parametrize("style", voc.STYLES)
@pytest.mark.parametrize("rule", voc.AP_RULES)
def test_equals_the_loop_on_random_problems(voc_problem: Make, rule: str, style: str) -> None:
    """150 problems with coarse boxes and scores: ties, exact halves, difficult, repeats."""
    rng = np.random.default_rng(1)
    images = ["a", "b", "c", "d"]
    seen = 0
    for _ in range(150):
        objects = [
            (str(rng.choice(images)), "cow", random_box(rng), bool(rng.random() < 0.25))
            for _ in range(rng.integers(0, 8))
        ]
        found = {
            (str(rng.choice(images)), "cow", float(rng.integers(1, 6)) / 5, random_box(rng))
            for _ in range(rng.integers(0, 25))
        }
        ordered = sorted(found)
        ordered = [ordered[i] for i in rng.permutation(len(ordered))]
        expected = devkit_loop(objects, ordered, rule, 0.5, style)
        problem = voc_problem(objects, ordered, images)
        got = voc.evaluate(*problem, ap=rule, style=style).mean_ap
        assert got == (None if expected is None else pytest.approx(expected, abs=1e-12))
        seen += expected is not None and 0 < expected < 1
    assert seen > 50


@pytest.mark.parametrize("rule", voc.AP_RULES)
def test_several_overlaps_at_once_are_each_alone(voc_problem: Make, rule: str) -> None:
    """Oracle: the loop at each of the ten overlaps, on boxes that fall on several sides of them."""
    rng = np.random.default_rng(2)
    objects = [(str(i), "cow", (1, 1, 20, 20), bool(i % 7 == 0)) for i in range(40)]
    found = [
        (str(i), "cow", float(rng.random()), (1, 1, 20, int(rng.integers(8, 21))))
        for i in rng.integers(0, 40, 80)
    ]
    problem = voc_problem(objects, found, [str(i) for i in range(40)])
    results = voc.evaluate_at(*problem, ap=rule)
    assert [result.iou for result in results] == list(voc.OVERLAPS)
    expected = [devkit_loop(objects, found, rule, iou, "d2") for iou in voc.OVERLAPS]
    assert [result.mean_ap for result in results] == pytest.approx(expected, abs=1e-12)
    assert len(set(expected)) > 5
    alone = voc.evaluate(*problem, ap=rule, iou=0.75)
    assert alone.to_json() == results[5].to_json()


def random_box(rng: np.random.Generator) -> tuple[float, ...]:
    x, y = rng.integers(1, 4, 2) * 2
    w, h = rng.integers(1, 4, 2) * 4
    return float(x), float(y), float(x + w - 1), float(y + h - 1)
