"""VOC and COCO against figures that others published, and against Detectron2's own evaluator."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.voc import voc_evaluation as voc
from resdet.formats.voc_xml import VOC_CLASSES
from tests.support.voc_xml import annotation, voc_object

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def yolov2(shared_data: Path) -> dict[str, Any]:
    """A detector's files on all of VOC07 test, with its author's AP (no file for person)."""
    folder = shared_data / "oracles" / "voc07_yolov2"
    with gzip.open(folder / "voc07_test_gt.json.gz", "rt", encoding="utf-8") as f:
        source = json.load(f)
    rows = [
        (image_id, VOC_CLASSES.index(item["class"]), item["bbox"], bool(item["difficult"]))
        for image_id, items in source["images"].items()
        for item in items
    ]
    truth = voc.ground_truth_from_boxes(
        VOC_CLASSES,
        list(source["images"]),
        [r[0] for r in rows],
        [r[1] for r in rows],
        np.array([r[2] for r in rows]) - [1, 1, 0, 0],
        [r[3] for r in rows],
    )
    return {
        "truth": truth,
        "detections": voc.read_detections(folder / "dets", VOC_CLASSES),
        "expected": json.loads((folder / "expected.json").read_text(encoding="utf-8")),
        "curves": dict(np.load(folder / "author_pr_curves.npz")),
    }


@pytest.mark.parametrize(
    ("rule", "column"), [("11-point", "ap07_author"), ("area", "ap_allpoint_recomputed")]
)
def test_voc07_ap_equals_the_authors(yolov2: dict[str, Any], rule: str, column: str) -> None:
    """Oracle: htt1084/pytorch-yolo2, 19 classes; README: mean of the 19 is .72059 (11-point)."""
    result = voc.evaluate(yolov2["truth"], yolov2["detections"], ap=rule)
    expected = yolov2["expected"]
    assert len(result.scored) == 19
    for name in result.scored:
        score = result.classes[name]
        assert score.ap == pytest.approx(expected[column][name], abs=1e-9)
        assert score.positives == expected["npos"][name]
        assert score.detections == expected["ndet"][name]
    assert result.classes["person"].ap is None
    assert sum(s.positives for s in result.classes.values()) == 12032
    if rule == "11-point":
        assert result.mean_ap == pytest.approx(0.72059, abs=5e-6)


def test_voc07_curves_equal_the_authors(yolov2: dict[str, Any]) -> None:
    """Oracle: the author's precision and true positives; equal scores may be ordered otherwise."""
    result = voc.evaluate(yolov2["truth"], yolov2["detections"])
    assert len(result.curves) == 19
    for name, curve in result.curves.items():
        tp = curve.recall * result.classes[name].positives
        assert np.abs(tp - yolov2["curves"][f"{name}_tp"]).max() <= 1 + 1e-9
        assert np.mean(np.abs(curve.precision - yolov2["curves"][f"{name}_prec"]) < 1e-9) > 0.99


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_coco_equals_the_published_numbers(shared_data: Path, task: str) -> None:
    """Oracle: cocoapi's val2014_fake_eval_res.txt to its digits, pycocotools 2.0.11 to 1e-9."""
    folder = shared_data / "oracles" / "coco_example100"
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    result = coco.evaluate(
        folder / "instances_val2014_100.json",
        folder / f"instances_val2014_fake{task}100_results.json",
        task=task,
    )
    assert list(result.numbers) == expected["names"]
    numbers = [value for value in result.numbers.values() if value is not None]
    assert [round(v, 3) for v in numbers] == expected["published"][task]
    precise = expected["pycocotools_full_precision"][task]
    np.testing.assert_allclose(numbers, precise, rtol=0, atol=1e-9)


def test_true_boxes_on_the_coco_subset(shared_data: Path) -> None:
    """Oracle: the data's README: AP 1, AR1 .6809, AR10 .9819 with the objects as detections."""
    path = shared_data / "coco" / "annotations" / "instances_val2017.json"
    instances = json.loads(path.read_text(encoding="utf-8"))
    results = [
        {key: item[key] for key in ("image_id", "category_id", "bbox")} | {"score": 1.0}
        for item in instances["annotations"]
        if not item["iscrowd"]
    ]
    result = coco.evaluate(instances, results)
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"):
        assert result.numbers[name] == pytest.approx(1.0, abs=1e-12)
    assert result.numbers["AR1"] == pytest.approx(0.6809, abs=5e-5)
    assert result.numbers["AR10"] == pytest.approx(0.9819, abs=5e-5)


def test_true_boxes_on_the_voc_subset(shared_data: Path) -> None:
    """Oracle: the data's README counts 668 objects in test, 183 difficult; exact boxes are AP 1."""
    truth = voc.read_devkit_ground_truth(shared_data / "VOC2007", "test")
    assert (len(truth.image_ids), len(truth.boxes), int(truth.difficult.sum())) == (120, 668, 183)
    found = voc.detections_from_boxes(
        truth.classes,
        [truth.image_ids[i] for i in truth.image],
        truth.label,
        truth.boxes - [1, 1, 0, 0],
        np.ones(len(truth.boxes)),
        evaluated=truth.image_ids,
    )
    result = voc.evaluate(truth, found, ap="area")
    assert result.mean_ap == 1.0
    assert len(result.scored) == 20


# -- Detectron2's evaluator, on files of full precision ---------------------------------------


def write_voc(root: Path, rng: np.random.Generator) -> None:
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    ids = [f"{i:06d}" for i in range(12)]
    (root / "ImageSets" / "Main" / "test.txt").write_text("\n".join(ids), encoding="utf-8")
    for image_id in ids:
        objects = ""
        for _ in range(rng.integers(0, 5)):
            x, y, w, h = rng.integers([1, 1, 5, 5], [200, 200, 80, 80])
            corners = (x, y, x + w, y + h)
            name, difficult = rng.choice(["cow", "dog"]), int(rng.random() < 0.2)
            flags = {"pose": "Left", "truncated": 0, "difficult": difficult}
            objects += voc_object(name, corners, **flags)
        text = annotation(objects)
        (root / "Annotations" / f"{image_id}.xml").write_text(text, encoding="utf-8")


def write_found(root: Path, truth: voc.VocGroundTruth, rng: np.random.Generator) -> None:
    rows = np.repeat(np.arange(len(truth.boxes)), rng.integers(0, 4, len(truth.boxes)))
    boxes = truth.boxes[rows] - [1, 1, 0, 0] + rng.normal(0, 6, (len(rows), 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 2)
    found = voc.detections_from_boxes(
        truth.classes, [truth.image_ids[truth.image[r]] for r in rows], truth.label[rows], boxes,
        rng.random(len(rows)),
    )  # fmt: skip
    voc.write_detections(root, found)


@pytest.mark.parametrize("iou", [0.5, 0.75])
def test_voc_equals_detectron2(tmp_path: Path, iou: float) -> None:
    """Oracle: detectron2.evaluation.pascal_voc_evaluation.voc_eval on the same files, no ties."""
    pytest.importorskip("detectron2", reason="Detectron2 is not installed here")
    from detectron2.evaluation.pascal_voc_evaluation import voc_eval

    rng = np.random.default_rng(3)
    compared = 0
    for number in range(8):
        root = tmp_path / str(number)
        write_voc(root, rng)
        truth = voc.read_devkit_ground_truth(root, "test", ["cow", "dog"])
        write_found(root, truth, rng)
        found = voc.read_detections(root, truth.classes)
        for rule in voc.AP_RULES:
            result = voc.evaluate(truth, found, ap=rule, iou=iou)
            for name in result.scored:
                recall, precision, expected = voc_eval(
                    str(root / "comp4_det_test_{}.txt"),
                    str(root / "Annotations" / "{}.xml"),
                    str(root / "ImageSets" / "Main" / "test.txt"),
                    name,
                    ovthresh=iou,
                    use_07_metric=rule == "11-point",
                )
                assert result.classes[name].ap == pytest.approx(expected, abs=1e-12)
                np.testing.assert_allclose(result.curves[name].recall, recall)
                np.testing.assert_allclose(result.curves[name].precision, precision)
                compared += 1
    assert compared > 20
