"""COCO's JSON: what good files become, broken ones, the images beside them, the hash."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from resdet.data.readers.coco_reader import load_coco
from resdet.errors import DataError
from tests.support.coco_reading import load, refused

pytestmark = pytest.mark.usefixtures("private_cache")


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
    assert load(coco_tree).notes == ("files that are listed under several ids: 1 (a.jpg)",)


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
