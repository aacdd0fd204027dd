"""Error anatomy: each kind by hand, and the pair object by object (`test_anatomy_tidecv`: peer)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resdet.evaluation.analysis import detection_errors
from resdet.evaluation.analysis.detection_errors import ERRORS, STATES, Anatomy, compare, dissect
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.inputs.detections import read_columns
from resdet.evaluation.inputs.ground_truth import read_ground_truth
from tests.support import coco_json

SceneMaker = Callable[..., Any]
# 10 x 10 at the corner; beside it boxes that overlap it by as much as their names state.
SQUARE = [0, 0, 10, 10]
BY_80, BY_60, BY_30, BY_50 = [0, 0, 10, 8], [0, 0, 10, 6], [0, 0, 10, 3], [0, 0, 10, 5]
BY_10, BY_5, APART = [0, 0, 10, 1], [0, 0, 5, 1], [60, 60, 10, 10]


def scene(
    objects: list[tuple[Any, ...]], found: list[tuple[Any, ...]], images: int = 2
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """objects: (class, box[, image, crowd]); found: (class, score, box[, image]); classes 1, 2."""
    annotations = []
    for number, (category, box, *more) in enumerate(objects, start=1):
        image, crowd = (*more, *(1, 0)[len(more) :])
        annotations.append(coco_json.annotation(number, image, category, box, crowd=crowd))
    instances = {
        "images": [{"id": i, "width": 100, "height": 100} for i in range(1, images + 1)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": annotations,
    }
    results = [coco_json.detection(more[0] if more else 1, c, box, s) for c, s, box, *more in found]
    return instances, results


def dissected(instances: Any, results: Any, **options: Any) -> Anatomy:
    return dissect(*coco_json.arrays(instances, results), **options)


def kinds(found: Anatomy) -> list[str]:
    names = {detection_errors.RIGHT: "right", detection_errors.NEITHER: "neither"} | dict(
        enumerate(ERRORS)
    )
    return [names[int(kind)] for kind in found.kinds]


# -- each kind --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objects", "found", "expected", "missed"),
    [
        pytest.param([], [], [], 0, id="empty"),
        pytest.param([(1, SQUARE)], [], [], 1, id="missed"),
        pytest.param([(1, SQUARE)], [(1, 0.9, BY_80)], ["right"], 0, id="right"),
        pytest.param([(1, SQUARE)], [(1, 0.9, BY_50)], ["right"], 0, id="right-at-half"),
        pytest.param([(1, SQUARE)], [(2, 0.9, BY_80)], ["classification"], 0, id="class"),
        pytest.param([(1, SQUARE)], [(1, 0.9, BY_30)], ["localisation"], 0, id="box"),
        pytest.param([(1, SQUARE)], [(1, 0.9, BY_10)], ["localisation"], 0, id="box-at-tenth"),
        pytest.param([(1, SQUARE)], [(2, 0.9, BY_30)], ["both"], 1, id="both"),
        pytest.param([(1, SQUARE)], [(2, 0.9, BY_10)], ["background"], 1, id="other-at-tenth"),
        pytest.param([(1, SQUARE)], [(1, 0.9, BY_5)], ["background"], 1, id="background"),
        pytest.param([(1, SQUARE)], [(1, 0.9, APART)], ["background"], 1, id="apart"),
        pytest.param([], [(1, 0.9, APART)], ["background"], 0, id="nothing-there"),
        pytest.param(
            [(1, SQUARE)], [(1, 0.9, BY_80), (1, 0.8, BY_60)], ["right", "duplicate"], 0, id="twice"
        ),
        pytest.param(
            [(1, SQUARE)], [(1, 0.9, BY_80), (1, 0.8, BY_50)], ["right", "localisation"], 0,
            id="twice-at-half",
        ),
        pytest.param(
            [(1, SQUARE), (2, BY_80)], [(1, 0.9, BY_30)], ["localisation"], 1, id="box-before-class"
        ),
        pytest.param(
            [(1, SQUARE), (2, SQUARE)], [(1, 0.9, SQUARE), (1, 0.8, BY_80)],
            ["right", "classification"], 0, id="class-before-duplicate",
        ),
        pytest.param([(1, SQUARE)], [(1, 0.9, SQUARE, 2)], ["background"], 1, id="other-image"),
        pytest.param(
            [(1, SQUARE, 1, 1)], [(1, 0.9, BY_80), (2, 0.8, BY_80)], ["neither", "background"], 0,
            id="crowd",
        ),
    ],
)  # fmt: skip
def test_kinds_by_hand(
    objects: list[Any], found: list[Any], expected: list[str], missed: int
) -> None:
    """TIDE's definitions, with the edges as its code takes them (the first that holds)."""
    result = dissected(*scene(objects, found))
    assert kinds(result) == expected
    assert result.counts["missed"] == missed
    for error in ERRORS[:-1]:
        assert result.counts[error] == expected.count(error)


@pytest.mark.parametrize(
    ("ignore", "expected", "missed"),
    [
        pytest.param(False, ["right", "duplicate", "right", "localisation"], 0, id="coco"),
        pytest.param(True, ["neither", "neither", "right", "background"], 0, id="voc"),
    ],
)
def test_a_difficult_object_makes_nothing_right_or_wrong(
    ignore: bool, expected: list[str], missed: int
) -> None:
    """VOCevaldet skips every detection whose best object is difficult, not the first alone; what
    covers it by less than a half is as wrong as if nothing were there."""
    instances, results = scene(
        [(1, SQUARE), (1, APART)],
        [(1, 0.9, SQUARE), (1, 0.8, BY_80), (1, 0.7, APART), (1, 0.6, BY_30)],
    )
    instances["annotations"][0]["difficult"] = 1
    found = dissected(instances, results, ignore_difficult=ignore)
    assert kinds(found) == expected
    assert found.counts["missed"] == missed
    assert (found.states >= 0).tolist() == [not ignore, True]


def test_ap50_is_pycocotools(random_scene: SceneMaker) -> None:
    """Oracle: pycocotools, with crowds and ties; and on a subset."""
    for seed in range(20):
        instances, results = random_scene(seed, crowds=0.2, levels=9)
        expected = coco.evaluate(instances, results).numbers["AP50"]
        assert dissected(instances, results).ap50 == pytest.approx(expected, abs=1e-12)
        part = coco.evaluate(instances, results, subset=[1, 4, 6]).numbers["AP50"]
        found = dissected(instances, results, subset=[1, 4, 6])
        assert found.ap50 == (part if part is None else pytest.approx(part, abs=1e-12))


# -- what it costs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objects", "found", "ap50", "gains"),
    [
        # One object of one class: whatever fixes it gives AP 1.
        pytest.param(
            [(1, SQUARE)], [(1, 0.9, BY_30)], 0, {"localisation": 1}, id="box"
        ),
        # The detection of the other class does no harm there: that class has no object.
        pytest.param([(1, SQUARE)], [(2, 0.9, BY_80)], 0, {"classification": 1}, id="class"),
        # Precision 1/2 behind the false positive; 1 without it.
        pytest.param(
            [(1, SQUARE)], [(1, 0.9, APART), (1, 0.8, SQUARE)], 0.5, {"background": 0.5},
            id="background",
        ),
        pytest.param(
            [(1, SQUARE)], [(1, 0.9, SQUARE), (1, 0.8, BY_80)], 1, {"duplicate": 0},
            id="last-harms-not",
        ),
        # One of two found: recall 0 to .50, 51 of the 101 points.
        pytest.param(
            [(1, SQUARE), (1, APART)], [(1, 0.9, SQUARE)], 51 / 101, {"missed": 50 / 101},
            id="missed",
        ),
        # Right (.9), twice (.8), right (.7): precision 1 to recall .5, 2/3 after; without it 1.
        pytest.param(
            [(1, SQUARE), (1, APART)],
            [(1, 0.9, SQUARE), (1, 0.8, BY_80), (1, 0.7, APART)],
            (51 + 50 * 2 / 3) / 101, {"duplicate": 50 / 3 / 101}, id="duplicate",
        ),
        # Wrong class and bad box, above the right one.
        pytest.param(
            [(1, SQUARE), (2, APART)], [(2, 0.9, BY_30), (1, 0.8, SQUARE), (2, 0.7, APART)],
            0.75, {"both": 0.25}, id="both",
        ),
        # Nothing of a class was found, and it claimed nothing: without objects it has no AP.
        pytest.param(
            [(1, SQUARE), (2, APART)], [(1, 0.9, SQUARE)], 0.5, {"missed": 0.5}, id="missed-class"
        ),
        # With a false positive it keeps AP 0 when its objects need not be found.
        pytest.param(
            [(1, SQUARE), (2, APART)], [(1, 0.9, SQUARE), (2, 0.9, [80, 0, 9, 9])], 0.5,
            {"missed": 0, "background": 0}, id="missed-class-with-false-positive",
        ),
    ],
)  # fmt: skip
def test_gains_by_hand(
    objects: list[Any], found: list[Any], ap50: float, gains: dict[str, float]
) -> None:
    """AP50 worked out before and after the one correction; every other error gains nothing."""
    result = dissected(*scene(objects, found))
    assert result.ap50 == pytest.approx(ap50)
    for error in ERRORS:
        assert result.gains[error] == pytest.approx(gains.get(error, 0)), error


def test_without_any_object_there_is_no_ap_and_no_gain() -> None:
    """null, not 0; the detections are errors all the same."""
    result = dissected(*scene([], [(1, 0.9, SQUARE)]))
    assert result.ap50 is None
    assert set(result.gains.values()) == {None}
    assert result.counts["background"] == 1
    json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.parametrize(("rule", "gain"), [("paper", 0.25), ("tidecv", 0.0)])
def test_the_best_in_score_stays_by_the_paper_and_the_right_one_by_its_code(
    rule: str, gain: float
) -> None:
    """A cat called a dog (.9), a cat made up (.8), the cat found (.7): AP 1/2 of cat, 0 of dog.

    By the paper the first is the cat, and the third, its duplicate, goes: AP of cat 1. By its code
    the first goes: 1/2 still.
    """
    objects = [(1, SQUARE), (2, APART)]
    found = [(2, 0.9, BY_80), (1, 0.8, [30, 30, 5, 5]), (1, 0.7, SQUARE)]
    result = dissected(*scene(objects, found), rule=rule)
    assert result.ap50 == pytest.approx((0.5 + 0) / 2)
    assert result.gains["classification"] == pytest.approx(gain)


def test_one_kind_is_fixed_alone_by_the_paper_and_not_by_its_code() -> None:
    """A cat called a dog (.9) and boxed badly (.8). Fixing boxes gives it by the paper (AP 1); the
    code keeps it for the class error, which scores higher, and so gains nothing."""
    problem = scene([(1, SQUARE)], [(2, 0.9, BY_80), (1, 0.8, BY_30)])
    assert dissected(*problem).gains["localisation"] == pytest.approx(1)
    assert dissected(*problem, rule="tidecv").gains["localisation"] == pytest.approx(0)
    # The class error fixed, the bad box stays below it.
    for rule in detection_errors.RULES:
        assert dissected(*problem, rule=rule).gains["classification"] == pytest.approx(1)


def test_sizes_are_the_objects_and_their_errors_are_fixed_alone() -> None:
    """COCO's ends, 32^2 and 96^2: up to and with them small and medium; gains by hand."""
    small, medium, large = [0, 0, 32, 32], [0, 0, 33, 33], [0, 0, 96, 97]
    objects = [(1, box, image) for image, box in enumerate((small, medium, large), start=1)]
    found = [(1, 0.9, [0, 0, 10, 11], 1), (1, 0.8, medium, 2), (2, 0.7, [0, 0, 90, 90], 2)]
    result = dissected(*scene(objects, found, images=3))
    assert result.counts_by_size["missed"] == {"small": 0, "medium": 0, "large": 1}
    # A detection that means no object has its own size.
    assert result.counts_by_size["localisation"] == {"small": 1, "medium": 0, "large": 0}
    assert result.counts_by_size["both"] == {"small": 0, "medium": 1, "large": 0}
    assert sum(result.counts_by_size["background"].values()) == 0
    # Wrong (.9), right (.8), one of three: precision 1/2 up to recall 1/3, 34 points.
    assert result.ap50 == pytest.approx(34 / 2 / 101)
    # Fixed: two right of three, 67 points.
    assert result.gains_by_size["localisation"]["small"] == pytest.approx((67 - 17) / 101)
    assert result.gains_by_size["localisation"]["medium"] == 0
    # Without the large one: precision 1/2 up to recall 1/2, 51 points.
    assert result.gains_by_size["missed"]["large"] == pytest.approx((51 - 34) / 2 / 101)


def test_gains_of_classes_are_of_their_own_ap(random_scene: SceneMaker) -> None:
    """Their mean is the gain, as AP50 is the mean of theirs."""
    compared = 0
    for seed in range(10):
        result = dissected(*random_scene(seed))
        for error in ERRORS:
            changes = list(result.gains_by_class[error].values())
            if None not in changes:
                assert np.mean(changes) == pytest.approx(result.gains[error])
                compared += 1
            assert sum(result.counts_by_class[error].values()) == result.counts[error]
            assert sum(result.counts_by_size[error].values()) == result.counts[error]
    assert compared > 40


def test_confusions_name_the_true_and_the_claimed_class() -> None:
    """By hand: two cats called dogs, one dog called a cat."""
    objects = [(1, SQUARE), (1, APART), (2, SQUARE, 2)]
    problem = scene(objects, [(2, 0.9, BY_80), (2, 0.8, APART), (1, 0.7, BY_80, 2)])
    truth = read_ground_truth(problem[0])
    columns, _ = read_columns(problem[1], truth.index)
    assert dissect(truth, columns).confusions(columns) == [("cat", "dog", 2), ("dog", "cat", 1)]


def test_overlaps_and_rules_that_make_no_sense_are_refused() -> None:
    """Background below foreground; the rules are listed."""
    with pytest.raises(ValueError, match="foreground is 0.1 and background 0.5"):
        dissected(*scene([], []), foreground=0.1, background=0.5)
    with pytest.raises(ValueError, match="rule is 'tide', expected one of"):
        dissected(*scene([], []), rule="tide")


# -- two detectors ----------------------------------------------------------------------------


def test_moves_by_hand() -> None:
    """Five objects, one of each fate, and what is reported of them."""
    boxes = [[20 * i, 0, 10, 10] for i in range(5)]
    objects = [(1, box) for box in boxes]
    at = lambda i, height: [20 * i, 0, 10, height]  # noqa: E731
    before = [(1, 0.9, boxes[0]), (1, 0.8, boxes[1]), (1, 0.7, at(2, 3)), (2, 0.6, at(3, 8))]
    after = [(1, 0.9, boxes[0]), (2, 0.8, boxes[1]), (1, 0.7, at(2, 8)), (1, 0.6, at(4, 9))]
    first, second = (dissected(*scene(objects, found)) for found in (before, after))
    pair = compare(first, second)
    fates = [(STATES[a], STATES[b]) for a, b in zip(first.states, second.states, strict=True)]
    assert fates == [
        ("found", "found"), ("found", "classification"), ("localisation", "found"),
        ("classification", "missed"), ("missed", "found"),
    ]  # fmt: skip
    page = pair.to_json()["objects"]
    assert page["both"] == 1
    assert page["only_before"] == {
        "total": 1, "classification": 1, "localisation": 0, "missed": 0
    }  # fmt: skip
    assert page["only_after"] == {"total": 2, "classification": 0, "localisation": 1, "missed": 1}
    assert page["neither"]["total"] == 1
    assert page["neither"]["before"]["classification"] == page["neither"]["after"]["missed"] == 1
    assert pair.sentences("VGG-16", "ResNet-101") == [
        "Both find 1 of 5 objects, neither 1.",
        "ResNet-101 alone finds 2; VGG-16 boxed 1 badly, missed 1.",
        "VGG-16 alone finds 1; ResNet-101 gave 1 another class.",
    ]
    json.dumps(pair.to_json(), allow_nan=False)


def test_of_several_errors_that_mean_an_object_the_best_in_score_is_its_cause() -> None:
    """Called a dog (.9) and boxed badly (.8): the class is the cause; else the box."""
    for scores, cause in (((0.9, 0.8), "classification"), ((0.8, 0.9), "localisation")):
        found = [(2, scores[0], BY_80), (1, scores[1], BY_30)]
        assert STATES[dissected(*scene([(1, SQUARE)], found)).states[0]] == cause


def test_moves_of_sizes_and_classes_add_up(random_scene: SceneMaker) -> None:
    """Every object has one size and one class; crowds are not asked for."""
    instances, results = random_scene(4, crowds=0.2)
    pair = compare(dissected(instances, results[::2]), dissected(instances, results))
    expected = sum(not item["iscrowd"] for item in instances["annotations"])
    assert pair.moves.sum() == expected < len(instances["annotations"])
    areas = [a["area"] for a in instances["annotations"] if not a["iscrowd"]]
    ends = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
    for size, (low, high) in ends.items():
        assert pair.moves_by_size[size].sum() == sum(low < area <= high for area in areas) > 0
    for parts in (pair.moves_by_size, pair.moves_by_class):
        assert np.array_equal(sum(parts.values()), pair.moves)


def test_a_detector_against_itself_moves_nothing(random_scene: SceneMaker) -> None:
    """All on the diagonal."""
    found = dissected(*random_scene(2))
    moves = compare(found, found).moves
    assert np.array_equal(moves, np.diag(np.diag(moves)))


def test_errors_fixed_by_two_rules_are_not_compared(random_scene: SceneMaker) -> None:
    """Their gains are different things: the same detector would seem to gain or to lose."""
    gt, results = random_scene(0)
    truth = read_ground_truth(gt)
    columns, _ = read_columns(results, truth.index)
    with pytest.raises(ValueError, match="by rule 'paper' before and 'tidecv' after"):
        compare(dissect(truth, columns), dissect(truth, columns, rule="tidecv"))


def test_other_objects_are_refused(random_scene: SceneMaker) -> None:
    """A pair is a pair only on the same objects and images."""
    instances, results = random_scene(2)
    other, _ = random_scene(3)
    with pytest.raises(ValueError, match="do not have the same objects"):
        compare(dissected(instances, results), dissected(other, []))
    with pytest.raises(ValueError, match="not scored on the same images"):
        compare(dissected(instances, results), dissected(instances, results, subset=[1, 2]))


def test_the_callers_ground_truth_is_left_as_it_was(random_scene: SceneMaker) -> None:
    """tidecv writes marks into it."""
    instances, results = random_scene(1, crowds=0.2)
    truth = read_ground_truth(instances)
    columns, _ = read_columns(results, truth.index)
    before = [truth.boxes.copy(), truth.area.copy(), columns.boxes.copy(), columns.scores.copy()]
    dissect(truth, columns)
    for old, new in zip(
        before, (truth.boxes, truth.area, columns.boxes, columns.scores), strict=True
    ):
        assert np.array_equal(old, new)
