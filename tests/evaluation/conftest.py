"""Small problems written by hand, as the tests of VOC and COCO both need them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resdet.evaluation import voc

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
            {"id": 7, "width": 100, "height": 80, "file_name": "7.jpg"},
            {"id": 9, "width": 100, "height": 80, "file_name": "9.jpg"},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 4, "name": "ox"}],
        "annotations": [
            annotation(11, 7, 1, [10, 10, 40, 40]),
            annotation(12, 9, 3, [50, 20, 30, 50]),
            annotation(13, 9, 3, [5, 5, 20, 20]),
        ],
    }


def annotation(number: int, image: int, category: int, box: list[float]) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": box[2] * box[3] - 1,
        "iscrowd": 0,
    }


@pytest.fixture
def perfect() -> list[dict[str, Any]]:
    """The objects of `instances`, found exactly."""
    return [
        {"image_id": 7, "category_id": 1, "bbox": [10, 10, 40, 40], "score": 0.9},
        {"image_id": 9, "category_id": 3, "bbox": [50, 20, 30, 50], "score": 0.8},
        {"image_id": 9, "category_id": 3, "bbox": [5, 5, 20, 20], "score": 0.7},
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


Scene = tuple[dict[str, Any], list[dict[str, Any]]]


@pytest.fixture
def random_scene() -> Callable[..., Scene]:
    """Makes instances and results of eight images: good and bad boxes, wrong classes, inventions.

    `crowds`: share of crowd regions. `levels`: that many different scores, so that they tie; 0
    for none that do. Every category has an object that is none.
    """

    def make(seed: int, *, crowds: float = 0.0, levels: int = 0, categories: int = 4) -> Scene:
        rng = np.random.default_rng(seed)
        score = lambda: float(rng.integers(1, levels) / levels if levels else rng.random())  # noqa: E731
        images = [{"id": i, "width": 640, "height": 480} for i in range(1, 9)]
        annotations, results = [], []
        for number in range(int(rng.integers(10, 60))):
            image, category = int(rng.integers(1, 9)), int(rng.integers(1, categories + 1))
            x, y, w, h = rng.uniform([0, 0, 8, 8], [400, 300, 220, 160])
            crowd = number >= categories and rng.random() < crowds
            if number < categories:
                category = number + 1
            annotations.append({
                "id": number + 1, "image_id": image, "category_id": category,
                "bbox": [x, y, w, h], "area": w * h, "iscrowd": int(crowd),
            })  # fmt: skip
            for _ in range(rng.integers(0, 5)):
                off = rng.choice([0.03, 0.15, 0.35])
                dx, dy, dw, dh = rng.normal(0, off, 4)
                claimed = category if rng.random() < 0.7 else int(rng.integers(1, categories + 1))
                box = [x + dx * w, y + dy * h, w * np.exp(dw), h * np.exp(dh)]
                results.append(detection(image, claimed, box, score()))
        for _ in range(rng.integers(0, 15)):
            box = rng.uniform([0, 0, 8, 8], [400, 300, 220, 160]).tolist()
            claimed = int(rng.integers(1, categories + 1))
            results.append(detection(int(rng.integers(1, 9)), claimed, box, score()))
        names = [{"id": k, "name": f"c{k}"} for k in range(1, categories + 1)]
        return {"images": images, "annotations": annotations, "categories": names}, results

    return make


def detection(image: int, category: int, box: Sequence[float], score: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score}
