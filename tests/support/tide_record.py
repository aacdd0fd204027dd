"""Records what tidecv gives on made scenes, in data/tidecv.json, for tests that run without it.

    pip install tidecv==1.0.1
    python -m tests.support.tide_record

tidecv has had no release since 2020 and wants more than resdet does, so it is no dependency of the
tests. The scenes lie in the file with its numbers; they came from `random_scenes` by their seeds,
with boxes to 2 decimals and scores to 6. Two more are written by hand, for what tidecv does
otherwise than COCO.

Not for: comparing (`test_anatomy_tidecv`).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

from tests.support.coco_json import annotation, detection
from tests.support.random_scenes import Scene, random_scene

RECORD = Path(__file__).parent / "data" / "tidecv.json"
SEEDS = range(100, 112)
ERRORS = {
    "Cls": "classification", "Loc": "localisation", "Both": "both", "Dupe": "duplicate",
    "Bkg": "background", "Miss": "missed",
}  # fmt: skip
SIZES = ("small", "medium", "large")
# Written as rows. Objects: image, category, crowd, x, y, width, height. Found: image, category,
# score, x, y, width, height.
BY_HAND = {
    "a detection in a crowd": {
        "images": 1, "categories": 2,
        "objects": [[1, 1, 0, 0, 0, 10, 10], [1, 1, 1, 40, 40, 50, 50]],
        "found": [[1, 1, 0.9, 50, 50, 20, 20], [1, 1, 0.8, 0, 0, 10, 10]],
    },
    "a class without an object": {
        "images": 1, "categories": 2,
        "objects": [[1, 1, 0, 0, 0, 10, 10]],
        "found": [[1, 1, 0.9, 0, 0, 10, 10], [1, 2, 0.8, 60, 60, 10, 10]],
    },
}  # fmt: skip


def to_rows(scene: Scene) -> dict[str, Any]:
    """A scene as rows of rounded numbers. No two scores are equal."""
    instances, results = scene
    found = [
        [r["image_id"], r["category_id"], round(r["score"], 6), *(round(v, 2) for v in r["bbox"])]
        for r in results
    ]
    assert len({row[2] for row in found}) == len(found), "two scores are equal"
    return {
        "images": len(instances["images"]),
        "categories": len(instances["categories"]),
        "objects": [
            [a["image_id"], a["category_id"], a["iscrowd"], *(round(v, 2) for v in a["bbox"])]
            for a in instances["annotations"]
        ],
        "found": found,
    }


def from_rows(rows: dict[str, Any]) -> Scene:
    """The scene that rows stand for, in COCO's format."""
    instances = {
        "images": [{"id": i, "width": 640, "height": 480} for i in range(1, rows["images"] + 1)],
        "categories": [{"id": k, "name": f"c{k}"} for k in range(1, rows["categories"] + 1)],
        "annotations": [
            annotation(number, image, category, box, crowd=crowd)
            for number, (image, category, crowd, *box) in enumerate(rows["objects"], 1)
        ],
    }
    results = [
        detection(image, category, box, score) for image, category, score, *box in rows["found"]
    ]
    return instances, results


def ask_tidecv(instances: Any, results: Any) -> dict[str, Any]:
    """tidecv's AP50, its errors counted, and its gains, all and by size; fractions in [0, 1]."""
    import tidecv
    from tidecv.errors.qualifiers import AREA

    truth, found = tidecv.Data("truth"), tidecv.Data("found")
    for category in instances["categories"]:
        truth.add_class(category["id"], category["name"])
    for image in instances["images"]:
        truth.add_image(image["id"], str(image["id"]))
    for item in instances["annotations"]:
        add = truth.add_ignore_region if item["iscrowd"] else truth.add_ground_truth
        add(item["image_id"], item["category_id"], item["bbox"])
    for item in results:
        found.add_detection(item["image_id"], item["category_id"], item["score"], item["bbox"])
    run = tidecv.TIDE().evaluate(truth, found, mode=tidecv.TIDE.BOX)
    return {
        "ap50": run.ap / 100,
        "counts": {ERRORS[e.short_name]: int(n) for e, n in run.count_errors().items()},
        "gains": _gains(run.fix_main_errors()),
        "gains_by_size": {
            size: _gains(run.fix_main_errors(qual=qualifier))
            for size, qualifier in zip(SIZES, AREA, strict=True)
        },
    }


def _gains(fixed: dict[Any, float]) -> dict[str, float]:
    return {ERRORS[error.short_name]: float(gain) / 100 for error, gain in fixed.items()}


def main() -> None:
    scenes = {f"seed {seed}": to_rows(random_scene(seed)) for seed in SEEDS} | BY_HAND
    parts = [
        f"{json.dumps(name)}: {json.dumps({**rows, 'tidecv': ask_tidecv(*from_rows(rows))})}"
        for name, rows in scenes.items()
    ]
    head = {
        "made_by": "tests/support/tide_record.py",
        "tidecv": importlib.metadata.version("tidecv"),
        "numpy": importlib.metadata.version("numpy"),
    }
    text = f'{json.dumps(head)[:-1]},\n"scenes": {{\n' + ",\n".join(parts) + "\n}}\n"
    temporary = RECORD.with_suffix(".part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, RECORD)


if __name__ == "__main__":
    main()
