"""Random problems as peers' own tests draw them: scored by both engines, equal to pycocotools.

    python -m benchmarks.evaluation.peer_problems [--problems 3000] [--first 0]

What is drawn follows pycocotools' and torchmetrics' tests of mean average precision, Detectron2's
of its COCO evaluator, and faster-coco-eval's: boxes without area, equal boxes, repeated
detections, ties in scores, crowds, `ignore`, images without anything, classes without an object,
areas that are not their boxes', boxes that leave their image, more detections than are counted,
ids of images that are text, objects without `iscrowd`. Each goes through `coco_evaluation.evaluate`
as it is drawn, with nothing accepted; a refusal counts as a failure.

Not for: speed; files that are refused (all boxes corners, everything written twice).
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resdet.errors import ResdetError
from resdet.evaluation.coco import coco_evaluation as coco

Problem = tuple[dict[str, Any], list[dict[str, Any]]]
# Sums of the same numbers in another order.
TOLERANCE = 1e-12
# What a problem may have; each is drawn by itself.
ODDITIES = (
    "zero boxes", "equal boxes", "repeats", "ties", "crowds", "ignore", "areas", "leaving",
    "many", "no objects", "no detections", "text ids", "no iscrowd",
)  # fmt: skip


def odd_problem(seed: int) -> tuple[Problem, set[str]]:
    """Instances and results, and which oddities they have."""
    rng = np.random.default_rng([20, seed])
    shares = {"no objects": 0.02, "no detections": 0.03, "many": 0.03}
    odd = {name for name in ODDITIES if rng.random() < shares.get(name, 0.4)}
    num_images, num_classes = int(rng.integers(1, 7)), int(rng.integers(1, 5))
    ids: list[Any] = list(range(num_images))
    if "text ids" in odd:
        ids = [f"img-{i}" for i in ids]
    size = (int(rng.integers(40, 700)), int(rng.integers(40, 700)))
    images = [{"id": i, "width": size[0], "height": size[1], "file_name": f"{i}.jpg"} for i in ids]
    categories = [{"id": 3 * k, "name": f"c{k}"} for k in range(num_classes)]
    annotations = _annotations(rng, odd, ids, num_classes, size)
    results = _results(rng, odd, ids, num_classes, size, annotations)
    content = {"images": images, "annotations": annotations, "categories": categories}
    return (content, results), odd


def _box(rng: np.random.Generator, odd: set[str], size: tuple[int, int]) -> list[float]:
    corners = np.sort(rng.uniform(0, size, (2, 2)), axis=0)
    (x, y), (x1, y1) = corners.round(int(rng.integers(0, 3)))
    box = [float(x), float(y), float(x1 - x), float(y1 - y)]
    if "leaving" in odd and rng.random() < 0.1:
        box[int(rng.integers(0, 2))] -= float(rng.uniform(0, 30))
    if "zero boxes" in odd and rng.random() < 0.15:
        box[2 + int(rng.integers(0, 2))] = 0.0
    return box


def _detection(image: Any, category: int, box: list[float], score: float) -> dict[str, Any]:
    numbers = [float(v) for v in box]
    return {"image_id": image, "category_id": category, "bbox": numbers, "score": score}


def _annotations(
    rng: np.random.Generator, odd: set[str], ids: list[Any], classes: int, size: tuple[int, int]
) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for number in range(0 if "no objects" in odd else int(rng.integers(1, 25))):
        box = _box(rng, odd, size)
        if made and "equal boxes" in odd and rng.random() < 0.3:
            box = list(made[int(rng.integers(len(made)))]["bbox"])
        image, category = ids[int(rng.integers(len(ids)))], 3 * int(rng.integers(classes))
        entry: dict[str, Any] = {
            # From 1: pycocotools takes an object 0 for "none" (F58).
            "id": number + 1,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": int("crowds" in odd and rng.random() < 0.25),
        }
        if "no iscrowd" in odd and not entry["iscrowd"]:
            del entry["iscrowd"]
        if "areas" in odd and rng.random() < 0.4:
            area = box[2] * box[3]
            entry["area"] = float(rng.choice([0.0, area / 2, area * 1.5, area + 900, 1e6]))
        if "ignore" in odd and rng.random() < 0.2:
            entry["ignore"] = 1
        made.append(entry)
    return made


def _results(
    rng: np.random.Generator, odd: set[str], ids: list[Any], classes: int,
    size: tuple[int, int], annotations: list[dict[str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    if "no detections" in odd:
        return []
    made = []
    score = lambda: float(rng.integers(0, 5) / 4 if "ties" in odd else rng.random())  # noqa: E731
    for entry in annotations:
        for _ in range(int(rng.integers(0, 3))):
            x, y, w, h = entry["bbox"]
            near = rng.normal(0, rng.choice([0.0, 0.05, 0.3]), 4)
            box = [x + near[0] * w, y + near[1] * h, w * np.exp(near[2]), h * np.exp(near[3])]
            claimed = entry["category_id"] if rng.random() < 0.8 else 3 * int(rng.integers(classes))
            made.append(_detection(entry["image_id"], claimed, box, score()))
    extra = int(rng.integers(0, 12)) + (int(rng.integers(150, 400)) if "many" in odd else 0)
    for _ in range(extra):
        image, category = ids[int(rng.integers(len(ids)))], 3 * int(rng.integers(classes))
        made.append(_detection(image, category, _box(rng, odd, size), score()))
    if made and "repeats" in odd:
        chosen = rng.integers(0, len(made), int(rng.integers(1, 4)))
        made += [dict(made[i]) for i in chosen]
    return [made[i] for i in rng.permutation(len(made))]


def by_pycocotools(problem: Problem) -> np.ndarray:
    """Its twelve numbers, as everybody has them; -1 where nothing is defined."""
    instances, results = copy.deepcopy(problem)
    for entry in instances["annotations"]:
        entry.setdefault("iscrowd", 0)  # it needs the key
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = instances
        truth.createIndex()
        if results:  # an empty list is none for `loadRes`
            found = truth.loadRes(results)
        else:
            found.dataset = {**instances, "annotations": []}
            found.createIndex()
        engine = COCOeval(truth, found, "bbox")
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return np.array(engine.stats)


def judge(seed: int) -> tuple[list[str], set[str], set[str]]:
    """What is wrong with our numbers of a problem, its oddities, and the rules warned of."""
    problem, odd = odd_problem(seed)
    expected = by_pycocotools(problem)
    wrong, warned = [], set()
    for engine in coco.ENGINES:
        try:
            result = coco.evaluate(*problem, engine=engine)
        except ResdetError as error:
            wrong.append(f"{engine}: {error}")
            continue
        warned |= {finding.rule for finding in result.warnings}
        numbers = np.array([-1.0 if v is None else v for v in result.numbers.values()])
        gap = float(np.abs(numbers - expected).max())
        if gap > TOLERANCE:
            wrong.append(f"{engine}: differs by {gap:.3g}")
    return wrong, odd, warned


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first (0)")
    args = parser.parse_args(argv)
    odd: Counter[str] = Counter()
    warned: Counter[str] = Counter()
    failed = 0
    for seed in range(args.first, args.first + args.problems):
        wrong, has, rules = judge(seed)
        failed += bool(wrong)
        odd.update(has)
        warned.update(rules)
        for line in wrong:
            print(f"problem {seed}: {line}", flush=True)
    print(
        f"{args.problems - failed:,} of {args.problems:,} problems are scored by both engines "
        f"within {TOLERANCE:g} of pycocotools."
    )
    print("Drawn with: " + ", ".join(f"{name} {odd[name]:,}" for name in ODDITIES))
    print("Warned of: " + ", ".join(f"{rule} {n:,}" for rule, n in warned.most_common()))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
