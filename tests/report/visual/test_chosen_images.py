"""The rules by which images are chosen; every count is worked by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from resdet.report.scores import SetScores
from resdet.report.visual import chosen_images

# Boxes of 10 px at these places; an object or a detection of the class 1.
Places = Sequence[float]


class MadeResults:
    """Objects and detections of some images by their places."""

    def __init__(self, truth: Mapping[str, Places], found: Mapping[str, Places]):
        self.truth = truth
        self.found = found
        self.evaluated = tuple(truth)

    def truth_of(self, image_id: str) -> list[dict[str, Any]]:
        return [box(x) for x in self.truth[image_id]]

    def detections_of(self, image_id: str, *, threshold: float) -> list[dict[str, Any]]:
        return [{**box(x), "score": 0.9} for x in self.found.get(image_id, ()) if threshold <= 0.9]


def box(x: float) -> dict[str, Any]:
    return {"category_id": 1, "bbox": [x, 0.0, 10.0, 10.0]}


def scores(truth: Mapping[str, Places], found: Mapping[str, Places]) -> SetScores:
    return cast(SetScores, MadeResults(truth, found))


TRUTH = {"a": [0, 50], "b": [0], "c": [0, 50], "d": []}


def test_the_worst_has_most_wrong_boxes_and_missed_objects() -> None:
    """a: 1 right, 1 wrong, 1 missed; b: 2 wrong, 1 missed; c: all right; d: 2 wrong."""
    made = scores(TRUTH, {"a": [0, 90], "b": [60, 90], "c": [0, 50], "d": [0, 30]})
    choice = chosen_images.worst(made, 0.5)
    # Of a and d, which have two errors each, d has fewer right boxes.
    assert choice.image_ids == ("b", "d", "a", "c")
    assert [choice.measure(i) for i in choice.image_ids] == [
        "3 errors", "2 errors", "2 errors", "0 errors",
    ]  # fmt: skip
    assert "at a score of at least 0.5" in choice.rule
    nothing = chosen_images.worst(made, 0.95)
    assert nothing.image_ids == ("a", "c", "b", "d")  # only missed objects: 2, 2, 1, 0


def test_most_different_counts_objects_that_one_alone_finds_either_way() -> None:
    """a: both find one, each another: 2; b: neither; c: the first finds both: 2, and the second has
    2 wrong boxes; d: one wrong box of the second."""
    first = scores(TRUTH, {"a": [0], "c": [0, 50]})
    second = scores(TRUTH, {"a": [50], "c": [80, 95], "d": [0]})
    choice = chosen_images.most_different([first, second], 0.5)
    assert choice.image_ids == ("c", "a", "d", "b")
    assert choice.measure("a") == "2 objects found by one alone"


def test_by_chance_is_every_image_once_and_the_same_for_a_seed() -> None:
    made = scores({str(i): [] for i in range(50)}, {})
    one, again, other = (chosen_images.by_chance(made, seed) for seed in (3, 3, 4))
    assert one.image_ids == again.image_ids != other.image_ids
    assert sorted(one.image_ids) == sorted(made.evaluated) != list(one.image_ids)
