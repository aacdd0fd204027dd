"""The fast COCO engine: pycocotools' own values, to the bit, and nothing shown unchecked."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from resdet.cli import evaluate as evaluate_command
from resdet.errors import CheckFailed
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.coco import fast_engine
from resdet.evaluation.coco.fast_engine import Accumulated
from resdet.evaluation.inputs.arrays import stable_order
from resdet.evaluation.inputs.detections import Columns, load_columns, read_columns
from resdet.evaluation.inputs.ground_truth import GroundTruth, SetIndex, read_ground_truth

Problem = tuple[GroundTruth, Columns, np.ndarray]
# Around the borders of small, medium and large, so that areas fall on them, too.
SIDES = np.array([8, 16, 30, 31, 32, 33, 34, 64, 95, 96, 97, 120])


def problem(
    rng: np.random.Generator, images: int, categories: int, objects: int, found: int
) -> Problem:
    """Objects and detections, most of them near an object; crowds, ties, areas on the borders."""
    truth_boxes, boxes = random_boxes(rng, objects), random_boxes(rng, found)
    image, category = rng.integers(0, images, objects), rng.integers(0, categories, objects)
    found_image, found_category = rng.integers(0, images, found), rng.integers(0, categories, found)
    if objects:
        source, near = rng.integers(0, objects, found), rng.random(found) < 0.8
        found_image[near], found_category[near] = image[source[near]], category[source[near]]
        shift = rng.integers(-6, 7, (found, 4)) * (rng.random((found, 1)) < 0.8)
        boxes[near] = (truth_boxes[source] + shift)[near]
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
    area = truth_boxes[:, 2] * truth_boxes[:, 3] * rng.choice([1, 0.7, 0.3])
    if rng.random() < 0.3:
        area = rng.choice([1023.0, 1024.0, 1024.5, 9216.0, 9217.0, 500.0], objects)
    kind = rng.integers(3)
    scores = [rng.integers(0, 4, found) / 4, rng.random(found), rng.integers(-3, 3, found) + 0.0]
    ids = tuple(int(i) for i in rng.permutation(50)[:images])
    names = tuple(f"c{k}" for k in range(categories))
    index = SetIndex("x", ids, np.full((images, 2), 200.0), tuple(range(1, categories + 1)), names)
    truth = GroundTruth(
        index, image, category, truth_boxes, area, rng.random(objects) < rng.choice([0, 0.1, 0.5]),
        np.zeros(objects, dtype=np.bool_), [None] * objects, {}, {},
    )  # fmt: skip
    used = np.ones(images, dtype=np.bool_)
    used[rng.integers(images)] = rng.random() < 0.8
    return truth, Columns(found_image, found_category, boxes, scores[kind], str), used


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    boxes = np.zeros((count, 4))
    boxes[:, 2:] = SIDES[rng.integers(0, len(SIDES), (count, 2))]
    boxes[:, :2] = rng.integers(0, 60, (count, 2))
    return boxes + rng.normal(0, 0.01, (count, 4)) * (rng.random((count, 1)) < 0.3)


def assert_equal(ours: Accumulated, theirs: Accumulated) -> None:
    np.testing.assert_allclose(ours.numbers, theirs.numbers, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.precision, theirs.precision, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.recall, theirs.recall, rtol=0, atol=1e-12)
    assert ours.absorbed == theirs.absorbed


def compare(problem: Problem, task: str = "bbox") -> Accumulated:
    """Both engines on the same arrays; pycocotools gets them as the number of record does."""
    theirs = coco.official(*problem, task)
    assert_equal(coco.fast(*problem, task), theirs)
    return theirs


@pytest.mark.parametrize("seed", range(4))
def test_500_small_problems_equal_pycocotools(seed: int) -> None:
    """Oracle: pycocotools; 12 numbers, precision and recall arrays, detections taken by crowds.

    Four seeds make the 2,000 problems.
    """
    rng = np.random.default_rng(seed)
    absorbed = defined = 0
    for _ in range(500):
        sizes = rng.integers([1, 1, 0, 0], [5, 4, 14, 24])
        theirs = compare(problem(rng, *sizes.tolist()))
        absorbed += theirs.absorbed
        defined += int((theirs.numbers >= 0).sum())
    # The problems are not trivial: crowds take part, and most numbers exist.
    assert absorbed > 500
    assert defined > 3000


def test_more_than_100_detections_of_a_class_equal_pycocotools() -> None:
    """Oracle: pycocotools; the 101st detection of an image and class counts nowhere."""
    rng = np.random.default_rng(0)
    for _ in range(15):
        truth, columns, used = problem(rng, 2, 1, 30, 350)
        assert np.bincount(columns.image).max() > 100
        compare((truth, columns, used))


def test_masks_equal_pycocotools() -> None:
    """Oracle: pycocotools; polygons, compressed and plain run lengths, crowds as run lengths."""
    rng = np.random.default_rng(0)
    absorbed = 0
    for _ in range(25):
        truth, columns, used = problem(rng, 3, 2, 10, 20)
        shapes = [mask(box, plain=bool(rng.random() < 0.5)) for box in columns.boxes]
        expected = [
            mask(box) if crowd else [corners(box)]
            for box, crowd in zip(truth.boxes, truth.crowd, strict=True)
        ]
        truth = dataclasses.replace(truth, segmentations=expected)
        columns = dataclasses.replace(columns, segmentations=shapes)
        absorbed += compare((truth, columns, used), "segm").absorbed
    assert absorbed > 0


def corners(box: np.ndarray) -> list[float]:
    x, y, w, h = (float(v) for v in box)
    return [x, y, x, y + h, x + w, y + h, x + w, y]


def mask(box: np.ndarray, *, plain: bool = False) -> dict[str, Any]:
    encoded = coco_mask.merge(coco_mask.frPyObjects([corners(box)], 200, 200))
    if not plain:
        return {"size": [200, 200], "counts": encoded["counts"].decode("ascii")}
    pixels = coco_mask.decode(encoded).ravel(order="F")
    edges = np.flatnonzero(np.diff(pixels, prepend=0))
    return {"size": [200, 200], "counts": np.diff([0, *edges, 40_000]).tolist()}


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_fast_equals_the_published_numbers(shared_data: Path, task: str) -> None:
    """Oracle: cocoapi's published example, pycocotools' numbers of it to 1e-9 and arrays."""
    folder = shared_data / "oracles" / "coco_example100"
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    truth = read_ground_truth(folder / "instances_val2014_100.json")
    results = folder / f"instances_val2014_fake{task}100_results.json"
    columns, findings, _ = load_columns(results, truth.index, task)
    assert findings == []
    used = np.ones(len(truth.index.image_ids), dtype=np.bool_)
    theirs = compare((truth, columns, used), task)
    precise = expected["pycocotools_full_precision"][task]
    np.testing.assert_allclose(theirs.numbers, precise, rtol=0, atol=1e-9)
    result = coco.evaluate(truth, results, task=task, engine="fast")
    np.testing.assert_allclose(list(result.numbers.values()), precise, rtol=0, atol=1e-9)


def evaluate(instances: Any, results: Any) -> Accumulated:
    truth = read_ground_truth(instances)
    columns, findings = read_columns(results, truth.index)
    assert findings == []
    return compare((truth, columns, np.ones(len(truth.index.image_ids), dtype=np.bool_)))


def test_nothing_found_is_0(instances: Any) -> None:
    """Oracle: pycocotools; nothing found is 0, nothing to find is -1."""
    numbers = evaluate(instances, []).numbers
    assert numbers[0] == 0
    instances["annotations"] = []
    assert set(evaluate(instances, []).numbers) == {-1}


def test_nothing_to_find_is_undefined(instances: Any, perfect: Any) -> None:
    """Oracle: pycocotools; detections alone define nothing."""
    instances["annotations"] = []
    assert set(evaluate(instances, perfect).numbers) == {-1}


@pytest.mark.parametrize("lefts", [(10, 14), (14, 10)])
def test_of_equal_overlaps_the_last_object_is_taken(instances: Any, lefts: tuple[int, int]) -> None:
    """By hand: a box halfway between two objects takes the second of the file, 8 : 12 each way.

    Another box, with lower score, fits the left object alone: it is right if that is left.
    """
    instances["annotations"] = [
        {"id": i + 1, "image_id": 7, "category_id": 1, "bbox": [x, 10, 10, 10], "area": 90}
        | {"iscrowd": 0}
        for i, x in enumerate(lefts)
    ]
    results = [
        {"image_id": 7, "category_id": 1, "bbox": [x, 10, 10, 10], "score": score}
        for x, score in ((12, 0.9), (10, 0.8))
    ]
    recall = evaluate(instances, results).recall[0, 0, 0, -1]
    assert recall == (1.0 if lefts[0] == 10 else 0.5)


def test_equal_scores_go_by_image_then_file(instances: Any) -> None:
    """F52, F59: image 7 before 9 whatever the file's order; in an image the file's order."""
    right = {"image_id": 7, "category_id": 1, "bbox": [10, 10, 40, 40], "score": 0.5}
    other, wrong = right | {"image_id": 9}, right | {"bbox": [60, 50, 20, 20]}
    instances["images"].reverse()
    # Category 1 has one object: its AP is 1 over the rank of the right detection.
    for results, rank in (([other, right], 1), ([right, wrong], 1), ([wrong, right], 2)):
        found = evaluate(instances, results).precision[0, :, 0, 0, -1].mean()
        assert found == pytest.approx(1 / rank)


def test_zero_is_zero_whatever_its_sign(instances: Any) -> None:
    """-0.0 and 0.0 are a tie, which the file's order decides."""
    wrong = {"image_id": 7, "category_id": 1, "bbox": [60, 50, 20, 20], "score": -0.0}
    right = wrong | {"bbox": [10, 10, 40, 40], "score": 0.0}
    assert evaluate(instances, [wrong, right]).precision[0, 0, 0, 0, -1] == pytest.approx(0.5)
    assert evaluate(instances, [right, wrong]).precision[0, 0, 0, 0, -1] == pytest.approx(1.0)


@pytest.mark.parametrize("highest", [1, 255, 65_536, 1 << 40, (1 << 64) - 1])
def test_the_order_is_numpys_stable_one(highest: int) -> None:
    """Oracle: np.argsort(kind="stable"), with many ties and with one value only."""
    rng = np.random.default_rng(0)
    for values in (rng.integers(0, highest, 4000, dtype=np.uint64, endpoint=True), [7], []):
        values = np.array(values, dtype=np.uint64)
        values[::3] = values[: len(values[::3])]
        np.testing.assert_array_equal(stable_order(values), np.argsort(values, kind="stable"))


# -- the cross-check ---------------------------------------------------------------------------


def test_the_engine_states_on_how_many_images_it_was_checked(instances: Any, perfect: Any) -> None:
    """Both images have objects and few detections: all are in the sample."""
    result = coco.evaluate(instances, perfect, evaluated_ids=(7, 9), engine="fast")
    assert result.engine == "fast (cross-checked on 2 images)"
    official = coco.evaluate(instances, perfect, evaluated_ids=(7, 9))
    assert result.numbers == official.numbers
    assert result.per_category == official.per_category
    assert result.notes == official.notes
    np.testing.assert_array_equal(result.precision, official.precision)


def test_numbers_that_differ_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, instances: Any, perfect: Any
) -> None:
    """An engine that is wrong in one place of the precision array is refused, exit code 1."""
    right = fast_engine.evaluate

    def wrong(*args: Any) -> Accumulated:
        result = right(*args)
        result.precision[3, 50, 0, 0, 2] += 1e-9
        return result

    monkeypatch.setattr(fast_engine, "evaluate", wrong)
    with pytest.raises(CheckFailed, match=r"differ by 1e-09 in the precision array of 2 images"):
        coco.evaluate(instances, perfect, engine="fast")


def sample_of(per_image: int) -> tuple[np.ndarray, np.ndarray]:
    """The sample of 3,000 of 4,000 images, every other with an object, and the images of crowds."""
    total = 4000
    image = np.arange(total // 2) * 2
    crowd = np.arange(len(image)) % 100 == 0
    index = SetIndex("x", tuple(range(total)), np.full((total, 2), 99.0), (1,), ("a",))
    boxes = np.tile([1.0, 1, 9, 9], (len(image), 1))
    truth = GroundTruth(
        index, image, image * 0, boxes, boxes[:, 2] * 9, crowd, crowd & False, [], {}, {}
    )
    found = np.repeat(np.arange(total), per_image)
    columns = Columns(found, found * 0, np.zeros((len(found), 4)), found * 0.0, str)
    used = np.arange(total) < 3000
    np.testing.assert_array_equal(
        coco._sample(truth, columns, used), coco._sample(truth, columns, used)
    )
    return np.flatnonzero(coco._sample(truth, columns, used)), image[crowd]


@pytest.mark.parametrize(("per_image", "most"), [(50, 100), (1, 200)])
def test_the_sample_is_even_bounded_and_has_crowds(per_image: int, most: int) -> None:
    """At most 200 images and 5,000 detections, all over the used part, none without objects."""
    sample, crowded = sample_of(per_image)
    assert 0.9 * most <= len(sample) <= most
    assert set(sample % 2) == {0}
    assert sample.max() < 3000
    assert np.diff(sample).max() < 2 * 3000 / most + 2
    assert np.isin(sample, crowded).sum() == (crowded < 3000).sum()  # fewer than a quarter: all


def test_a_set_without_objects_is_its_own_sample(instances: Any, perfect: Any) -> None:
    """Nothing is defined, and the engines agree on it."""
    instances["annotations"] = []
    result = coco.evaluate(instances, perfect, engine="fast")
    assert set(result.numbers.values()) == {None}


def test_an_unknown_engine_is_named(instances: Any) -> None:
    """Wrong calls from Python are ValueError."""
    with pytest.raises(ValueError, match="engine is 'faster', expected one of"):
        coco.evaluate(instances, [], engine="faster")


def test_masks_on_one_side_are_refused() -> None:
    """Objects with masks, detections without."""
    none = np.zeros(0, dtype=np.int64)
    objects = fast_engine.CocoObjects(none, none, np.zeros((0, 4)), none * 0.0, none > 0, [])
    found = fast_engine.CocoDetections(none, none, np.zeros((0, 4)), none * 0.0, none * 0.0)
    with pytest.raises(ValueError, match="masks are given for objects or detections only"):
        fast_engine.evaluate(objects, found, 1)


def test_the_command_takes_the_fast_engine(
    tmp_path: Path, instances: Any, perfect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/commands.md: `--engine fast`; the JSON's "engine" states what was checked."""
    (tmp_path / "results.json").write_text(json.dumps(perfect), encoding="utf-8")
    (tmp_path / "gt.json").write_text(json.dumps(instances), encoding="utf-8")
    parser = argparse.ArgumentParser()
    evaluate_command.add_arguments(parser)
    words = ["coco", "results.json", "--gt", "gt.json", "--task", "bbox", "--engine", "fast"]
    words[1], words[3] = str(tmp_path / words[1]), str(tmp_path / words[3])
    assert evaluate_command.run(parser.parse_args([*words, "--json"])) == 0
    page = json.loads(capsys.readouterr().out)
    assert page["engine"] == "fast (cross-checked on 2 images)"
    assert page["AP"] == pytest.approx(1.0)
    assert evaluate_command.run(parser.parse_args(words)) == 0
    assert "COCO bbox (fast (cross-checked on 2 images))" in capsys.readouterr().out
