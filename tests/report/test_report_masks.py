"""Runs with masks in a report: COCO's numbers of masks beside those of boxes, gains by both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from resdet.errors import RunError
from resdet.evaluation import evaluate_coco
from resdet.evaluation.analysis.image_noise import mean_ap
from resdet.evaluation.analysis.ranked_detections import rank_coco
from resdet.evaluation.coco.matching import RECALLS
from resdet.evaluation.inputs.detections import load_columns
from resdet.evaluation.inputs.ground_truth import read_ground_truth
from resdet.run.folder import read_json, write_json
from tests.report.conftest import read_report
from tests.support.fabricate import SIDE, fabricate_run


def filled(box: list[float]) -> dict[str, Any]:
    """The lower left triangle of a box, as run lengths."""
    x, y, width, height = box
    triangle = [x, y, x + width, y + height, x, y + height]
    packed = coco_mask.merge(coco_mask.frPyObjects([triangle], SIDE, SIDE))
    return {"size": [SIDE, SIDE], "counts": packed["counts"].decode("ascii")}


def with_masks(run: Path, *, mask_hash: str = "m") -> Path:
    """Each object and each detection of a made-up run gets the triangle of its box."""
    folder = run / "results" / "digits_test"
    truth = read_json(folder / "ground_truth.json.gz")
    for item in truth["annotations"]:
        item["segmentation"] = filled(item["bbox"])
    truth["info"] |= {"masks": True, "mask_hash": mask_hash}
    write_json(folder / "ground_truth.json.gz", truth)
    results = read_json(folder / "coco_instances_results.json")
    masked = [{**r, "segmentation": filled(r["bbox"])} for r in results]
    write_json(folder / "coco_instances_results.json", masked)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [
        fabricate_run(tmp_path / net, net=net, skill=skill, evaluators=("coco",), num_images=60)
        for net, skill in (("vgg11", 0.5), ("resnet18", 0.8))
    ]


def test_the_noise_of_images_by_masks_has_pycocotools_ap(runs: list[Path]) -> None:
    """With every image drawn once the mean over overlaps is COCO's AP of masks, not of boxes."""
    folder = with_masks(runs[1])
    truth = read_ground_truth(folder / "ground_truth.json.gz")
    file = folder / "coco_instances_results.json"
    columns, _, _ = load_columns(file, truth.index, "segm")
    once = np.ones((1, len(truth.index.image_ids)), dtype=np.int64)
    ours = mean_ap(rank_coco(truth, columns), once, RECALLS).mean()
    segm, bbox = (evaluate_coco(truth, file, task=task).numbers["AP"] for task in ("segm", "bbox"))
    assert ours == pytest.approx(segm, abs=1e-12)
    assert abs(segm - bbox) > 0.01


def test_masks_stand_beside_boxes_and_their_gain_has_an_interval(
    runs: list[Path], tmp_path: Path
) -> None:
    folders = [with_masks(run) for run in runs]
    report = read_report(runs, tmp_path / "report")
    (one,) = report.json["sets"].values()
    values = [
        evaluate_coco(
            f / "ground_truth.json.gz", f / "coco_instances_results.json", task="segm"
        ).numbers["AP"]
        for f in folders
    ]
    assert [one["segm"][letter]["AP"] for letter in "AB"] == pytest.approx(values, abs=1e-12)
    (gain,) = (g for g in one["gains"] if g["protocol"] == "COCO segm")
    assert gain["absolute"] == pytest.approx(values[1] - values[0], abs=1e-12)
    interval = gain["interval"]
    assert interval["low"] < gain["absolute"] < interval["high"]
    assert one["metric"]["protocol"] == "COCO bbox"  # boxes rank, as ever
    assert "COCO, masks" in report.markdown and "AP of masks (COCO" in report.markdown


@pytest.mark.parametrize("case", ["one without", "other masks"])
def test_masks_that_cannot_be_compared_leave_the_report_of_boxes(
    runs: list[Path], tmp_path: Path, case: str
) -> None:
    before = read_report(runs, tmp_path / "before").json["sets"]["digits_test"]
    with_masks(runs[0])
    if case == "other masks":
        with_masks(runs[1], mask_hash="n")
    report = read_report(runs, tmp_path / "report")
    after = report.json["sets"]["digits_test"]
    assert [g["protocol"] for g in after["gains"]] == [g["protocol"] for g in before["gains"]]
    assert after["values"] == before["values"]
    assert "COCO, masks" not in report.markdown
    reason = "B has none" if case == "one without" else "the objects of the runs' ground truths"
    assert f"AP of masks is not compared: {reason}" in report.markdown.replace("\\", "")


def test_a_stored_number_of_masks_that_the_files_do_not_give_is_refused(
    runs: list[Path], tmp_path: Path
) -> None:
    folders = [with_masks(run) for run in runs]
    (folders[0] / "coco_segm.json").write_text(json.dumps({"AP": 0.5}), encoding="utf-8")
    with pytest.raises(RunError, match=r"coco_segm.json has AP 0.5"):
        read_report(runs, tmp_path / "report")
