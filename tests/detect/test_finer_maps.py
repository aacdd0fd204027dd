"""Nets whose finest stride is 8 or 16, under an FPN that all nets have."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("detectron2")

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_model

from resdet.detect.architecture.backbone import net_part
from resdet.detect.architecture.finer_maps import FinerMaps
from resdet.engine.speed.precision import Precision
from tests.support.detectors import config_of

timm = pytest.importorskip("timm")

PYRAMID = ("MODEL.BACKBONE.NAME", "build_net_fpn_backbone", "MODEL.ROI_HEADS.NAME",
           "StandardROIHeads", "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead",
           "MODEL.ROI_BOX_HEAD.NUM_FC", "1", "MODEL.FPN.OUT_CHANNELS", "16",
           "MODEL.ANCHOR_GENERATOR.SIZES", "[[16],[24],[32],[48],[64]]")  # fmt: skip


class TwoMaps(Backbone):
    """Maps at strides 16 and 32 that are given."""

    precision = Precision()

    def forward(self, x):
        return {"a": x, "b": x[:, :4, ::2, ::2]}

    def output_shape(self):
        return {"a": ShapeSpec(channels=8, stride=16), "b": ShapeSpec(channels=4, stride=32)}


def test_finer_maps_are_those_of_li_et_al_step_by_step():
    """By torch's own functions: a deconvolution for 8; two, with norm and GELU between, for 4."""
    torch.manual_seed(0)
    maps = FinerMaps(TwoMaps(), 4).double()
    for parameter in maps.parameters():
        torch.nn.init.normal_(parameter)
    p = dict(maps.named_parameters())
    x = torch.randn(2, 8, 4, 6, dtype=torch.float64)
    found = maps(x)

    def finer(x, name):
        return F.conv_transpose2d(x, p[f"{name}.weight"], p[f"{name}.bias"], stride=2)

    half = finer(x, "finer_4.0").movedim(1, -1)
    half = F.layer_norm(half, (4,), p["finer_4.1.weight"], p["finer_4.1.bias"], 1e-6)
    expected = {
        "finer_4": finer(F.gelu(half.movedim(-1, 1)), "finer_4.3"),
        "finer_8": finer(x, "finer_8.0"), "a": x, "b": x[:, :4, ::2, ::2],
    }  # fmt: skip
    assert list(found) == list(expected) == list(maps.output_shape())
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-10, atol=1e-10)
        shape = maps.output_shape()[name]
        assert (shape.channels, shape.stride * tensor.shape[2]) == (tensor.shape[1], 64)
    maps.precision = Precision(bf16=True)
    assert maps.net.precision.bf16 and maps.precision.bf16


@pytest.mark.parametrize(
    ("name", "opts", "finer"),
    [
        ("efficientvit_m0", (), ["finer_4", "finer_8"]),  # layer by layer, strides 16, 32, 64
        ("sequencer2d_s", (), ["finer_4"]),  # its maps at once, strides 7 and 14 made 8 and 16
    ],
)
def test_a_net_without_a_fine_stride_has_the_levels_of_all(name, opts, finer):
    """Every tensor of timm's trunk is there under its name, and every one that is new learns."""
    torch.manual_seed(0)
    model = build_model(config_of("MODEL.NET.NAME", f"timm:{name}", *PYRAMID, *opts))
    bottom_up = model.backbone.bottom_up
    assert list(bottom_up.finer) == finer
    assert set(net_part(model).state_dict()) <= set(timm.create_model(name).state_dict())
    strides = {level: s.stride for level, s in model.backbone.output_shape().items()}
    assert strides == {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
    levels = model.backbone(torch.randn(2, 3, 64, 96))
    assert [tuple(x.shape) for x in levels.values()] == [
        (2, 16, 64 // stride, 96 // stride) if stride < 64 else (2, 16, 1, 2)
        for stride in strides.values()
    ]
    sum(level.square().sum() for level in levels.values()).backward()
    new = [p for n, p in bottom_up.named_parameters() if n.startswith("finer_")]
    assert new and all(p.grad is not None and p.grad.abs().sum() > 0 for p in new)
