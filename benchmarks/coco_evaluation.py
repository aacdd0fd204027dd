"""COCO's numbers of a val-sized problem: resdet's fast engine against pycocotools.

    python -m benchmarks.coco_evaluation [--rounds 5] [--images 5000] [--keep FOLDER]

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

import argparse
import contextlib
import importlib.util
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

OBJECTS_PER_IMAGE, DETECTIONS_PER_IMAGE, CLASSES = 7.36, 100, 80
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
    which = rng.choice(len(IMAGE_SIZES), num_images, p=[share for *_, share in IMAGE_SIZES])
    sizes = np.array([size[:2] for size in IMAGE_SIZES], dtype=np.float64)[which]
    category_ids = np.sort(rng.choice(90, CLASSES, replace=False)) + 1
    # A third is of the first class, the others ever rarer: persons, chairs, ... toasters.
    frequency = np.append(0.5, 1 / np.arange(3, CLASSES + 2))
    frequency /= frequency.sum()
    objects = _objects(rng, sizes, round(OBJECTS_PER_IMAGE * num_images), frequency)
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
    results = [
        entry
        for image in range(num_images)
        for entry in _detections(rng, objects, image, sizes[image], frequency, ids, category_ids)
    ]
    (folder / RESULTS).write_text(json.dumps(results), encoding="utf-8")


def _objects(
    rng: np.random.Generator, sizes: np.ndarray, count: int, frequency: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns of objects, by image: many images have few and few have many; half of the objects
    are of the class of the one before, and of those many stand beside it."""
    weights = rng.gamma(1.1, size=len(sizes))
    image = np.sort(rng.choice(len(sizes), count, p=weights / weights.sum()))
    label = rng.choice(CLASSES, count, p=frequency)
    limit = sizes[image] - 2
    side = np.exp(rng.normal(4.1, 1.0, count)).clip(4, 600)
    ratio = np.exp(rng.normal(0, 0.4, count))
    wh = np.stack([side * ratio, side / ratio], 1).clip(3, limit)
    xy = rng.random((count, 2)) * (limit - wh)
    follows, beside = rng.random(count) < 0.5, rng.random(count) < 0.5
    for i in range(1, count):
        if follows[i] and image[i] == image[i - 1]:
            label[i] = label[i - 1]
            if beside[i]:
                wh[i] = (wh[i - 1] * rng.uniform(0.7, 1.4, 2)).clip(3, limit[i])
                xy[i] = (xy[i - 1] + rng.normal(0, 0.4, 2) * wh[i - 1]).clip(0, limit[i] - wh[i])
    boxes = np.concatenate([xy, wh], 1).round(2)
    first = np.searchsorted(image, np.arange(len(sizes) + 1))
    return {"image": image, "label": label, "boxes": boxes, "first": first}


def _annotations(
    rng: np.random.Generator, objects: dict[str, np.ndarray], ids: np.ndarray, categories: Any
) -> list[dict[str, Any]]:
    boxes = objects["boxes"]
    area = boxes[:, 2] * boxes[:, 3] * rng.uniform(0.4, 0.95, len(boxes))
    crowd = rng.random(len(boxes)) < CROWD_SHARE
    return [
        {
            "id": 1000 + i,
            "image_id": int(ids[objects["image"][i]]),
            "category_id": int(categories[objects["label"][i]]),
            "bbox": boxes[i].tolist(),
            "area": round(float(area[i]), 4),
            "iscrowd": int(crowd[i]),
        }
        for i in range(len(boxes))
    ]


def _detections(
    rng: np.random.Generator,
    objects: dict[str, np.ndarray],
    image: int,
    size: np.ndarray,
    frequency: np.ndarray,
    ids: np.ndarray,
    categories: np.ndarray,
) -> list[dict[str, Any]]:
    """A detector's list for an image: several shifted boxes of each object, the closer the surer,
    now and then of another class; then boxes of nothing, often of a class that is there."""
    rows = np.arange(objects["first"][image], objects["first"][image + 1])
    near = rng.choice(rows, min(70, 5 * len(rows))) if len(rows) else rows
    rest = DETECTIONS_PER_IMAGE - len(near)
    shift = rng.normal(0, 1, (len(near), 4)) * rng.uniform(0.02, 0.25, (len(near), 1))
    boxes = objects["boxes"][near].copy()
    boxes[:, :2] += shift[:, :2] * boxes[:, 2:]
    boxes[:, 2:] *= np.exp(shift[:, 2:])
    scores = (0.6 * (1 - 3 * np.abs(shift).mean(1)) + 0.4 * rng.random(len(near))).clip(0.05, 0.999)
    labels = np.where(
        rng.random(len(near)) < 0.15, rng.integers(0, CLASSES, len(near)), objects["label"][near]
    )
    side = np.exp(rng.normal(4, 1, (rest, 1))) * np.exp(rng.normal(0, 0.3, (rest, 2)))
    nothing = np.concatenate([rng.random((rest, 2)) * size, side], 1)
    present = objects["label"][rows] if len(rows) else np.arange(CLASSES)
    guessed = np.where(
        rng.random(rest) < 0.3, rng.choice(present, rest), rng.choice(CLASSES, rest, p=frequency)
    )
    boxes = np.concatenate([boxes, nothing])
    scores = np.concatenate([scores, rng.beta(1, 8, rest).clip(0.01, 0.999)])
    labels = np.concatenate([labels, guessed])
    # Inside the image, with a pixel to spare for rounding; never two alike.
    boxes[:, 2:] = boxes[:, 2:].clip(2, 0.9 * size)
    boxes[:, :2] = boxes[:, :2].clip(0, size - 1 - boxes[:, 2:]) + rng.random((len(boxes), 2))
    order = np.argsort(-scores)
    return [
        {
            "image_id": int(ids[image]),
            "category_id": int(categories[label]),
            "bbox": box,
            "score": score,
        }
        for label, box, score in zip(
            labels[order],
            boxes[order].astype(np.float32).astype(np.float64).tolist(),
            scores[order].astype(np.float32).astype(np.float64).tolist(),
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
    from resdet.evaluation import coco, detections, findings, ground_truth, validate

    truth = ground_truth.read_ground_truth(folder / INSTANCES)
    columns, faults, title = detections.load_columns(folder / RESULTS, truth.index)
    faults += validate.check_columns(columns, truth.index)
    findings.refuse_if_any(title, faults)
    used = np.ones(len(truth.index.image_ids), dtype=np.bool_)
    return [float(value) for value in coco.fast(truth, columns, used, "bbox").numbers]


def run_checked(folder: Path) -> list[float]:
    from resdet.evaluation import coco

    result = coco.evaluate(folder / INSTANCES, folder / RESULTS, engine="fast")
    print(f"{result.engine}", file=sys.stderr)
    return [-1.0 if value is None else value for value in result.numbers.values()]


RUNS: dict[str, Callable[[Path], list[float]]] = {
    "pycocotools": run_pycocotools,
    "fast": run_fast,
    "checked": run_checked,
}


def measure(name: str, folder: Path) -> None:
    """Runs one and prints seconds, processor seconds, peak memory and the numbers as JSON."""
    import pycocotools.cocoeval  # noqa: F401

    if name != "pycocotools":
        import resdet.evaluation.coco

        resdet.evaluation.arrays.msgspec_module()
    wall, processor = time.perf_counter(), time.process_time()
    numbers = RUNS[name](folder)
    page = {
        "seconds": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "numbers": numbers,
    }
    print(json.dumps(page))


# -- the comparison ----------------------------------------------------------------------------


def run_apart(*arguments: object) -> str:
    """This script with other arguments, in a new process. What we hold counts as its peak, too,
    so that this process stays small: the problem is made in another."""
    command = [sys.executable, "-m", "benchmarks.coco_evaluation", *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def compare(folder: Path, rounds: int) -> int:
    pages: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS}
    before = (rounds + 1) // 2
    for name, count in (
        ("fast", before), ("checked", 1), ("pycocotools", 1), ("fast", rounds - before)
    ):  # fmt: skip
        for _ in range(count):
            pages[name].append(json.loads(run_apart("--measure", name, "--keep", folder)))
    expected = np.array(pages["pycocotools"][0]["numbers"])
    gap = max(
        float(np.abs(np.array(page["numbers"]) - expected).max())
        for runs in pages.values()
        for page in runs
    )
    if gap > ROUNDING:
        print(f"the twelve numbers differ by {gap:.3g}: not the same evaluation")
        return 1
    print(f"AP {expected[0]:.4f}; the twelve numbers are equal, largest difference {gap:.2g}")
    print(f"{'':12} {'seconds':>18} {'':>8} {'processor':>10} {'':>8} {'peak MB':>8}")
    middle = {
        name: {
            key: statistics.median(page[key] for page in runs)
            for key in ("seconds", "processor", "megabytes")
        }
        for name, runs in pages.items()
    }
    base = middle["pycocotools"]
    for name, row in middle.items():
        times = [page["seconds"] for page in pages[name]]
        spread = f"({min(times):.2f} to {max(times):.2f})" if len(times) > 1 else ""
        wall, processor = (base[key] / row[key] for key in ("seconds", "processor"))
        print(
            f"{name:12} {row['seconds']:6.2f} {spread:>16} x{wall:<6.1f}"
            f" {row['processor']:10.2f} x{processor:<6.1f} {row['megabytes']:8.0f}"
        )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for the two files")
    parser.add_argument("--measure", choices=["make", *RUNS], help="one step, in --keep")
    args = parser.parse_args()
    if args.measure == "make":
        make_problem(args.keep, args.images)
        return 0
    if args.measure:
        measure(args.measure, args.keep)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / RESULTS).exists():
            run_apart("--measure", "make", "--images", args.images, "--keep", folder)
        megabytes = (folder / RESULTS).stat().st_size / 1e6
        decoder = "msgspec" if importlib.util.find_spec("msgspec") else "json"
        print(
            f"{args.images:,} images, {DETECTIONS_PER_IMAGE} detections each in a file of "
            f"{megabytes:.0f} MB, numpy {np.__version__}, decoder: {decoder}"
        )
        return compare(folder, args.rounds)


if __name__ == "__main__":
    sys.exit(main())
