"""Around a ResNet, C4, FPN and DC5 are stock Detectron2's: names, losses, gradients, detections."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2 import model_zoo
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

import resdet.detect  # noqa: F401 registers
from resdet.config import get_cfg, resolve
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.detect.trainer import DetectorTraining
from resdet.errors import WeightsError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
OURS = {
    "C4": "modern/coco_r{}_modern.yaml",
    "FPN": "fpn/coco_r{}_fpn.yaml",
    "DC5": "dc5/coco_r{}_dc5.yaml",
}
# Detectron2 ships 1x for R-50 alone; 3x differs from it in the schedule.
ZOO = {
    (kind, depth): f"COCO-Detection/faster_rcnn_R_{depth}_{kind}_{schedule}.yaml"
    for kind in OURS
    for depth, schedule in ((50, "1x"), (101, "3x"))
}
# Few regions, and a box head that is quickly built; in both.
NARROW_HEAD = ("MODEL.ROI_BOX_HEAD.FC_DIM", 64)
SMALL = [
    ("MODEL.DEVICE", "cpu"),
    ("MODEL.WEIGHTS", "given below"),
    ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
    ("MODEL.RPN.POST_NMS_TOPK_TRAIN", 40),
    ("MODEL.RPN.POST_NMS_TOPK_TEST", 20),
    ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
]
# A quarter of all channels, in stock's keys; in ours one.
STOCK_QUARTER = [
    ("MODEL.RESNETS.STEM_OUT_CHANNELS", 16),
    ("MODEL.RESNETS.WIDTH_PER_GROUP", 16),
    ("MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
]


def stock_cfg(kind, depth, opts):
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(ZOO[kind, depth]))
    cfg.merge_from_list([word for pair in opts for word in pair])
    return cfg


def our_cfg(kind, depth, opts):
    """Our preset, filled in as `train_det` does."""
    words = [str(word) for pair in opts for word in pair]
    config = resolve(CONFIGS / OURS[kind].format(depth), words)
    fill_from_weights_and_net(config, None)
    return config.cfg


@pytest.fixture(
    scope="module",
    params=[
        ("C4", 1.0, True),
        ("C4", 0.25, False),
        ("FPN", 1.0, True),
        ("FPN", 0.25, False),
        ("DC5", 0.25, True),
        ("DC5", 0.25, False),
    ],
    ids=lambda p: f"{p[0]}-stride_in_{'1x1' if p[2] else '3x3'}",
)
def models(request):
    kind, width, stride_in_1x1 = request.param
    stock_net = [("MODEL.RESNETS.STRIDE_IN_1X1", stride_in_1x1)]
    stock_net += STOCK_QUARTER if width == 0.25 else []
    our_net = [("MODEL.NET.STRIDE_IN_1X1", stride_in_1x1), ("MODEL.NET.WIDTH", width)]
    torch.manual_seed(0)
    small = SMALL if kind == "C4" else [*SMALL, NARROW_HEAD]
    stock = build_model(stock_cfg(kind, 50, small + stock_net))
    ours = build_model(our_cfg(kind, 50, small + our_net))
    state = stock.state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif name.endswith("norm.weight"):
            tensor.uniform_(0.2, 0.5)  # tamed, so that 50 layers do not blow up
    ours.load_state_dict(state, strict=True)
    return stock, ours


def image(height=118, width=161):
    """Of a size that no stride divides."""
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 255, (3, height, width), generator=generator).float()


def training_batch():
    """Two images of two sizes, so that both are padded."""
    batch = []
    for size in ((118, 161), (97, 130)):
        objects = Instances(size)
        objects.gt_boxes = Boxes(
            torch.tensor(
                [[10.0, 20.0, 90.0, 95.0], [70.0, 30.0, 128.0, 90.0], [5.0, 5.0, 25.0, 20.0]]
            )
        )
        objects.gt_classes = torch.tensor([3, 79, 0])
        batch.append({"image": image(*size), "instances": objects})
    return batch


def test_names_are_stocks(models):
    """A stock checkpoint loads by name, strictly (it did in the fixture), and the other way."""
    stock, ours = models
    assert list(ours.state_dict()) == list(stock.state_dict())


def test_a_file_of_stock_loads_as_a_whole_detector(models):
    """As `load_detector` counts: nothing missing, nothing left over."""
    stock, ours = models
    DetectorTraining.load_detector(SimpleNamespace(model=ours), stock.state_dict(), "stock.pth")
    extra = {**stock.state_dict(), "backbone.extra": torch.zeros(1)}
    with pytest.raises(WeightsError, match="not in the net:\n  backbone.extra"):
        DetectorTraining.load_detector(SimpleNamespace(model=ours), extra, "stock.pth")


@pytest.mark.parametrize(("kind", "depth"), ZOO)
def test_detectron2s_own_detectors_load_with_nothing_missing_and_nothing_left_over(kind, depth):
    """Names, shapes and order of the model that each of Detectron2's own configs builds."""
    opts = [("MODEL.WEIGHTS", "x")]
    states = []
    for cfg in (stock_cfg(kind, depth, opts), our_cfg(kind, depth, opts)):
        cfg.defrost()
        cfg.MODEL.DEVICE = "meta"  # shapes without memory; no device to train on
        with torch.device("meta"):
            states.append(build_model(cfg).state_dict())
    stock, ours = states
    assert [(k, v.shape) for k, v in ours.items()] == [(k, v.shape) for k, v in stock.items()]
    assert len(stock) > {50: 265, 101: 520}[depth]


def test_losses_and_gradients_equal_stock_to_the_bit(models):
    results = []
    for model in models:
        model.train().zero_grad()
        torch.manual_seed(5)
        with EventStorage():
            losses = model(training_batch())
        sum(losses.values()).backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        results.append((losses, gradients))
    (losses, gradients), (our_losses, our_gradients) = results
    assert losses.keys() == our_losses.keys() and len(losses) == 4
    assert all(torch.equal(losses[k], our_losses[k]) for k in losses)
    assert gradients.keys() == our_gradients.keys()  # the same stages are frozen
    assert all(torch.equal(gradients[k], our_gradients[k]) for k in gradients)


def test_detections_equal_stock_to_the_bit(models):
    outputs = []
    for model in models:
        with torch.no_grad():
            outputs.append(
                model.eval()([{"image": image(), "height": 236, "width": 322}])[0]["instances"]
            )
    stock, ours = outputs
    assert len(stock) > 0
    for field in ("scores", "pred_classes"):
        assert torch.equal(stock.get(field), ours.get(field))
    assert torch.equal(stock.pred_boxes.tensor, ours.pred_boxes.tensor)
