"""What people bring: exports of other tools, which are read, noted, or refused in one true page.

Each test types what a user types, `coco:FILE:IMAGES`, `voc:ROOT:SPLIT` or a folder; every remedy
that a page names is followed, and must lead on.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resdet.data import catalog
from resdet.data.images.reader import ImageReader
from resdet.data.options import DataOptions
from resdet.data.readers.class_folders import load_folder
from resdet.errors import DataError


def load(tree: Any, **options: Any) -> Any:
    """The set as `DATASETS.TRAIN "('coco:FILE:IMAGES',)"` has it."""
    file, images = tree.write()
    return catalog.load_detection(f"coco:{file}:{images}", options=DataOptions(**options))


def page_of(name: str, **options: Any) -> str:
    with pytest.raises(DataError) as refusal:
        catalog.load_detection(name, options=DataOptions(**options))
    return str(refusal.value)


def refused(tree: Any, **options: Any) -> str:
    file, images = tree.write()
    return page_of(f"coco:{file}:{images}", **options)


# -- where the files are ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    ["images/{}", "../../media/upload/4/{}", "..\\..\\media\\upload\\4\\{}", "D:\\pets\\{}"],
)
def test_files_are_found_by_their_last_part_where_no_folder_is_there(
    coco_tree: Any, written: str
) -> None:
    """Label Studio's exports: the folder given is the one that the names begin with, or another."""
    for number in (1, 2):
        entry = coco_tree.image(number)
        entry["file_name"] = written.format(entry["file_name"])
    coco_tree.annotation()
    data = load(coco_tree)
    assert [Path(r["file_name"]).name for r in data.records] == ["1.jpg", "2.jpg"]
    (note,) = [n for n in data.notes if "last part" in n]
    first = written.format("1.jpg")
    assert note.startswith(f"no listed file is in the folder that its name has ({first})")
    assert "2 were found" in note


def test_the_folder_above_is_named_where_all_files_lie_below_it(coco_tree: Any) -> None:
    """The remedy is typed as it stands on the page, and the set loads."""
    (coco_tree.images / "day1").mkdir()
    for number in (1, 2):
        entry = coco_tree.image(number)
        name = entry["file_name"]
        (coco_tree.images / name).rename(coco_tree.images / "day1" / name)
        entry["file_name"] = f"val/day1/{name}"
    coco_tree.annotation()
    page = refused(coco_tree)
    assert "2 of 2 images listed in instances_val.json are missing" in page
    assert "ALLOW_MISSING" not in page
    name = page.split("name the set '")[1].split("'.")[0]
    assert name == f"coco:{coco_tree.json}:{coco_tree.images.parent}"
    assert len(catalog.load_detection(name)) == 2


def test_a_rest_of_nothing_is_never_offered(coco_tree: Any) -> None:
    """All images missing: the folder is asked for, and no count that would leave an empty set."""
    for number in (1, 2):
        coco_tree.image(number)
        (coco_tree.images / f"{number}.jpg").unlink()
    page = refused(coco_tree)
    assert "2 of 2 images" in page
    assert "is it the right folder" in page
    assert "ALLOW_MISSING" not in page


def test_same_last_parts_are_not_taken_for_each_other(coco_tree: Any) -> None:
    """train/1.jpg and val/1.jpg are two files: neither is found as 1.jpg."""
    coco_tree.image(1)
    for number, folder in ((1, "a"), (2, "b")):
        coco_tree.content["images"][number - 1 :] = [
            {"id": number, "file_name": f"{folder}/1.jpg", "width": 100, "height": 80}
        ]
    assert "2 of 2 images" in refused(coco_tree)


# -- entries ------------------------------------------------------------------------------------


def test_the_root_category_of_an_exporter_may_have_the_name_of_a_class(coco_tree: Any) -> None:
    """Roboflow: category 0 above all others, here called as one of them."""
    coco_tree.image(1)
    coco_tree.annotation(category_id=1)
    coco_tree.content["categories"] = [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "cat"},
        {"id": 2, "name": "dog", "supercategory": "cat"},
    ]
    data = load(coco_tree)
    assert (data.classes, data.category_ids) == (("cat", "dog"), (1, 2))
    assert any(n.startswith('category 0 "cat" is left out: the supercategory') for n in data.notes)


def test_a_root_category_with_an_annotation_is_refused_and_nothing_else_is_said(
    coco_tree: Any,
) -> None:
    """Two classes of one name: one statement, not that a category of the file is not in it."""
    coco_tree.image(1)
    coco_tree.annotation(category_id=0)
    coco_tree.annotation(category_id=1)
    coco_tree.content["categories"] = [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "cat"},
    ]
    page = refused(coco_tree)
    assert 'two categories are called "cat": ids 0 and 1' in page
    assert "1 fault in" in page


def test_a_category_name_that_is_a_number_is_one_statement(coco_tree: Any) -> None:
    """Not "has no name", and not that its annotations have no category; the remedy leads on."""
    coco_tree.image(1)
    coco_tree.annotation(category_id=4)
    coco_tree.content["categories"] = [{"id": 4, "name": 0}]
    page = refused(coco_tree)
    assert '"categories" entry 1 (id 4) has the name 0, which is not text' in page
    assert "1 fault in" in page
    coco_tree.content["categories"] = [{"id": 4, "name": "0"}]
    assert load(coco_tree).classes == ("0",)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({"id": 1, "width": 100, "height": 80}, "has no file_name"),
        ({"id": 1, "file_name": "1.jpg", "width": 0, "height": 80}, "width is 0, height is 80"),
        ({"id": [1], "file_name": "1.jpg"}, "id is [1]"),
        (7, "is 7, not an object"),
    ],
)
def test_annotations_of_a_rejected_image_are_not_called_orphans(
    coco_tree: Any, entry: Any, what: str
) -> None:
    """One fault is one statement: the image is in "images"."""
    coco_tree.image(2)
    coco_tree.annotation(image_id=1)
    coco_tree.content["images"].append(entry)
    page = refused(coco_tree)
    assert what in page
    assert "points to image" not in page


def test_lvis_names_its_files_by_url(coco_tree: Any) -> None:
    """LVIS has coco_url alone; Detectron2 takes its last folder and name. The set is federated."""
    for number in (1, 2):
        entry = coco_tree.image(number)
        name = entry.pop("file_name")
        entry |= {
            "coco_url": f"http://images.cocodataset.org/val2017/{name}",
            "neg_category_ids": [4], "not_exhaustive_category_ids": [],
        }  # fmt: skip
    coco_tree.annotation(iscrowd=None)
    data = load(coco_tree)
    assert [Path(r["file_name"]).name for r in data.records] == ["1.jpg", "2.jpg"]
    assert data.counts["file_name missing, taken from coco_url"] == 2
    assert any(n.startswith("federated as LVIS") for n in data.notes)
    # Below COCO's root, with the folder of the URL.
    shutil.move(coco_tree.images, coco_tree.images.with_name("val2017"))
    data = catalog.load_detection(f"coco:{coco_tree.json}:{coco_tree.images.parent}")
    assert Path(data.records[0]["file_name"]).parts[-2:] == ("val2017", "1.jpg")
    assert not any("last part" in n for n in data.notes)


@pytest.mark.parametrize("key", ["difficult", "ignore"])
def test_the_note_on_difficult_objects_is_the_rule_of_the_metric(coco_tree: Any, key: str) -> None:
    """cocoapi#466: pycocotools reads iscrowd alone, so these are objects to find."""
    coco_tree.image(1)
    coco_tree.annotation(**{key: 1})
    coco_tree.annotation()
    (note,) = [n for n in load(coco_tree).notes if key in n]
    assert note.startswith(f'1 object with "{key}": 1 counts as to be found, like any other')
    assert "neither for nor against" not in note


def test_a_set_of_crowds_alone_is_named(coco_tree: Any) -> None:
    """Brush masks of Label Studio: every object has iscrowd 1."""
    coco_tree.image(1)
    coco_tree.annotation(iscrowd=1, segmentation={"size": [80, 100], "counts": [0, 8000]})
    (note,) = [n for n in load(coco_tree).notes if "iscrowd" in n]
    assert note.startswith("every object (1) has iscrowd 1")
    assert "set iscrowd to 0" in note


@pytest.mark.parametrize(
    ("box", "area", "count"),
    [
        ([10, 10, 0.4, 0.4], 1, 0),  # within the pixel that is allowed to all
        ([10, 10, 3.4, 3.4], 16, 1),  # 11.56, sides rounded up
        ([10, 10, 0.5, 1.2], 0, 1),  # 0.6, rounded down
    ],
)
def test_rounded_areas_of_tiny_boxes_are_counted(
    coco_tree: Any, box: list[float], area: float, count: int
) -> None:
    """A mask's area in whole pixels; pycocotools takes it as it is."""
    coco_tree.image(1)
    coco_tree.annotation(bbox=box, area=area)
    data = load(coco_tree)
    assert data.counts.get("area above its tiny box's by rounding, kept", 0) == count
    assert data.records[0]["annotations"][0]["area"] == area


# -- VOC's XML ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "codec"),
    [("gb2312", "gbk"), ("utf8", "utf-8"), ("GBK", "gb18030"), ("windows-1252", None),
     ("Shift_JIS", "cp932"), ("utf-16", "utf-16")],
)  # fmt: skip
def test_declared_encodings_are_read(voc_tree: Any, declared: str, codec: str | None) -> None:
    """labelImg under Windows, and `utf8` as ElementTree writes it."""
    folder = {None: "caf\u00e9", "cp932": "\u72ac"}.get(codec, "\u56fe\u7247")
    voc_tree.add("1", voc_tree.object("dog"))
    path = voc_tree.root / "Annotations" / "1.xml"
    body = path.read_text(encoding="utf-8").replace(
        "<annotation>", f"<annotation><folder>{folder}</folder>", 1
    )
    text = f'<?xml version="1.0" encoding="{declared}"?>\n{body}'
    path.write_bytes(text.encode(codec or "cp1252"))
    voc_tree.list("train", "1")
    data = catalog.load_detection(f"voc:{voc_tree.root}:train")
    assert data.classes == ("dog",)


def test_text_in_no_known_encoding_is_named(voc_tree: Any) -> None:
    """Bytes that are not what the file declares, an encoding that there is not, and none at all."""
    contents = {
        "1": b'<?xml version="1.0" encoding="klingon"?><annotation/>',
        "2": b'<?xml version="1.0" encoding="euc-kr"?><annotation>' + b"\xff\xff",
        "3": "<annotation>\n<folder>\u4e2d\u6587</folder>\n</annotation>".encode("gbk"),
    }
    for image_id, data in contents.items():
        voc_tree.add(image_id)
        (voc_tree.root / "Annotations" / f"{image_id}.xml").write_bytes(data)
    voc_tree.list("train", *contents)
    page = page_of(f"voc:{voc_tree.root}:train")
    assert '1.xml declares the encoding "klingon", which is not known' in page
    assert '2.xml declares the encoding "euc-kr", and its bytes are another' in page
    assert "3.xml, line 2: byte 0xd6 is not UTF-8, and the file declares no encoding" in page
    # The remedy of the third, followed.
    text = b'<?xml version="1.0" encoding="gb2312"?>\n' + contents["3"]
    (voc_tree.root / "Annotations" / "3.xml").write_bytes(text)
    voc_tree.xml("2", voc_tree.object("dog"))
    voc_tree.list("train", "2", "3")
    assert catalog.load_detection(f"voc:{voc_tree.root}:train").classes == ("dog",)


@pytest.mark.parametrize(
    ("xml", "what"),
    [
        (
            "<annotation>\n<folder>cats & dogs</folder>\n</annotation>",
            '1.xml, line 2: "&" stands for itself in "<folder>cats & dogs</folder>"',
        ),
        ("<annotation>\n<object>", "1.xml, line 2: the file ends before </annotation>"),
        ("<annotation>\n<a></b>\n</annotation>", "1.xml, line 2, column 6: mismatched tag"),
    ],
)
def test_a_broken_line_is_named(voc_tree: Any, xml: str, what: str) -> None:
    """Line and reason, in place of "Restore the file" alone."""
    voc_tree.add("1")
    (voc_tree.root / "Annotations" / "1.xml").write_text(xml, encoding="utf-8")
    voc_tree.list("train", "1")
    assert what in page_of(f"voc:{voc_tree.root}:train")


def test_an_ampersand_is_escaped_as_the_page_says(voc_tree: Any) -> None:
    """The remedy leads on."""
    voc_tree.add("1", voc_tree.object("salt & pepper"))
    voc_tree.list("train", "1")
    path = voc_tree.root / "Annotations" / "1.xml"
    assert "Write &amp; in its place" in page_of(f"voc:{voc_tree.root}:train")
    path.write_text(path.read_text(encoding="utf-8").replace("&", "&amp;"), encoding="utf-8")
    assert catalog.load_detection(f"voc:{voc_tree.root}:train").classes == ("salt & pepper",)


def test_voc_ids_may_have_folders(voc_tree: Any) -> None:
    """Frames sorted by day: day1/000001, in list, images and annotations alike."""
    for folder in ("JPEGImages", "Annotations"):
        (voc_tree.root / folder / "day1").mkdir()
    voc_tree.add("day1/000001", voc_tree.object("bolt"))
    voc_tree.list("train", "day1/000001")
    data = catalog.load_detection(f"voc:{voc_tree.root}:train")
    assert (data.classes, data.records[0]["image_id"]) == (("bolt",), "day1/000001")
    assert len(data.records[0]["annotations"]) == 1


def test_an_empty_class_list_is_one_fault(voc_tree: Any) -> None:
    """Not one for each object; the remedy leads on."""
    voc_tree.add("1", voc_tree.object("bolt"))
    voc_tree.list("train", "1")
    listed = voc_tree.root / "classes.txt"
    listed.write_text("\n", encoding="utf-8")
    page = page_of(f"voc:{voc_tree.root}:train")
    assert "classes.txt has no class in it" in page
    assert "1 fault in" in page
    listed.unlink()
    assert catalog.load_detection(f"voc:{voc_tree.root}:train").classes == ("bolt",)


# -- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "suffix", "ways"),
    [
        (np.float32, "tif", ["stretch"]),
        (np.int32, "tif", ["stretch"]),
        (np.uint16, "png", ["high_byte", "stretch"]),
    ],
)
def test_every_way_to_eight_bits_that_is_offered_works(
    coco_tree: Any, dtype: Any, suffix: str, ways: list[str]
) -> None:
    """A float has no high byte of 16: what is offered is typed, what is not is refused at once."""
    name = f"1.{suffix}"
    entry = coco_tree.image(1)
    entry["file_name"] = name
    coco_tree.annotation()
    ramp = np.arange(100 * 80, dtype=dtype).reshape(80, 100)
    Image.fromarray(ramp).save(coco_tree.images / name)
    (coco_tree.images / "1.jpg").unlink()
    page = refused(coco_tree)
    offered = re.findall(r"(high_byte|stretch) \(", page)
    assert offered == ways
    for way in ("high_byte", "stretch"):
        if way in ways:
            data = load(coco_tree, sixteen_bit=way)
            pixels = ImageReader(DataOptions(sixteen_bit=way)).read(data.records[0]["file_name"])
            assert pixels.shape == (80, 100, 3)
        else:
            assert f"INPUT.SIXTEEN_BIT {way} is not for such files" in refused(
                coco_tree, sixteen_bit=way
            )


def test_pictures_that_are_not_read_are_counted_and_named(
    tmp_path: Path, make_picture: Any
) -> None:
    """Telephones write HEIC: three of them are not left out without a word."""
    for name in ("apple", "pear"):
        (tmp_path / "set" / name).mkdir(parents=True)
        make_picture().save(tmp_path / "set" / name / "1.jpg")
    for name in ("a.heic", "b.HEIC", "c.avif", "notes.txt"):
        (tmp_path / "set" / "pear" / name).write_bytes(b"x")
    data = load_folder(tmp_path / "set", name="mine")
    assert len(data) == 2
    assert data.counts["pictures of other formats ignored"] == 3
    assert data.counts["files that are no images ignored"] == 1
    assert data.notes == (
        "3 files are no images that can be read here: 1 .avif, 2 .heic; convert to JPEG or PNG",
    )
    (tmp_path / "set" / "pear" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"pear/ holds no image that can be read here, but 1 .avif"):
        load_folder(tmp_path / "set", name="mine")


def test_a_heic_under_another_name_is_named(coco_tree: Any) -> None:
    """An iPhone's picture renamed to .jpg."""
    coco_tree.image(1)
    (coco_tree.images / "1.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 99)
    assert "is a HEIC picture, which is not read here. Convert it" in refused(coco_tree)


def test_the_inputs_of_this_file_are_plain_json(coco_tree: Any) -> None:
    """What the tests above change is what a file of a user has."""
    coco_tree.image(1)
    file, _ = coco_tree.write()
    assert json.loads(file.read_text(encoding="utf-8"))["images"][0]["file_name"] == "1.jpg"
