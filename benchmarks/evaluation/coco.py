"""COCO's numbers of a val-sized problem: resdet's fast engine against pycocotools.

    python -m benchmarks.evaluation.coco [--rounds 5] [--images 5000] [--keep FOLDER]

A script makes instances and results as large as COCO's val2017 and a detector's file on it:
5,000 images, 36,800 objects of 80 classes, 100 detections an image, numbers written as float32
detectors write them. Then, each in a process of its own:

    pycocotools   COCO(instances), loadRes(results), evaluate, accumulate, summarize
    fast          read, validate, evaluate: what `coco.evaluate(engine="fast")` does but for its
                  cross-check
    checked       the whole of it, with pycocotools on a sample of the images

All twelve numbers must be equal to 1e-12, or the run stops. Times are of the work after imports,
the middle of the rounds; resdet's processes run before and after pycocotools' one. Peak memory is
of the whole process.

Not for: masks, or a set's real numbers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import apart
from benchmarks.claims import Claim
from benchmarks.evaluation import scenes

MODULE = "benchmarks.evaluation.coco"
OBJECTS_PER_IMAGE, CLASSES = 7.36, 80
INSTANCES, RESULTS = "instances.json", "results.json"
# Of images in COCO: width, height, share.
IMAGE_SIZES = ((640, 480, 0.45), (640, 427, 0.3), (480, 640, 0.15), (500, 375, 0.1))
CROWD_SHARE = 0.012
ROUNDING = 1e-12


# -- the problem -------------------------------------------------------------------------------


def make_problem(folder: Path, num_images: int, seed: int = 0) -> None:
    """Writes INSTANCES and RESULTS; the same seed gives the same files."""
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(600_000, num_images, replace=False))
    sizes = scenes.make_sizes(rng, IMAGE_SIZES, num_images)
    category_ids = np.sort(rng.choice(90, CLASSES, replace=False)) + 1
    # A third is of the first class, the others ever rarer: persons, chairs, ... toasters.
    frequency = np.append(0.5, 1 / np.arange(3, CLASSES + 2))
    frequency /= frequency.sum()
    objects = scenes.make_objects(rng, sizes, round(OBJECTS_PER_IMAGE * num_images), frequency)
    images = [
        {"id": int(i), "file_name": f"{i:012d}.jpg", "width": int(w), "height": int(h)}
        for i, (w, h) in zip(ids, sizes, strict=True)
    ]
    instances = {
        "images": images,
        "categories": [{"id": int(c), "name": f"class {c}"} for c in category_ids],
        "annotations": _annotations(rng, objects, ids, category_ids),
    }
    (folder / INSTANCES).write_text(json.dumps(instances), encoding="utf-8")
    results: list[dict[str, Any]] = []
    for image in range(num_images):
        detections = scenes.make_detections(rng, objects, image, sizes[image], frequency)
        results += _entries(int(ids[image]), category_ids, *detections)
    (folder / RESULTS).write_text(json.dumps(results), encoding="utf-8")


def _annotations(
    rng: np.random.Generator, objects: scenes.Objects, ids: np.ndarray, categories: np.ndarray
) -> list[dict[str, Any]]:
    boxes = objects.boxes
    area = boxes[:, 2] * boxes[:, 3] * rng.uniform(0.4, 0.95, len(boxes))
    crowd = rng.random(len(boxes)) < CROWD_SHARE
    return [
        {
            "id": 1000 + i,
            "image_id": int(ids[objects.image[i]]),
            "category_id": int(categories[objects.label[i]]),
            "bbox": boxes[i].tolist(),
            "area": round(float(area[i]), 4),
            "iscrowd": int(crowd[i]),
        }
        for i in range(len(boxes))
    ]


def _entries(
    image_id: int,
    categories: np.ndarray,
    labels: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
) -> list[dict[str, Any]]:
    return [
        {"image_id": image_id, "category_id": int(categories[label]), "bbox": box, "score": score}
        for label, box, score in zip(
            labels,
            boxes.astype(np.float32).astype(np.float64).tolist(),
            scores.astype(np.float32).astype(np.float64).tolist(),
            strict=True,
        )
    ]


# -- what is measured, in a process of its own -------------------------------------------------


def run_pycocotools(folder: Path) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(folder / INSTANCES))
        engine = COCOeval(gt, gt.loadRes(str(folder / RESULTS)), "bbox")
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return [float(value) for value in engine.stats]


def run_fast(folder: Path) -> list[float]:
    from resdet.evaluation.coco import coco_evaluation as coco
    from resdet.evaluation.inputs import detections, findings, ground_truth, validation

    truth = ground_truth.read_ground_truth(folder / INSTANCES)
    columns, faults, title = detections.load_columns(folder / RESULTS, truth.index)
    faults += validation.check_columns(columns, truth.index)
    findings.refuse_if_any(title, faults)
    used = np.ones(len(truth.index.image_ids), dtype=np.bool_)
    return [float(value) for value in coco.fast(truth, columns, used, "bbox").numbers]


def run_checked(folder: Path) -> list[float]:
    from resdet.evaluation.coco import coco_evaluation as coco

    result = coco.evaluate(folder / INSTANCES, folder / RESULTS, engine="fast")
    print(f"{result.engine}", file=sys.stderr)
    return [-1.0 if value is None else value for value in result.numbers.values()]


RUNS: dict[str, Callable[[Path], list[float]]] = {
    "pycocotools": run_pycocotools,
    "fast": run_fast,
    "checked": run_checked,
}


def prepare(engine: str) -> None:
    """What it imports is not timed."""
    import pycocotools.cocoeval  # noqa: F401

    if engine != "pycocotools":
        import resdet.evaluation.coco  # noqa: F401
        from resdet.formats.json_decoding import msgspec_module

        msgspec_module()


def describe(folder: Path, num_images: int) -> str:
    megabytes = (folder / RESULTS).stat().st_size / 1e6
    decoder = "msgspec" if importlib.util.find_spec("msgspec") else "json"
    return (
        f"{num_images:,} images, {scenes.DETECTIONS_PER_IMAGE} detections each in a file of "
        f"{megabytes:.0f} MB, numpy {np.__version__}, decoder: {decoder}"
    )


# -- the comparison ----------------------------------------------------------------------------


def compare(folder: Path, rounds: int) -> Claim:
    pages: apart.Pages = {name: [] for name in RUNS}
    before = (rounds + 1) // 2
    for name, count in (
        ("fast", before), ("checked", 1), ("pycocotools", 1), ("fast", rounds - before)
    ):  # fmt: skip
        for _ in range(count):
            pages[name].append(BENCHMARK.measured(name, folder))
    expected = np.array(pages["pycocotools"][0]["numbers"])
    gap = max(
        float(np.abs(np.array(page["numbers"]) - expected).max())
        for runs in pages.values()
        for page in runs
    )
    return Claim(
        "COCO evaluation with validation",
        "load to summary, pycocotools (once) against --engine fast, without and with (once) its "
        "cross-check",
        apart.rows_of(pages),
        rounds,
        f"AP {expected[0]:.4f}; largest difference of the twelve numbers {gap:.2g}",
        gap <= ROUNDING,
    )


BENCHMARK = apart.Benchmark(
    MODULE, __doc__ or "", 5000, RESULTS, make_problem, RUNS, prepare, describe, compare, 300
)


def main(argv: Sequence[str] | None = None) -> int:
    return apart.command(BENCHMARK, argv)


if __name__ == "__main__":
    sys.exit(main())
