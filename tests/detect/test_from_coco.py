"""A detector of COCO's 80 classes goes on with VOC's 20, detects on VOC 2012 test, is packed."""

from __future__ import annotations

import json
import tarfile

import pytest
from PIL import Image

pytest.importorskip("detectron2")

from detectron2.data import MetadataCatalog

from resdet.formats.voc_xml import VOC_CLASSES
from resdet.run.folder import Run
from tests.support import children, tiny, trainings
from tests.support.voc_xml import annotation, voc_object

COCO = {
    "DATASETS.TRAIN": ["coco:coco.json:images"],
    "DATASETS.TEST": [],
    "SOLVER.MAX_ITER": 1,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 30,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
}
VOC = {**COCO, "DATASETS.TRAIN": ["voc_2007_trainval"], "TRANSFER.HEADS": "by_name"}


def picture(folder, name, number):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tiny.picture(number, number % 3, 96, 72)).save(folder / name, quality=95)


def coco_file(place):
    """Two images with an airplane and a tv, and COCO's 80 categories."""
    names = MetadataCatalog.get("coco_2017_val").thing_classes
    content = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": k + 1, "name": name} for k, name in enumerate(names)]
    for number, name in enumerate(("airplane", "tv")):
        picture(place / "images", f"{number}.jpg", number)
        content["images"].append(
            {"id": number, "file_name": f"{number}.jpg", "width": 96, "height": 72}
        )
        plain = {"bbox": [24, 18, 48, 36], "area": 1728, "iscrowd": 0}
        category = names.index(name) + 1
        content["annotations"].append(
            {"id": number + 1, "image_id": number, "category_id": category, **plain}
        )
    (place / "coco.json").write_text(json.dumps(content), encoding="utf-8")


def voc_tree(root, split, ids, annotated):
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(ids) + "\n", "utf-8")
    for number, name in enumerate(ids):
        picture(root / "JPEGImages", f"{name}.jpg", number)
        if annotated:
            (root / "Annotations").mkdir(exist_ok=True)
            one = voc_object(VOC_CLASSES[number], (25, 19, 72, 54), difficult=0)
            file = root / "Annotations" / f"{name}.xml"
            file.write_text(annotation(one, size=(96, 72)), encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("from_coco")
    coco_file(place)
    voc_tree(place / "sets" / "VOC2007", "trainval", ["000005", "000007"], annotated=True)
    voc_tree(place / "sets" / "VOC2012", "test", ["2008_000001", "2008_000004"], annotated=False)
    for name, keys in (("coco", COCO), ("voc", VOC)):
        text = trainings.detector(trainings.FROM_SCRATCH, keys)
        (place / f"{name}.yaml").write_text(text, encoding="utf-8")
    done = run(place, "train_det", "--config", "coco.yaml", "--output", "coco")
    assert done.returncode == 0, done.stderr
    return place


def run(place, *words):
    sets = {"DETECTRON2_DATASETS": str(place / "sets"), "RESDET_CACHE": str(place / "cache")}
    ledger = {"RESDET_LEDGER": str(place / "ledger.jsonl")}
    return children.python(
        children.ROOT / "tools" / f"{words[0]}.py", *words[1:], cwd=place, **sets, **ledger
    )


def test_all_of_vocs_classes_arrive_and_the_package_is_clean(place):
    """Tables 10 and 11, "+++": 20 of 20 by name, 60 of COCO's left behind; 2012 test by server."""
    start = ("MODEL.WEIGHTS", "coco/model_final.pth")
    done = run(place, "train_det", "--config", "voc.yaml", "--output", "voc", *start)
    assert done.returncode == 0, done.stderr
    transfer = Run.open(place / "voc").read("transfer.json")
    assert transfer["new"] == [] and transfer["arrived"] == transfer["expected"]
    assert "20 of 20 classes copied by name (airplane as aeroplane," in transfer["heads"]
    assert transfer["heads"].endswith("fresh: none; left behind: 60 of the file's 80")
    pairs = dict(map(tuple, transfer["head_classes"]))
    assert list(pairs.values()) == list(VOC_CLASSES) and pairs["potted plant"] == "pottedplant"

    test = ("DATASETS.TEST", "('voc_2012_test',)")
    scored = run(place, "train_det", "--config", "voc.yaml", "--output", "voc", "--eval-only",
                 *start, *test)  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    assert "submit.py voc" in scored.stdout
    packed = run(place, "submit", "voc", "voc", "--set", "voc_2012_test")
    assert packed.returncode == 0, packed.stderr
    (archive,) = (place / "voc" / "submissions").rglob("*.tar.gz")
    with tarfile.open(archive) as content:
        names = {n.rpartition("/")[2] for n in content.getnames() if n.endswith(".txt")}
    assert names == {f"comp4_det_test_{name}.txt" for name in VOC_CLASSES}


def test_names_that_are_stated_without_by_name_are_refused(place):
    names = ("TRANSFER.HEADS", "new", "TRANSFER.HEAD_NAMES", "('car=bus',)")
    done = run(place, "train_det", "--config", "voc.yaml", "--output", "no", "MODEL.WEIGHTS",
               "coco/model_final.pth", *names)  # fmt: skip
    assert done.returncode == 2 and "Set TRANSFER.HEADS, or leave" in done.stderr, done.stderr


def test_a_preset_from_coco_that_starts_from_no_detector_is_refused(place):
    """By name there is nothing to copy: such a run would be no "+++", without a word."""
    done = run(place, "train_det", "--config", "voc.yaml", "--output", "no")
    assert done.returncode == 2, done.stderr
    assert "MODEL.WEIGHTS is empty, so there are no predictors to copy" in done.stderr
