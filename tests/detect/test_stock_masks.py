"""With MODEL.MASK_ON, C4 and FPN around a ResNet are stock Mask R-CNN; without, nothing changes."""

import copy

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2 import model_zoo
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import Res5ROIHeads, StandardROIHeads
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

import resdet.detect  # noqa: F401 registers
from resdet.config import get_cfg, resolve
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.detect.architecture.region_heads import RegionHeads
from resdet.detect.fast.fast_detector import fast
from resdet.detect.fast.fast_training import speed_up
from resdet.engine.speed.precision import Precision
from resdet.errors import ConfigError
from tests.support.detectors import CONFIGS

ZOO = "COCO-InstanceSegmentation/mask_rcnn_R_50_{}_1x.yaml"
# Few regions, few channels, in both.
SMALL = [
    ("MODEL.DEVICE", "cpu"),
    ("MODEL.WEIGHTS", "given below"),
    ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 32),
    ("MODEL.RPN.POST_NMS_TOPK_TRAIN", 60),
    ("MODEL.RPN.POST_NMS_TOPK_TEST", 20),
    ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    ("MODEL.ROI_MASK_HEAD.CONV_DIM", 16),
]
NARROW = [("MODEL.ROI_BOX_HEAD.FC_DIM", 64), ("MODEL.FPN.OUT_CHANNELS", 32)]
STOCK_QUARTER = [
    ("MODEL.RESNETS.STEM_OUT_CHANNELS", 16),
    ("MODEL.RESNETS.WIDTH_PER_GROUP", 16),
    ("MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
]
OURS = {"C4": "modern/coco_r50_modern.yaml", "FPN": "fpn/coco_r50_fpn.yaml"}


def small(kind):
    return SMALL if kind == "C4" else [*SMALL, *NARROW, ("MODEL.ROI_MASK_HEAD.NUM_CONV", 2)]


def stock_model(kind, stride_in_1x1):
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(ZOO.format(kind)))
    pairs = [*small(kind), *STOCK_QUARTER, ("MODEL.RESNETS.STRIDE_IN_1X1", stride_in_1x1)]
    cfg.merge_from_list([word for pair in pairs for word in pair])
    return build_model(cfg)


def our_cfg(kind, stride_in_1x1, masks=True):
    pairs = [
        *small(kind),
        ("MODEL.NET.WIDTH", 0.25),
        ("MODEL.NET.STRIDE_IN_1X1", stride_in_1x1),
        ("MODEL.MASK_ON", masks),
    ]
    if not masks:
        pairs = [pair for pair in pairs if "MASK_HEAD" not in pair[0]]
    config = resolve(CONFIGS / OURS[kind], [str(word) for pair in pairs for word in pair])
    fill_from_weights_and_net(config, None)
    return config.cfg


@pytest.fixture(
    scope="module",
    params=[("C4", True), ("C4", False), ("FPN", True), ("FPN", False)],
    ids=lambda p: f"{p[0]}-stride_in_{'1x1' if p[1] else '3x3'}",
)
def models(request):
    torch.manual_seed(0)
    stock, ours = stock_model(*request.param), build_model(our_cfg(*request.param))
    state = stock.state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif name.endswith("norm.weight"):
            tensor.uniform_(0.2, 0.5)  # tamed, so that 50 layers do not blow up
        elif "mask_head.predictor" in name:
            tensor.normal_(std=0.3)  # masks that are neither empty nor full
    ours.load_state_dict(state, strict=True)
    return stock, ours


def image(height=118, width=161):
    """Of a size that no stride divides."""
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 255, (3, height, width), generator=generator).float()


BOXES = [[10.0, 20.0, 90.0, 95.0], [70.0, 30.0, 128.0, 90.0], [5.0, 5.0, 25.0, 20.0]]


def polygon(box):
    """A box with one corner cut off."""
    x0, y0, x1, y1 = box
    return [x0, y0, (x0 + x1) / 2, y0, x1, (y0 + y1) / 2, x1, y1, x0, y1]


def training_batch(mask_format="polygon"):
    """Two images of two sizes, so that both are padded."""
    batch = []
    for size in ((118, 161), (97, 130)):
        objects = Instances(size)
        objects.gt_boxes = Boxes(torch.tensor(BOXES))
        objects.gt_classes = torch.tensor([3, 79, 0])
        polygons = [[polygon(box)] for box in BOXES]
        objects.gt_masks = PolygonMasks(polygons)
        if mask_format == "bitmask":
            objects.gt_masks = BitMasks.from_polygon_masks(polygons, *size)
        batch.append({"image": image(*size), "instances": objects})
    return batch


def losses_and_gradients(model, batch):
    model.train().zero_grad()
    torch.manual_seed(5)
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return losses, gradients


def test_names_are_stocks(models):
    """A file of stock Mask R-CNN loads by name, strictly (it did in the fixture)."""
    stock, ours = models
    assert list(ours.state_dict()) == list(stock.state_dict())
    assert any("mask_head.deconv" in name for name in ours.state_dict())


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_losses_and_gradients_equal_stock_to_the_bit(models, mask_format):
    stock, ours = (losses_and_gradients(m, training_batch(mask_format)) for m in models)
    assert stock[0].keys() == ours[0].keys() and "loss_mask" in ours[0]
    assert ours[0]["loss_mask"] > 0
    for mine, theirs in zip(ours, stock, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_detections_and_masks_equal_stock_to_the_bit(models):
    stock, ours = (
        m.eval()([{"image": image(), "height": 236, "width": 322}])[0]["instances"] for m in models
    )
    assert len(stock) > 0 and stock.pred_masks.shape == (len(stock), 236, 322)
    assert 0 < stock.pred_masks.float().mean() < 1
    for field in ("scores", "pred_classes", "pred_masks"):
        assert torch.equal(stock.get(field), ours.get(field))
    assert torch.equal(stock.pred_boxes.tensor, ours.pred_boxes.tensor)


def test_an_image_without_objects_trains(models):
    """FILTER_EMPTY_ANNOTATIONS False: no mask to learn, and no error; as stock."""
    batch = training_batch()
    empty = Instances((97, 130))
    empty.gt_boxes, empty.gt_classes = Boxes(torch.zeros(0, 4)), torch.zeros(0, dtype=torch.int64)
    batch[1]["instances"] = empty
    stock, ours = (losses_and_gradients(m, batch) for m in models)
    assert all(torch.equal(ours[0][k], stock[0][k]) for k in stock[0])


@pytest.mark.parametrize("kind", ["C4", "FPN"])
def test_off_the_model_is_the_box_detector(kind):
    """No tensor more; the losses of boxes are those of the model with masks, from equal weights."""
    masked, plain = build_model(our_cfg(kind, True)), build_model(our_cfg(kind, True, masks=False))
    heads = plain.roi_heads
    assert isinstance(heads, RegionHeads | StandardROIHeads) and not heads.mask_on
    assert not isinstance(heads, Res5ROIHeads)
    state = {k: v for k, v in masked.state_dict().items() if "mask_head" not in k}
    assert list(plain.state_dict()) == list(state)
    plain.load_state_dict(state, strict=True)
    with_masks, without = (losses_and_gradients(m, training_batch())[0] for m in (masked, plain))
    assert without.keys() == with_masks.keys() - {"loss_mask"}
    assert all(torch.equal(without[k], with_masks[k]) for k in without)


def test_vgg_on_one_map_is_refused_with_its_pyramid_named():
    opts = ["MODEL.WEIGHTS", "f", "MODEL.MASK_ON", "True"]
    config = resolve(CONFIGS / "modern/coco_vgg16_modern.yaml", opts)
    with pytest.raises(ConfigError, match=r"\(fc6, fc7\) give a vector.*build_net_fpn_backbone"):
        fill_from_weights_and_net(config, None)


# -- the fast forms ------------------------------------------------------------------------------


def test_the_fast_form_gives_the_masks_within_rounding(models):
    """ENGINE.FAST_INFERENCE: boxes by the fast tail, masks of them by the folded one."""
    _, ours = models
    given = [{"image": image(), "height": 236, "width": 322}]
    plain, quick = (m.eval()(given)[0]["instances"] for m in (ours, fast(ours)))
    assert len(plain) == len(quick)
    torch.testing.assert_close(quick.scores, plain.scores, rtol=1e-3, atol=1e-4)
    assert (quick.pred_masks == plain.pred_masks).float().mean() > 0.995


def test_fast_training_gives_the_losses_of_masks_within_rounding(models, caplog):
    """C4 needs the map of each region for its masks: left as it is, and said."""
    _, ours = models
    quick = copy.deepcopy(ours)
    with caplog.at_level("WARNING"):
        speed_up(quick, Precision("cpu"))
    is_c4 = isinstance(ours.roi_heads, RegionHeads)
    assert ("masks take the map of each region" in caplog.text) == is_c4
    expected, found = (losses_and_gradients(m, training_batch())[0] for m in (ours, quick))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
