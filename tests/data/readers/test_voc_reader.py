"""VOC's layout: lists, files and sizes, with every fault on one page (F1 to F16, F90)."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from resdet.data.checks.faults import BrokenSet, Faults
from resdet.data.readers.voc_reader import load_voc
from resdet.data.records import DetectionSet
from resdet.errors import DataError
from resdet.evaluation.voc.voc_arrays import inclusive, read_devkit_ground_truth
from resdet.formats.voc_xml import VOC_CLASSES
from tests.support.reading import boxes, load

pytestmark = pytest.mark.usefixtures("private_cache")


# -- what good files become ------------------------------------------------------------------


def test_a_record_by_hand(voc_tree) -> None:
    """VOC counts pixels from 1 with both ends inside: (11, 11) to (50, 40) is x 10 to 50."""
    voc_tree.add("000005", voc_tree.object("dog", (11, 11, 50, 40)))
    voc_tree.list("train", "000005")
    data = load(voc_tree)
    assert data.records == [
        {
            "file_name": str(voc_tree.root / "JPEGImages" / "000005.jpg"),
            "image_id": "000005",
            "width": 100,
            "height": 80,
            "annotations": [
                {
                    "bbox": [10, 10, 50, 40],
                    "bbox_mode": 0,
                    "category_id": 11,
                    "iscrowd": 0,
                    "difficult": 0,
                    "truncated": 0,
                    "area": 1200,
                }
            ],
        }
    ]
    assert data.classes == VOC_CLASSES
    assert data.category_ids == tuple(range(1, 21))
    assert (data.evaluators, data.voc_year, data.annotated) == (("voc",), 2007, True)
    assert data.counts["images"] == data.counts["with_objects"] == data.counts["objects"] == 1


def test_a_box_of_the_whole_image_and_a_box_of_one_pixel(voc_tree) -> None:
    """By hand: 1 to 100 is 0 to 100; the pixel 7, 7 is 6 to 7."""
    voc_tree.add("a", voc_tree.object(box=(1, 1, 100, 80)), voc_tree.object(box=(7, 7, 7, 7)))
    voc_tree.list("train", "a")
    assert boxes(load(voc_tree)) == [[0, 0, 100, 80], [6, 6, 7, 7]]


def test_the_real_subset(shared_data) -> None:
    """Counts of the README of the sample data, made from the official files."""
    expected = {
        "trainval": (250, 1183, 303, 554),
        "train": (200, 941, 233, 438),
        "val": (50, 242, 70, 116),
        "test": (120, 668, 183, 338),
    }
    for split, numbers in expected.items():
        data = load_voc(shared_data / "VOC2007", split, name=split)
        keys = ("images", "objects", "difficult", "truncated")
        assert tuple(data.counts[k] for k in keys) == numbers
    counted = np.zeros(20, int)
    for record in data.records:
        for a in record["annotations"]:
            counted[a["category_id"]] += not a["difficult"]
    test = [12, 18, 14, 13, 25, 11, 31, 9, 23, 16, 7, 10, 15, 22, 176, 34, 22, 8, 8, 11]
    assert counted.tolist() == test


def test_agrees_with_detectron2(shared_data) -> None:
    """Detectron2's load_voc_instances on the real subset: files, sizes, boxes, classes."""
    pascal_voc = pytest.importorskip("detectron2.data.datasets.pascal_voc")
    root = shared_data / "VOC2007"
    theirs = pascal_voc.load_voc_instances(str(root), "trainval", VOC_CLASSES)
    ours = load_voc(root, "trainval", name="voc_2007_trainval").records
    assert len(ours) == len(theirs) == 250
    for mine, other in zip(ours, theirs, strict=True):
        assert {k: mine[k] for k in ("file_name", "image_id", "height", "width")} == {
            k: other[k] for k in ("file_name", "image_id", "height", "width")
        }
        for a, b in zip(mine["annotations"], other["annotations"], strict=True):
            assert {k: a[k] for k in b} == b


def test_the_evaluator_scores_the_objects_that_the_loader_gives(shared_data) -> None:
    """F90: on the real subset, loader and evaluator hold the same 668 objects in the same order."""
    root = shared_data / "VOC2007"
    ours = load_voc(root, "test", name="voc_2007_test")
    scored = read_devkit_ground_truth(root, "test")
    assert scored.image_ids == tuple(r["image_id"] for r in ours.records)
    objects = [a for r in ours.records for a in r["annotations"]]
    assert len(objects) == 668
    np.testing.assert_array_equal(scored.boxes, inclusive([a["bbox"] for a in objects]))
    assert scored.label.tolist() == [a["category_id"] for a in objects]
    assert scored.difficult.tolist() == [bool(a["difficult"]) for a in objects]


# -- lists ------------------------------------------------------------------------------------


def test_lists_are_fixed(voc_tree) -> None:
    """F9, F90: BOM, CRLF, blank lines and blanks; `#` is a letter."""
    for image_id in ("000005", "img#7", "mein Bild"):
        voc_tree.add(image_id)
    path = voc_tree.list("train")
    path.write_bytes("\ufeff000005\r\n\r\nimg#7  \r\n\tmein Bild\r\n".encode())
    assert [r["image_id"] for r in load(voc_tree).records] == ["000005", "img#7", "mein Bild"]


def test_one_image_is_a_set(voc_tree) -> None:
    """F2: numpy's loadtxt gives a scalar for it."""
    voc_tree.add("1")
    voc_tree.list("train", "1")
    assert load(voc_tree).counts["without_objects"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", r"train\.txt lists 0 images, so the set is empty", id="empty"),
        pytest.param(" \n\n", "lists 0 images", id="blank lines"),
        pytest.param("1\n2\n1\n", "lists 1 of 2 images twice: 1 in lines 1 and 3", id="twice"),
        pytest.param("1\n2\0\n", "line 2: a zero byte in an image id", id="zero-byte"),
        pytest.param("<!DOCTYPE html>\n", "is a web page", id="web page"),
        pytest.param("version https://git-lfs.github.com\n", "LFS pointer", id="pointer"),
    ],
)
def test_broken_lists_are_refused(voc_tree, content: str, message: str) -> None:
    """F2, F5, F31."""
    voc_tree.list("train").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load(voc_tree)


@pytest.mark.parametrize("form", ["{}.jpg", "JPEGImages/{}.JPG", "JPEGImages\\{}.jpg"])
def test_a_list_of_file_names_has_the_command_that_makes_ids_of_them(voc_tree, form: str) -> None:
    """As labelling tools write it; the page named JPEGImages/000031.jpg.jpg as missing."""
    for image_id in ("000031", "a b"):
        voc_tree.add(image_id)
    voc_tree.list("train", form.format("000031"), form.format("a b"))
    with pytest.raises(
        DataError, match=r"lists names of files .*expected image ids \(000031\)"
    ) as e:
        load(voc_tree)
    command = str(e.value).splitlines()[1].replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(command, shell=True, check=True)
    assert [r["image_id"] for r in load(voc_tree).records] == ["000031", "a b"]


def test_a_list_of_one_class_is_refused_by_name(voc_tree) -> None:
    """F9: 000005 -1 lists who has aeroplanes."""
    voc_tree.list("aeroplane_train", "000005 -1", "000007  1")
    message = r'aeroplane_train\.txt in .* has two columns \("000005 -1"\).*Use train\.txt\.'
    with pytest.raises(DataError, match=message):
        load(voc_tree, "aeroplane_train")


def test_an_unknown_split_names_those_that_are_there(voc_tree) -> None:
    """F3: what is there, without the lists of classes."""
    for split in ("train", "test", "dog_train"):
        voc_tree.list(split, "1")
    with pytest.raises(DataError, match=r"trainval\.txt does not exist.*splits: test, train\."):
        load(voc_tree, "trainval")


# -- files --------------------------------------------------------------------------------------


def test_missing_images_are_counted_and_named(voc_tree) -> None:
    """F1: 2 of 5; the way out is exactly that number."""
    for i in range(3):
        voc_tree.add(f"{i}")
    for i in (3, 4):
        voc_tree.xml(f"{i}")
    voc_tree.list("train", *"01234")
    with pytest.raises(DataError) as caught:
        load(voc_tree)
    page = str(caught.value)
    assert "2 of 5 images listed in ImageSets/Main/train.txt are missing:" in page
    assert "JPEGImages/3.jpg" in page
    assert "DATASETS.ALLOW_MISSING mine=2 (exactly that number" in page
    with pytest.raises(DataError, match=r"ALLOW_MISSING mine=2 \(exactly that number, not 3"):
        load(voc_tree, allow_missing=3)
    with pytest.raises(DataError, match=r"ALLOW_MISSING \"\('a:b=3', 'mine=2'\)\" \(exactly"):
        load(voc_tree, allow_missing={"a:b": 3})
    assert load(voc_tree, allow_missing={"a:b": 3, "mine": 2}).counts["images"] == 3
    data = load(voc_tree, allow_missing=2)
    assert [r["image_id"] for r in data.records] == ["0", "1", "2"]
    assert data.counts["images missing, left out"] == 2


def test_missing_annotations_are_not_images_without_objects(voc_tree) -> None:
    """F8: two different facts; an XML without objects stays as a negative."""
    voc_tree.add("a")
    voc_tree.image("b.jpg")
    voc_tree.list("train", "a", "b")
    with pytest.raises(DataError, match=r"(?s)1 of 2 annotations listed.*Annotations/b\.xml"):
        load(voc_tree)
    data = load(voc_tree, allow_missing=1)
    assert (data.counts["images"], data.counts["without_objects"]) == (1, 1)


def test_all_missing_is_an_empty_set(voc_tree) -> None:
    """F2: even where that number was allowed."""
    voc_tree.list("train", "a")
    with pytest.raises(DataError, match="mine has 0 usable images: 1 are listed, all are missing"):
        load(voc_tree, allow_missing=1)


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        pytest.param("000001", "000001.JPG", id="case of the suffix"),
        pytest.param("000001", "000001.jpeg", id="another suffix"),
        pytest.param("000001", "000001.png", id="another format"),
        pytest.param("IMG_1", "img_1.jpg", id="case of the stem"),
        pytest.param("v\u00e9lo", "ve\u0301lo.jpg", id="Unicode form"),
        pytest.param("v1.2", "V1.2.jpg", id="a dot in the name"),
    ],
)
def test_another_spelling_is_found_and_counted(voc_tree, listed: str, there: str) -> None:
    """F9: one hit is used."""
    voc_tree.image(there)
    voc_tree.xml(listed)
    voc_tree.list("train", listed)
    data = load(voc_tree)
    assert Path(data.records[0]["file_name"]).name == there
    assert data.records[0]["image_id"] == listed
    assert data.counts["images under another spelling"] == 1


def test_two_other_spellings_are_refused_with_both(voc_tree) -> None:
    """F9: resdet does not choose."""
    voc_tree.image("a.png")
    voc_tree.image("A.JPG")
    voc_tree.xml("a")
    voc_tree.list("train", "a")
    with pytest.raises(DataError, match=r"(?s)a\.jpg: there are A\.JPG, a\.png.*Keep one"):
        load(voc_tree)


def test_foreign_images_are_found_at_the_start(voc_tree) -> None:
    """F31: before any training; paths are shown relative to the set."""
    voc_tree.add("a")
    voc_tree.add("b")
    (voc_tree.root / "JPEGImages" / "b.jpg").write_bytes(b"<html>login</html>")
    voc_tree.list("train", "a", "b")
    with pytest.raises(DataError, match=r"\n  JPEGImages/b\.jpg is a web page"):
        load(voc_tree)
    assert load(voc_tree, check_images=False).counts["images"] == 2


def test_nothing_is_written_into_the_set(voc_tree) -> None:
    """F69: a tree of mode 0555 loads, and is the same afterwards."""
    voc_tree.add("a", voc_tree.object())
    voc_tree.list("train", "a")
    folders = [voc_tree.root, *(p for p in voc_tree.root.rglob("*") if p.is_dir())]
    before = sorted(voc_tree.root.rglob("*"))
    for folder in folders:
        folder.chmod(0o555)
    try:
        load(voc_tree)
        assert sorted(voc_tree.root.rglob("*")) == before
    finally:
        for folder in folders:
            folder.chmod(0o755)


# -- sizes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["", "0 0"])
def test_a_missing_size_is_taken_from_the_image(voc_tree, size: str) -> None:
    """F16: also without the check of all headers."""
    voc_tree.image("a.jpg")
    voc_tree.xml("a", size=size)
    voc_tree.list("train", "a")
    for check in (True, False):
        data = load(voc_tree, check_images=check)
        assert (data.records[0]["width"], data.records[0]["height"]) == (100, 80)
        assert data.counts["size missing, taken from the image"] == 1


def test_another_size_is_refused_with_both(voc_tree) -> None:
    """F16: all cases grouped."""
    voc_tree.add("a")
    for image_id in ("b", "c"):
        voc_tree.image(f"{image_id}.jpg")
    voc_tree.xml("b", size="80 100")
    voc_tree.xml("c", size="101 80")
    voc_tree.list("train", "a", "b", "c")
    with pytest.raises(DataError) as caught:
        load(voc_tree)
    page = str(caught.value)
    assert "2 images have another size than their annotation; 1 of them exactly swapped" in page
    assert "b.jpg is 100x80, the XML has 80x100, exactly swapped" in page
    assert "c.jpg is 100x80, the XML has 101x80" in page


def test_annotations_on_unrotated_pictures_are_told_from_faults(voc_tree, make_exif) -> None:
    """F30: all rotated files match as stored, so `ignore` is the way out, and it works."""
    voc_tree.add("a")
    voc_tree.image("b.jpg", exif=make_exif(6))
    voc_tree.xml("b", size="100 80")
    voc_tree.list("train", "a", "b")
    message = r"(?s)b\.jpg is 80x100, the XML has 100x80.*EXIF rotation.*set INPUT\.EXIF ignore"
    with pytest.raises(DataError, match=message):
        load(voc_tree)
    assert load(voc_tree, exif="ignore").records[1]["width"] == 100
    voc_tree.xml("b", size="80 100")
    data = load(voc_tree)
    assert data.counts["EXIF rotation applied"] == 1
    with pytest.raises(DataError, match=r"leave INPUT\.EXIF at apply"):
        load(voc_tree, exif="ignore")


# -- the page ---------------------------------------------------------------------------------


def test_all_faults_of_a_set_on_one_page(voc_tree) -> None:
    """Twenty of 30 are shown, the rest counted, all of them kept for a file."""
    for i in range(30):
        voc_tree.add(f"{i:02}", voc_tree.object("zebra"))
    voc_tree.list("train", *(f"{i:02}" for i in range(30)))
    with pytest.raises(BrokenSet) as caught:
        load(voc_tree)
    page = str(caught.value)
    assert page.startswith(f"mine cannot be used: 30 faults in {voc_tree.root}.")
    assert len(re.findall("zebra", page)) == 20
    assert "… and 10 more" in page
    listed = re.search(r"All 30 faults: (.*mine\.txt)", page)
    assert listed
    lines = Path(listed[1]).read_text(encoding="utf-8").splitlines()
    assert tuple(lines) == caught.value.faults and len(lines) == 30


def test_the_list_of_a_set_with_a_long_name_is_kept_too() -> None:
    """File systems take names of 255 bytes; two sets that differ at the start have two lists."""
    listed = []
    for start in "ab":
        faults = Faults(f"voc:/{start}{'ä/' * 200}:train", "/data")
        for number in range(5):
            faults.add("kind", f"fault {number}")
        with pytest.raises(BrokenSet) as caught:
            faults.stop()
        found = re.search(r"All 5 faults: (.*:train\+\w+\.txt)", str(caught.value))
        assert found
        listed.append(Path(found[1]))
    assert all(len(path.read_text(encoding="utf-8").splitlines()) == 5 for path in listed)
    assert listed[0] != listed[1]


def test_faults_of_several_kinds_are_shown_together(voc_tree) -> None:
    """A user fixes a set once: class, box and missing file on one page."""
    voc_tree.add("a", voc_tree.object("zebra"), voc_tree.object(box=(11, 11, 500, 40)))
    voc_tree.list("train", "a", "gone")
    with pytest.raises(BrokenSet, match=r"(?s)gone\.jpg.*gone\.xml.*zebra.*xmax 500"):
        load(voc_tree)


# -- sets of one's own ------------------------------------------------------------------------


def own(tree, split: str = "train") -> DetectionSet:
    return load_voc(tree.root, split, name="own", classes=None, year=None)


def test_own_classes_are_those_of_all_splits(voc_tree) -> None:
    """F4: train has no bicycle, but its classes are numbered as those of val."""
    voc_tree.add("a", voc_tree.object("car"))
    voc_tree.add("b", voc_tree.object("bicycle"), voc_tree.object("car"))
    voc_tree.list("train", "a")
    voc_tree.list("val", "b")
    train, val = own(voc_tree), own(voc_tree, "val")
    assert train.classes == val.classes == ("bicycle", "car")
    assert train.records[0]["annotations"][0]["category_id"] == 1
    assert train.voc_year is None


def test_own_classes_in_an_order_of_ones_own(voc_tree) -> None:
    """classes.txt decides, and a name outside it is unknown."""
    voc_tree.add("a", voc_tree.object("car"))
    voc_tree.list("train", "a")
    (voc_tree.root / "classes.txt").write_text("\ufeffcar\r\nbicycle\r\n", encoding="utf-8")
    assert own(voc_tree).classes == ("car", "bicycle")
    (voc_tree.root / "classes.txt").write_text("bicycle\n", encoding="utf-8")
    with pytest.raises(DataError, match='"car" is not among the 1 classes of own'):
        own(voc_tree)
    (voc_tree.root / "classes.txt").write_text("car\ncar\n", encoding="utf-8")
    with pytest.raises(DataError, match=r'classes\.txt has "car" 2 times'):
        own(voc_tree)


def test_own_classes_that_differ_in_case_alone_are_refused(voc_tree) -> None:
    """F4: Car and car are one class, written in two ways."""
    voc_tree.add("a", voc_tree.object("car"), voc_tree.object("Car"))
    voc_tree.list("train", "a")
    with pytest.raises(DataError, match=r'differ in case alone: "Car" \(1 objects\), "car" \(1'):
        own(voc_tree)


def test_a_set_without_annotations(voc_tree) -> None:
    """F8: VOC 2012 test: sizes from the images, no ground truth."""
    voc_tree.image("a.jpg")
    voc_tree.list("test", "a")
    data = load_voc(voc_tree.root, "test", name="voc_2012_test", year=2012, annotated=False)
    assert data.annotated is False
    assert data.records[0]["width"] == 100
    assert data.records[0]["annotations"] == []


def test_a_changed_annotation_is_read_anew(voc_tree) -> None:
    """F10, F90: no cache holds boxes, even when the time of change is set back."""
    voc_tree.add("a", voc_tree.object(box=(11, 11, 50, 40)))
    voc_tree.list("train", "a")
    first = load(voc_tree)
    path = voc_tree.root / "Annotations" / "a.xml"
    stat = path.stat()
    voc_tree.xml("a", voc_tree.object(box=(21, 21, 50, 40)))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = load(voc_tree)
    assert boxes(second) == [[20, 20, 50, 40]]
    assert first.hash != second.hash
