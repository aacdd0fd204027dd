"""The result folder: both metrics from its files, and files that contradict each other."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from resdet.errors import CheckFailed, DataError
from resdet.evaluation.coco import coco_evaluation
from resdet.evaluation.inputs.result_folder import evaluate_folder, evaluated_beside
from resdet.evaluation.voc import voc_evaluation as voc


@pytest.fixture
def folder(tmp_path: Path, instances: Any, perfect: Any) -> Path:
    """RUN/results/pets: a detector that found everything, in all files."""
    instances["info"] = {"data_set": "pets", "evaluators": ["voc", "coco"], "voc_year": 2007}
    instances["annotations"][2]["difficult"] = 1
    packed = gzip.compress(json.dumps(instances).encode())
    (tmp_path / "ground_truth.json.gz").write_bytes(packed)
    write(tmp_path, "coco_instances_results.json", perfect)
    write(tmp_path, "images.json", {"data_set": "pets", "expected": [7, 9], "evaluated": [7, 9]})
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (r["bbox"] for r in perfect)]
    names = [c["name"] for c in instances["categories"]]
    labels = [[1, 3, 4].index(r["category_id"]) for r in perfect]
    found = voc.detections_from_boxes(
        names, [r["image_id"] for r in perfect], labels, boxes, [r["score"] for r in perfect]
    )
    voc.write_detections(tmp_path, found)
    return tmp_path


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def test_both_metrics_come_from_the_files(folder: Path) -> None:
    """Everything is found: all AP 1; 2007 asks for 11 points; "ox" is in neither mean."""
    result = evaluate_folder(folder)
    assert result.data_set == "pets"
    assert result.voc is not None
    assert result.coco is not None
    assert result.voc.primary is result.voc.eleven_point
    page = result.to_json()
    assert page["voc"]["primary"] == "VOC 11-point"
    assert page["voc"]["11-point"]["mean_ap"] == page["voc"]["area"]["mean_ap"] == 1.0
    assert page["voc"]["area"]["classes"]["dog"] == {"ap": 1.0, "positives": 1, "detections": 2}
    assert page["coco"]["AP50"] == pytest.approx(1.0)
    json.dumps(page, allow_nan=False)
    assert sorted(p.name for p in folder.iterdir()) == [
        "coco_instances_results.json", "comp4_det_test_cat.txt", "comp4_det_test_dog.txt",
        "comp4_det_test_ox.txt", "ground_truth.json.gz", "images.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("info", "primary", "has_coco"),
    [
        ({"evaluators": ["voc"], "voc_year": 2012}, "VOC area", False),
        ({}, "VOC area", True),
        ({"evaluators": ["coco"]}, None, True),
    ],
    ids=["voc-2012", "nothing-stated", "coco"],
)
def test_the_set_states_which_metrics_are_meant(
    folder: Path, instances: Any, info: Any, primary: str | None, has_coco: bool
) -> None:
    """voc_year 2007 is 11-point, every other area; a metric not meant is None."""
    packed = gzip.compress(json.dumps(instances | {"info": info}).encode())
    (folder / "ground_truth.json.gz").write_bytes(packed)
    result = evaluate_folder(folder)
    assert (result.voc.primary.protocol if result.voc else None) == primary
    assert (result.coco is not None) == has_coco


@pytest.mark.parametrize(
    "name", ["images.json", "ground_truth.json.gz", "coco_instances_results.json"]
)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    """What is missing, and what writes it."""
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"has no {name}.*--eval-only"):
        evaluate_folder(folder)


def test_the_fast_engine_gives_pycocotools_numbers_and_is_named(folder: Path) -> None:
    """EVAL.ENGINE fast; VOC's numbers have no other engine."""
    official, fast = evaluate_folder(folder), evaluate_folder(folder, engine="fast")
    assert official.coco is not None and fast.coco is not None
    assert official.coco.engine == "official"
    assert fast.coco.engine == "fast (cross-checked on 2 images)"
    assert fast.coco.numbers == pytest.approx(official.coco.numbers, abs=1e-12)
    assert fast.to_json()["voc"] == official.to_json()["voc"]


def test_a_fast_engine_that_differs_gives_no_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in `evaluate coco --engine fast`."""

    def other(*given: Any) -> Any:
        counted = coco_evaluation.official(*given)
        return dataclasses.replace(counted, precision=counted.precision * 0.999)

    monkeypatch.setattr(coco_evaluation, "fast", other)
    with pytest.raises(CheckFailed, match="pycocotools differ by .* in the precision array of 2"):
        evaluate_folder(folder, engine="fast")


def test_an_incomplete_evaluation_is_refused(folder: Path, perfect: Any) -> None:
    """F91: image 9 was never evaluated; as a subset it is "1 of 2"."""
    write(folder, "images.json", {"expected": [7, 9], "evaluated": [7]})
    write(folder, "coco_instances_results.json", perfect[:1])
    (folder / "comp4_det_test_dog.txt").write_text("", encoding="utf-8")
    with pytest.raises(CheckFailed, match="results cover 1; missing first: 9"):
        evaluate_folder(folder)
    page = evaluate_folder(folder, subset=[7]).to_json()
    part = {"expected": 2, "evaluated": 1, "missing": 1}
    assert page["coco"]["images"] == page["voc"]["area"]["images"] == part


def test_files_of_different_evaluations_are_refused(folder: Path, perfect: Any) -> None:
    """A class file with more lines than the list has; a class file lost; another set's images."""
    write(folder, "images.json", {"expected": [7, 8, 9], "evaluated": [7, 8, 9]})
    with pytest.raises(CheckFailed, match=r"expects 3 images.* has 2; image 8"):
        evaluate_folder(folder)
    write(folder, "images.json", {"expected": [7, 9], "evaluated": [7, 9]})
    write(folder, "coco_instances_results.json", perfect[:2])
    with pytest.raises(CheckFailed, match=r"2 detections of dog in .*, 1 in coco_instances"):
        evaluate_folder(folder)
    (folder / "comp4_det_test_ox.txt").unlink()
    with pytest.raises(CheckFailed, match=r"has no comp4_det_<set>_ox.txt"):
        evaluate_folder(folder)


def test_nonsense_is_refused_not_scored(folder: Path, perfect: Any) -> None:
    """F84: the whole list twice."""
    write(folder, "coco_instances_results.json", perfect * 2)
    with pytest.raises(CheckFailed, match="every detection 2 times"):
        evaluate_folder(folder)


def test_the_list_of_evaluated_images_is_found(folder: Path, tmp_path: Path) -> None:
    """In the folder, beside a file, under the file's own stem first; None without one."""
    assert evaluated_beside(folder) == (7, 9)
    assert evaluated_beside(folder / "coco_instances_results.json") == (7, 9)
    write(folder, "mine.images.json", {"evaluated": [7]})
    assert evaluated_beside(folder / "mine.json") == (7,)
    assert evaluated_beside(tmp_path / "elsewhere" / "x.json") is None
    write(folder, "mine.images.json", [1, 2])
    with pytest.raises(CheckFailed, match="has no list of image ids"):
        evaluated_beside(folder / "mine.json")


def test_the_list_of_images_goes_by_the_whole_name_of_a_file(tmp_path: Path) -> None:
    """yolo.v9.json has yolo.v9.images.json, not the list of yolo.json."""
    (tmp_path / "yolo.images.json").write_text('{"evaluated": [1]}', encoding="utf-8")
    assert evaluated_beside(tmp_path / "yolo.v9.json") is None
    assert evaluated_beside(tmp_path / "yolo.json.gz") == (1,)
    (tmp_path / "yolo.v9.images.json").write_text('{"evaluated": [2]}', encoding="utf-8")
    assert evaluated_beside(tmp_path / "yolo.v9.json") == (2,)
