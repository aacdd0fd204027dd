"""COCO's numbers: equal to pycocotools where it is right, and right where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from resdet.errors import CheckFailed, DataError
from resdet.evaluation.coco import coco_evaluation as coco
from tests.support.coco_json import by_pycocotools

IDS = (7, 9)


def random_problem(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Six images, three categories of odd ids, crowds, all sizes, ties; ids from 1."""
    rng = np.random.default_rng(seed)
    images = [{"id": int(i), "width": 640, "height": 480} for i in rng.permutation(60)[:6] + 1]
    annotations, results = [], set()
    for number in range(rng.integers(1, 40)):
        x, y, w, h = (float(v) for v in rng.integers([0, 0, 4, 4], [300, 300, 180, 180]))
        image, category = images[rng.integers(6)]["id"], int(rng.choice([2, 5, 17]))
        annotations.append(
            {
                "id": number + 1,
                "image_id": image,
                "category_id": category,
                "bbox": [x, y, w, h],
                "area": float(w * h * rng.uniform(0.3, 1)),
                "iscrowd": int(rng.random() < 0.1),
            }
        )
        for _ in range(rng.integers(0, 4)):
            dx, dy, dw, dh = rng.integers(-8, 9, 4)
            box = (x + dx, y + dy, max(1.0, w + dw), max(1.0, h + dh))
            results.add((image, category, box, float(rng.integers(1, 8)) / 8))
    for _ in range(rng.integers(1, 20)):
        box = tuple(float(v) for v in rng.integers([0, 0, 4, 4], [300, 300, 180, 180]))
        image, category = images[rng.integers(6)]["id"], int(rng.choice([2, 5, 17]))
        results.add((image, category, box, float(rng.integers(1, 8)) / 8))
    ordered = [
        {"image_id": i, "category_id": c, "bbox": list(map(float, b)), "score": s}
        for i, c, b, s in sorted(results, key=hash)
    ]
    categories = [{"id": i, "name": f"c{i}"} for i in (2, 5, 17)]
    return {"images": images, "categories": categories, "annotations": annotations}, ordered


def test_equals_pycocotools_on_random_problems() -> None:
    """Oracle: pycocotools on the same input: 12 numbers, the precision array, per category."""
    undefined = 0
    for seed in range(40):
        instances, results = random_problem(seed)
        engine = by_pycocotools(instances, results)
        ours = coco.evaluate(instances, results)
        expected = [None if v < 0 else v for v in engine.stats]
        assert list(ours.numbers.values()) == expected
        precision = engine.eval["precision"][:, :, :, 0, -1]
        np.testing.assert_array_equal(np.nan_to_num(ours.precision, nan=-1), precision)
        for k, value in enumerate(ours.per_category.values()):
            defined = precision[:, :, k][precision[:, :, k] > -1]
            assert value == (float(defined.mean()) if defined.size else None)
        undefined += expected.count(None)
    assert undefined > 0


def test_masks_equal_pycocotools() -> None:
    """Oracle: pycocotools, boxes drawn as masks; plain and compressed counts are the same."""
    for seed in range(5):
        instances, results = random_problem(seed)
        for item in instances["annotations"]:
            item["segmentation"] = polygon(item["bbox"])
        for item in results:
            item["segmentation"] = rle(item.pop("bbox"))
        if not results:
            continue
        engine = by_pycocotools(instances, results, "segm")
        ours = coco.evaluate(instances, results, task="segm")
        assert list(ours.numbers.values()) == [None if v < 0 else v for v in engine.stats]


def polygon(box: list[float]) -> list[list[float]]:
    x, y, w, h = box
    return [[x, y, x, y + h, x + w, y + h, x + w, y]]


def rle(box: list[float]) -> dict[str, Any]:
    mask = coco_mask.merge(coco_mask.frPyObjects(polygon(box), 480, 640))
    return {"size": [480, 640], "counts": mask["counts"].decode("ascii")}


def test_perfect_boxes_have_ap_1(instances: Any, perfect: Any) -> None:
    """Every object found exactly; category 4 has none and is undefined, not -1."""
    result = coco.evaluate(instances, perfect, evaluated_ids=IDS)
    assert result.numbers["AP"] == pytest.approx(1.0, abs=1e-12)
    assert result.numbers["APl"] is None
    assert result.per_category == {
        "cat": pytest.approx(1.0), "dog": pytest.approx(1.0), "ox": None
    }  # fmt: skip
    assert "Mean of 2 of 3 categories; no objects of: ox." in result.notes


def test_json_is_what_the_commands_page_promises(instances: Any, perfect: Any) -> None:
    """docs/commands.md: exactly these keys in this order; null where a number does not exist."""
    page = coco.evaluate(instances, perfect, evaluated_ids=IDS).to_json()
    assert list(page) == ["protocol", "engine", *coco.NUMBERS, "per_category", "images"]
    assert (page["protocol"], page["engine"]) == ("COCO bbox", "official")
    assert page["images"] == {"expected": 2, "evaluated": 2, "missing": 0}
    assert page["APl"] is None


def test_annotation_id_0_can_be_found(instances: Any, perfect: Any) -> None:
    """F58: pycocotools itself gives AP 0 for the class whose object has id 0."""
    instances["annotations"][0]["id"] = 0
    assert by_pycocotools(instances, perfect).eval["precision"][:, :, 0, 0, -1].max() == 0.0
    assert coco.evaluate(instances, perfect).per_category["cat"] == pytest.approx(1.0)


def test_crowds_take_detections_and_are_counted(instances: Any) -> None:
    """F57: two detections inside a crowd are neither right nor wrong, before the right one."""
    instances["annotations"][1]["iscrowd"] = 1
    results = [
        {"image_id": 9, "category_id": 3, "bbox": [50, 20, 30, 50], "score": 0.9},
        {"image_id": 9, "category_id": 3, "bbox": [50, 20, 30, 20], "score": 0.8},
        {"image_id": 9, "category_id": 3, "bbox": [5, 5, 20, 20], "score": 0.7},
    ]
    result = coco.evaluate(instances, results)
    assert result.per_category["dog"] == pytest.approx(1.0)
    assert any("1 crowd regions, which took 2 detections" in note for note in result.notes)


def test_no_detection_at_all_is_0_in_words(instances: Any) -> None:
    """F60: loadRes([]) ends in IndexError."""
    result = coco.evaluate(instances, [], evaluated_ids=IDS)
    assert result.numbers["AP"] == 0.0
    assert any("0 detections on 2 images: AP is 0." in note for note in result.notes)


def test_no_objects_at_all_is_undefined(instances: Any, perfect: Any) -> None:
    """F60: null everywhere, never -1 or NaN."""
    instances["annotations"] = []
    result = coco.evaluate(instances, perfect)
    assert set(result.numbers.values()) == {None}
    assert any("AP is undefined" in note for note in result.notes)


def test_text_image_ids_are_scored(instances: Any, perfect: Any) -> None:
    """VOC-style sets keep their ids ("000007") in COCO's format."""
    for record in instances["images"]:
        record["id"] = f"{record['id']:06d}"
    for record in [*instances["annotations"], *perfect]:
        record["image_id"] = f"{record['image_id']:06d}"
    assert coco.evaluate(instances, perfect).numbers["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize("right_first", [True, False])
def test_equal_scores_keep_the_files_order(instances: Any, right_first: bool) -> None:
    """F59: a wrong and a right box of equal score: AP 1 or 0.5 by their order."""
    right = {"image_id": 7, "category_id": 1, "bbox": [10, 10, 40, 40], "score": 0.5}
    wrong = right | {"bbox": [60, 50, 20, 20]}
    results = [right, wrong] if right_first else [wrong, right]
    expected = 1.0 if right_first else 0.5
    assert coco.evaluate(instances, results).per_category["cat"] == pytest.approx(expected)


def test_equal_scores_go_by_image_id(instances: Any) -> None:
    """F59, F52: image 7 before image 9, in whatever order images and results are listed."""
    right = {"image_id": 7, "category_id": 1, "bbox": [10, 10, 40, 40], "score": 0.5}
    wrong = right | {"image_id": 9}
    instances["images"].reverse()
    assert coco.evaluate(instances, [wrong, right]).per_category["cat"] == pytest.approx(1.0)


def test_a_subset_is_scored_on_its_own(instances: Any, perfect: Any) -> None:
    """F91: refused without being named, 1 of 2 images when named."""
    with pytest.raises(CheckFailed, match="Expected 2 images, results cover 1; missing first: 9"):
        coco.evaluate(instances, perfect[:1], evaluated_ids=[7])
    result = coco.evaluate(instances, perfect[:1], evaluated_ids=[7], subset=[7])
    assert result.numbers["AP"] == pytest.approx(1.0)
    assert result.images == {"expected": 2, "evaluated": 1, "missing": 1}
    assert "On 1 of 2 images." in result.notes


def test_curves_are_pycocotools_precision(instances: Any, perfect: Any) -> None:
    """One of two dogs found first, then a wrong one, then the other: 1 up to 1/2, then 2/3."""
    wrong = {"image_id": 7, "category_id": 3, "bbox": [60, 50, 20, 20], "score": 0.75}
    result = coco.evaluate(instances, [*perfect, wrong])
    recall, precision = result.curve("dog")
    np.testing.assert_allclose(precision[recall <= 0.5], 1)
    np.testing.assert_allclose(precision[recall > 0.5], 2 / 3)
    assert result.curve("ox")[0].size == 0
    with pytest.raises(ValueError, match="no category 'cow'"):
        result.curve("cow")
    with pytest.raises(ValueError, match=r"iou is 0.3, expected one of 0.50"):
        result.curve("dog", iou=0.3)


def test_pycocotools_prints_nothing(
    instances: Any, perfect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/commands.md: with --json, standard output is one object and nothing else."""
    coco.evaluate(instances, perfect)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("mask", "match"),
    [
        ({"size": [80, 100], "counts": [8000]}, None),
        ({"size": [100, 80], "counts": [8000]}, "the mask is 80 x 100, the image 100 x 80"),
        ({"size": [80, 100], "counts": [0.5, 7999.5]}, "the mask's counts cannot be decoded"),
        ({"size": [80, 100], "counts": [10, 20]}, "runs cover 30 pixels, its size has 8000"),
        ({"size": [80, 100], "counts": "Po"}, "cannot be decoded"),
        ({"size": [80, 100], "counts": "\u20ac"}, "cannot be decoded"),
        ([[1, 1, 5, 1, 5, 5]], "not an object with size and counts"),
    ],
)
def test_masks_that_cannot_be_read_are_refused(instances: Any, mask: Any, match: Any) -> None:
    """Damaged counts would be read past their end in C."""
    for item in instances["annotations"]:
        item["segmentation"] = polygon(item["bbox"])
    results = [{"image_id": 7, "category_id": 1, "segmentation": mask, "score": 0.5}]
    if match is None:  # a whole mask of nothing has no size, and matches nothing
        result = coco.evaluate(instances, results, task="segm")
        assert (result.numbers["AP"], result.warnings[-1].rule) == (0, "zero-boxes")
        return
    with pytest.raises(CheckFailed, match=match):
        coco.evaluate(instances, results, task="segm")


def test_ground_truth_without_masks_is_refused_for_segm(instances: Any) -> None:
    """The count and the first object; --task bbox is offered."""
    with pytest.raises(DataError, match=r"3 of 3 objects have no mask .*--task bbox"):
        coco.evaluate(instances, [], task="segm")
    instances["annotations"][0]["segmentation"] = [[1, 2, 3]]
    with pytest.raises(DataError, match="a polygon is not a list of three"):
        coco.evaluate(instances, [], task="segm")


def test_an_unknown_task_is_named(instances: Any) -> None:
    """Wrong calls from Python are ValueError."""
    with pytest.raises(ValueError, match="task is 'keypoints'"):
        coco.evaluate(instances, [], task="keypoints")
