"""The embedded set's files: class folders, VOC and COCO, and how others read them."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resdet.data import catalog, digits
from resdet.data.digits import worker, writer
from resdet.data.digits.splits import SPLITS
from resdet.detect.testing.inference import ground_truth
from resdet.evaluation.voc import voc_evaluation as voc
from tests.support.digit_sets import SMALL

pytestmark = pytest.mark.usefixtures("one_studio")


def coco(root: Path, split: str) -> dict:
    file = root / "coco" / "annotations" / f"instances_{split}.json"
    return json.loads(file.read_text(encoding="utf-8"))


def voc_objects(root: Path, image_id: int) -> list[dict]:
    tree = ET.parse(root / "voc" / "Annotations" / f"{image_id:06d}.xml")
    return [
        {
            "name": o.findtext("name"),
            "difficult": int(o.findtext("difficult")),
            "truncated": int(o.findtext("truncated")),
            "box": [int(o.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax")],
        }
        for o in tree.iter("object")
    ]


def listed(root: Path, name: str) -> list[str]:
    file = root / "voc" / "ImageSets" / "Main" / f"{name}.txt"
    return file.read_text(encoding="utf-8").splitlines()


# -- class folders -----------------------------------------------------------------------------


def test_crops_lie_in_ten_class_folders(root: Path):
    """What torchvision's ImageFolder expects: one folder a class, files below."""
    for split in SPLITS:
        folders = sorted(p.name for p in (root / "crops" / split).iterdir())
        assert folders == list("0123456789")
        files = list((root / "crops" / split).glob("*/*.png"))
        assert len(files) == SMALL[f"crops_{split}"]
        for file in files[:5]:
            with Image.open(file) as image:
                assert (image.format, image.mode, image.size) == ("PNG", "RGB", (48, 48))


def test_a_crop_on_disk_is_the_painted_one_to_the_bit(root: Path):
    """PNG keeps every pixel."""
    image, label = worker.Studio().crop("val", 3)
    with Image.open(root / "crops" / "val" / str(label) / "00004.png") as stored:
        np.testing.assert_array_equal(np.asarray(stored), image)


# -- VOC ---------------------------------------------------------------------------------------


def test_voc_lists_name_every_scene_once(root: Path):
    ids = {split: listed(root, split) for split in SPLITS}
    assert {k: len(v) for k, v in ids.items()} == {s: SMALL[f"scenes_{s}"] for s in SPLITS}
    together = [i for split in SPLITS for i in ids[split]]
    assert together == [f"{i:06d}" for i in range(1, len(together) + 1)]
    assert listed(root, "trainval") == ids["train"] + ids["val"]
    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        present = {p.name for p in (root / "voc" / folder).iterdir()}
        assert present == {f"{i}.{suffix}" for i in together}


def test_voc_scenes_are_jpeg_of_the_size_in_the_xml(root: Path):
    """F16 and F32: size and format are those of the annotation and the suffix."""
    for file in sorted((root / "voc" / "JPEGImages").iterdir())[:20]:
        tree = ET.parse(root / "voc" / "Annotations" / f"{file.stem}.xml")
        with Image.open(file) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            stated = [int(tree.findtext(f"size/{k}")) for k in ("width", "height", "depth")]
            assert stated == [*image.size, 3]
        assert tree.findtext("filename") == file.name


def test_voc_boxes_count_from_one_and_reach_the_borders(root: Path):
    """F13: 1-based, inclusive; cut digits have coordinates 1 and 144."""
    boxes = np.array([o["box"] for i in range(1, 121) for o in voc_objects(root, i)])
    assert boxes.min() == 1 and boxes.max() == 144
    assert (boxes[:, :2] < boxes[:, 2:]).all()


def test_voc_has_difficult_and_truncated_objects(root: Path):
    objects = [o for i in range(1, 121) for o in voc_objects(root, i)]
    assert 0 < sum(o["difficult"] for o in objects) < len(objects) / 3
    assert 0 < sum(o["truncated"] for o in objects) < len(objects) / 3


@pytest.mark.parametrize("split", [*SPLITS, "trainval"])
def test_voc_class_lists_agree_with_the_annotations(split: str, root: Path):
    """1 has the class, 0 only difficult ones, -1 none: the devkit's rule."""
    for name in "0123456789":
        lines = listed(root, f"{name}_{split}")
        assert [line.split()[0] for line in lines] == listed(root, split)
        for line in lines:
            image_id, flag = line.split()
            of_class = [o for o in voc_objects(root, int(image_id)) if o["name"] == name]
            plain = [o for o in of_class if not o["difficult"]]
            assert int(flag) == (1 if plain else 0 if of_class else -1)


# -- COCO --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_coco_boxes_and_classes_equal_vocs(split: str, root: Path):
    """One set of boxes: [x, y, w, h] from 0 against corners from 1. Crowd digits are VOC's."""
    content = coco(root, split)
    names = {c["id"]: c["name"] for c in content["categories"]}
    assert names == {i: str(i - 1) for i in range(1, 11)}
    crowds = 0
    for image in content["images"]:
        annotations = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        in_coco = []
        for a in (a for a in annotations if not a["iscrowd"]):
            x, y, w, h = a["bbox"]
            assert all(isinstance(v, int) for v in a["bbox"])
            in_coco.append(
                {
                    "name": names[a["category_id"]],
                    "difficult": a["difficult"],
                    "truncated": a["truncated"],
                    "box": [x + 1, y + 1, x + w, y + h],
                }
            )
        in_voc = voc_objects(root, image["id"])
        crowd = [a for a in annotations if a["iscrowd"]]
        if not crowd:
            assert in_coco == in_voc
            continue
        crowds += 1
        extra = [o for o in in_voc if o not in in_coco]
        assert len(in_coco) + len(extra) == len(in_voc) and 6 <= len(extra) <= 9
        assert all(o["difficult"] for o in extra)
        x, y, w, h = crowd[0]["bbox"]
        corners = np.array([o["box"] for o in extra])
        assert [*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0)] == [
            x + 1, y + 1, x + w, y + h,
        ]  # fmt: skip
    assert crowds > 0 or split != "train"


def test_coco_masks_decode_by_pycocotools_and_lie_in_their_boxes(root: Path):
    """pycocotools as the reference decoder: areas, boxes and the crowd's region."""
    pycocotools_coco = pytest.importorskip("pycocotools.coco")
    api = pycocotools_coco.COCO()
    api.dataset = coco(root, "train")
    api.createIndex()
    annotations = api.loadAnns(api.getAnnIds())
    assert {a["iscrowd"] for a in annotations} == {0, 1}
    for a in annotations:
        mask = api.annToMask(a)
        assert mask.shape == (144, 144) and mask.sum() == a["area"] > 0
        x, y, w, h = a["bbox"]
        assert mask.sum() == mask[y : y + h, x : x + w].sum()
    ids = [a["id"] for a in annotations]
    assert len(set(ids)) == len(ids) and min(ids) == 1  # 0 would mean "unmatched" (F58)


def test_coco_masks_of_one_image_do_not_overlap(root: Path):
    """A mask is the visible part, so a pixel is in one of them at most."""
    decode = pytest.importorskip("pycocotools.mask")
    totals: dict[int, np.ndarray] = {}
    for a in coco(root, "train")["annotations"]:
        if not a["iscrowd"]:
            segmentation = a["segmentation"]
            mask = decode.decode(decode.frPyObjects(segmentation, *segmentation["size"]))
            totals[a["image_id"]] = totals.get(a["image_id"], 0) + mask.astype(int)
    assert max(t.max() for t in totals.values()) == 1


def test_coco_keeps_images_without_objects(root: Path):
    """F8: an image without objects is a legal negative."""
    content = coco(root, "train")
    with_objects = {a["image_id"] for a in content["annotations"]}
    assert 0 < len(content["images"]) - len(with_objects) < 12


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        pytest.param([[0, 0], [0, 0]], [4], id="empty"),
        pytest.param([[1, 1], [1, 1]], [0, 4], id="full"),
        pytest.param([[1, 0], [1, 1]], [0, 2, 1, 1], id="ends with one"),
        pytest.param([[0, 1], [0, 0]], [2, 1, 1], id="ends with zero"),
    ],
)
def test_run_lengths_go_down_columns_and_start_with_zeros(mask: list, expected: list):
    """COCO's definition, worked by hand."""
    assert writer.run_lengths(np.array(mask, bool)) == expected


# -- other readers -----------------------------------------------------------------------------


def test_detectron2_reads_both_formats_alike(root: Path):
    """Detectron2's own loaders; load_voc_instances takes the 1 from xmin and ymin."""
    pytest.importorskip("detectron2")
    from detectron2.data.datasets.coco import load_coco_json
    from detectron2.data.datasets.pascal_voc import load_voc_instances

    as_voc = load_voc_instances(str(root / "voc"), "val", digits.CLASSES)
    as_coco = load_coco_json(
        str(root / "coco" / "annotations" / "instances_val.json"), str(root / "voc" / "JPEGImages")
    )
    assert len(as_voc) == len(as_coco) == SMALL["scenes_val"]
    compared = 0
    for one, coc in zip(as_voc, as_coco, strict=True):
        assert one["file_name"] == coc["file_name"] and os.path.exists(one["file_name"])
        assert one["height"] == coc["height"] == 144
        if any(a["iscrowd"] for a in coc["annotations"]):
            continue
        # Without a data set name load_coco_json keeps official ids, which count from 1.
        assert [a["category_id"] for a in one["annotations"]] == [
            a["category_id"] - 1 for a in coc["annotations"]
        ]
        for a, b in zip(one["annotations"], coc["annotations"], strict=True):
            x, y, w, h = b["bbox"]
            assert a["bbox"] == [x, y, x + w, y + h]
            compared += 1
    assert compared > 20


def test_a_run_scores_the_objects_of_the_xml(root: Path, monkeypatch: pytest.MonkeyPatch):
    """The truth that a run keeps for VOC's metric, of the JSON's crowds, is the XML's own."""
    monkeypatch.setattr(digits, "make", lambda: root)
    data = catalog.load_detection("digits_train")
    assert any(a["iscrowd"] for r in data.records for a in r["annotations"])
    kept = voc.ground_truth_from_coco(ground_truth(data))
    xml = voc.read_devkit_ground_truth(root / "voc", "train", data.classes)

    def objects(truth: voc.VocGroundTruth) -> list[tuple]:
        rows = zip(truth.image, truth.label, truth.boxes.tolist(), truth.difficult, strict=True)
        return sorted((int(truth.image_ids[i]), c, box, bool(d)) for i, c, box, d in rows)

    assert objects(kept) == objects(xml)
