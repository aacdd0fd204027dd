"""The fast form of a detector against the detector itself, and RoIAlign against torchvision's."""

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from torchvision.ops import roi_align

import resdet.detect  # noqa: F401 registers
from resdet.config import get_cfg
from resdet.detect import fast as fast_form
from resdet.detect.fast import Pooling, fast, fold_norms, gather
from resdet.nets import build

NETS = {
    "1x1": ("resnet50", {"STRIDE_IN_1X1": True}),
    "3x3": ("resnet50", {"STRIDE_IN_1X1": False}),
    "basic": ("resnet18", {}),
    "plain": ("plain18", {}),
    "option A": ("resnet18", {"SHORTCUT": "A"}),
    "vgg": ("vgg11", {"FC_CHANNELS": 32}),
    "vgg_bn": ("vgg11_bn", {"FC_CHANNELS": 32}),
    "cifar": ("cifar_resnet20", {}),
}


def detector(name, options, pooler="ROIAlignV2", proposals=60):
    cfg = get_cfg()
    net = build(name, width=0.25)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_net_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.ROI_HEADS.NAME = "RegionHeads"
    cfg.MODEL.NET.NAME, cfg.MODEL.NET.WIDTH, cfg.MODEL.NET.NORM = name, 0.25, "FrozenBN"
    for key, value in options.items():
        cfg.MODEL.NET[key] = value
    cfg.MODEL.WEIGHTS = "given here"
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = [net.shared_stage]
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = net.pooled_size
    cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE = pooler
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32, 64, 128]]
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = proposals
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.uniform_(0.5, 1.0)
            module.bias.normal_(std=0.1)
    return model


def images(number=2):
    generator = torch.Generator().manual_seed(1)
    sizes = [(150, 203), (181, 140)][:number]
    return [
        {"image": torch.randint(0, 256, (3, *s), generator=generator, dtype=torch.uint8),
         "height": s[0], "width": s[1]}
        for s in sizes
    ]  # fmt: skip


def boxes(number=40, seed=0):
    """Inside, across and far outside of a map of 160 x 240 pixels; thin, tiny and empty ones."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(number, 2, generator=generator) * torch.tensor([300.0, 220.0]) - 40
    size = torch.rand(number, 2, generator=generator) ** 3 * 250
    found = torch.cat([corner, corner + size], 1)
    found[0] = torch.tensor([5.0, 5.0, 5.0, 5.0])
    found[1] = torch.tensor([-500.0, -500.0, -400.0, -400.0])
    found[2] = torch.tensor([10.0, 20.0, 11.0, 150.0])
    return found


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("size", [7, 14])
def test_pooling_is_torchvisions_roi_align(size, sampling_ratio, aligned):
    """torchvision's operator on the same boxes, in float64: every cell, and every second one."""
    shared = torch.randn(1, 5, 10, 15, dtype=torch.float64)
    regions = boxes().double()
    batch = torch.cat([torch.zeros(len(regions), 1, dtype=torch.float64), regions], 1)
    expected = roi_align(shared, batch, size, 1 / 16, sampling_ratio, aligned)
    pooling = Pooling(1 / 16, size, sampling_ratio, aligned)
    cells = shared[0].permute(1, 2, 0).reshape(-1, 5)
    for step in (1, 2):
        axis = torch.arange(0, size, step)
        found = gather(cells, *pooling.bags(regions, 10, 15, axis), len(axis))
        wanted = expected[:, :, ::step, ::step]
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", NETS)
def test_features_of_regions_are_the_detectors_own(case):
    """Before the predictor, in float64: two images, more and fewer regions than pay for the map."""
    model = detector(*NETS[case]).double()
    quick = fast(model, chunk=7)
    if case in ("vgg", "vgg_bn"):
        assert isinstance(quick.roi_heads.region_features, fast_form.FullyConnectedRegions)
    else:
        assert isinstance(quick.roi_heads.region_features, fast_form.ResidualRegions)
    quick.roi_heads.region_features.dtype = torch.float64
    name = model.roi_heads.in_features[0]
    channels = model.backbone.output_shape()[name].channels
    stride = model.backbone.output_shape()[name].stride
    shared = torch.randn(2, channels, 160 // stride, 240 // stride, dtype=torch.float64)
    for counts in ((40, 25), (3, 0), (0, 0)):
        regions = [Boxes(boxes(40, i).double()[:n]) for i, n in enumerate(counts)]
        with torch.no_grad():
            expected = model.roi_heads.region_features({name: shared}, regions)
            found = quick.roi_heads.region_features({name: shared}, regions)
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", ["1x1", "3x3", "basic", "vgg"])
def test_detections_are_the_detectors_own(case):
    """Whole model in float32: as many boxes, within 0.1 px, scores within 1e-3."""
    model = detector(*NETS[case])
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with torch.no_grad():
        expected, found = model(images()), fast(model)(images())
    for one, other in zip(expected, found, strict=True):
        one, other = one["instances"], other["instances"]
        assert len(one) == len(other) > 0
        # Scores that differ in the last bits may change places.
        apart = (one.pred_boxes.tensor[:, None] - other.pred_boxes.tensor[None]).abs().amax(2)
        same = (apart < 0.1) & (one.pred_classes[:, None] == other.pred_classes[None])
        same &= (one.scores[:, None] - other.scores[None]).abs() < 1e-3
        assert same.any(1).all() and same.any(0).all()
    after = model.state_dict()
    assert after.keys() == before.keys()  # the trained model stays as it is
    assert all(torch.equal(after[n], t) for n, t in before.items())


def test_bfloat16_stays_near(case="1x1"):
    """Eight bits of mantissa through a whole net: features within a few percent of their size."""
    model = detector(*NETS[case])
    quick = fast(model, bf16=True)
    name = model.roi_heads.in_features[0]
    shared = torch.randn(1, model.backbone.output_shape()[name].channels, 10, 15)
    with torch.no_grad():
        expected = model.roi_heads.region_features({name: shared}, [Boxes(boxes())])
        found = quick.roi_heads.region_features({name: shared}, [Boxes(boxes())])
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.03 * expected.norm()
    assert not torch.equal(found, expected)


def test_roi_pool_stays_detectron2s():
    """A maximum is no weighted sum; the rest is still folded, and the detections are the same."""
    model = detector(*NETS["1x1"], pooler="ROIPool")
    quick = fast(model)
    assert list(fast_form.skipped(model)) == ["RoIPool takes maxima: pooled by Detectron2"]
    with torch.no_grad():
        expected, found = model(images(1)), quick(images(1))
    one, other = expected[0]["instances"], found[0]["instances"]
    assert (one.pred_boxes.tensor - other.pred_boxes.tensor).abs().max() < 0.1


def test_folding_counts_frozen_norms_only():
    """ResNet-18 has 20 of them; live ones have statistics still to come."""
    net = build("resnet18", 3, width=0.125)
    assert fold_norms(net) == 0
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(net)
    assert fold_norms(frozen) == 20
