"""Sets of one's own by name, their classes, and the same pictures twice (F1 to F16)."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from resdet.data import catalog
from resdet.data.checks.duplicates import equal_files
from resdet.data.records import DetectionSet, with_classes
from resdet.errors import DataError
from tests.support import children

pytestmark = pytest.mark.usefixtures("private_cache")


# -- sets of one's own ------------------------------------------------------------------------


def test_sets_by_path(voc_tree, coco_tree) -> None:
    """voc:ROOT:SPLIT and coco:FILE:IMAGES, with classes of their own."""
    voc_tree.add("a", voc_tree.object("unicorn"))
    voc_tree.list("train", "a")
    data = catalog.load_detection(f"voc:{voc_tree.root}:train")
    assert (data.classes, data.evaluators, data.voc_year) == (("unicorn",), ("voc",), 2007)
    elsewhere = voc_tree.root.rename(voc_tree.root.with_name("farm"))
    assert catalog.load_detection(f"voc:{elsewhere}:train").voc_year is None
    coco_tree.image(1)
    coco_tree.annotation()
    json_file, images = coco_tree.write()
    data = catalog.load_detection(f"coco:{json_file}:{images}")
    assert (data.classes, data.evaluators) == (("dog", "cat"), ("coco",))


@pytest.fixture
def registry() -> Iterator[tuple]:
    """Detectron2's catalogs, put back afterwards."""
    data = pytest.importorskip("detectron2.data")
    before = set(data.DatasetCatalog.list())
    yield data.DatasetCatalog, data.MetadataCatalog
    for name in set(data.DatasetCatalog.list()) - before:
        data.DatasetCatalog.remove(name)
        if name in data.MetadataCatalog.list():
            data.MetadataCatalog.remove(name)


def registered(registry, coco_tree, annotations: list[dict], **record) -> DetectionSet:
    """The set of a user's own function with one image of 100 x 80."""
    datasets, metadata = registry
    path = coco_tree.images / "1.jpg"
    if not path.exists():
        coco_tree.image(1)
    entry = {"file_name": str(path), "image_id": 1, "width": 100, "height": 80, **record}
    if "mine" in datasets.list():
        datasets.remove("mine")
        metadata.remove("mine")
    datasets.register("mine", lambda: [{**entry, "annotations": annotations}])
    metadata.get("mine").set(thing_classes=["dog", "cat"])
    return catalog.load_detection("mine")


def test_a_registered_set_gets_our_records(registry, coco_tree) -> None:
    """XYWH_ABS (1) becomes corners; ids follow the metadata, else 1 … K."""
    data = registered(
        registry, coco_tree, [{"bbox": [10, 10, 30, 20], "bbox_mode": 1, "category_id": 1}]
    )
    assert data.records[0]["annotations"] == [
        {
            "bbox": [10, 10, 40, 30],
            "bbox_mode": 0,
            "category_id": 1,
            "iscrowd": 0,
            "difficult": 0,
            "truncated": 0,
            "area": 600,
        }
    ]
    assert (data.classes, data.category_ids, data.evaluators) == (("dog", "cat"), (1, 2), ("coco",))


@pytest.mark.parametrize(
    ("annotation", "record", "message"),
    [
        ({"bbox": [10, 10, 5, 20], "category_id": 1}, {}, r"annotation 0 \(cat\): .*has no area"),
        ({"bbox": [10, 10, 105, 20]}, {}, r"\(10, 10\) to \(105, 20\) in an image 100 wide"),
        ({"bbox": [10, 10, "a", 20]}, {}, "bbox is .*Give four finite numbers"),
        ({"bbox": None}, {}, "bbox is None"),
        ({"bbox_mode": 4}, {}, "bbox_mode is 4"),
        ({"category_id": 2}, {}, "category_id is 2, with 2 thing_classes"),
        ({}, {"width": 99}, r"1\.jpg is 100x80, the record has 99x80"),
        ({}, {"file_name": "/gone.jpg"}, r"/gone\.jpg cannot be read"),
        ({}, {"file_name": None}, "record 0 has no file_name"),
    ],
)
def test_a_registered_set_gets_the_general_checks(
    registry, coco_tree, annotation, record, message: str
) -> None:
    """F1, F4, F11, F12, F16: whatever function it came from."""
    good = {"bbox": [10, 10, 40, 30], "bbox_mode": 0, "category_id": 0}
    with pytest.raises(DataError, match=rf"(?s)mine cannot be used: 1 fault.*{message}"):
        registered(registry, coco_tree, [{**good, **annotation}], **record)


def test_a_registered_function_that_fails(registry) -> None:
    """Its error is named, with its type; without images or classes likewise."""
    datasets, metadata = registry
    datasets.register("mine", lambda: Path("/gone.json").read_text("utf-8"))
    with pytest.raises(DataError, match=r"its function fails: FileNotFoundError.*/gone\.json"):
        catalog.load_detection("mine")
    datasets.register("nothing", list)
    metadata.get("nothing").set(thing_classes=["a"])
    with pytest.raises(DataError, match="nothing has 0 images and 1 thing_classes"):
        catalog.load_detection("nothing")


def test_registering_what_detectron2_lacks(registry) -> None:
    """Twice is once; what Detectron2 has itself is left alone."""
    datasets, metadata = registry
    catalog.register()
    catalog.register()
    assert {"voc_2012_test", "digits_train", "digits_val", "digits_test"} <= set(datasets.list())
    assert metadata.get("voc_2012_test").thing_classes[0] == "aeroplane"
    assert metadata.get("digits_val").thing_dataset_id_to_contiguous_id[10] == 9


def test_the_catalog_works_without_detectron2(tmp_path) -> None:
    """Import, page and register, in a process where importing it fails."""
    code = (
        "from resdet.data import catalog\n"
        "catalog.register()\n"
        "try: catalog.load_detection('nonsense')\n"
        "except Exception as error: print(type(error).__name__, 'torch' in sys.modules)\n"
    )
    assert children.printed_by(code, without=["detectron2"]).split() == ["DataError", "False"]


# -- classes ----------------------------------------------------------------------------------


def tiny(name: str, classes: tuple[str, ...], file: Path | None = None, image_id="1"):
    """A set of one image with one object of the last class."""
    annotation = {
        "bbox": [0.0, 0.0, 1.0, 1.0],
        "bbox_mode": 0,
        "category_id": len(classes) - 1,
        "iscrowd": 0,
        "difficult": 0,
        "truncated": 0,
        "area": 1.0,
    }
    record = {
        "file_name": str(file or "a.jpg"),
        "image_id": image_id,
        "width": 9,
        "height": 9,
        "annotations": [annotation],
    }
    return DetectionSet(name, [record], classes, tuple(range(1, len(classes) + 1)), ("coco",))


def test_sets_are_brought_to_one_list_of_classes_by_name() -> None:
    """F4: cat is 1 of (ant, cat) and 2 of (ant, bee, cat); official ids stay, new ones are free."""
    data = with_classes(tiny("val", ("ant", "cat")), ("ant", "bee", "cat"))
    assert data.records[0]["annotations"][0]["category_id"] == 2
    assert data.category_ids == (1, 3, 2)
    assert with_classes(data, data.classes) is data


def test_a_class_that_the_list_lacks_is_refused_with_both_lists() -> None:
    """F4: VOC's tvmonitor against COCO's tv."""
    with pytest.raises(DataError) as caught:
        with_classes(tiny("voc_2007_test", ("person", "tvmonitor")), ("person", "tv"))
    message = str(caught.value)
    assert "voc_2007_test has classes that are not in the list of 2: tvmonitor." in message
    assert "voc_2007_test: person, tvmonitor\n  the list: person, tv\n" in message


# -- the same pictures twice ------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path) -> dict[str, Path]:
    """Files a and b with the same bytes, c of the same size, d of another."""
    contents = {"a": b"12", "b": b"12", "c": b"13", "d": b"123"}
    for name, content in contents.items():
        (tmp_path / f"{name}.jpg").write_bytes(content)
    return {name: tmp_path / f"{name}.jpg" for name in contents}


def test_equal_files_in_one_set(pictures) -> None:
    """F5: only a and b; a listed twice is no pair."""
    files = [str(path) for path in pictures.values()]
    assert equal_files([*files, files[0]]) == [files[:2]]


def test_equal_pictures_in_one_set_are_noted(voc_tree) -> None:
    """F5: legal, but reported."""
    voc_tree.add("a")
    voc_tree.add("c")
    shutil.copy(voc_tree.root / "JPEGImages" / "a.jpg", voc_tree.root / "JPEGImages" / "b.jpg")
    voc_tree.xml("b")
    voc_tree.list("train", "a", "b", "c")
    data = catalog.load_detection("voc_2007_train", root=voc_tree.root.parent)
    note = "pictures that occur again under another name: 1 (a.jpg = b.jpg)"
    assert data.notes == ("3 of the 2,501 images of the published set", note)


def test_of_many_equal_pictures_the_first_are_named(voc_tree) -> None:
    """A note is one line, however often a picture occurs."""
    names = [f"a{i}" for i in range(7)]
    voc_tree.add("a0")
    for name in names[1:]:
        shutil.copy(voc_tree.root / "JPEGImages/a0.jpg", voc_tree.root / f"JPEGImages/{name}.jpg")
        voc_tree.xml(name)
    voc_tree.list("train", *names)
    data = catalog.load_detection(f"voc:{voc_tree.root}:train")
    assert data.notes[-1].endswith(": 1 (a0.jpg = a1.jpg = a2.jpg = a3.jpg and 3 more)")


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        pytest.param(("x", "a", 1), ("y", "a", 2), "same file: 1", id="same file"),
        pytest.param(("x", "a", 1), ("y", "b", 2), "same bytes: 1", id="same bytes"),
        pytest.param(
            ("voc_2007_trainval", "a", "000005"),
            ("voc_2007_test", "d", "000005"),
            "same official id: 1",
            id="same VOC id",
        ),
        pytest.param(
            ("coco_2014_train", "a", 9), ("coco_2017_val", "c", 9), "same official id", id="COCO id"
        ),
    ],
)
def test_training_images_in_the_test_set_are_refused(pictures, train, test, message: str) -> None:
    """F6: the same file, the same bytes, or the same id in one official family."""
    sets = [tiny(name, ("a",), pictures[file], image_id) for name, file, image_id in (train, test)]
    with pytest.raises(DataError) as caught:
        catalog.overlap(sets[:1], sets[1:])
    assert f"1 of 1 test images of {test[0]} are also training images" in str(caught.value)
    assert message in str(caught.value)
    assert f"{test[1]}.jpg" in str(caught.value)
    assert "EVAL.ALLOW_LEAK True" in str(caught.value)


def test_one_file_under_several_ids_is_noted(coco_tree) -> None:
    """F5: legal, but the image would count as often as it is listed."""
    coco_tree.image(1, "a.jpg")
    coco_tree.image(2, "a.jpg")
    coco_tree.image(3, "b.jpg")
    coco_tree.annotation()
    file, images = coco_tree.write()
    data = catalog.load_detection(f"coco:{file}:{images}")
    notes = [note for note in data.notes if "a.jpg" in note]
    assert notes == ["files that are listed under several ids: 1 (a.jpg)"]


def test_ids_of_ones_own_sets_prove_nothing(pictures) -> None:
    """F6: many tools count every folder from 1, and VOC's ids are not COCO's."""
    for train, test in (("mine", "yours"), ("coco_2017_train", "voc_2007_test")):
        learned, other = tiny(train, ("a",), pictures["a"], 1), pictures["c"]
        catalog.overlap([learned], [tiny(test, ("a",), other, 1)])
        with pytest.raises(DataError, match="1 of 1 test images"):  # the bytes do
            catalog.overlap([learned], [tiny(test, ("a",), pictures["a"], 1)])
    catalog.overlap([], [tiny("a", ("a",), pictures["a"])])


def test_a_link_to_a_training_image_is_that_image(pictures, tmp_path) -> None:
    """F6: whatever its name."""
    link = tmp_path / "link.jpg"
    os.symlink(pictures["a"], link)
    with pytest.raises(DataError, match="same file: 1"):
        catalog.overlap([tiny("x", ("a",), pictures["a"])], [tiny("y", ("a",), link)])


def test_the_real_splits_do_not_overlap_but_equal_themselves(shared_data) -> None:
    """F6: no image of the sample data is in both trainval and test (its README)."""
    sets = {
        split: catalog.load_detection(f"voc_2007_{split}", root=shared_data)
        for split in ("trainval", "val", "test")
    }
    catalog.overlap([sets["trainval"]], [sets["test"]])
    with pytest.raises(DataError, match="50 of 50 test images of voc_2007_val"):
        catalog.overlap([sets["trainval"]], [sets["val"]])


def yolo_tree(root: Path, *, roboflow: bool = False) -> Path:
    """A picture of 100 x 80 with one object in its middle, half as wide and as high."""
    images, labels = (
        root / part for part in (("train/images", "train/labels") if roboflow
                                 else ("images/train", "labels/train"))
    )  # fmt: skip
    for folder in (images, labels):
        folder.mkdir(parents=True)
    Image.new("RGB", (100, 80), (200, 10, 60)).save(images / "a b.jpg")
    (labels / "a b.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("names: [cat, dog]\ntrain: images/train\n")
    return root


@pytest.mark.parametrize("roboflow", [False, True], ids=["ultralytics", "roboflow"])
@pytest.mark.parametrize("named", ["data.yaml", ""], ids=["file", "folder"])
def test_a_set_of_yolo_is_named_with_what_converts_it(tmp_path, roboflow, named) -> None:
    root = yolo_tree(tmp_path / "my set", roboflow=roboflow)
    with pytest.raises(DataError) as refused:
        catalog.load_detection(str(root / named))
    assert "is a set in YOLO's layout, whose labels are not read" in str(refused.value)
    assert (
        f"Then it is coco:train.json:{root / ('train/images' if roboflow else 'images/train')}"
        in (str(refused.value))
    )


def test_the_command_for_a_set_of_yolo_makes_it_cocos(tmp_path, monkeypatch) -> None:
    pytest.importorskip("supervision", reason="supervision, whose command it is, is not installed")
    root = yolo_tree(tmp_path / "my set")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as refused:
        catalog.load_detection(str(root))
    command, name = str(refused.value).splitlines()[1:]
    subprocess.run(
        command.replace("python", shlex.quote(sys.executable), 1), shell=True, check=True
    )
    data = catalog.load_detection(name.removeprefix("Then it is ").rstrip("."))
    assert data.classes == ("cat", "dog")
    (one,) = data.records[0]["annotations"]
    assert (one["category_id"], one["bbox"]) == (1, pytest.approx([25, 20, 75, 60]))


def test_another_yaml_is_no_set_of_yolo(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1\n")
    with pytest.raises(DataError, match="a.yaml does not exist|is no folder|is a file"):
        catalog.load_detection(str(tmp_path / "a.yaml"))
