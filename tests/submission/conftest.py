"""A run folder with results, written by hand: no detector and no torch is needed to pack it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from resdet.evaluation.voc import voc_evaluation as voc
from resdet.run.folder import Run, write_json
from tests.support import coco_json

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def ledger_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of the test's own, also for commands that it starts."""
    path = tmp_path / "user" / "ledger.jsonl"
    monkeypatch.setenv("RESDET_LEDGER", str(path))
    return path


@pytest.fixture
def pets() -> dict[str, Any]:
    """Three images with COCO's ids for cat, dog and toothbrush, the last one; three objects."""
    return {
        "images": [
            coco_json.image(139, name="000000000139.jpg"),
            coco_json.image(285, name="000000000285.jpg"),
            coco_json.image(632, name="000000000632.jpg"),
        ],
        "categories": [
            {"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}, {"id": 90, "name": "toothbrush"}
        ],
        "annotations": [
            coco_json.annotation(1, 139, 17, [10.25, 10, 40, 40]),
            coco_json.annotation(2, 285, 18, [50, 20, 30, 50]),
            coco_json.annotation(3, 285, 90, [5, 5, 20, 20]),
        ],
    }  # fmt: skip


@pytest.fixture
def found() -> list[dict[str, Any]]:
    """The objects of `pets`, nearly; nothing in 632."""
    return [
        coco_json.detection(285, 18, [50.04, 20.06, 29.95, 49.9], 0.5),
        coco_json.detection(285, 90, [5.0, 5.0, 20.0, 20.0], 0.75),
        coco_json.detection(139, 17, [10.25, 10.0, 40.0, 40.0], 0.25),
    ]


MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes RUN/results/<data set> as train_det does; `truth` without annotations: a test set."""

    def make(
        data_set: str,
        truth: dict[str, Any],
        results: Sequence[dict[str, Any]],
        *,
        year: int | None = None,
        evaluated: Sequence[Any] | None = None,
    ) -> Run:
        folder = tmp_path / "run"
        if not folder.exists():
            Run.create(folder, kind="detection", config_text="A: 1\n", command=["x"], seed=0)
        run = Run.open(folder)
        place = run.results(data_set)
        ids = [i["id"] for i in truth["images"]]
        info = {"data_set": data_set, "voc_year": year}
        name = "ground_truth" if "annotations" in truth else "image_info"
        write_json(place / f"{name}.json.gz", {**truth, "info": info})
        write_json(place / "coco_instances_results.json", list(results))
        seen = ids if evaluated is None else evaluated
        write_json(place / "images.json", {"expected": ids, "evaluated": seen})
        if year:
            categories = [c["id"] for c in truth["categories"]]
            boxes = [[x, y, x + w, y + h] for x, y, w, h in (r["bbox"] for r in results)]
            detections = voc.detections_from_boxes(
                [c["name"] for c in truth["categories"]],
                [r["image_id"] for r in results],
                [categories.index(r["category_id"]) for r in results],
                boxes,
                [r["score"] for r in results],
            )
            voc.write_detections(place, detections)
        return run

    return make


Submit = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def submit(tmp_path: Path) -> Submit:
    """`python tools/submit.py ARGS`, from a folder that is not the checkout's."""

    def call(*args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "tools" / "submit.py"), *map(str, args)],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return call


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    def to_json(name: str, value: Any) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return to_json
