"""COCO's JSON: boxes, crowds, areas and masks, refused or fixed (F11 to F14, F56, F57, F87)."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.coco_reading import load, refused

pytestmark = pytest.mark.usefixtures("private_cache")


# -- boxes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bbox", "message"),
    [
        ([10, 10, 0, 20], "(dog, image 1): width 0 is not above 0"),
        ([10, 10, 30, -5], "height -5 is not above 0"),
        ([200, 10, 30, 20], "[200, 10, 30, 20] lies wholly outside the image, 100 wide"),
        ([10, 10, 95, 20], "x + width is 105 in an image 100 wide"),
        ([-3, 10, 30, 20], "x is -3 in an image 100 wide"),
        ([10, 70, 30, 20], "y + height is 90 in an image 80 high"),
        ([10, 10, float("nan"), 20], "bbox is [10, 10, NaN, 20]"),
        ([10, 10, float("inf"), 20], "bbox is [10, 10, Infinity, 20]"),
        (["10", 10, 30, 20], 'bbox is ["10", 10, 30, 20]'),
        ([True, 10, 30, 20], "bbox is [true, 10, 30, 20]"),
        ([10, 10, 30], "bbox is [10, 10, 30]"),
        (None, "bbox is missing"),
    ],
)
def test_bad_boxes_are_refused_in_the_numbers_of_the_file(one, bbox, message: str) -> None:
    """F11, F12, F87: NaN, text and corners pass Detectron2's loader."""
    one.annotation(id=17, bbox=bbox)
    page = refused(one)
    assert "instances_val.json, annotation 17 (dog, image 1)" in page
    assert message in page


def test_a_rounding_at_the_border_is_none(one) -> None:
    """F12: COCO rounds x and width to 0.01 each; the published box is kept as it is."""
    one.annotation(bbox=[70.01, 10, 30.0, 20])
    np.testing.assert_allclose(load(one).records[0]["annotations"][0]["bbox"][2], 100.01)


def test_a_published_set_may_have_one_odd_box_in_a_thousand(one) -> None:
    """F11, F12: COCO's own training file has boxes without area; nobody can fix it."""
    for _ in range(1998):
        one.annotation()
    one.annotation(bbox=[10, 10, 30, 0])
    one.annotation(bbox=[10, 10, 95, 20])
    data = load(one, is_published=True)
    assert data.counts["objects"] == 1999
    assert data.counts["objects without area dropped"] == 1
    assert data.counts["boxes that leave their image, kept"] == 1
    assert "2 faults" in refused(one)
    one.annotation(bbox=[10, 10, 30, 0])
    one.annotation(bbox=[10, 10, 30, 0])
    assert "DROP_DEGENERATE mine=3." in refused(one, is_published=True)


def test_corners_written_as_sizes_are_named(one) -> None:
    """F14: 3 of 4 leave the image as x, y, width, height; all fit as corners."""
    for box in ([60, 50, 90, 70], [50, 40, 80, 60], [40, 40, 70, 70], [0, 0, 20, 20]):
        one.annotation(bbox=box)
    page = refused(one)
    assert "3 of 4 boxes stick out of their images as [x, y, width, height]" in page
    assert "all of them fit as [x1, y1, x2, y2]" in page
    assert "COCO expects width and height" in page


def test_boxes_without_area_are_dropped_by_their_exact_number(one) -> None:
    """F11."""
    one.annotation()
    one.annotation(bbox=[10, 10, 0, 20])
    assert "DATASETS.DROP_DEGENERATE mine=1." in refused(one)
    assert "DATASETS.DROP_DEGENERATE" in refused(one, drop_degenerate={"other": 1})
    assert load(one, drop_degenerate={"mine": 1}).counts["objects"] == 1
    assert load(one, drop_degenerate=1).counts["objects"] == 1


def test_clipping(one) -> None:
    """F12: in the records, which training and ground truth share."""
    one.annotation(bbox=[10, -1, 91, 20])
    data = load(one, clip_boxes=1)
    assert data.records[0]["annotations"][0]["bbox"] == [10, 0, 100, 19]
    assert data.counts["boxes clipped"] == 1


# -- crowds and areas -------------------------------------------------------------------------


def test_a_missing_iscrowd_is_0(one) -> None:
    """F57: counted."""
    one.annotation(iscrowd=None)
    data = load(one)
    assert data.records[0]["annotations"][0]["iscrowd"] == 0
    assert data.counts["iscrowd missing, read as 0"] == 1


@pytest.mark.parametrize(("value", "crowd"), [(0, 0), (1, 1), (False, 0), (True, 1), (1.0, 1)])
def test_iscrowd_as_number_or_boolean(one, value, crowd: int) -> None:
    """F57."""
    one.annotation(iscrowd=value)
    assert load(one).counts["crowd"] == crowd


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"iscrowd": "0"}, 'iscrowd is "0" (text)'),
        ({"iscrowd": 2}, "iscrowd is 2"),
        ({"difficult": "no"}, 'difficult is "no" (text)'),
    ],
)
def test_other_flags_are_refused(one, more, message: str) -> None:
    """F57: as text, every object would be a crowd."""
    one.annotation(id=17, **more)
    page = refused(one)
    assert f"annotation 17 (dog, image 1): {message}" in page
    assert "Write the number 0 or 1" in page


def test_null_is_no_crowd_and_counted(one) -> None:
    """F57: FiftyOne wrote null for what it did not know; the evaluator reads it alike."""
    one.annotation()["iscrowd"] = None
    data = load(one)
    assert data.counts["iscrowd null, read as 0"] == 1
    assert data.records[0]["annotations"][0]["iscrowd"] == 0


@pytest.mark.parametrize("area", [0, 700])
def test_areas_that_no_mask_in_the_box_has_are_kept_and_counted(one, area) -> None:
    """F56: exporters write 0, or count pixels with both ends; no loss reads an area."""
    one.annotation(area=area)
    data = load(one)
    assert data.counts["area that no mask in its box has, kept"] == 1
    assert data.records[0]["annotations"][0]["area"] == area


@pytest.mark.parametrize("area", [-5, "500", float("nan")])
def test_impossible_areas_are_refused(one, area) -> None:
    """F56: the box has 30 x 20 = 600."""
    one.annotation(id=17, area=area)
    page = refused(one)
    assert "annotation 17 (dog, image 1): area is" in page
    assert "its box has 600" in page


def test_a_missing_area_is_the_boxs_and_reported(one) -> None:
    """F56: then sizes are not comparable with COCO's."""
    one.annotation(area=None)
    one.annotation(area=600.0)
    data = load(one)
    assert [a["area"] for a in data.records[0]["annotations"]] == [600, 600]
    assert data.counts["area missing, box area used"] == 1
    assert "every area is its box's" in data.notes[0]
    one.annotation(area=500)
    assert load(one).notes == ()


def test_masks_that_are_no_polygons_are_dropped_not_their_boxes(one) -> None:
    """Detectron2 loses the object; two points make no polygon."""
    one.annotation(segmentation=[[1, 2, 3, 4], [1, 1, 5, 1, 5, 5]])
    one.annotation(segmentation=[[1, 2, 3, 4]])
    one.annotation(segmentation=[])
    data = load(one)
    first, second, third = data.records[0]["annotations"]
    assert first["segmentation"] == [[1, 1, 5, 1, 5, 5]]
    assert "segmentation" not in second
    assert "segmentation" not in third
    assert data.counts["masks that are no polygons, dropped"] == 2


def test_without_masks_those_of_crowds_stay(one) -> None:
    """What a box detector needs; everything else, the hash included, is the same."""
    runs = {"size": [80, 100], "counts": [0, 8000]}
    one.annotation(segmentation=[[1, 1, 5, 1, 5, 5]])
    one.annotation(segmentation=runs, iscrowd=1)
    whole, boxes = load(one), load(one, masks=False)
    assert (boxes.hash, boxes.counts) == (whole.hash, whole.counts)
    first, crowd = boxes.records[0]["annotations"]
    assert "segmentation" not in first and crowd["segmentation"] == runs
    assert whole.records[0]["annotations"][1] == crowd
