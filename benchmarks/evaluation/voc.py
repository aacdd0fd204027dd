"""VOC's AP of a test-sized problem at ten overlaps: resdet against Detectron2's evaluator.

    python -m benchmarks.evaluation.voc [--rounds 5] [--images 4952] [--keep FOLDER]

A script makes a tree as large as VOC 2007's test set, and a detector's files on it: 4,952 images
with 14,976 objects of 20 classes, a fifth of them difficult, in XML; 100 detections an image in
comp4_det_test_<class>.txt, numbers in full. No two scores of a class are equal: Detectron2 takes
equal ones as its sort leaves them. Then, each in a process of its own:

    detectron2    voc_eval of every class at .50, .55, … .95, as the `evaluate` of its
                  PascalVOCDetectionEvaluator calls it; what that writes before is left out
    resdet        read_devkit_ground_truth, read_detections, evaluate_at: with all validation

Both read the same XML, lists and detections, with 11 points. All AP (classes times overlaps) must
be equal to 1e-9, or the run stops. Times are of the work after imports, the middle of the rounds;
resdet's processes run before and after Detectron2's one. Peak memory is of the whole process, and
Detectron2's has torch in it.

Not for: a set's real numbers, or ties (`resdet evaluate explain` shows their effect).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks import apart
from benchmarks.claims import Claim
from benchmarks.evaluation import scenes
from resdet.evaluation.voc import voc_evaluation as voc
from resdet.formats.voc_xml import VOC_CLASSES

MODULE = "benchmarks.evaluation.voc"
ROOT, FOUND, SPLIT = "VOC2007", "detections", "test"
# Of VOC 2007's images: width, height, share.
IMAGE_SIZES = ((500, 375, 0.55), (500, 333, 0.25), (375, 500, 0.15), (333, 500, 0.05))
IMAGES, OBJECTS = 4952, 14_976
# Objects to find in VOC 2007 test, in the order of VOC_CLASSES.
POSITIVES = (
    285, 337, 459, 263, 469, 213, 1201, 358, 756, 244, 206, 489, 348, 325, 4528, 480, 242, 239,
    282, 308,
)  # fmt: skip
DIFFICULT_SHARE = 1 - sum(POSITIVES) / OBJECTS
ROUNDING = 1e-9


# -- the problem -------------------------------------------------------------------------------


def make_problem(folder: Path, num_images: int, seed: int = 0) -> None:
    """Writes ROOT and FOUND; the same seed gives the same files."""
    rng = np.random.default_rng(seed)
    ids = [f"{i:06d}" for i in np.sort(rng.choice(9963, num_images, replace=False)) + 1]
    sizes = scenes.make_sizes(rng, IMAGE_SIZES, num_images)
    frequency = np.array(POSITIVES) / sum(POSITIVES)
    count = round(OBJECTS * num_images / IMAGES)
    objects = scenes.make_objects(rng, sizes, count, frequency)
    difficult = rng.random(count) < DIFFICULT_SHARE
    _write_tree(folder / ROOT, ids, sizes, objects, difficult)
    by_image = [
        scenes.make_detections(rng, objects, image, sizes[image], frequency)
        for image in range(num_images)
    ]
    labels, boxes, scores = (np.concatenate(column) for column in zip(*by_image, strict=True))
    detections = voc.detections_from_boxes(
        VOC_CLASSES,
        [image_id for image_id in ids for _ in range(scenes.DETECTIONS_PER_IMAGE)],
        labels,
        np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
        scores - rng.uniform(0, 0.001, len(scores)),  # apart where they were clipped
    )
    voc.write_detections(folder / FOUND, detections, set_name=SPLIT)


def _write_tree(
    root: Path, ids: list[str], sizes: np.ndarray, objects: scenes.Objects, difficult: np.ndarray
) -> None:
    lists, annotations = root / "ImageSets" / "Main", root / "Annotations"
    lists.mkdir(parents=True)
    annotations.mkdir()
    (lists / f"{SPLIT}.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
    low = np.floor(objects.boxes[:, :2]) + 1
    high = np.maximum(np.floor(objects.boxes[:, :2] + objects.boxes[:, 2:]), low)
    corners = np.concatenate([low, high], 1).astype(int).tolist()
    for place, image_id in enumerate(ids):
        width, height = sizes[place].astype(int)
        parts = "".join(
            _object(VOC_CLASSES[objects.label[row]], corners[row], bool(difficult[row]))
            for row in range(objects.first[place], objects.first[place + 1])
        )
        (annotations / f"{image_id}.xml").write_text(
            f"<annotation>\n\t<folder>{ROOT}</folder>\n\t<filename>{image_id}.jpg</filename>\n"
            f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n"
            f"\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n{parts}</annotation>\n",
            encoding="utf-8",
        )


def _object(name: str, corners: list[int], difficult: bool) -> str:
    box = "".join(
        f"\t\t\t<{tag}>{value}</{tag}>\n"
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return (
        f"\t<object>\n\t\t<name>{name}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>0</truncated>\n\t\t<difficult>{int(difficult)}</difficult>\n"
        f"\t\t<bndbox>\n{box}\t\t</bndbox>\n\t</object>\n"
    )


# -- what is measured, in a process of its own -------------------------------------------------


def run_detectron2(folder: Path) -> list[list[float]]:
    from detectron2.evaluation.pascal_voc_evaluation import voc_eval

    root = folder / ROOT
    return [
        [
            float(
                voc_eval(
                    str(folder / FOUND / f"comp4_det_{SPLIT}_{{}}.txt"),
                    str(root / "Annotations" / "{}.xml"),
                    str(root / "ImageSets" / "Main" / f"{SPLIT}.txt"),
                    name,
                    ovthresh=overlap,
                    use_07_metric=True,
                )[2]
            )
            for name in VOC_CLASSES
        ]
        for overlap in voc.OVERLAPS
    ]


def run_resdet(folder: Path) -> list[list[float | None]]:
    truth = voc.read_devkit_ground_truth(folder / ROOT, SPLIT)
    detections = voc.read_detections(folder / FOUND, truth.classes)
    results = voc.evaluate_at(truth, detections, voc.OVERLAPS, ap="11-point", style="d2")
    return [[result.classes[name].ap for name in VOC_CLASSES] for result in results]


RUNS: dict[str, Callable[[Path], object]] = {"detectron2": run_detectron2, "resdet": run_resdet}


def prepare(engine: str) -> None:
    """What it imports is not timed."""
    if engine == "detectron2":
        import detectron2.evaluation.pascal_voc_evaluation  # noqa: F401


def describe(folder: Path, num_images: int) -> str:
    megabytes = sum(path.stat().st_size for path in (folder / FOUND).iterdir()) / 1e6
    return (
        f"{num_images:,} images, {scenes.DETECTIONS_PER_IMAGE} detections each in files of "
        f"{megabytes:.0f} MB, numpy {np.__version__}"
    )


# -- the comparison ----------------------------------------------------------------------------


def compare(folder: Path, rounds: int) -> Claim:
    pages: apart.Pages = {name: [] for name in RUNS}
    before = (rounds + 1) // 2
    for name, count in (("resdet", before), ("detectron2", 1), ("resdet", rounds - before)):
        for _ in range(count):
            pages[name].append(BENCHMARK.measured(name, folder))
    expected = _table(pages["detectron2"][0]["numbers"])
    gap = max(np.abs(_table(page["numbers"]) - expected).max() for page in pages["resdet"])
    return Claim(
        "VOC evaluation with validation",
        "load to AP, Detectron2's voc_eval (once) against ours, all classes, ten overlaps",
        apart.rows_of({name: pages[name] for name in ("detectron2", "resdet")}),
        rounds,
        f"AP50 {expected[0].mean():.4f}, AP {expected.mean():.4f}; largest difference of the "
        f"{expected.size} AP of {expected.shape[1]} classes at {len(expected)} overlaps {gap:.2g}",
        bool(gap <= ROUNDING),  # NaN is not: a class without an AP
    )


def _table(numbers: list[list[float | None]]) -> np.ndarray:
    return np.array(numbers, dtype=np.float64)


BENCHMARK = apart.Benchmark(
    MODULE, __doc__ or "", IMAGES, FOUND, make_problem, RUNS, prepare, describe, compare, 100
)


def main(argv: Sequence[str] | None = None) -> int:
    return apart.command(BENCHMARK, argv)


if __name__ == "__main__":
    sys.exit(main())
