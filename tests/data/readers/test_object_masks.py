"""Masks as training needs them: whole, of their image's size; every fault counted, none passed."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from resdet.data import DataOptions, catalog
from resdet.data.checks.object_masks import hash_of_masks
from resdet.errors import DataError
from tests.support.coco_reading import load, refused
from tests.support.masked_sets import masked_tree

pytestmark = pytest.mark.usefixtures("private_cache")

NUMBERS = "a polygon holds something else than finite numbers"
TRIANGLE = [10, 10, 40, 10, 40, 30]
# Of an image 100 wide and 80 high: 810 off, 20 on, the rest off.
RUNS = {"size": [80, 100], "counts": [810, 20, 7170]}


def first_mask(data):
    return data.records[0]["annotations"][0]["segmentation"]


def test_polygons_stay_and_runs_are_kept_compressed(one) -> None:
    """Oracle: pycocotools decodes what is kept to the pixels that were written."""
    one.annotation(segmentation=[TRIANGLE, [50, 50, 60, 50, 60, 60, 50, 60]])
    one.annotation(segmentation=RUNS)
    packed = coco_mask.frPyObjects(RUNS, 80, 100)["counts"]
    one.annotation(segmentation={"size": [80, 100], "counts": packed.decode("ascii")})
    data = load(one, needs_masks=True)
    polygons, plain, compressed = (a["segmentation"] for a in data.records[0]["annotations"])
    assert polygons == [TRIANGLE, [50, 50, 60, 50, 60, 60, 50, 60]]
    assert plain == compressed == {"size": [80, 100], "counts": packed.decode("ascii")}
    pixels = coco_mask.decode(plain)
    assert pixels.sum() == 20 and pixels[10:30, 10].all()
    assert data.has_masks and len(data.mask_hash) == 64


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, "it has no segmentation"),
        ([], "it has no segmentation"),
        ([[1, 2, 3, 4]], "a polygon is not a list of three or more x, y pairs"),
        ([[1, 2, 3, 4, 5, 6, 7]], "a polygon is not a list of three or more x, y pairs"),
        ([[10, 10, 40, 10, 40, "30"]], NUMBERS),
        (
            [[10, 10, 40, 10, 40, float("nan")]],
            NUMBERS,
        ),
        ([[10, 10, 140, 10, 40, 30]], "its polygons reach 40 px out of the image, 100 wide"),
        ([[-2.5, 10, 40, 10, 40, 30]], "its polygons reach 2.5 px out of the image"),
        ({"size": [100, 80], "counts": [8000]}, "the mask is 80 x 100, the image 100 x 80"),
        (
            {"size": [80, 100], "counts": [810, 20]},
            "the mask's runs cover 830 pixels, its size has 8000",
        ),
        ({"size": [80, 100], "counts": "o"}, "the mask's counts cannot be decoded"),
        ({"size": [80, 100], "counts": [8000]}, "its mask has no pixel"),
        ({"counts": [8000]}, "segmentation is not an object with size and counts"),
        ("a mask", "it has no segmentation"),
    ],
)
def test_an_object_without_a_whole_mask_is_refused_and_may_be_left_out(one, mask, message) -> None:
    """Named by file and annotation; without masks the same file is taken as ever."""
    one.annotation(segmentation=[TRIANGLE])
    one.annotation(id=17, segmentation=mask)
    page = refused(one, needs_masks=True)
    assert f"instances_val.json, annotation 17 (dog, image 1): {message}" in page
    assert "1 of 2 objects have no usable mask" in page
    assert "MODEL.MASK_ON False" in page and "DATASETS.DROP_MASKLESS mine=1." in page
    data = load(one, needs_masks=True, drop_maskless=1)
    assert data.counts["objects"] == data.counts["objects without a mask dropped"] == 1
    assert "mine=1 (not 2)" in refused(one, needs_masks=True, drop_maskless=2)
    assert load(one, masks=False).counts["objects"] == 2


def test_a_rounding_beyond_the_border_and_lines_beside_polygons_are_taken(one) -> None:
    """As Detectron2's loader: what has two points is left out where another polygon stays."""
    one.annotation(segmentation=[TRIANGLE, [1, 2, 3, 4], [70, 10, 101.5, 10, 100, 30]])
    data = load(one, needs_masks=True)
    assert first_mask(data) == [TRIANGLE, [70, 10, 101.5, 10, 100, 30]]
    assert data.counts["polygons of fewer than three points, left out"] == 1


def test_a_published_set_may_have_one_odd_mask_in_a_thousand(one) -> None:
    for _ in range(999):
        one.annotation(segmentation=[TRIANGLE])
    one.annotation(segmentation=[])
    data = load(one, needs_masks=True, is_published=True)
    assert data.counts["objects without a mask dropped"] == 1
    assert "1 of 1,000 objects" in refused(one, needs_masks=True)


def test_a_crowd_needs_a_whole_mask_and_may_be_empty(one) -> None:
    """The evaluator reads it; no net learns it."""
    one.annotation(segmentation=[TRIANGLE])
    one.annotation(segmentation={"size": [80, 100], "counts": [8000]}, iscrowd=1)
    assert load(one, needs_masks=True).counts["crowd"] == 1


def test_the_hash_of_masks_tells_one_corner_and_the_set_stays_the_same_for_boxes(one) -> None:
    """So that a run of boxes and one of masks on the same set can be compared by their boxes."""
    annotation = one.annotation(segmentation=[TRIANGLE])
    boxes, before = load(one), load(one, needs_masks=True)
    annotation["segmentation"] = [[10, 10, 40, 10, 40, 30.01]]
    after = load(one, needs_masks=True)
    assert boxes.hash == before.hash == after.hash and boxes.mask_hash == ""
    assert before.mask_hash != after.mask_hash
    assert before.mask_hash == hash_of_masks(
        [{"annotations": [{"segmentation": [np.array(TRIANGLE)]}]}]
    )


def test_vocs_layout_has_no_masks() -> None:
    with pytest.raises(DataError, match=r"its XML holds no masks.*MODEL.MASK_ON False"):
        catalog.load_detection("voc_2007_trainval", options=DataOptions(needs_masks=True))
    with pytest.raises(DataError, match="its XML holds no masks"):
        catalog.load_detection("voc:tree:train", options=DataOptions(needs_masks=True))


def test_a_registered_set_is_held_to_the_same_rule(tmp_path) -> None:
    """Detectron2's own records: arrays as polygons, bytes as counts."""
    data = pytest.importorskip("detectron2.data")
    tree = masked_tree(tmp_path / "set")
    file = tree / "images" / "0.png"
    packed = coco_mask.encode(np.asfortranarray(np.eye(96, 72, dtype=np.uint8)))
    plain = {"bbox": [2, 2, 40, 40], "bbox_mode": 0, "category_id": 0}
    objects = [
        {**plain, "segmentation": [np.array([2.0, 2, 40, 2, 40, 40])]},
        {**plain, "segmentation": {"size": [96, 72], "counts": packed["counts"]}},
        {**plain},
    ]
    record = {"file_name": str(file), "image_id": 5, "width": 72, "height": 96}
    name = f"masked_{tmp_path.name}"
    data.DatasetCatalog.register(name, lambda: [{**record, "annotations": objects}])
    data.MetadataCatalog.get(name).set(thing_classes=["ape"], evaluator_type="coco")
    with pytest.raises(DataError, match="annotation 2 .*it has no segmentation"):
        catalog.load_detection(name, options=DataOptions(needs_masks=True))
    del objects[2]
    loaded = catalog.load_detection(name, options=DataOptions(needs_masks=True))
    polygons, runs = (a["segmentation"] for a in loaded.records[0]["annotations"])
    assert polygons == [[2.0, 2, 40, 2, 40, 40]]
    assert runs == {"size": [96, 72], "counts": packed["counts"].decode("ascii")}


def test_the_shared_part_of_coco_has_whole_masks(shared_data) -> None:
    """970 objects, 21 of them crowds of run lengths; all kept as they are, but for compression."""
    folder = shared_data / "coco"
    name = f"coco:{folder / 'annotations' / 'instances_val2017.json'}:{folder / 'val2017'}"
    data = catalog.load_detection(name, options=DataOptions(needs_masks=True))
    assert (data.counts["objects"], data.counts["crowd"]) == (970, 21)
    assert data.counts.get("objects without a mask dropped", 0) == 0
    masks = [a["segmentation"] for r in data.records for a in r["annotations"]]
    assert sum(isinstance(m, dict) for m in masks) == 21
