"""Losses on a test set against plain passes in training mode, where sampling leaves no choice."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage, get_event_storage

from resdet.config import get_cfg
from resdet.data import DataOptions, catalog
from resdet.data.images.reader import ImageReader
from resdet.detect.testing import validation_loss
from resdet.detect.testing.validation_loss import records_with_losses, validation_losses
from resdet.errors import ConfigError
from tests.support import detectors, tiny
from tests.support.masked_sets import masked_tree

ALL_REGIONS = ("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "100000", "MODEL.RPN.POSITIVE_FRACTION", "1.0",
               "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "100000",
               "MODEL.ROI_HEADS.POSITIVE_FRACTION", "1.0",
               "MODEL.RPN.POST_NMS_TOPK_TRAIN", "30")  # fmt: skip
MASKS = ("MODEL.MASK_ON", "True", "MODEL.ROI_MASK_HEAD.CONV_DIM", "8")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tiny.voc_tree(tmp_path_factory.mktemp("losses") / "voc")
    return catalog.load_detection(f"voc:{root}:test", options=DataOptions())


def built(*opts):
    torch.manual_seed(0)
    cfg = detectors.config_of(
        "MODEL.NET.NAME", "resnet18", "MODEL.NET.WIDTH", "0.125", "MODEL.ANCHOR_GENERATOR.SIZES",
        "[[32, 64]]", "MODEL.ROI_HEADS.NUM_CLASSES", "2", "INPUT.MIN_SIZE_TEST", "80",
        "INPUT.MIN_SIZE_TRAIN", "(64,)", "MODEL.WEIGHTS", "given here", "MODEL.NET.NORM",
        "FrozenBN", "DATALOADER.NUM_WORKERS", "0", "SEED", "3", *opts,
    )  # fmt: skip
    return cfg, detectors.with_frozen_norms(cfg)


def losses_by_hand(cfg, model, data):
    """Sums over the images, one at a time, as the test resizes them."""
    sums = {}
    for record in data.records:
        image = ImageReader(DataOptions()).read(record["file_name"])[:, :, ::-1]
        resize = T.ResizeShortestEdge([80, 80], cfg.INPUT.MAX_SIZE_TEST).get_transform(image)
        resized = resize.apply_image(np.ascontiguousarray(image))
        instances = Instances(resized.shape[:2])
        boxes = resize.apply_box(np.array([a["bbox"] for a in record["annotations"]]))
        instances.gt_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32))
        instances.gt_classes = torch.tensor([a["category_id"] for a in record["annotations"]])
        given = {"image": torch.as_tensor(resized.transpose(2, 0, 1).copy()),
                 "instances": instances}  # fmt: skip
        with torch.no_grad():
            for name, value in model([given]).items():
                sums[name] = sums.get(name, 0.0) + value.item()
    return sums


def test_losses_are_means_of_passes_in_training_mode(data):
    """All anchors and proposals are taken, so that nothing is drawn; norms are frozen in both."""
    cfg, model = built(*ALL_REGIONS)
    model.train()
    modes = [m.training for m in model.modules()]
    with EventStorage():
        expected = losses_by_hand(cfg, model, data)
    found = validation_losses(cfg, model, data, ImageReader(DataOptions()))
    assert [m.training for m in model.modules()] == modes
    assert len(expected) == 4
    for name, value in expected.items():
        assert found[f"{data.name}/validation_{name}"] == pytest.approx(value / 3, rel=1e-6)
    total = found.pop(f"{data.name}/validation_loss")
    assert total == pytest.approx(sum(expected.values()) / 3, rel=1e-6) and len(found) == 4


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_losses_of_masks_are_those_of_images_that_detectron2_maps(tmp_path, mask_format):
    """The mask head, too, gives losses; a crowd, and an image without objects, have none."""
    root = masked_tree(tmp_path / "set", run_lengths=mask_format == "bitmask")
    content = json.loads((root / "test.json").read_text("utf-8"))
    kept = [a for a in content["annotations"] if a["image_id"] != 4]
    (root / "test.json").write_text(json.dumps({**content, "annotations": kept}), "utf-8")
    options = DataOptions(masks=True, needs_masks=True)
    data = catalog.load_detection(f"coco:{root}/test.json:{root}/images", options=options)
    cfg, model = built(*ALL_REGIONS, *MASKS, "INPUT.MASK_FORMAT", mask_format)
    theirs = DatasetMapper(
        is_train=True,
        augmentations=[T.ResizeShortestEdge([80, 80], cfg.INPUT.MAX_SIZE_TEST)],
        image_format="BGR",
        use_instance_mask=True,
        instance_mask_format=mask_format,
    )
    model.train()
    sums = {}
    with EventStorage(), torch.no_grad():
        for record in data.records:
            for name, value in model([theirs(dict(record))]).items():
                sums[name] = sums.get(name, 0.0) + value.item()
    found = validation_losses(cfg, model, data, ImageReader(DataOptions()))
    assert sums["loss_mask"] > 0 and len(sums) == 5
    for name, value in sums.items():
        assert found[f"{data.name}/validation_{name}"] == pytest.approx(value / 3, rel=1e-6)


def test_run_lengths_that_are_to_be_polygons_are_refused(tmp_path):
    """By the key that takes them; a training asks for this before its first step."""
    root = masked_tree(tmp_path / "set", run_lengths=True)
    options = DataOptions(masks=True, needs_masks=True)
    data = catalog.load_detection(f"coco:{root}/test.json:{root}/images", options=options)
    cfg, _ = built(*MASKS)
    with pytest.raises(ConfigError, match="3 of 3 objects are run lengths.*MASK_FORMAT bitmask"):
        records_with_losses(cfg, data)


def test_measuring_changes_nothing_and_repeats_itself(data):
    """Sampled anchors: the draws are each image's own, the training's generators and records stay,
    and live norms keep their statistics."""
    cfg, model = built("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "16")
    live = torch.nn.BatchNorm2d(3)
    model.extra = live
    model.train()
    state = {k: t.clone() for k, t in model.state_dict().items()}
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    with EventStorage(7):
        one = validation_losses(cfg, model, data, ImageReader(DataOptions()))
        assert not get_event_storage().histories()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert validation_losses(cfg, model, data, ImageReader(DataOptions())) == one
    assert all(torch.equal(t, state[k]) for k, t in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "devices"), [("cpu", []), ("cuda", [3]), ("cuda:0", [0]), ("cuda:1", [1])]
)
def test_random_numbers_of_this_processs_own_device_are_put_back(name, devices, monkeypatch):
    """Of several processes each has "cuda" with another current device."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    cfg = get_cfg()
    cfg.MODEL.DEVICE = name
    assert validation_loss._cuda_devices(cfg) == devices
