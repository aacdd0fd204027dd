"""Masks many at once: judged as one by one, boxes as pycocotools has them, let go when checked."""

from __future__ import annotations

import copy
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.inputs.detections import load_columns, read_columns
from resdet.evaluation.inputs.ground_truth import SetIndex
from resdet.evaluation.inputs.masks import mask_boxes
from resdet.evaluation.inputs.validation import check_results
from resdet.formats.coco_masks import are_whole, mask_fault, segmentation_fault

INDEX = SetIndex("the set", (7, 9), np.array([[100.0, 80.0]] * 2), (1,), ("cat",))


def random_mask(rng: np.random.Generator, height: int, width: int) -> dict[str, Any]:
    """Noise of any density, nothing, everything, or a block, as pycocotools writes it."""
    pixels = rng.random((height, width)) < rng.choice([0, 0.01, 0.3, 0.5, 1])
    if rng.random() < 0.5:
        pixels[:] = False
        pixels[: height // 2, width // 3 :] = True
    rle = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def entry(mask: Any, **more: Any) -> dict[str, Any]:
    return {"image_id": 7, "category_id": 1, "segmentation": mask, "score": 0.5, **more}


def damaged(rng: np.random.Generator, counts: str) -> str:
    """A character changed, lost, or inserted; or a run's length that never ends."""
    place, how = int(rng.integers(len(counts))), rng.integers(4)
    if how == 0:
        return counts[:place] + chr(int(rng.integers(40, 120))) + counts[place + 1 :]
    if how == 1:
        return counts[:place] + counts[place + 1 :]
    if how == 2:
        return counts[:place] + chr(int(rng.integers(48, 112))) + counts[place:]
    return counts + "o" * int(rng.integers(1, 9)) + "0"


def test_whole_masks_are_those_that_pycocotools_made() -> None:
    """Oracle: pycocotools' encoder and its boxes; 300 lists, of which none may be doubted."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = (int(v) for v in rng.integers(1, 40, 2))
        masks = [random_mask(rng, height, width) for _ in range(rng.integers(1, 6))]
        sizes = np.array([[width, height]] * len(masks), dtype=np.float64)
        assert are_whole(masks, sizes)
        each = [coco_mask.toBbox(mask) for mask in masks]
        np.testing.assert_array_equal(mask_boxes(masks), each)


def test_a_damaged_mask_is_seen_among_whole_ones() -> None:
    """As each is judged alone; 1,000 lists with one damaged string, most of which are faults."""
    rng = np.random.default_rng(1)
    faulty = 0
    for _ in range(1000):
        masks = [random_mask(rng, 9, 13) for _ in range(3)]
        hurt = masks[rng.integers(3)]
        hurt["counts"] = damaged(rng, hurt["counts"])
        sizes = np.array([[13.0, 9]] * 3)
        faults = [mask_fault(m, size) for m, size in zip(masks, sizes, strict=True)]
        assert are_whole(masks, sizes) == (faults == [None] * 3)
        faulty += faults != [None] * 3
    assert faulty > 700


def one_run(pixels: int) -> str:
    """Compressed counts of a mask of one run: five bits a character, the lowest first."""
    *groups, last = (pixels >> shift & 31 for shift in range(0, pixels.bit_length() + 1, 5))
    return "".join(chr(48 + 32 + group) for group in groups) + chr(48 + last)


@pytest.mark.parametrize(("height", "fits"), [(65_535, True), (65_537, False)])
def test_a_mask_of_more_pixels_than_32_bits_count_is_refused(height: int, fits: bool) -> None:
    """pycocotools counts runs in uint32: numpy refused the number, and that ended in a traceback.

    65,535 x 65,537 is 2^32 - 1; one row of 65,537 more is beyond it.
    """
    width = 65_537
    size, pixels = np.array([width, height], dtype=np.float64), width * height
    assert (pixels == 2**32 - 1) == fits
    plain, packed = ({"size": [height, width], "counts": c} for c in ([pixels], one_run(pixels)))
    polygon = [[1, 1, 8, 1, 8, 8]]
    assert are_whole([packed], size[None]) == fits
    for fault in (mask_fault(plain, size), mask_fault(packed, size)):
        assert (
            fault is None if fits else "pixels, and run lengths count 4,294,967,295" in str(fault)
        )
    assert (segmentation_fault(polygon, size) is None) == fits
    # Also where nothing is known of the image.
    assert (mask_fault(plain, np.full(2, np.nan)) is None) == fits
    if fits:
        assert coco_mask.area(packed) == 0 and coco_mask.toBbox(packed).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [100, 80], "counts": "Pj7"}, {"size": [80.0, 100], "counts": "Pj7"},
        {"size": [10**400, 100], "counts": "Pj7"}, {"size": [True, 100], "counts": "Pj7"},
        {"size": [80], "counts": "Pj7"}, {"size": [80, 100]}, {"size": [80, 100], "counts": ""},
        {"size": [80, 100], "counts": [8000]}, {"size": [80, 100], "counts": "€"}, None, [],
    ],
)  # fmt: skip
def test_what_is_not_plainly_whole_is_left_to_the_slow_way(mask: Any) -> None:
    """Other sizes, other forms, plain counts, no object at all: never a crash, and never yes."""
    sizes = np.array([[100.0, 80.0]])
    assert not are_whole([mask], sizes)
    columns, findings = read_columns([entry(mask), entry(random_mask_of_set())], INDEX, "segm")
    assert len(columns) + sum(f.count for f in findings) == 2


def random_mask_of_set() -> dict[str, Any]:
    return random_mask(np.random.default_rng(5), 80, 100)


def test_size_of_the_mask_is_the_images() -> None:
    """ "Pj7" is one run of 8,000 pixels: whole at 100 x 80 and where the size is unknown."""
    mask = {"size": [80, 100], "counts": "Pj7"}
    assert are_whole([mask], np.array([[100.0, 80.0]]))
    assert are_whole([mask], np.array([[np.nan, np.nan]]))
    assert not are_whole([mask], np.array([[80.0, 100.0]]))


@pytest.mark.parametrize("count", [1, 2])
def test_repeats_are_seen_by_their_masks(count: int) -> None:
    """F84: the same box and score with another mask is another detection."""
    block = np.zeros((80, 100), dtype=np.uint8)
    block[10:20, 10:30] = 1
    hollow = block.copy()
    hollow[12:18, 15:25] = 0
    masks = []
    for pixels in (block, hollow):
        rle = coco_mask.encode(np.asfortranarray(pixels))
        masks.append({"size": [80, 100], "counts": rle["counts"].decode("ascii")})
    results = [entry(mask) for mask in masks] * count
    rules = [f.rule for f in check_results(results, INDEX, (7, 9), task="segm")]
    assert rules == ["duplicates"] * (count - 1)


def test_checked_masks_are_not_kept(tmp_path: Path) -> None:
    """A file of 12 MB: to check it, less than half of that is held at any time, whatever its
    length; to score it, the masks have to be."""
    rng = np.random.default_rng(3)
    lines = []
    for number in range(3000):
        pixels = rng.random((80, 100)) < 0.5
        rle = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
        mask = {"size": [80, 100], "counts": rle["counts"].decode("ascii")}
        lines.append(json.dumps(entry(mask, score=number / 4000)))
    path = tmp_path / "results.json"
    path.write_text("[" + ",\n".join(lines) + "]", encoding="utf-8")
    size = path.stat().st_size
    del lines
    peaks = {}
    for keep in (False, True):
        tracemalloc.start()
        try:
            columns, findings, _ = load_columns(path, INDEX, "segm", keep_masks=keep)
            peaks[keep] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (len(columns), findings) == (3000, [])
    assert peaks[False] < size / 2
    assert peaks[True] > size


@pytest.mark.parametrize("engine", coco.ENGINES)
def test_the_callers_masks_are_left_as_they_were(engine: str) -> None:
    """They go to pycocotools as they are, which must not write to them."""
    mask = random_mask_of_set()
    box = coco_mask.toBbox(mask).tolist()
    truth = {
        "images": [{"id": 7, "width": 100, "height": 80}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": box, "iscrowd": 0,
             "area": float(coco_mask.area(mask)), "segmentation": mask}
        ],
    }  # fmt: skip
    results = [entry(dict(mask))]
    before = copy.deepcopy((truth, results))
    result = coco.evaluate(truth, results, task="segm", engine=engine)
    assert result.numbers["AP"] == pytest.approx(1)
    assert (truth, results) == before


def test_empty_masks_are_wrong_detections_even_where_all_are_empty() -> None:
    """A net in its first steps draws none; boxes of no size in a whole file are a wrong format."""
    empty = coco_mask.encode(np.zeros((80, 100), dtype=np.uint8, order="F"))["counts"].decode()
    results = [entry({"size": [80, 100], "counts": empty}, score=0.5 + n / 100) for n in range(30)]
    (found,) = (f for f in check_results(results, INDEX, [7, 9], task="segm"))
    assert (found.rule, found.severity, found.count) == ("zero-boxes", "warn", 30)
    assert "Masks without a pixel: 30 of 30" in found.what
