"""COCO's JSON: ids, sizes, boxes, crowds and areas, refused or fixed by annotation (F5 to F58)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from resdet.data.checks.faults import BrokenSet
from resdet.data.options import DataOptions
from resdet.data.readers.coco_reader import load_coco
from resdet.data.records import DetectionSet
from resdet.errors import DataError

pytestmark = pytest.mark.usefixtures("private_cache")


def load(tree, *, is_published: bool = False, repeats: bool = False, **options) -> DetectionSet:
    json_file, images = tree.write()
    return load_coco(
        json_file,
        images,
        name="mine",
        options=DataOptions(**options),
        is_published=is_published,
        repeats_objects=repeats,
    )


def refused(tree, **options) -> str:
    with pytest.raises(BrokenSet) as caught:
        load(tree, **options)
    return str(caught.value)


@pytest.fixture
def one(coco_tree):
    """A tree with one image of 100 x 80, id 1, and no annotation yet."""
    coco_tree.image(1)
    return coco_tree


# -- what good files become -------------------------------------------------------------------


def test_a_record_by_hand(coco_tree) -> None:
    """[10, 10, 30, 20] is (10, 10) to (40, 30); category 4 is the second of ids 1 and 4."""
    coco_tree.image(9)
    coco_tree.image(7, "b.jpg")
    polygon = [[10, 10, 40, 10, 40, 30]]
    coco_tree.annotation(image_id=7, category_id=4, id=55, segmentation=polygon)
    data = load(coco_tree)
    assert [r["image_id"] for r in data.records] == [7, 9]
    assert data.records[0]["file_name"] == str(coco_tree.images / "b.jpg")
    assert data.records[0]["annotations"] == [
        {
            "bbox": [10, 10, 40, 30],
            "bbox_mode": 0,
            "category_id": 1,
            "iscrowd": 0,
            "difficult": 0,
            "truncated": 0,
            "id": 55,
            "area": 500,
            "segmentation": polygon,
        }
    ]
    assert (data.classes, data.category_ids) == (("dog", "cat"), (1, 4))
    assert data.counts["without_objects"] == 1


def test_the_real_subset(shared_data) -> None:
    """Counts of the README of the sample data; nothing there is refused."""
    folder = shared_data / "coco"
    json_file = folder / "annotations" / "instances_val2017.json"
    data = load_coco(json_file, folder / "val2017", name="coco_2017_val")
    assert len(data) == 100
    assert {k: data.counts[k] for k in ("objects", "crowd", "without_objects")} == {
        "objects": 970,
        "crowd": 21,
        "without_objects": 2,
    }
    assert len(data.classes) == 80
    assert (data.category_ids[0], data.category_ids[-1]) == (1, 90)
    assert data.notes == ()


def test_agrees_with_detectron2(shared_data) -> None:
    """Detectron2's load_coco_json: files, sizes, boxes, crowds, classes and polygons."""
    coco = pytest.importorskip("detectron2.data.datasets.coco")
    catalog = pytest.importorskip("detectron2.data").MetadataCatalog
    from detectron2.structures import BoxMode

    folder = shared_data / "coco"
    json_file = folder / "annotations" / "instances_val2017.json"
    theirs = coco.load_coco_json(str(json_file), str(folder / "val2017"), "coco_for_a_test")
    names = tuple(catalog.pop("coco_for_a_test").thing_classes)
    ours = load_coco(json_file, folder / "val2017", name="coco_2017_val")
    assert ours.classes == names
    assert len(ours.records) == len(theirs) == 100
    for mine, other in zip(ours.records, theirs, strict=True):
        for key in ("file_name", "image_id", "height", "width"):
            assert mine[key] == other[key]
        for a, b in zip(mine["annotations"], other["annotations"], strict=True):
            expected = BoxMode.convert(b["bbox"], b["bbox_mode"], BoxMode.XYXY_ABS)
            # Detectron2 converts in float32.
            np.testing.assert_allclose(a["bbox"], expected, rtol=1e-6, atol=1e-4)
            assert (a["category_id"], a["iscrowd"]) == (b["category_id"], b["iscrowd"])
            if not a["iscrowd"]:
                assert a["segmentation"] == b["segmentation"]


def test_run_lengths_crowds_and_flags_beside_them_are_kept(one) -> None:
    """The embedded digits have `difficult` and `truncated` in their JSON."""
    mask = {"size": [80, 100], "counts": [0, 10, 7990]}
    one.annotation(iscrowd=1, segmentation=mask, difficult=1, truncated=1)
    data = load(one)
    annotation = data.records[0]["annotations"][0]
    assert annotation["segmentation"] == mask
    assert [annotation[k] for k in ("iscrowd", "difficult", "truncated")] == [1, 1, 1]
    assert data.counts["crowd"] == 1


def test_a_set_without_annotations(one) -> None:
    """F8: COCO's test files have no such key; an empty list is another thing."""
    assert load(one).annotated is True
    del one.content["annotations"]
    data = load(one)
    assert data.annotated is False
    assert data.records[0]["annotations"] == []


# -- the file ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", r"is empty \(0 bytes\)", id="empty"),
        pytest.param("<!DOCTYPE html>", "is a web page", id="web page"),
        pytest.param("version https://git-lfs.github.com/spec/v1\n", "LFS pointer", id="pointer"),
        pytest.param('{"images": [{"id": 1, "fi', r"cut off or damaged: after 25 bytes", id="cut"),
        pytest.param("[]", "holds a list, not an object.*results file", id="results"),
        pytest.param("{}", 'has no list "images"', id="nothing"),
        pytest.param('{"images": []}', 'has no list "categories"', id="no categories"),
        pytest.param('{"images": [], "categories": []}', '"images" is empty', id="no images"),
    ],
)
def test_broken_files_are_named_for_what_they_are(coco_tree, content: str, message: str) -> None:
    """F2, F31."""
    coco_tree.json.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=rf"(?s)instances_val\.json.*{message}"):
        load_coco(coco_tree.json, coco_tree.images, name="mine")


def test_a_missing_file(tmp_path) -> None:
    """F1."""
    with pytest.raises(DataError, match=r"gone\.json does not exist"):
        load_coco(tmp_path / "gone.json", tmp_path, name="mine")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"images": ' + b"[" * 200_000, "is nested too deeply"),
        (gzip.compress(b'{"images": ['), "is cut off or damaged: after 12 bytes"),
        (gzip.compress(b"{}")[:-3], "is cut off or damaged: Compressed file ended"),
    ],
    ids=["deep", "cut, packed", "packed, cut"],
)
def test_files_that_break_a_decoder_are_named(coco_tree, data: bytes, message: str) -> None:
    """Neither ends in a traceback."""
    coco_tree.json.write_bytes(data)
    with pytest.raises(DataError, match=rf"instances_val\.json {message}"):
        load_coco(coco_tree.json, coco_tree.images, name="mine")


def test_a_byte_order_mark_is_no_fault(one) -> None:
    """F71: UTF-8, with or without."""
    json_file, images = one.write()
    json_file.write_bytes(b"\xef\xbb\xbf" + json_file.read_bytes())
    assert len(load_coco(json_file, images, name="mine")) == 1


# -- ids --------------------------------------------------------------------------------------


def test_an_image_id_twice_is_refused_with_both_places(coco_tree) -> None:
    """F5: pycocotools would keep the second and lose the first."""
    coco_tree.image(42, "a.jpg")
    coco_tree.image(42, "b.jpg")
    page = refused(coco_tree)
    line = 'image id 42 occurs twice in instances_val.json ("images" entries 1 and 2: a.jpg, b.jpg)'
    assert line in page
    assert "renumber one" in page


def test_an_annotation_id_twice_is_refused_with_both_places(one) -> None:
    """F5: two objects of one id, both found, had AP 0.2525."""
    one.annotation(id=7)
    one.annotation(id=7)
    message = 'annotation id 7 occurs twice in instances_val.json ("annotations" entries 1 and 2)'
    assert message in refused(one)


def test_known_repeats_of_the_published_minival_are_left_out(one) -> None:
    """F5: Detectron2 lets these two files pass by name; equal entries count once here."""
    one.annotation(id=7)
    one.content["annotations"].append(dict(one.content["annotations"][0]))
    data = load(one, repeats=True)
    assert data.counts["objects"] == 1
    assert data.counts["annotations that occur twice, dropped"] == 1
    one.annotation(id=7, bbox=[1, 1, 5, 5], area=25)
    with pytest.raises(DataError, match="annotation id 7 occurs twice"):
        load(one, repeats=True)


def test_annotation_id_0_is_an_id_like_any(one) -> None:
    """F58: pycocotools takes it for "unmatched", so evaluation renumbers; the loader keeps it."""
    one.annotation(id=0)
    assert load(one).records[0]["annotations"][0]["id"] == 0


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], 'category id 1 occurs twice: "a", "b"'),
        (
            [{"id": 1, "name": "a"}, {"id": 2, "name": " a"}],
            'are called "a": ids 1 and 2',
        ),
        ([{"id": "1", "name": "a"}], 'id is "1" (text); write the number 1'),
        ([{"id": 1}], '"categories" entry 1 (id 1) has no name'),
        ([{"id": 1, "name": "\udc00"}], 'name is "\\udc00", with half a character'),
        ([{"id": True, "name": "a"}], "id is true"),
        ([7], '"categories" entry 1 is 7, not an object'),
        ([], '"categories" is empty'),
    ],
)
def test_bad_categories_are_refused(one, categories, message: str) -> None:
    """F4, F5, F58."""
    one.content["categories"] = categories
    assert message in refused(one)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"id": "1", "file_name": "1.jpg"}, '"images" entry 2: id is "1", equal as text to that'),
        ({"id": "\ud800", "file_name": "1.jpg"}, 'id is "\\ud800", with half a character'),
        ({"id": 7.5, "file_name": "1.jpg"}, '"images" entry 2: id is 7.5'),
        ({"file_name": "1.jpg"}, '"images" entry 2: id is missing'),
        ({"id": 2}, '"images" entry 2 (id 2) has no file_name'),
        ({"id": 2, "file_name": "1.jpg", "width": "100", "height": 80}, 'width is "100"'),
        ({"id": 2, "file_name": "1.jpg", "width": -1, "height": 80}, "width is -1"),
        ("1.jpg", '"images" entry 2 is "1.jpg", not an object'),
    ],
)
def test_bad_image_entries_are_refused(one, entry, message: str) -> None:
    """F16, F58: with the place in the file."""
    one.content["images"].append(entry)
    assert message in refused(one)


def test_ids_with_a_decimal_point_are_fixed(one) -> None:
    """F58: 1.0 is 1; counted for the image, its two mentions and the annotation."""
    one.content["images"][0]["id"] = 1.0
    one.annotation(id=3.0, image_id=1.0)
    data = load(one)
    assert isinstance(data.records[0]["image_id"], int)
    assert data.counts["ids with a decimal point"] == 3


# -- orphans ----------------------------------------------------------------------------------


def test_orphans_are_refused_or_dropped_by_their_exact_number(one) -> None:
    """F7: 1 of 2 annotations points to image 77."""
    one.annotation()
    one.annotation(image_id=77)
    page = refused(one)
    assert 'annotation 2 in instances_val.json points to image 77, which is not in "images"' in page
    assert "1 of 2 annotations is affected" in page
    assert "DATASETS.DROP_ORPHANS mine=1." in page
    assert "DROP_ORPHANS mine=1 (not 2)" in refused(one, drop_orphans=2)
    assert "DROP_ORPHANS mine=1 (not 2)" in refused(one, drop_orphans={"mine": 2})
    assert "DROP_ORPHANS \"('other=1', 'mine=1')\"." in refused(one, drop_orphans={"other": 1})
    assert load(one, drop_orphans={"other": 7, "mine": 1}).counts["objects"] == 1
    data = load(one, drop_orphans=1)
    assert data.counts["annotations of missing images, dropped"] == 1
    assert data.counts["objects"] == 1


def test_unknown_categories_are_refused(one) -> None:
    """F7: pycocotools leaves such objects out silently."""
    one.annotation(category_id=99)
    message = 'annotation 1 has category_id 99, which is not in "categories" (ids 1 to 4)'
    assert message in refused(one)


# -- files ------------------------------------------------------------------------------------


def test_missing_and_renamed_images(coco_tree) -> None:
    """F1, F9: 1 of 3 is missing, another has an upper-case suffix."""
    for image_id in (1, 2, 3):
        coco_tree.image(image_id)
    (coco_tree.images / "2.jpg").rename(coco_tree.images / "2.JPG")
    (coco_tree.images / "3.jpg").unlink()
    coco_tree.annotation(image_id=3)
    page = refused(coco_tree)
    assert "1 of 3 images listed in instances_val.json are missing:" in page
    assert "val/3.jpg" in page
    data = load(coco_tree, allow_missing=1)
    assert [Path(r["file_name"]).name for r in data.records] == ["1.jpg", "2.JPG"]
    assert data.counts["images under another spelling"] == 1
    assert data.counts["objects"] == 0


def test_names_with_folders_and_windows_separators(coco_tree) -> None:
    """F9: sub\\1.jpg is sub/1.jpg elsewhere."""
    (coco_tree.images / "sub").mkdir()
    coco_tree.image(1, "sub/1.jpg")
    coco_tree.image(2, "sub/2.jpg")["file_name"] = "sub\\2.jpg"
    names = [r["file_name"] for r in load(coco_tree).records]
    assert names == [str(coco_tree.images / "sub" / f"{i}.jpg") for i in (1, 2)]


def test_one_file_under_two_ids_is_noted(coco_tree) -> None:
    """F5: legal, but reported."""
    coco_tree.image(1, "a.jpg")
    coco_tree.image(2, "a.jpg")
    assert load(coco_tree).notes == ("files that stand under two image ids: 1 (a.jpg)",)


def test_sizes(coco_tree, make_exif, make_picture) -> None:
    """F16: missing ones are taken from the file, others must be equal."""
    coco_tree.image(1, width=None, height=None)
    data = load(coco_tree)
    assert (data.records[0]["width"], data.records[0]["height"]) == (100, 80)
    assert data.counts["size missing, taken from the image"] == 1
    coco_tree.image(2, width=80, height=100)
    page = refused(coco_tree)
    assert "2.jpg is 100x80, instances_val.json has 80x100, exactly swapped" in page
    coco_tree.content["images"].pop()
    coco_tree.image(3)
    make_picture((100, 80)).save(coco_tree.images / "3.jpg", exif=make_exif(8))
    assert "set INPUT.EXIF ignore" in refused(coco_tree)
    assert load(coco_tree, exif="ignore").records[1]["width"] == 100


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


def test_null_is_no_flag(one) -> None:
    """F57: a key that is there has a value; the evaluator refuses it too."""
    one.annotation()["iscrowd"] = None
    assert "iscrowd is null" in refused(one)


@pytest.mark.parametrize("area", [0, -5, 700, "500", float("nan")])
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


# -- hash -------------------------------------------------------------------------------------


def test_the_hash_follows_the_annotations_not_the_place(one, tmp_path) -> None:
    """Equal on every machine; another box, size class or order of classes is other data."""
    one.annotation()
    first = load(one)
    moved = one.json.parents[1].rename(tmp_path / "moved")
    again = load_coco(moved / "annotations" / one.json.name, moved / "val", name="other")
    assert first.hash == again.hash
    content = json.loads((moved / "annotations" / one.json.name).read_text(encoding="utf-8"))
    for change in ({"bbox": [10, 10, 30, 21]}, {"area": 501}, {"category_id": 4}, {"iscrowd": 1}):
        changed = {**content, "annotations": [{**content["annotations"][0], **change}]}
        path = moved / "annotations" / "changed.json"
        path.write_text(json.dumps(changed), encoding="utf-8")
        assert load_coco(path, moved / "val", name="other").hash != first.hash
