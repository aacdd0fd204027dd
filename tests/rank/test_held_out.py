"""Parts of a set as COCO files: read again, they are the same images and objects."""

import json

import numpy as np
import pytest
from PIL import Image

from resdet.data import DataOptions, catalog
from resdet.errors import ConfigError
from resdet.rank.held_out import drawn, split, written
from tests.support import tiny


def test_a_part_that_is_read_again_has_the_same_images_boxes_and_classes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.voc_tree(tmp_path / "voc")
    whole = catalog.load_detection("voc:voc:train")
    name = written(whole, [0, 2], tmp_path / "part.json")
    part = catalog.load_detection(name)
    assert part.classes == whole.classes and len(part) == 2
    for mine, place in zip(part.records, (0, 2), strict=True):
        other = whole.records[place]
        assert mine["file_name"] == other["file_name"]
        for one, two in zip(mine["annotations"], other["annotations"], strict=True):
            assert one["category_id"] == two["category_id"]
            np.testing.assert_allclose(one["bbox"], two["bbox"], atol=1e-9)


def test_what_voc_calls_difficult_is_a_crowd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tiny.voc_tree(tmp_path / "voc")
    xml = root / "Annotations" / "000000.xml"
    xml.write_text(xml.read_text().replace("<difficult>0", "<difficult>1"))
    whole = catalog.load_detection("voc:voc:train")
    part = catalog.load_detection(written(whole, [0, 1], tmp_path / "part.json"))
    assert [a["iscrowd"] for r in part.records for a in r["annotations"]] == [1, 0]


def test_masks_are_written_where_the_set_was_read_with_them(tmp_path):
    """A detector with masks reads the part, too; without, the file is as it always was."""
    (tmp_path / "im").mkdir()
    images, objects = [], []
    for n in (1, 2):
        Image.new("RGB", (64, 64)).save(tmp_path / "im" / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "width": 64, "height": 64})
        objects.append(
            {
                "id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 200,
                "iscrowd": 0, "segmentation": [[5, 5, 25, 5, 5, 25]],
            }
        )  # fmt: skip
    tree = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "all.json").write_text(json.dumps(tree))
    options = DataOptions(masks=True, needs_masks=True)
    name = f"coco:{tmp_path}/all.json:{tmp_path}/im"
    whole = catalog.load_detection(name, options=options)
    part = catalog.load_detection(written(whole, [1], tmp_path / "part.json"), options=options)
    assert part.has_masks
    (one,) = part.records[0]["annotations"]
    assert one["segmentation"] == whole.records[1]["annotations"][0]["segmentation"]
    written(catalog.load_detection(name), [1], tmp_path / "boxes.json")
    assert "segmentation" not in (tmp_path / "boxes.json").read_text()


def test_a_fifth_is_held_out_and_a_draw_is_the_same_each_time():
    train, held = split(1000)
    assert len(held) == 200 and not set(train) & set(held)
    assert sorted([*train, *held]) == list(range(1000))
    assert split(1000) == (train, held)
    assert drawn(1000, 100) == drawn(1000, 100) and len(set(drawn(1000, 100))) == 100
    assert drawn(10, 0) == drawn(10, 99) == list(range(10))


def test_too_few_images_for_an_interval_are_refused():
    with pytest.raises(ConfigError, match="fewer than the 50 .* --test SET"):
        split(200)
