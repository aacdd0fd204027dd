"""With all our options off: losses, gradients and detections are stock Detectron2's to the bit."""

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2 import model_zoo
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

import resdet.detect  # noqa: F401 registers
from resdet.config import get_cfg

CONFIG = "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml"


def stock_cfg():
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(CONFIG))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = "given below"
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    return cfg


def our_cfg():
    cfg = stock_cfg()
    cfg.MODEL.NET.NAME = "resnet50"
    cfg.MODEL.BACKBONE.NAME = "build_net_backbone"
    cfg.MODEL.ROI_HEADS.NAME = "RegionHeads"
    return cfg


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    stock, ours = build_model(stock_cfg()), build_model(our_cfg())
    state = stock.state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif name.endswith("norm.weight"):
            tensor.uniform_(0.2, 0.5)  # tamed, so that 50 layers do not blow up
    ours.load_state_dict(state, strict=True)
    return stock, ours


def image():
    return torch.randint(0, 255, (3, 160, 224), generator=torch.Generator().manual_seed(1)).float()


def training_batch():
    objects = Instances((160, 224))
    objects.gt_boxes = Boxes(torch.tensor([[10.0, 20.0, 90.0, 120.0], [100.0, 30.0, 200.0, 150.0]]))
    objects.gt_classes = torch.tensor([3, 79])
    return [{"image": image(), "instances": objects, "height": 160, "width": 224}]


def test_names_are_stocks(models):
    """A stock checkpoint loads by name, strictly (it did in the fixture), and the other way."""
    stock, ours = models
    assert list(ours.state_dict()) == list(stock.state_dict())


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
                model.eval()([{"image": image(), "height": 320, "width": 448}])[0]["instances"]
            )
    stock, ours = outputs
    assert len(stock) > 0
    for field in ("scores", "pred_classes"):
        assert torch.equal(stock.get(field), ours.get(field))
    assert torch.equal(stock.pred_boxes.tensor, ours.pred_boxes.tensor)
