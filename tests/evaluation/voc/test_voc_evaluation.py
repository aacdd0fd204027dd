"""VOC's AP on problems worked by hand, one rule each (`test_voc_devkit`: all rules together)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resdet.errors import CheckFailed
from resdet.evaluation.voc import voc_evaluation as voc
from resdet.evaluation.voc.class_scores import overlaps

Make = Callable[..., tuple[voc.VocGroundTruth, voc.VocDetections]]

A, FAR = (1, 1, 10, 10), (31, 31, 40, 40)


def ap(problem: Any, rule: str = "area", **options: Any) -> float | None:
    return voc.evaluate(*problem, ap=rule, **options).mean_ap


@pytest.mark.parametrize("rule", voc.AP_RULES)
@pytest.mark.parametrize("style", voc.STYLES)
def test_one_object_found_exactly_has_ap_1(voc_problem: Make, rule: str, style: str) -> None:
    """One detection, right: precision 1 at recall 1."""
    problem = voc_problem([("1", "cow", A)], [("1", "cow", 0.3, A)])
    assert ap(problem, rule, style=style) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("rule", voc.AP_RULES)
def test_a_wrong_one_before_the_right_one_halves_ap(voc_problem: Make, rule: str) -> None:
    """Precision 0, then 1/2 at recall 1: both rules give 1/2."""
    problem = voc_problem([("1", "cow", A)], [("1", "cow", 0.9, FAR), ("1", "cow", 0.8, A)])
    assert ap(problem, rule) == pytest.approx(0.5)


@pytest.mark.parametrize("first", [A, FAR], ids=["right-first", "wrong-first"])
def test_a_tie_within_an_image_keeps_the_given_order(voc_problem: Make, first: Any) -> None:
    """F52: score, then image id, then the order given: 1 with the right one first, else 1/2."""
    second = FAR if first is A else A
    problem = voc_problem([("1", "cow", A)], [("1", "cow", 0.5, first), ("1", "cow", 0.5, second)])
    assert ap(problem) == (1.0 if first is A else 0.5)


def test_a_tie_between_images_goes_by_image_id(voc_problem: Make) -> None:
    """F52: image "1" before image "2" although it is given later; 1 = the right one first."""
    problem = voc_problem(
        [("1", "cow", A)], [("2", "cow", 0.5, A), ("1", "cow", 0.5, A)], images=["2", "1"]
    )
    assert ap(problem) == 1.0


def test_ties_that_could_move_ap_are_noted(voc_problem: Make) -> None:
    """F52: right first 1, wrong first 1/2: 50 points."""
    problem = voc_problem([("1", "cow", A)], [("1", "cow", 0.5, A), ("1", "cow", 0.5, FAR)])
    notes = " ".join(voc.evaluate(*problem).notes)
    assert "cow: detections of equal score are right and wrong" in notes
    assert "up to 50.0 points" in notes


def test_scores_a_hair_apart_are_told_apart(voc_problem: Make) -> None:
    """F51: three decimals would make a tie of these; AP must be 1."""
    problem = voc_problem([("1", "cow", A)], [("1", "cow", 0.3, FAR), ("1", "cow", 0.3 + 1e-9, A)])
    assert ap(problem) == 1.0


def test_detections_on_a_difficult_object_are_neither_right_nor_wrong(voc_problem: Make) -> None:
    """F88: three on the same difficult object before the right one: AP stays 1."""
    on_hard = [("1", "cow", s, FAR) for s in (0.9, 0.8, 0.7)]
    problem = voc_problem(
        [("1", "cow", A), ("1", "cow", FAR, True)], [*on_hard, ("1", "cow", 0.6, A)]
    )
    result = voc.evaluate(*problem)
    assert result.mean_ap == pytest.approx(1.0)
    assert (result.classes["cow"].positives, result.classes["cow"].difficult) == (1, 1)
    assert result.curves["cow"].precision.tolist() == [0, 0, 0, 1]


def test_the_largest_overlap_decides_even_when_it_is_difficult(voc_problem: Make) -> None:
    """Devkit: argmax over all objects. Overlaps 1 (difficult) and 100/110 (to find): ignored."""
    taller = (1, 1, 10, 11)
    problem = voc_problem([("1", "cow", A), ("1", "cow", taller, 1)], [("1", "cow", 0.9, taller)])
    assert ap(problem) == 0.0
    assert voc.evaluate(*problem).curves["cow"].precision.tolist() == [0.0]


def test_a_class_with_only_difficult_objects_has_no_ap(voc_problem: Make) -> None:
    """F88, F89: no object to find, so nothing is defined; over half difficult is reported."""
    problem = voc_problem([("1", "cow", A, True)], [("1", "cow", 0.9, A)])
    result = voc.evaluate(*problem)
    assert result.mean_ap is None
    assert result.classes["cow"].ap is None
    assert "cow: 1 of 1 objects are difficult." in result.notes


@pytest.mark.parametrize(("rule", "expected"), [("area", 5 / 6), ("11-point", (6 + 10 / 3) / 11)])
def test_a_second_detection_of_an_object_is_wrong(
    voc_problem: Make, rule: str, expected: float
) -> None:
    """Right, repeat, right: recall 1/2 1/2 1, precision 1 1/2 2/3; six points 1, five 2/3."""
    nearly = (1, 1, 10, 9)
    problem = voc_problem(
        [("1", "cow", A), ("1", "cow", FAR)],
        [("1", "cow", 0.9, A), ("1", "cow", 0.8, nearly), ("1", "cow", 0.7, FAR)],
    )
    assert ap(problem, rule) == pytest.approx(expected)


@pytest.mark.parametrize(("style", "expected"), [("d2", 0.0), ("devkit", 1.0)])
def test_an_overlap_of_exactly_one_half(voc_problem: Make, style: str, expected: float) -> None:
    """F53: 50 of 100 pixels; Detectron2 asks for more than 0.5, the devkit for at least 0.5."""
    problem = voc_problem([("1", "cow", A)], [("1", "cow", 0.9, (1, 1, 10, 5))])
    assert ap(problem, style=style) == pytest.approx(expected)


@pytest.mark.parametrize(("rule", "expected"), [("area", 0.5), ("11-point", 6 / 11)])
def test_no_fallback_to_a_free_object(voc_problem: Make, rule: str, expected: float) -> None:
    """110 px against A (100 px, taken): 0.909; against the free one (140 px): 0.786. Wrong."""
    problem = voc_problem(
        [("1", "cow", A), ("1", "cow", (1, 1, 10, 14))],
        [("1", "cow", 0.9, A), ("1", "cow", 0.8, (1, 1, 10, 11))],
    )
    assert ap(problem, rule) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 10, 10), (3, 0, 13, 10), 8 / 14),
        ((0, 0, 20, 20), (4, 4, 24, 24), 289 / 593),
        ((1, 1, 1, 1), (1, 1, 1, 1), 1.0),
        ((1, 1, 5, 5), (6, 1, 9, 5), 0.0),
    ],
    ids=["F53-0.571", "F53-0.487", "one-pixel", "neighbours"],
)
def test_pixels_are_inclusive(a: Any, b: Any, expected: float) -> None:
    """F53: width = xmax - xmin + 1, worked by hand."""
    boxes = np.array([a], float), np.array([b], float)
    assert overlaps(*boxes)[0] == pytest.approx(expected, abs=1e-15)


def test_the_pixel_more_decides(voc_problem: Make) -> None:
    """F53: 8/14 = 0.571 with it passes 0.55, 7/13 = 0.538 without would not."""
    problem = voc_problem([("1", "cow", (1, 1, 11, 11))], [("1", "cow", 0.9, (4, 1, 14, 11))])
    assert ap(problem, iou=0.55) == 1.0


def test_a_class_without_detections_has_ap_0(voc_problem: Make) -> None:
    """Objects that nobody found: recall 0."""
    problem = voc_problem(
        [("1", "cow", A), ("1", "dog", A)], [("1", "cow", 0.9, A)], classes=["cow", "dog"]
    )
    result = voc.evaluate(*problem)
    assert result.classes["dog"].ap == 0.0
    assert result.mean_ap == pytest.approx(0.5)


def test_a_class_without_objects_is_left_out_of_the_mean(voc_problem: Make) -> None:
    """F89: a detection of an absent class changes nothing; the count of the mean is reported."""
    problem = voc_problem(
        [("1", "cow", A)], [("1", "cow", 0.9, A), ("1", "dog", 0.8, A)], classes=["cow", "dog"]
    )
    result = voc.evaluate(*problem)
    assert result.classes["dog"].ap is None
    assert result.mean_ap == 1.0
    assert "Mean of 1 of 2 classes; no object to find of: dog." in result.notes


def test_a_detection_on_an_image_without_objects_is_wrong(voc_problem: Make) -> None:
    """Image 2 has nothing: the higher score there halves AP."""
    problem = voc_problem(
        [("1", "cow", A)], [("2", "cow", 0.9, A), ("1", "cow", 0.8, A)], images=["1", "2"]
    )
    assert ap(problem) == 0.5


@pytest.mark.parametrize(
    ("found", "d2", "devkit"), [(3, 3, 4), (6, 6, 7), (7, 7, 8), (5, 6, 6), (10, 11, 11)]
)
def test_recall_on_one_of_the_eleven_points(
    voc_problem: Make, found: int, d2: int, devkit: int
) -> None:
    """F54: 3/10, 6/10, 7/10 miss their float threshold: 0.2727 for 0.3636, and so on."""
    images = [str(i) for i in range(10)]
    problem = voc_problem(
        [(i, "cow", A) for i in images], [(i, "cow", 0.9, A) for i in images[:found]], images
    )
    assert ap(problem, "11-point", style="d2") == pytest.approx(d2 / 11)
    assert ap(problem, "11-point", style="devkit") == pytest.approx(devkit / 11)
    noted = any("lies on one of the 11 points" in n for n in voc.evaluate(*problem).notes)
    assert noted == (d2 != devkit)


def test_no_detection_at_all_is_ap_0_in_words(voc_problem: Make) -> None:
    """F60: a dead model and a missing file must not look alike."""
    result = voc.evaluate(*voc_problem([("1", "cow", A)], []))
    assert result.mean_ap == 0.0
    assert any("0 detections on 1 image: AP is 0." in note for note in result.notes)


def test_the_order_of_images_in_the_file_changes_nothing(voc_problem: Make) -> None:
    """F52: 40 images with many equal scores, shuffled ten times by image."""
    rng = np.random.default_rng(0)
    images = [f"{i:03d}" for i in range(40)]
    objects = [(i, "cow", A) for i in images]
    found = {
        i: [(i, "cow", round(float(rng.random()), 1), box) for box in (A, FAR, (1, 1, 10, 9))]
        for i in images
    }
    values = set()
    for _ in range(10):
        order = rng.permutation(images)
        problem = voc_problem(objects, [d for i in order for d in found[i]], images)
        values.add(ap(problem))
    assert len(values) == 1


# -- parts of a set (F91) ---------------------------------------------------------------------


def test_images_that_were_not_evaluated_are_refused(voc_problem: Make) -> None:
    """F91: with the count, the first id and the way out."""
    problem = voc_problem(
        [("1", "cow", A), ("2", "cow", A)], [("1", "cow", 0.9, A)], ["1", "2"], evaluated=["1"]
    )
    with pytest.raises(CheckFailed, match="Expected 2 images, results cover 1; missing first: 2"):
        voc.evaluate(*problem)


def test_a_subset_is_scored_on_its_own_with_a_note(voc_problem: Make) -> None:
    """F91: perfect on image 1 only: AP 1 on 1 of 2 images."""
    problem = voc_problem(
        [("1", "cow", A), ("2", "cow", A)], [("1", "cow", 0.9, A)], ["1", "2"], evaluated=["1"]
    )
    result = voc.evaluate(*problem, subset=["1"])
    assert result.mean_ap == 1.0
    assert result.to_json()["images"] == {"expected": 2, "evaluated": 1, "missing": 1}
    assert "On 1 of 2 images." in result.notes


def test_a_detection_on_an_unknown_image_is_refused(voc_problem: Make) -> None:
    """F91: Detectron2's evaluator ends in KeyError."""
    problem = voc_problem([("1", "cow", A)], [("zzz", "cow", 0.9, A)])
    with pytest.raises(CheckFailed, match="image zzz is not among the 1 images"):
        voc.evaluate(*problem)


def test_json_is_what_the_commands_page_promises(voc_problem: Make) -> None:
    """docs/commands.md: exactly these keys; fractions; null where a number does not exist."""
    problem = voc_problem([("1", "cow", A)], [("1", "cow", 0.9, A)], classes=["cow", "dog"])
    assert voc.evaluate(*problem).to_json() == {
        "protocol": "VOC 11-point",
        "iou": 0.5,
        "mean_ap": pytest.approx(1.0),
        "classes": {
            "cow": {"ap": pytest.approx(1.0), "positives": 1, "detections": 1},
            "dog": {"ap": None, "positives": 0, "detections": 0},
        },
        "images": {"expected": 1, "evaluated": 1, "missing": 0},
    }


@pytest.mark.parametrize(
    ("option", "match"),
    [({"ap": "12"}, "ap is '12'"), ({"iou": 0}, "iou is 0"), ({"style": "x"}, "style is 'x'")],
)
def test_unknown_choices_are_named(voc_problem: Make, option: Any, match: str) -> None:
    """Wrong calls from Python are ValueError with the value and the choices."""
    with pytest.raises(ValueError, match=match):
        voc.evaluate(*voc_problem([("1", "cow", A)], []), **option)
