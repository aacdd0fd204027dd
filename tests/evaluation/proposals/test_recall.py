"""Recall of proposals: pycocotools' AR with classes aside, hand-worked cases, a file's faults."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resdet.errors import CheckFailed
from resdet.evaluation.inputs.ground_truth import read_ground_truth
from resdet.evaluation.proposals.recall import COUNTS, ranks_of_image, recall_of
from resdet.formats.proposal_file import ProposalFile, write_proposals


def scene(seed, images=12, proposals=400):
    """Objects in groups, crowds among them; proposals near objects, many and equal ones."""
    generator = np.random.default_rng(seed)
    annotations, found = [], []
    for image in range(images):
        centres = generator.uniform(40, 300, (int(generator.integers(0, 9)), 2))
        boxes = []
        for centre in centres:
            size = generator.uniform(10, 80, 2)
            boxes.append([*(centre - size / 2), *size])
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image,
                    "category_id": int(generator.integers(1, 4)), "bbox": boxes[-1],
                    "area": float(size.prod()), "iscrowd": int(generator.random() < 0.1),
                }
            )  # fmt: skip
        anchors = np.array(boxes).reshape(-1, 4)
        chosen = anchors[generator.integers(0, max(len(anchors), 1), proposals)] if boxes else (
            generator.uniform(10, 60, (proposals, 4))
        )  # fmt: skip
        noise = generator.normal(0, 6, (proposals, 4))
        near = np.abs(chosen + noise) + 1
        corners = near.copy()
        corners[:, 2:] += near[:, :2]
        # Few values, so that many are equal.
        found.append((image, corners, np.round(generator.normal(size=proposals), 2)))
    truth = {
        "images": [{"id": i, "width": 640, "height": 480} for i in range(images)],
        "categories": [{"id": i, "name": str(i)} for i in range(1, 4)],
        "annotations": annotations,
    }
    return truth, found


def file_of(path, found, data_set="made"):
    write_proposals(path, found, data_set=data_set, data_set_hash="h", weights="w")
    return ProposalFile(path)


def recall_by_pycocotools(truth, file):
    """(counts, overlaps) recall, by COCOeval with useCats = 0."""
    coco = COCO()
    coco.dataset = truth
    results = []
    for image_id in file.image_ids:
        boxes, scores = file.of(image_id)
        boxes = boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        results += [
            {"image_id": image_id, "category_id": 1, "bbox": box, "score": score}
            for box, score in zip(boxes.tolist(), scores.tolist(), strict=True)
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = list(COUNTS)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["recall"][:, 0, 0, :].T


@pytest.mark.parametrize("seed", range(4))
def test_it_is_pycocotools_ar_with_classes_aside(tmp_path, seed):
    truth, found = scene(seed)
    file = file_of(tmp_path / "p", found)
    recall = recall_of(read_ground_truth(truth), file)
    expected = recall_by_pycocotools(truth, file)
    for row, count in zip(expected, COUNTS, strict=True):
        np.testing.assert_allclose(recall.at(count), row, rtol=0, atol=1e-12)
        assert recall.average(count) == pytest.approx(row.mean(), abs=1e-12)
    assert 0.1 < recall.numbers["AR50"] < recall.numbers["AR300"] < 1


def test_a_proposal_takes_one_object_and_the_best_that_is_left():
    """By hand: the first covers both objects, and better the second; the next takes the first."""
    objects = np.array([[0.0, 0, 10, 10], [0, 0, 10, 8]])
    boxes = np.array([[0.0, 0, 10, 8.5], [0, 0, 10, 8.0], [0, 0, 10, 10]])
    # Overlaps: 0.85 and 0.941; 0.8 and 1; 1 and 0.8.
    ranks = ranks_of_image(boxes, objects)
    assert ranks[0].tolist() == [1, 0]  # at 0.5
    assert ranks[7].tolist() == [2, 0]  # at 0.85, the second box covers the first object by 0.8
    assert ranks[9].tolist() == [2, 1]  # at 0.95


def test_the_first_k_count_and_difficult_objects_do_not(tmp_path):
    truth = {
        "images": [{"id": "a", "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [
            {"id": n, "image_id": "a", "category_id": 1, "bbox": box, "area": 100, "iscrowd": 0,
             "difficult": difficult}
            for n, (box, difficult) in enumerate(
                [([0, 0, 10, 10], 0), ([50, 50, 10, 10], 0), ([80, 80, 10, 10], 1)], 1
            )
        ],
    }  # fmt: skip
    far = np.tile([[30.0, 30, 40, 40]], (60, 1))
    boxes = np.concatenate([[[0.0, 0, 10, 10]], far, [[50, 50, 60, 60]]])
    file = file_of(tmp_path / "p", [("a", boxes, np.linspace(5, -5, 62))])
    recall = recall_of(read_ground_truth(truth), file)
    assert (recall.objects, recall.ignored) == (2, 1)
    assert recall.numbers == {
        "AR50": 0.5, "AR100": 1.0, "AR300": 1.0, "AR1000": 1.0,
        "R50@50": 0.5, "R50@100": 1.0, "R50@300": 1.0, "R50@1000": 1.0,
    }  # fmt: skip
    curve = recall.to_json()["curve"]
    assert dict(zip(curve["proposals"], curve["AR"], strict=True))[50] == 0.5
    assert curve["proposals"][-1] <= 62


def test_a_file_of_other_images_is_refused(tmp_path):
    truth, found = scene(0, images=4, proposals=5)
    whole = read_ground_truth(truth)
    with pytest.raises(CheckFailed, match=r"1 of the set lack proposals \(such as 3\)"):
        recall_of(whole, file_of(tmp_path / "p", found[:3]))
    stranger = (99, *found[0][1:])
    with pytest.raises(CheckFailed, match=r"1 are not in the set \(such as 99\)"):
        recall_of(whole, file_of(tmp_path / "q", [*found, stranger]))
    part = recall_of(whole, file_of(tmp_path / "r", found), image_ids=[0, 2])
    assert part.images == {"expected": 4, "evaluated": 2, "missing": 2}


def test_a_set_without_objects_has_no_recall(tmp_path):
    truth, found = scene(0, images=2, proposals=3)
    truth["annotations"] = []
    recall = recall_of(read_ground_truth(truth), file_of(tmp_path / "p", found))
    assert set(recall.numbers.values()) == {None}
    assert recall.to_json()["curve"]["AR"] == []
