"""A training set without one object is refused, with the cause and a remedy that works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import children, tiny, trainings

pytest.importorskip("detectron2")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Pictures and a COCO file whose objects are all crowds, as brush masks are exported."""
    tiny.voc_tree(tmp_path / "voc")
    images = sorted((tmp_path / "voc" / "JPEGImages").iterdir())[:2]
    content: dict[str, Any] = {
        "images": [{"id": i, "file_name": path.name} for i, path in enumerate(images)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [2, 2, 20, 20], "iscrowd": 1}
            for i in range(2)
        ],
    }
    (tmp_path / "crowds.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "c.yaml").write_text(
        trainings.detector(
            trainings.FROM_SCRATCH,
            {"DATASETS.TRAIN": ["coco:crowds.json:voc/JPEGImages"], "SOLVER.MAX_ITER": 1,
             "DATASETS.TEST": ["coco:crowds.json:voc/JPEGImages"], "EVAL.ALLOW_LEAK": True},
        ),
        encoding="utf-8",
    )  # fmt: skip
    return tmp_path


def train(place: Path, *more: str) -> Any:
    words = ("train_det", "--config", "c.yaml", "--output", "run", *more)
    return children.run_cli(*words, cwd=place)


def test_crowds_alone_are_refused_and_the_remedy_leads_on(place: Path) -> None:
    """JSON2YOLO#38. It trained on nothing, with exit code 0, where FILTER_EMPTY was turned off."""
    done = train(place, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False")
    assert done.returncode == 2
    assert "2 images and 0 objects to train on: every object (2) has iscrowd 1" in done.stderr
    assert "set iscrowd to 0 in the annotation file" in done.stderr
    assert not (place / "run").exists()
    file = place / "crowds.json"
    text = file.read_text(encoding="utf-8").replace('"iscrowd": 1', '"iscrowd": 0')
    file.write_text(text, encoding="utf-8")
    assert train(place).returncode == 0


def test_many_images_without_objects_need_a_decision(place: Path) -> None:
    """F44: one of two images has a crowd alone; Detectron2 leaves it out with a line in the log."""
    file = place / "crowds.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["annotations"][0]["iscrowd"] = 0
    file.write_text(json.dumps(content), encoding="utf-8")
    done = train(place)
    assert done.returncode == 2
    assert "1 of 2 images would not train: 0 without objects, 1 with crowd only." in done.stderr
    assert not (place / "run").exists()
    done = train(place, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "True")
    assert done.returncode == 0, done.stderr
    text = (place / "run" / "left_out.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"crowd_only": [1]}
