"""Stand-ins of large trees: what both readers find in them, and which bars a table misses."""

from __future__ import annotations

import json
import mmap

import pytest

pytest.importorskip("detectron2")
pytest.importorskip("skimage")

from benchmarks.scale import __main__ as scale
from benchmarks.scale import measure, trees
from resdet.data import DataOptions, catalog

pytestmark = pytest.mark.usefixtures("private_cache")


@pytest.fixture
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))


def test_detectron2_and_we_find_the_same_objects(tmp_path) -> None:
    """Boxes, classes, crowds and sizes of every image, from one file with polygons and masks."""
    from detectron2.data.datasets.coco import load_coco_json

    file, images = trees.make_coco(tmp_path, 120)
    theirs = {r["image_id"]: r for r in load_coco_json(str(file), str(images), "made_for_test")}
    data = catalog.load_detection("coco_2017_train", root=tmp_path, options=DataOptions())
    assert len(data) == len(theirs) == 120
    assert data.counts["objects"] == round(120 * trees.OBJECTS) and data.counts["crowd"] > 0
    assert data.counts["grey"] and data.counts["CMYK"]
    for record in data.records:
        other = theirs[record["image_id"]]
        assert (record["width"], record["height"]) == (other["width"], other["height"])
        boxes = [[*a["bbox"][:2], a["bbox"][0] + a["bbox"][2], a["bbox"][1] + a["bbox"][3]]
                 for a in other["annotations"]]  # fmt: skip
        assert [a["bbox"] for a in record["annotations"]] == boxes
        assert [a["iscrowd"] for a in record["annotations"]] == [
            a["iscrowd"] for a in other["annotations"]
        ]
    content = json.loads(file.read_text())
    parts = {len(a["segmentation"]) for a in content["annotations"] if not a["iscrowd"]}
    assert parts == {1, 2}


def test_image_folder_and_we_find_the_same_files(tmp_path, monkeypatch) -> None:
    import torchvision

    monkeypatch.setattr(trees, "CLASSES", 7)
    root = trees.make_class_folders(tmp_path, 40)
    theirs = torchvision.datasets.ImageFolder(str(root))
    data = catalog.load_classification("imagenet_train", root=tmp_path)
    assert [*zip(data.files, data.labels.tolist(), strict=True)] == theirs.samples
    assert data.classes == tuple(theirs.classes)


def test_webdataset_and_we_find_the_same_images(tmp_path, monkeypatch) -> None:
    webdataset = pytest.importorskip("webdataset")
    monkeypatch.setattr(trees, "CLASSES", 7)
    monkeypatch.setattr(trees, "IMAGES_OF_SHARD", 20)
    root = trees.make_shards(tmp_path, 40)
    shards = sorted(map(str, root.glob("*.tar")))
    theirs = {
        s["__key__"]: int(s["cls"]) for s in webdataset.WebDataset(shards, shardshuffle=False)
    }
    data = catalog.load_classification(f"wds:{root}")
    ours = (name.partition(".")[0] for name in data.encoded.names)
    assert dict(zip(ours, data.labels.tolist(), strict=True)) == theirs
    assert len(shards) == 2 and len(theirs) == 40


def test_shards_have_no_peer_whose_start_counts() -> None:
    """webdataset has no index to make; and where it is not installed there is no row of it."""
    of_shards = [{**row, "tree": measure.SHARDS} for row in rows(first=9.0, worker=99.0)]
    assert scale.missed(of_shards) == scale.missed(of_shards[1:]) == []
    assert scale.missed([{**row, "processor": 11.0} for row in of_shards[1:]]) == [
        "tar shards, 9 images: the second start takes 11.0 s"
    ]


def rows(**changes: float) -> list[dict]:
    peer = {"tree": "t", "images": 9, "way": "peer", "processor": 5.0, "worker_mb": 20.0}
    first = {**peer, "way": "ours, first", "processor": changes.get("first", 4.0)}
    second = {**first, "way": "ours, second", "processor": changes.get("second", 1.0),
              "worker_mb": changes.get("worker", 19.0)}  # fmt: skip
    return [peer, first, second]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"first": 5.1}, ["t, 9 images: the first start takes 5.1 s of processor time, peer 5.0"]),
        ({"second": 10.1}, ["t, 9 images: the second start takes 10.1 s"]),
        ({"worker": 21.0}, ["t, 9 images: a worker has 21 MB of its own, peer 20"]),
    ],
)
def test_a_bar_that_is_missed_is_named(changes, words) -> None:
    assert scale.missed(rows(**changes)) == words


def test_private_memory_is_what_a_process_writes() -> None:
    # Not from the heap, where pages that other tests have freed are private already.
    with mmap.mmap(-1, 2**25) as block:
        before = measure.private_mb()
        block.write(b"x" * 2**25)
        assert 30 < measure.private_mb() - before < 70
