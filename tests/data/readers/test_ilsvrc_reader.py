"""ILSVRC's sets as records, on a made-up tree: ids, boxes, lists, what trains and what does not."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from resdet.data import DataOptions, catalog
from resdet.data.checks import what_is_there
from resdet.data.ilsvrc.ilsvrc_trial import DET_ORDER, LOC_ORDER, wnid
from resdet.errors import DataError


def load(root: Path, split: str, **options: int) -> catalog.DetectionSet:
    return catalog.load_detection(
        f"ilsvrc:{root}:{split}", options=DataOptions(cache=False, **options)
    )


def lists_of_classes(root: Path) -> dict[str, dict[str, str]]:
    """wnid to image id to label, read here line by line."""
    folder = root / "ImageSets" / "DET"
    found = {}
    for number, digit in enumerate(DET_ORDER, 1):
        lines = (folder / f"train_{number}.txt").read_text().splitlines()
        found[wnid(digit)] = dict(line.split() for line in lines)
    return found


def test_classes_are_in_the_order_of_the_kits_ids(ilsvrc_root: Path) -> None:
    """Not of sorted wnids, nor the same in both tracks."""
    det, loc = load(ilsvrc_root, "det_val"), load(ilsvrc_root, "loc_val")
    assert det.classes == tuple(wnid(d) for d in DET_ORDER)
    assert loc.classes == tuple(wnid(d) for d in LOC_ORDER)
    assert det.category_ids == tuple(range(1, 11))
    assert det.classes != tuple(sorted(det.classes)) and det.classes != loc.classes
    assert (det.evaluators, loc.evaluators) == (("ilsvrc", "coco"), ("coco",))


def test_boxes_keep_the_numbers_of_the_xml(ilsvrc_root: Path) -> None:
    """Read here with ElementTree; and no object is difficult, though none states it."""
    data = load(ilsvrc_root, "det_val")
    objects = 0
    for record in data.records:
        path = ilsvrc_root / "Annotations" / "DET" / "val" / f"{record['image_id']}.xml"
        expected = [
            (o.findtext("name"), *(float(o.findtext(f"bndbox/{t}") or "")
                                   for t in ("xmin", "ymin", "xmax", "ymax")))
            for o in ElementTree.parse(path).getroot().findall("object")
        ]  # fmt: skip
        mine = [(data.classes[a["category_id"]], *a["bbox"]) for a in record["annotations"]]
        assert mine == expected
        objects += len(mine)
    assert objects > 20
    assert data.counts["difficult"] == 0
    assert not any("difficult" in key and value for key, value in data.counts.items())


def test_only_positive_images_of_det_train(ilsvrc_root: Path) -> None:
    """The union of the images with label 1 in some class's list, by a loop over the lists."""
    labels = lists_of_classes(ilsvrc_root)
    positive = {i for rows in labels.values() for i, label in rows.items() if label == "1"}
    every = {i for rows in labels.values() for i in rows}
    data = load(ilsvrc_root, "det_train")
    assert {r["image_id"] for r in data.records} == positive
    assert len(positive) < len(every)
    assert any(f"{len(positive)} of {len(positive)} images that are positive" in n
               for n in data.notes)  # fmt: skip
    assert all(r["image_id"].startswith("ILSVRC2014_train_0000/") for r in data.records)


def test_a_class_balanced_subset_takes_so_many_of_each_list(ilsvrc_root: Path) -> None:
    """Two of each class's positives, first and last; off gives all, and the hash tells them."""
    labels = lists_of_classes(ilsvrc_root)
    expected = set()
    for rows in labels.values():
        positive = [i for i, label in rows.items() if label == "1"]
        expected |= set(positive if len(positive) < 3 else (positive[0], positive[-1]))
    some, every = load(ilsvrc_root, "det_train", ilsvrc_per_class=2), load(ilsvrc_root, "det_train")
    assert {r["image_id"] for r in some.records} == expected
    assert len(some) < len(every)
    assert some.hash != every.hash
    many = load(ilsvrc_root, "det_train", ilsvrc_per_class=10_000)
    assert many.hash == every.hash


def test_indices_are_those_of_the_list(ilsvrc_root: Path, tmp_path: Path) -> None:
    """val2 as a list with indices of val: image 9 stays 9 in result files."""
    root = tmp_path / "ILSVRC"
    shutil.copytree(ilsvrc_root, root)
    (root / "ImageSets" / "DET" / "val2.txt").write_text(
        "ILSVRC2012_val_00000009 9\nILSVRC2012_val_00000004 4\n"
    )
    data = load(root, "det_val2")
    assert [(r["image_id"][-2:], r["result_index"]) for r in data.records] == [("09", 9), ("04", 4)]
    # The kit's blacklist is of one image of val, which is not in this list, or is in it.
    first = (root / "devkit" / "data" / "ILSVRC2015_det_validation_blacklist.txt").read_text()
    index = int(first.split()[0])
    whole = load(root, "det_val")
    assert [r["result_index"] for r in whole.records if r.get("not_scored")] == [index]


def test_loc_train_is_the_list_of_boxed_images(ilsvrc_root: Path) -> None:
    """Of one class each, the folder's; images without boxes are in train_cls.txt alone."""
    data = load(ilsvrc_root, "loc_train")
    every = (ilsvrc_root / "ImageSets" / "CLS-LOC" / "train_cls.txt").read_text().splitlines()
    assert 0 < len(data) < len(every)
    for record in data.records:
        (name,) = {data.classes[a["category_id"]] for a in record["annotations"]}
        assert record["image_id"].startswith(f"{name}/")


def test_test_images_have_no_annotations(ilsvrc_root: Path) -> None:
    assert not load(ilsvrc_root, "det_test").annotated
    assert not catalog.has_annotations(f"ilsvrc:{ilsvrc_root}:loc_test")
    assert catalog.has_annotations(f"ilsvrc:{ilsvrc_root}:loc_val")


def test_what_is_missing_is_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(DataError, match=r"(?s)ilsvrc_det_train is not there.*prepare_ilsvrc\.py"):
        catalog.require(["ilsvrc_det_train"])
    with pytest.raises(DataError, match="is not of the form ilsvrc:ROOT:NAME with one of det_tr"):
        catalog.require([f"ilsvrc:{tmp_path}:val"])
    with pytest.raises(DataError, match="Did you mean .*ilsvrc_det_val2"):
        catalog.require(["ilsvrc_det_val3"])


def test_official_names_below_the_root(
    ilsvrc_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same images under the official name, with a note on the size: val has 20,121."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(ilsvrc_root.parent))
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    data = catalog.load_detection("ilsvrc_det_val")
    assert data.hash == load(ilsvrc_root, "det_val").hash
    assert "of the 20,121 images of the published set" in " ".join(data.notes)
    states = {row["name"]: row["state"] for row in what_is_there.status()}
    assert states["ilsvrc_det_val"] == states["ilsvrc_det_train"] == "incomplete"
    assert states["ilsvrc_det_val1"] == "broken"
