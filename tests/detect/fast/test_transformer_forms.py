"""The fast forms of a detector on a plain transformer, against the detector itself."""

import copy

import pytest
import torch

pytest.importorskip("detectron2")
pytest.importorskip("timm")

from detectron2.modeling import build_model

import resdet.detect  # noqa: F401 registers
from resdet.detect.fast.fast_detector import fast, skipped
from resdet.detect.fast.fast_training import speed_up
from resdet.detect.fast.winograd import WinogradConv
from resdet.engine.speed.precision import Precision
from tests.support.detectors import bound_of_bfloat16, config_of, images

pytestmark = pytest.mark.numeric
LAYERS = torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.Linear


@pytest.fixture(scope="module")
def model():
    """Six blocks, then 2 to 4 layers of the pyramid, with weights of something."""
    torch.manual_seed(0)
    model = build_model(
        config_of(
            "MODEL.NET.NAME", "timm:test_vit", "MODEL.BACKBONE.NAME", "build_net_fpn_backbone",
            "MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_BOX_HEAD.NAME",
            "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", "1", "MODEL.WEIGHTS", "x",
            "MODEL.ANCHOR_GENERATOR.SIZES", "[[32],[64],[128],[256],[512]]",
            "MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.FPN.OUT_CHANNELS", "128",
        )
    )  # fmt: skip
    return model.eval()


def maps_of(model):
    x = model.preprocess_image(images(1)).tensor
    with torch.no_grad():
        return model.backbone(x)


def types_of_layers(model, run):
    """The type of what each layer of the backbone gives, by name."""
    types = {}
    handles = [
        module.register_forward_hook(lambda m, x, y, name=name: types.update({name: y.dtype}))
        for name, module in model.backbone.named_modules()
        # A pyramid's layer has its norm inside, whose result it gives.
        if isinstance(module, LAYERS) and getattr(module, "norm", None) is None
    ]
    run(model)
    for handle in handles:
        handle.remove()
    return types


def test_the_fast_form_gives_the_maps_of_the_detector(model):
    """The 3x3 layers run by Winograd's algorithm: the same sums, in another order."""
    quick = fast(model)
    assert list(skipped(model)) == []
    assert sum(isinstance(m, WinogradConv) for m in quick.backbone.modules()) == 4
    for name, expected in maps_of(model).items():
        found = maps_of(quick)[name]
        assert (found - expected).norm() < 1e-4 * expected.norm(), name
    assert not any(isinstance(m, WinogradConv) for m in model.modules())


@pytest.mark.bf16
@pytest.mark.parametrize("form", ["detecting", "training"])
def test_trunk_and_pyramid_compute_in_bfloat16_in_both_forms(model, form):
    """Norms, weights and maps stay float32; a norm after every layer keeps the error small."""
    if form == "detecting":
        quick = fast(model, bf16=True)
    else:
        quick = copy.deepcopy(model)
        speed_up(quick, Precision(bf16=True, channels_last=True))
    types = types_of_layers(quick, maps_of)
    assert len(types) > 20 and any(name.startswith("simfp_2") for name in types)
    assert {n: t for n, t in types.items() if t != torch.bfloat16} == {}
    assert {p.dtype for p in quick.backbone.parameters()} == {torch.float32}
    for name, expected in maps_of(model).items():
        found = maps_of(quick)[name]
        assert found.dtype == torch.float32 and not torch.equal(found, expected)
        # Four products a block, and what the pyramid has.
        assert (found - expected).norm() < bound_of_bfloat16(6 * 4 + 4) * expected.norm(), name


@pytest.mark.bf16
def test_training_in_bfloat16_has_gradients_of_every_parameter(model):
    quick = copy.deepcopy(model).train()
    speed_up(quick, Precision(bf16=True, channels_last=True))
    x = quick.preprocess_image(images(1)).tensor
    sum(level.square().mean() for level in quick.backbone(x).values()).backward()
    missing = [n for n, p in quick.backbone.named_parameters() if p.grad is None]
    assert missing == []
    assert {p.grad.dtype for p in quick.backbone.parameters()} == {torch.float32}


def test_off_a_sped_up_pyramid_is_itself(model):
    """In float32 training changes nothing of it: the same maps to the bit."""
    quick = copy.deepcopy(model)
    speed_up(quick, Precision())
    for name, expected in maps_of(model).items():
        assert torch.equal(maps_of(quick)[name], expected)
