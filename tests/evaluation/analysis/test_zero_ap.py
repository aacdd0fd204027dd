"""A zero comes with its cause: every usual mistake made on a set that is otherwise found."""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resdet.cli import evaluate
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.inputs.result_folder import evaluate_folder
from resdet.evaluation.voc import voc_evaluation as voc
from tests.support import coco_json

Change = Callable[[dict[str, Any]], dict[str, Any] | None]

# Gaps as COCO's ids have them.
IDS = (1, 2, 3, 5, 8, 13)
NUM_IMAGES = 12


def found_set() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Twelve images of 400 x 300, an object of two classes each, all found; boxes not square."""
    rng = np.random.default_rng(0)
    annotations, results = [], []
    for image in range(1, NUM_IMAGES + 1):
        for place in range(2):
            category = IDS[(image + 3 * place) % len(IDS)]
            x, y = (float(v) for v in rng.integers([20, 20], [120, 60]))
            box = [x + 180 * place, y, 60.0 + image, 130.0 - 2 * image]
            number = len(annotations) + 1
            annotations.append(coco_json.annotation(number, 10 * image, category, box))
            score = float(rng.uniform(0.3, 0.9))
            results.append(coco_json.detection(10 * image, category, box, score))
    gt = {
        "images": [
            {"id": 10 * i, "width": 400, "height": 300} for i in range(1, NUM_IMAGES + 1)
        ],
        "categories": [{"id": k, "name": f"class{k}"} for k in IDS],
        "annotations": annotations,
    }  # fmt: skip
    return gt, results


def shift_class(step: int) -> Change:
    def change(item: dict[str, Any]) -> dict[str, Any] | None:
        place = IDS.index(item["category_id"]) + step
        return item | {"category_id": IDS[place]} if 0 <= place < len(IDS) else None

    return change


def contiguous(first: int) -> Change:
    def change(item: dict[str, Any]) -> dict[str, Any] | None:
        number = IDS.index(item["category_id"]) + first
        return item | {"category_id": number} if number in IDS else None

    return change


def other_classes(item: dict[str, Any]) -> dict[str, Any]:
    mixed = dict(zip(IDS, (5, 1, 13, 2, 3, 8), strict=True))
    return item | {"category_id": mixed[item["category_id"]]}


def other_image(item: dict[str, Any]) -> dict[str, Any] | None:
    image = item["image_id"] + 10
    return item | {"image_id": image} if image <= 10 * NUM_IMAGES else None


def centre(item: dict[str, Any]) -> dict[str, Any]:
    x, y, w, h = item["bbox"]
    return item | {"bbox": [x + w / 2, y + h / 2, w, h]}


def swapped(item: dict[str, Any]) -> dict[str, Any]:
    x, y, w, h = item["bbox"]
    return item | {"bbox": [y, x, h, w]}


def halved(item: dict[str, Any]) -> dict[str, Any]:
    return item | {"bbox": [v / 2 for v in item["bbox"]]}


def unsure(item: dict[str, Any]) -> dict[str, Any]:
    x, _, w, _ = item["bbox"]
    return item | {"score": item["score"] / 100, "bbox": [x, 290.0, w, 5.0 + item["score"]]}


@pytest.mark.parametrize(
    ("change", "cause", "at_least"),
    [
        pytest.param(shift_class(1), "of the class before its own", 80, id="class-after"),
        pytest.param(shift_class(-1), "of the class after its own", 80, id="class-before"),
        pytest.param(contiguous(0), "a class number from 0 on", 20, id="contiguous-from-0"),
        pytest.param(other_classes, "class1 on class2, class2 on class5", 99, id="class-names"),
        pytest.param(other_image, "on the image before its own", 80, id="image-after"),
        pytest.param(swapped, "y before x", 99, id="y-before-x"),
        pytest.param(halved, "boxes were 2 times as large", 99, id="of-half-the-size"),
    ],
)
def test_the_cause_is_named_with_what_it_would_give(
    change: Change, cause: str, at_least: float
) -> None:
    """The mistake is made on detections that are perfect; undone, nearly all of them are again."""
    gt, results = found_set()
    broken = [item for item in map(change, results) if item is not None]
    result = coco.evaluate(gt, broken)
    assert result.numbers["AP50"] == pytest.approx(0, abs=0.01)
    notes = [note for note in result.notes if note.startswith("AP50 is under 1 %")]
    (note,) = [note for note in notes if cause in note]
    value = float(note.split("would be ")[1].split(" %")[0])
    assert at_least <= value <= 100


def test_a_detector_that_tells_no_classes_apart_is_named() -> None:
    """All boxes right, all of one class, of which no object is there."""
    gt, results = found_set()
    gt["annotations"] = [a for a in gt["annotations"] if a["category_id"] != 13]
    broken = [r | {"category_id": 13} for r in results if r["category_id"] != 13]
    (note,) = [n for n in coco.evaluate(gt, broken).notes if n.startswith("AP50 is under 1 %")]
    assert f"All {len(broken)} detections are of one class (class13)" in note
    assert "would be 100.0 %. Is this a detector that tells no classes apart?" in note


def small(gt: dict[str, Any], results: list[dict[str, Any]]) -> tuple[Any, Any]:
    """The first five images: so few boxes that validation warns of what it else refuses."""
    ids = {i["id"] for i in gt["images"][:5]}
    gt["images"] = gt["images"][:5]
    gt["annotations"] = [a for a in gt["annotations"] if a["image_id"] in ids]
    return gt, [r for r in results if r["image_id"] in ids]


@pytest.mark.parametrize(
    ("read", "cause"),
    [
        pytest.param(lambda x, y, w, h: [x, y, w, h], "fractions of the image's size", id="xywh"),
        pytest.param(
            lambda x, y, w, h: [x, y, x + w, y + h], "corners in fractions", id="corners"
        ),
        pytest.param(
            lambda x, y, w, h: [x + w / 2, y + h / 2, w, h], "centre and size in fractions",
            id="centre",
        ),
    ],
)  # fmt: skip
def test_boxes_in_fractions_are_named_where_they_pass(
    read: Callable[..., list[float]], cause: str
) -> None:
    """F83: ten boxes divided by width and height, in the three forms that tools write."""
    gt, results = small(*found_set())
    for item in results:
        x, y, w, h = item["bbox"]
        item["bbox"] = [float(v) for v in read(x / 400, y / 300, w / 400, h / 300)]
    notes = coco.evaluate(gt, results).notes
    (note,) = [n for n in notes if "If boxes were" in n]
    assert cause in note
    assert "would be 100.0 %" in note


def test_corners_are_named_where_they_fit_as_width_and_height() -> None:
    """F82: in a wide image corners read as sizes leave nothing; validation cannot know."""
    gt, results = found_set()
    for image in gt["images"]:
        image.update(width=2000, height=2000)
    for item in results:
        x, y, w, h = item["bbox"]
        item["bbox"] = [x, y, x + w, y + h]
    for item in [*gt["annotations"], *results]:
        item["bbox"] = [item["bbox"][0] + 300, item["bbox"][1] + 300, *item["bbox"][2:]]
    for item in results:
        item["bbox"][2:] = [v + 300 for v in item["bbox"][2:]]
    notes = " ".join(coco.evaluate(gt, results).notes)
    assert "If boxes were corners (x1, y1, x2, y2), AP50 (VOC, area) would be 100.0 %" in notes


def test_boxes_given_by_their_centre_are_named() -> None:
    """Half a box away from each object; taken back, all are found."""
    gt, results = found_set()
    notes = " ".join(coco.evaluate(gt, list(map(centre, results))).notes)
    assert "If boxes were centre, width, height, AP50 (VOC, area) would be 100.0 %" in notes


def test_scores_under_the_threshold_are_named() -> None:
    """Issue 9 item 11: all scores under 0.05, boxes nowhere."""
    gt, results = found_set()
    notes = coco.evaluate(gt, list(map(unsure, results))).notes
    (note,) = [n for n in notes if "scores" in n]
    assert "All 24 scores are under 0.05, the largest is 0.00" in note


def test_scores_that_show_nothing_or_the_reverse_are_named() -> None:
    """One true box of the lowest score behind 300 false ones; then all of one score."""
    gt, results = small(*found_set())
    gt["annotations"], true = gt["annotations"][:1], results[0] | {"score": 0.1}
    false = [
        true | {"bbox": [200.0, 200 + i / 100, 60.0, 50.0], "score": 0.5 + i / 1000}
        for i in range(99)
    ]
    others = [f | {"image_id": 20 + 10 * k} for k in range(4) for f in false]
    notes = " ".join(coco.evaluate(gt, [true, *false, *others]).notes)
    assert "If the lowest score came first, AP50 (VOC, area) would be 100.0 %" in notes
    equal = [f | {"score": 0.5} for f in [*false, *others]]
    assert "All 495 scores are 0.5, so nothing ranks" in " ".join(coco.evaluate(gt, equal).notes)


def test_images_that_share_nothing_are_named() -> None:
    """Ids disjoint: detections on the six images that have no object."""
    gt, results = found_set()
    gt["annotations"] = [a for a in gt["annotations"] if a["image_id"] <= 60]
    notes = " ".join(coco.evaluate(gt, [r for r in results if r["image_id"] > 60]).notes)
    assert "None of the 6 images with detections has an object; the 6 with objects" in notes


def test_without_a_usual_cause_the_largest_overlap_is_reported() -> None:
    """A 10 x 10 box inside one of 61 x 128: 100 / 7808 = 0.01; nothing else is claimed."""
    gt, _ = found_set()
    x, y, w, h = gt["annotations"][0]["bbox"]
    assert (w, h) == (61, 128)
    result = [{"image_id": 10, "category_id": 2, "score": 0.9, "bbox": [x + 5, y + 5, 10, 10]}]
    notes = [n for n in coco.evaluate(gt, result).notes if n.startswith("AP50 is under")]
    assert notes == [
        "AP50 is under 1 %. No other reading of image ids, class numbers, boxes or scores that was "
        "tried gives 5 %. The largest overlap of a detection with an object of its class is 0.01, "
        "of any class 0.01."
    ]


def test_a_number_that_is_merely_low_has_no_such_note() -> None:
    """Half of the classes shifted: AP50 is far above one percent, nothing is reported."""
    gt, results = found_set()
    some = [shift_class(1)(r) if i % 2 else r for i, r in enumerate(results)]
    result = coco.evaluate(gt, [r for r in some if r is not None])
    assert (result.numbers["AP50"] or 0) > 0.2
    assert not any(note.startswith("AP50 is under") for note in result.notes)
    # Without objects there is no zero, without detections another note.
    assert not any("AP50 is under" in n for n in coco.evaluate(gt, []).notes)
    gt["annotations"] = []
    assert not any("AP50 is under" in n for n in coco.evaluate(gt, results).notes)


def test_voc_states_the_same(voc_problem: Callable[..., Any]) -> None:
    """Cows written as dogs, VOC's files: 100 % when undone; at another overlap no note."""
    box = (1, 1, 40, 60)
    images = [str(i) for i in range(4)]
    made = voc_problem(
        [(i, "cow", box) for i in images], [(i, "dog", 0.5 + int(i) / 10, box) for i in images],
        images=images, classes=("cow", "dog"),
    )  # fmt: skip
    (note,) = voc.evaluate(*made).causes
    assert "of the class before its own, AP50 (VOC, area) would be 100.0 %" in note
    assert note in voc.evaluate(*made).notes
    assert voc.evaluate(*made, iou=0.75).causes == ()


def test_masks_are_blamed_where_the_boxes_are_right() -> None:
    """Checkerboards of the objects' extent: boxes found, masks overlap by half at most."""
    pytest.importorskip("pycocotools")
    from pycocotools import mask as coco_mask

    gt, results = found_set()
    for item in gt["annotations"]:
        x, y, w, h = item["bbox"]
        item["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    for result in results:
        x, y, w, h = (round(v) for v in result.pop("bbox"))
        mask = np.zeros((300, 400), dtype=np.uint8)
        mask[y : y + h : 3, x : x + w : 2] = 1
        mask[y + h - 1, x + w - 1] = 1
        rle = coco_mask.encode(np.asfortranarray(mask))
        result["segmentation"] = {"size": [300, 400], "counts": rle["counts"].decode()}
    notes = " ".join(coco.evaluate(gt, results, task="segm").notes)
    assert "By its boxes and VOC's rule (area) it is 100.0 %: look at the masks." in notes


def test_a_subset_is_judged_by_itself() -> None:
    """Only images 10 and 20 are scored, where the classes are shifted; the rest is perfect."""
    gt, results = found_set()
    mixed = [shift_class(1)(r) if r["image_id"] <= 20 else r for r in results]
    kept = [r for r in mixed if r is not None]
    result = coco.evaluate(gt, kept, subset=[10, 20])
    assert any("shifted by one" in note for note in result.notes)


def test_the_command_and_the_folder_report_it(tmp_path: Path, capsys: Any) -> None:
    """`evaluate coco` on standard error, and the notes of a result folder, once per metric."""
    gt, results = found_set()
    broken = [item for item in map(shift_class(1), results) if item is not None]
    for image in gt["images"]:
        image["file_name"] = f"{image['id']}.jpg"
    ids = [i["id"] for i in gt["images"]]
    gt["info"] = {"data_set": "made", "evaluators": ["coco"]}
    with gzip.open(tmp_path / "ground_truth.json.gz", "wt", encoding="utf-8") as file:
        json.dump(gt, file)
    files = {
        "coco_instances_results.json": broken,
        "images.json": {"expected": ids, "evaluated": ids},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    folder = evaluate_folder(tmp_path)
    assert folder.coco is not None
    assert sum("shifted by one" in note for note in folder.coco.notes) == 1
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    words = ["coco", str(tmp_path / "coco_instances_results.json"), "--task", "bbox"]
    args = parser.parse_args([*words, "--gt", str(tmp_path / "ground_truth.json.gz")])
    assert evaluate.run(args) == 0
    assert (
        "Note: AP50 is under 1 %. If every detection were of the class" in capsys.readouterr().err
    )
