"""Small problems written by hand, as the tests of VOC and COCO both need them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from resdet.evaluation.voc import voc_evaluation as voc
from tests.support import coco_json, random_scenes

VocProblem = tuple[voc.VocGroundTruth, voc.VocDetections]


@pytest.fixture
def voc_problem() -> Callable[..., VocProblem]:
    """Makes ground truth and detections from lines; boxes VOC's way (from 1, both ends inside).

    objects: (image, class, box) or (image, class, box, difficult); found: (image, class, score,
    box).
    """

    def make(
        objects: Sequence[tuple[Any, ...]],
        found: Sequence[tuple[Any, ...]],
        images: Sequence[str] = ("1",),
        classes: Sequence[str] = ("cow",),
        evaluated: Sequence[str] | None = None,
    ) -> VocProblem:
        truth = voc.ground_truth_from_boxes(
            classes,
            images,
            [o[0] for o in objects],
            [classes.index(o[1]) for o in objects],
            [half_open(o[2]) for o in objects],
            [bool(o[3]) if len(o) > 3 else False for o in objects],
        )
        detections = voc.detections_from_boxes(
            classes,
            [d[0] for d in found],
            [classes.index(d[1]) for d in found],
            [half_open(d[3]) for d in found],
            [d[2] for d in found],
            evaluated=images if evaluated is None else evaluated,
        )
        return truth, detections

    return make


def half_open(box: Sequence[float]) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = box
    return xmin - 1, ymin - 1, xmax, ymax


@pytest.fixture
def instances() -> dict[str, Any]:
    """Two images of 100 x 80 (ids 7 and 9), categories 1, 3, 4 and three objects."""
    return {
        "images": [
            coco_json.image(7),
            coco_json.image(9),
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 4, "name": "ox"}],
        "annotations": [
            coco_json.annotation(11, 7, 1, [10, 10, 40, 40], area=1599),
            coco_json.annotation(12, 9, 3, [50, 20, 30, 50], area=1499),
            coco_json.annotation(13, 9, 3, [5, 5, 20, 20], area=399),
        ],
    }


@pytest.fixture
def perfect() -> list[dict[str, Any]]:
    """The objects of `instances`, found exactly."""
    return [
        coco_json.detection(7, 1, [10, 10, 40, 40], 0.9),
        coco_json.detection(9, 3, [50, 20, 30, 50], 0.8),
        coco_json.detection(9, 3, [5, 5, 20, 20], 0.7),
    ]


COW_AND_DIFFICULT_COW = """<annotation>
  <size><width>50</width><height>40</height><depth>3</depth></size>
  <object><name>cow</name><difficult>0</difficult>
    <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>10</ymax></bndbox></object>
  <object><name>cow</name><difficult>1</difficult>
    <bndbox><xmin>21</xmin><ymin>21</ymin><xmax>30</xmax><ymax>30</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """A VOC tree of two images: a cow and a difficult cow in 000001, nothing in 000002."""
    root = tmp_path / "VOC2007"
    for name, text in {
        "ImageSets/Main/test.txt": "000001\n000002\n",
        "Annotations/000001.xml": COW_AND_DIFFICULT_COW,
        "Annotations/000002.xml": "<annotation></annotation>",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def random_scene() -> Callable[..., random_scenes.Scene]:
    """Makes instances and results from a seed (`random_scenes`)."""
    return random_scenes.random_scene
