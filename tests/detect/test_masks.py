"""Masks from a file to the model as Detectron2's mapper has them, and from it to the results."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Boxes, Instances

from resdet.data import DataOptions, catalog
from resdet.data.images.reader import ImageReader
from resdet.detect.loading import Mapper, training_records
from resdet.detect.testing import inference
from resdet.detect.testing.partial_results import Parts, Policy
from tests.support.masked_sets import masked_tree


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))

    def loaded(**how):
        tree = masked_tree(tmp_path / f"set{len(how)}", **how)
        options = DataOptions(needs_masks=True)
        name = f"coco:{tree / 'train.json'}:{tree / 'images'}"
        return catalog.load_detection(name, options=options)

    return loaded


FLIP = [T.RandomFlip(prob=1.0)]
BOTH = [T.ResizeShortestEdge(53, 200), T.RandomFlip(prob=1.0)]


@pytest.mark.parametrize("augmentations", [[], FLIP, BOTH], ids=["none", "flip", "resize+flip"])
@pytest.mark.parametrize(
    ("mask_format", "how"),
    [("polygon", {}), ("bitmask", {}), ("bitmask", {"run_lengths": True})],
    ids=["polygons", "polygons as bitmaps", "run lengths"],
)
def test_the_model_gets_what_detectron2s_mapper_gives_it(load, augmentations, mask_format, how):
    """Images, boxes, classes and masks of every record, to the bit."""
    data = load(**how)
    ours = Mapper(
        augmentations, image_format="BGR", reader=ImageReader(DataOptions()), is_train=True,
        mask_format=mask_format,
    )  # fmt: skip
    theirs = DatasetMapper(
        is_train=True, augmentations=augmentations, image_format="BGR", use_instance_mask=True,
        instance_mask_format=mask_format,
    )  # fmt: skip
    for record in data.records:
        mine, expected = ours(record), theirs(record)
        assert torch.equal(mine["image"], expected["image"])
        mine, expected = mine["instances"], expected["instances"]
        assert mine.get_fields().keys() == expected.get_fields().keys()
        assert torch.equal(mine.gt_boxes.tensor, expected.gt_boxes.tensor)
        if mask_format == "bitmask":
            assert torch.equal(mine.gt_masks.tensor, expected.gt_masks.tensor)
            assert 0 < mine.gt_masks.tensor.float().mean() < 1
            continue
        for a, b in zip(mine.gt_masks.polygons, expected.gt_masks.polygons, strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_mapper_of_a_box_detector_gives_no_masks(load):
    config, (record, *_) = get_detectron2_cfg(), load().records
    mapper = Mapper.of(config, ImageReader(DataOptions()), is_train=True)
    assert not mapper(record)["instances"].has("gt_masks")
    config.MODEL.MASK_ON = True
    mapper = Mapper.of(config, ImageReader(DataOptions()), is_train=True)
    assert mapper(record)["instances"].has("gt_masks")


def test_objects_with_run_lengths_are_counted(load):
    """The training refuses them with INPUT.MASK_FORMAT polygon; a crowd's are not learnt."""
    how = {"drop_difficult": False, "filter_empty": True}
    assert training_records(load().records, **how)[1]["run_lengths"] == 0
    assert training_records(load(run_lengths=True).records, **how)[1]["run_lengths"] == 3


def test_results_are_those_of_detectron2s_evaluator():
    """Oracle: its own instances_to_coco_json, boxes, scores and run lengths of random masks."""
    generator = torch.Generator().manual_seed(0)
    found = Instances((40, 57))
    found.pred_boxes = Boxes(
        torch.rand(5, 4, generator=generator) * 20 + torch.tensor([0, 0, 20, 20])
    )
    found.scores = torch.rand(5, generator=generator)
    found.pred_classes = torch.tensor([1, 0, 1, 1, 0])
    found.pred_masks = torch.rand(5, 40, 57, generator=generator) > 0.5
    found.pred_masks[2] = False  # an empty mask is a result, too
    ours = inference.to_coco(found, 7, (3, 9))
    theirs = instances_to_coco_json(found, 7)
    assert [r["segmentation"] for r in ours] == [r["segmentation"] for r in theirs]
    assert [r["category_id"] for r in ours] == [9, 3, 9, 9, 3]
    assert [r["score"] for r in ours] == [r["score"] for r in theirs]


class Masks(torch.nn.Module):
    """Two detections an image, with masks that tell the image; counts what it has seen."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, batch):
        return [{"instances": self.one(given)} for given in batch]

    def one(self, given):
        self.seen.append(given["image_id"])
        found = Instances((given["height"], given["width"]))
        found.pred_boxes = Boxes(torch.tensor([[1.0, 2.0, 30.0, 40.0], [3.0, 3.0, 9.0, 9.0]]))
        found.scores, found.pred_classes = torch.tensor([0.9, 0.5]), torch.tensor([1, 0])
        found.pred_masks = torch.zeros(2, given["height"], given["width"], dtype=torch.bool)
        found.pred_masks[0, 5 : 10 + given["image_id"], 5:20] = True
        return found


def test_finished_images_keep_their_masks(load, tmp_path):
    """An evaluation that is gone on with has the masks of before, and visits the rest alone."""
    data, mark = load(), {"weights": "w"}
    anew, go_on = (Policy(resuming=r, refuses_others=True) for r in (False, True))
    whole, _, _ = inference.detect(Masks(), data, dict)
    assert len({r["segmentation"]["counts"] for r in whole}) > 2
    first, *rest = (record["image_id"] for record in data.records)
    parts = Parts.open(tmp_path / "parts", data, mark, anew)
    parts.add(first, [r for r in whole if r["image_id"] == first])
    parts.write()
    again = Masks()
    parts = Parts.open(tmp_path / "parts", data, mark, go_on)
    results, _, _ = inference.detect(again, data, dict, parts=parts)
    assert results == whole and again.seen == rest
