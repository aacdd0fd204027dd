"""Sets by name: the page for what is not there, and the known ones (F3, F8, F10)."""

from __future__ import annotations

import json
import shutil

import pytest

from resdet.data import catalog
from resdet.data.checks import what_is_there
from resdet.data.options import DataOptions
from resdet.errors import DataError
from tests.support import children
from tests.support.reading import page

pytestmark = pytest.mark.usefixtures("private_cache")


# -- the page for missing sets ----------------------------------------------------------------


def test_the_page_for_an_empty_root(tmp_path, monkeypatch) -> None:
    """F3: root and its origin, what was found, the tree, the variable, where to get it."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (tmp_path / "holiday").mkdir()
    text = page("voc_2007_trainval", "voc_2007_test")
    assert text.startswith(
        f"voc_2007_trainval, voc_2007_test are not there: {tmp_path}/VOC2007 does not exist."
    )
    for part in (
        f"root      {tmp_path}\n            (from DETECTRON2_DATASETS)",
        "found     cache/, holiday/" if (tmp_path / "cache").exists() else "found     holiday/",
        "expected  VOC2007/",
        "ImageSets/Main/trainval.txt ",
        "ImageSets/Main/test.txt ",
        "Annotations/000005.xml, … ",
        "JPEGImages/000005.jpg, … ",
        "export DETECTRON2_DATASETS=/path/to/the/folder/that/holds/VOC2007",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
        "datasets/README.md",
        "Nothing was started.",
    ):
        assert part in text, part
    assert text.count("<- missing") == 4


def test_the_root_without_the_variable_is_datasets_here(tmp_path, monkeypatch) -> None:
    """F3: Detectron2's default, shown as an absolute path with its reason."""
    monkeypatch.chdir(tmp_path)
    text = page("coco_2017_val")
    assert f"root      {tmp_path}/datasets" in text
    assert "(in the current folder, as DETECTRON2_DATASETS is not set)" in text
    assert "found     no such folder" in text
    assert "annotations/instances_val2017.json" in text
    assert "https://cocodataset.org/#download" in text


def test_only_what_is_missing_is_marked(voc_tree) -> None:
    """F3: a tree without its XML files."""
    voc_tree.list("train", "a")
    shutil.rmtree(voc_tree.root / "Annotations")
    text = page("voc_2007_train", root=voc_tree.root.parent)
    assert "VOC2007/Annotations does not exist" in text
    assert [line.split()[0] for line in text.splitlines() if "<- missing" in line] == [
        "Annotations/000005.xml,"
    ]


def test_a_root_one_level_too_high(voc_tree) -> None:
    """F3: named, with the line to type, quoted as its path has blanks."""
    voc_tree.list("train", "a")
    above = voc_tree.root.parent.parent
    text = page("voc_2007_train", root=above)
    assert "It seems to be one level deeper, in mes données #1?x=1/. Set:" in text
    assert f"export DETECTRON2_DATASETS='{voc_tree.root.parent}'" in text


def test_a_root_one_level_too_deep(voc_tree) -> None:
    """F3: the tree itself given as root."""
    voc_tree.list("train", "a")
    text = page("voc_2007_train", root=voc_tree.root)
    assert f"It seems to be one level higher, in {voc_tree.root.parent}. Set:" in text


def test_voc_devkit_is_accepted_as_it_unpacks(voc_tree) -> None:
    """The root may hold VOCdevkit/VOC2007."""
    voc_tree.add("a", voc_tree.object())
    voc_tree.list("train", "a")
    devkit = voc_tree.root.parent / "VOCdevkit"
    devkit.mkdir()
    voc_tree.root.rename(devkit / "VOC2007")
    catalog.require(["voc_2007_train"], root=devkit.parent)
    data = catalog.load_detection("voc_2007_train", root=devkit.parent)
    assert data.counts["objects"] == 1


def test_several_kinds_on_one_page(tmp_path) -> None:
    """Each with its tree and its source; sets that are there are not mentioned."""
    text = page(
        "imagenet_train", "cifar100_test", "digits_train", "coco_2014_minival", root=tmp_path
    )
    for part in ("train/<wnid>/*.JPEG", "cifar-100-binary/test.bin", "instances_minival2014.json"):
        assert part in text
    for part in ("imagenet: ", "cifar: ", "coco2014: "):
        assert f"\n  {part}" in text
    assert "digits" not in text


def test_paths_in_names_are_shown_as_they_are(tmp_path) -> None:
    """No root and no variable can help there."""
    text = page(f"voc:{tmp_path}/x:train", f"coco:{tmp_path}/a.json:{tmp_path}")
    assert f"{tmp_path}/x does not exist" in text
    assert f"{tmp_path}/a.json does not exist" in text
    assert "DETECTRON2_DATASETS" not in text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("voc_2007_tets", "'voc_2007_tets'. Did you mean voc_2007_test"),
        ("nonsense", "your own: voc:ROOT:SPLIT, coco:FILE.json:IMAGES"),
        ("/data/none", "/data/none does not exist. Give a folder of class folders."),
        ("voc:somewhere", "'voc:somewhere' is not of the form voc:ROOT:SPLIT."),
        ("coco:a.json:", "is not of the form coco:FILE.json:IMAGES."),
    ],
)
def test_unknown_names(name: str, text: str) -> None:
    """The nearest known one, or the ways to name one's own."""
    assert text in page(name)


def test_sets_without_annotations_are_refused_for_evaluation(tmp_path) -> None:
    """F8: before anything is looked for."""
    text = page("coco_2017_test-dev", root=tmp_path, annotated=True)
    assert text.startswith("coco_2017_test-dev has no annotations, so no AP can be had here")
    assert "voc_2012_test, coco_2017_test have" in page(
        "voc_2012_test", "voc_2007_test", "coco_2017_test", annotated=True
    )


@pytest.mark.parametrize(
    ("load", "name", "text"),
    [
        (catalog.load_detection, "imagenet_train", "is a classification set; a detector needs"),
        (catalog.load_classification, "coco_2017_val", "is a detection set; a classifier needs"),
        (catalog.load_detection, ".", r"\. is a folder; a detector needs boxes\. Give voc"),
    ],
)
def test_sets_of_the_other_kind(load, name: str, text: str) -> None:
    """Said before anything is looked for."""
    with pytest.raises(DataError, match=text):
        load(name)


# -- known sets -------------------------------------------------------------------------------


def test_known_names() -> None:
    """Detectron2's built-in names of VOC and COCO boxes, voc_2012_test, digits, ILSVRC's, and
    classification's."""
    names = catalog.known()
    assert len(names) == len(set(names)) == 36
    assert {"voc_2012_test", "coco_2017_test-dev", "digits_crops_val", "cifar100_test"} <= set(
        names
    )


def test_names_and_places_are_detectron2s() -> None:
    """Detectron2's own table of COCO files, and its VOC splits."""
    builtin = pytest.importorskip("detectron2.data.datasets.builtin")
    from resdet.data.names import COCO

    theirs = builtin._PREDEFINED_SPLITS_COCO["coco"]
    assert len(COCO) == 8
    for name, ours in COCO.items():
        assert theirs[name] == (ours.images, ours.annotations)


def test_the_real_sets_by_name(shared_data, monkeypatch) -> None:
    """DETECTRON2_DATASETS alone: counts of the README of the sample data."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shared_data))
    voc = catalog.load_detection("voc_2007_test")
    assert (len(voc), voc.counts["objects"], voc.counts["difficult"]) == (120, 668, 183)
    assert (voc.evaluators, voc.voc_year) == (("voc",), 2007)
    assert "120 of the 4,952 images of the published set" in voc.notes
    coco = catalog.load_detection("coco_2017_val")
    assert (len(coco), coco.counts["objects"], coco.counts["crowd"]) == (100, 970, 21)
    assert (coco.evaluators, coco.voc_year) == (("coco",), None)
    assert "100 of the 5,000 images of the published set" in coco.notes
    assert len(catalog.load_classification("cifar10_test")) == 1000
    assert len(catalog.load_classification(shared_data / "imagenet_sample")) == 60
    state = {row["name"]: row for row in what_is_there.status()}
    assert state["voc_2007_test"]["state"] == "incomplete"
    assert state["voc_2007_test"]["images"] == 120
    assert "4,952" in state["voc_2007_test"]["hint"]
    assert state["voc_2012_val"]["state"] == "missing"


def test_numbers_are_the_same_without_the_cache(shared_data) -> None:
    """F10: twice with it, once without."""
    sets = [
        catalog.load_detection("coco_2017_val", root=shared_data, options=DataOptions(cache=cache))
        for cache in (True, True, False)
    ]
    assert sets[0].records == sets[1].records == sets[2].records
    assert len({data.hash for data in sets}) == 1
    assert sets[0].counts == sets[1].counts == sets[2].counts


def test_status_tells_missing_from_broken(voc_tree) -> None:
    """For the doctor: a list without pictures is broken, with a hint."""
    voc_tree.add("a")
    voc_tree.list("train", "a")
    voc_tree.list("val", "a", "b")
    rows = {row["name"]: row for row in what_is_there.status(voc_tree.root.parent)}
    assert len(rows) == 36
    assert rows["voc_2007_train"]["state"] == "incomplete"
    assert rows["voc_2007_train"]["hint"] == "1 images; the published set has 2,501"
    assert rows["voc_2007_val"] == {
        "name": "voc_2007_val",
        "state": "broken",
        "images": 1,
        "hint": "1 of 2 listed images are missing",
    }
    assert rows["voc_2007_test"]["state"] == "broken"
    assert rows["voc_2007_test"]["hint"].endswith("ImageSets/Main/test.txt")
    assert rows["coco_2017_val"]["state"] == "missing"
    assert rows["digits_train"] == {
        "name": "digits_train",
        "state": "missing",
        "images": 0,
        "hint": "made on first use",
    }


@pytest.mark.parametrize(
    ("classes", "files", "state", "hint"),
    [
        (1000, 50, "whole", ""),
        (1000, 49, "incomplete", "n0000 has 49 files; a class of ImageNet has 50 or more there"),
        (3, 50, "incomplete", "3 class folders; ImageNet has 1,000"),
    ],
)
def test_an_imagenet_of_fewer_images_is_incomplete(
    tmp_path, monkeypatch, make_picture, classes, files, state, hint
) -> None:
    """Neither is refused: other counts are named, by the doctor and beside every number."""
    root = tmp_path / "imagenet" / "val"
    for label in range(classes):
        (root / f"n{label:04}").mkdir(parents=True)
    for label in range(0, classes, max(1, classes // what_is_there.LOOKED_AT)):
        for number in range(files):
            (root / f"n{label:04}" / f"{number}.JPEG").touch()
    rows = {row["name"]: row for row in what_is_there.status(tmp_path)}
    assert (rows["imagenet_val"]["state"], rows["imagenet_val"]["hint"]) == (state, hint)
    assert rows["imagenet_train"]["state"] == "missing"
    if classes == 3:
        for label in range(3):
            make_picture((8, 6), seed=label).save(root / f"n{label:04}" / "0.JPEG")
            for number in range(1, files):
                (root / f"n{label:04}" / f"{number}.JPEG").unlink(missing_ok=True)
        notes = catalog.load_classification("imagenet_val", root=tmp_path).notes
        assert notes == ("3 of the 50,000 images of the published set",)


def test_the_digits_through_their_own_maker(coco_tree, tmp_path, monkeypatch, make_picture) -> None:
    """Boxes from its COCO file, pictures from its VOC folder, crops as class folders."""
    from resdet.data import digits

    coco_tree.image(1)
    coco_tree.annotation(difficult=1)
    json_file, images = coco_tree.write()
    (tmp_path / "d" / "coco" / "annotations").mkdir(parents=True)
    (tmp_path / "d" / "crops" / "val" / "7").mkdir(parents=True)
    (tmp_path / "d" / "voc").mkdir()
    json_file.rename(tmp_path / "d" / "coco" / "annotations" / "instances_val.json")
    images.rename(tmp_path / "d" / "voc" / "JPEGImages")
    make_picture((8, 8)).save(tmp_path / "d" / "crops" / "val" / "7" / "a.png")
    monkeypatch.setattr(digits, "make", lambda: tmp_path / "d")
    scenes = catalog.load_detection("digits_val")
    assert (scenes.evaluators, scenes.voc_year) == (("voc", "coco"), 2007)
    assert scenes.counts["difficult"] == 1
    assert scenes.sources == digits.SOURCES
    crops = catalog.load_classification("digits_crops_val")
    assert (crops.classes, len(crops), crops.sources) == (("7",), 1, digits.SOURCES)


# -- locale -----------------------------------------------------------------------------------


def test_a_set_loads_in_a_locale_without_utf8(coco_tree) -> None:
    """F71: class names and paths beyond ASCII under LC_ALL=C without UTF-8 mode."""
    coco_tree.image(1, "v\u00e9lo.jpg")
    coco_tree.content["categories"][0]["name"] = "v\u00e9lo"
    coco_tree.annotation()
    coco_tree.json.write_text(json.dumps(coco_tree.content, ensure_ascii=False), encoding="utf-8")
    code = (
        "import sys; from pathlib import Path\n"
        "from resdet.data.readers.coco_reader import load_coco\n"
        "data = load_coco(Path(sys.argv[1]), Path(sys.argv[2]), name='x')\n"
        "print(ascii(data.classes[0]), data.counts['objects'])\n"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = children.python("-c", code, coco_tree.json, coco_tree.images, **plain)
    assert done.stdout.split() == ["'v\\xe9lo'", "1"], done.stderr
