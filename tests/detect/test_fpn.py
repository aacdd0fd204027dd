"""FPN: the same five levels around every net; what arrives, what is frozen, what is refused."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from resdet import nets
from resdet.config import resolve
from resdet.detect.architecture.backbone import net_part
from resdet.detect.architecture.fpn import PooledLevels, build_net_fpn_backbone, pyramid_stages
from resdet.detect.architecture.maps_backbone import fitted
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.detect.trainer import DetectorTraining
from resdet.errors import ConfigError
from resdet.nets import Stage, registry
from tests.support.detectors import norms_in
from tests.support.pages import python_blocks

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NARROW = ["MODEL.DEVICE", "cpu", "MODEL.NET.WIDTH", "0.125", "MODEL.FPN.OUT_CHANNELS", "16"]
NARROW += ["MODEL.RPN.POST_NMS_TOPK_TRAIN", "30", "MODEL.WEIGHTS", ""]
NARROW_HEAD = ["MODEL.ROI_BOX_HEAD.FC_DIM", "16"]


def cfg_of(*opts, preset="fpn/coco_r50_fpn.yaml", filled=True):
    head = [] if "RegionHeads" in opts else NARROW_HEAD
    config = resolve(CONFIGS / preset, [*NARROW, *head, *opts])
    if filled:
        fill_from_weights_and_net(config, None)
    return config.cfg


def batch():
    objects = Instances((90, 140))
    objects.gt_boxes = Boxes(torch.tensor([[10.0, 20.0, 80.0, 85.0], [100.0, 30.0, 135.0, 70.0]]))
    objects.gt_classes = torch.tensor([3, 79])
    image = torch.randint(0, 255, (3, 90, 140), generator=torch.Generator().manual_seed(1)).float()
    return [{"image": image, "instances": objects}]


def step(model):
    """One step of SGD on one image; names of the parameters with a gradient."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    with EventStorage():
        losses = model.train()(batch())
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    optimizer.step()
    return {n for n, p in model.named_parameters() if p.grad is not None}


# -- levels --------------------------------------------------------------------------------------


def test_maps_of_other_sizes_are_repeated_or_cut_at_their_edges():
    """By hand: one row more goes below, two columns more on either side; the same when cut."""
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    larger = [[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0], [3.0, 3.0, 4.0, 4.0]]
    assert fitted(x, (3, 4))[0, 0].tolist() == larger
    assert fitted(torch.tensor(larger)[None, None], (2, 2))[0, 0].tolist() == [[1, 2], [3, 4]]
    assert fitted(x, (2, 2)) is x


def test_a_net_of_ones_own_that_pads_less_has_a_pyramid(monkeypatch):
    """torchvision's SqueezeNet 1.1, of the page: 96 pixels become 47, 23, 11 and 5 cells."""
    script = {"__name__": "own_net"}
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))
    exec(python_blocks("own_net.md")[0], script)
    net = script["SqueezeNet"]().eval()
    x = torch.randn(1, 3, 96, 96)
    sides = [net.trunk(name)(x).shape[-1] for name in ("features.4", "features.7", "features.12")]
    assert sides == [23, 11, 5]
    keys = ["MODEL.NET.NAME", "squeezenet1_1", "MODEL.NET.WIDTH", "1.0"]
    model = build_model(cfg_of(*keys, "TRANSFER.FROM_SCRATCH", "True")).eval()
    with torch.no_grad():
        levels = model.backbone(x)
        maps = model.backbone.bottom_up(x)
    assert [tuple(level.shape[-2:]) for level in levels.values()] == [
        (24, 24), (12, 12), (6, 6), (3, 3), (2, 2),
    ]  # fmt: skip
    whole = net_part(model).state_dict()
    own = script["SqueezeNet"]()
    own.load_state_dict({**own.state_dict(), **whole})
    own.eval()
    with torch.no_grad():
        for name, given in maps.items():
            expected = own.trunk(name)(x)
            cells = expected.shape[-1]
            assert torch.equal(given[..., :cells, :cells], expected)


@pytest.mark.parametrize("net", ["inception_v3", "legacy_xception"])
def test_a_net_of_timm_that_pads_less_has_a_pyramid(net):
    """Inside are timm's own maps, of layers and of its feature interface; around them, edges."""
    timm = pytest.importorskip("timm")
    keys = ["MODEL.NET.NAME", f"timm:{net}", "MODEL.NET.WIDTH", "1.0"]
    model = build_model(cfg_of(*keys, "TRANSFER.FROM_SCRATCH", "True")).eval()
    x = torch.randn(1, 3, 128, 192, generator=torch.Generator().manual_seed(2))
    given = model.backbone.bottom_up(x)
    assert [tuple(m.shape[-2:]) for m in given.values()] == [(32, 48), (16, 24), (8, 12), (4, 6)]
    own = timm.create_model(net, **({"aux_logits": False} if net == "inception_v3" else {}))
    own.load_state_dict({**own.state_dict(), **net_part(model).state_dict()})
    expected = []
    for name in given:
        hook = lambda *args: expected.append(args[2].clone())  # noqa: E731
        own.get_submodule(name).register_forward_hook(hook)
    own.eval().forward_features(x)
    lacking = 0
    for found, theirs in zip(given.values(), expected, strict=True):
        rows, columns = ((b - a) for a, b in zip(theirs.shape[-2:], found.shape[-2:], strict=True))
        lacking += rows + columns
        up, left, (height, width) = rows // 2, columns // 2, theirs.shape[-2:]
        assert torch.equal(found[..., up : up + height, left : left + width], theirs)
    assert lacking > 0


@pytest.mark.parametrize(
    ("net", "opts", "stages"),
    [
        ("resnet50", [], ["res2", "res3", "res4", "res5"]),
        ("plain18", [], ["res2", "res3", "res4", "res5"]),
        # conv1 and conv2 have strides 1 and 2, conv5 has 16.
        ("vgg16", ["MODEL.NET.FC_CHANNELS", "16"], ["conv3", "conv4", "conv5"]),
        # The last stage of stride 16 is the dilated res5.
        ("resnet18", ["MODEL.NET.RES5_DILATION", "2"], ["res2", "res3", "res5"]),
        # A stem without pooling: res2 has stride 2.
        ("resnet18", ["MODEL.NET.STEM", "small"], ["res3", "res4", "res5"]),
        # Strides 1, 2, 4.
        ("cifar_resnet20", [], ["res4"]),
    ],
)
def test_every_net_has_levels_p2_to_p6_at_strides_4_to_64(net, opts, stages):
    """Strides as the nets' papers have them; cells of 128 x 160 pixels, by division."""
    cfg = cfg_of("MODEL.NET.NAME", net, *opts)
    in_features = cfg.MODEL.FPN.IN_FEATURES
    assert in_features == stages
    assert cfg.MODEL.RPN.IN_FEATURES == ["p2", "p3", "p4", "p5", "p6"]
    assert cfg.MODEL.ROI_HEADS.IN_FEATURES == ["p2", "p3", "p4", "p5"]
    backbone = build_net_fpn_backbone(cfg, None)
    assert backbone.size_divisibility == 32
    shapes = {name: (s.stride, s.channels) for name, s in backbone.output_shape().items()}
    assert shapes == {f"p{i}": (2**i, 16) for i in range(2, 7)}
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 128, 160))
    expected = {"p2": (32, 40), "p3": (16, 20), "p4": (8, 10), "p5": (4, 5), "p6": (2, 3)}
    assert {name: tuple(x.shape[2:]) for name, x in maps.items()} == expected


def test_missing_levels_are_every_second_cell_of_the_one_before():
    """VGG ends at stride 16: p5 and p6 hold p4's cells, by plain indexing."""
    cfg = cfg_of("MODEL.NET.NAME", "vgg11", "MODEL.NET.FC_CHANNELS", "16")
    with torch.no_grad():
        maps = build_net_fpn_backbone(cfg, None)(torch.randn(1, 3, 64, 96))
    assert torch.equal(maps["p5"], maps["p4"][:, :, ::2, ::2])
    assert torch.equal(maps["p6"], maps["p4"][:, :, ::4, ::4])


def test_one_pooled_level_is_detectron2s():
    """LastLevelMaxPool, odd sizes included."""
    x = torch.randn(2, 3, 7, 10)
    ours, theirs = PooledLevels("p5", 1), LastLevelMaxPool()
    assert (ours.in_feature, ours.num_levels) == (theirs.in_feature, theirs.num_levels)
    assert torch.equal(ours(x)[0], theirs(x)[0])


def test_rpn_and_predictors_start_alike_for_every_net():
    """A ResNet draws for four laterals, VGG for three; what both have in common starts the same."""
    start = []
    for opts in ([], ["MODEL.NET.NAME", "vgg11", "MODEL.NET.FC_CHANNELS", "16"]):
        torch.manual_seed(1)
        model = build_model(cfg_of(*opts))
        start.append({**model.proposal_generator.state_dict(), **model.roi_heads.state_dict()})
    assert len(start[0]) > 10 and start[0].keys() == start[1].keys()
    assert all(torch.equal(start[0][k], start[1][k]) for k in start[0])


def test_vgg_trains_a_step_in_all_its_parts():
    """Every trained parameter gets a gradient: stages, laterals, outputs, RPN, box head."""
    model = build_model(cfg_of("MODEL.NET.NAME", "vgg11", "MODEL.NET.FC_CHANNELS", "16"))
    with_gradient = step(model)
    assert with_gradient == {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n.split(".")[1] for n in with_gradient if n.startswith("backbone")} == {
        "bottom_up", "fpn_lateral2", "fpn_output2", "fpn_lateral3", "fpn_output3",
        "fpn_lateral4", "fpn_output4",
    }  # fmt: skip


def test_fpns_own_keys_are_honoured():
    """Detectron2's norm of 32 groups, and the mean in place of the sum."""
    opts = ["MODEL.FPN.NORM", "GN", "MODEL.FPN.FUSE_TYPE", "avg", "MODEL.FPN.OUT_CHANNELS", "32"]
    backbone = build_net_fpn_backbone(cfg_of(*opts), None)
    assert {s.channels for s in backbone.output_shape().values()} == {32}
    assert isinstance(backbone.fpn_lateral2.norm, torch.nn.GroupNorm)
    assert backbone._fuse_type == "avg"


# -- the net inside ------------------------------------------------------------------------------


def test_norms_and_frozen_stages_follow_the_same_keys_as_in_c4():
    """auto: frozen where weights arrive, live in what is new; FREEZE_AT 2: stem and res2."""
    backbone = build_net_fpn_backbone(
        cfg_of("MODEL.WEIGHTS", "x", "TRANSFER.NEW", "('res5.*',)"), None
    )
    assert norms_in(backbone.bottom_up.res4) == {FrozenBatchNorm2d}
    assert norms_in(backbone.bottom_up.res5) == {torch.nn.BatchNorm2d}
    still = {
        n for n, m in backbone.bottom_up.named_children()
        if not any(p.requires_grad for p in m.parameters())
    }  # fmt: skip
    assert still == {"stem", "res2"}


def test_frozen_stages_do_not_change_in_a_step():
    """Stem and res2 stay to the bit, what stands on them moves."""
    model = build_model(cfg_of("MODEL.WEIGHTS", "x"))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    step(model)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    frozen = ("backbone.bottom_up.stem.", "backbone.bottom_up.res2.")
    assert not [k for k in changed if k.startswith(frozen) or "running" in k]
    for name in ("bottom_up.res3.0.conv1.weight", "fpn_lateral2.weight", "fpn_output5.bias"):
        assert f"backbone.{name}" in changed


def test_the_maps_of_a_bf16_net_reach_the_pyramid_in_float32():
    """ENGINE.BF16 is for the net alone; the levels are Detectron2's arithmetic."""
    backbone = build_net_fpn_backbone(cfg_of("ENGINE.BF16", "on"), None)
    with torch.no_grad():
        maps = backbone.bottom_up(torch.randn(1, 3, 64, 64))
        exact = build_net_fpn_backbone(cfg_of(), None)
        exact.load_state_dict(backbone.state_dict())
        float32 = exact.bottom_up(torch.randn(1, 3, 64, 64))
    assert {x.dtype for x in maps.values()} == {torch.float32}
    assert not torch.equal(maps["res2"], float32["res2"])


def handed_over(net, cfg):
    """What `load_backbone` counts, and the model that it filled."""
    record = {}
    training = DetectorTraining(
        cfg, SimpleNamespace(write=lambda name, value: record.update({name: value})), [], [], None
    )
    net.train()(torch.randn(2, 3, 64, 64))  # statistics of something
    received = training.load_backbone(net.state_dict(), "net.safetensors")
    return received, record["transfer.json"], training.model.state_dict()


def test_every_tensor_of_resnet50_arrives_and_its_last_layer_alone_is_left_over():
    """53 convolutions with a weight and four numbers of a norm each: 265."""
    net = nets.build("resnet50", 5, width=0.125)
    received, record, state = handed_over(net, cfg_of("MODEL.WEIGHTS", "x"))
    assert (record["expected"], record["arrived"], record["new"]) == (265, 265, [])
    assert record["left_over"] == ["linear.weight", "linear.bias"]
    for name in received.arrived:
        assert torch.equal(state[f"backbone.bottom_up.{name}"], net.state_dict()[name])


def test_vggs_fully_connected_layers_are_left_over_and_named():
    """13 convolutions with bias arrive; fc6 and fc7 have no place under FPN, and are listed."""
    net = nets.build("vgg16", 5, width=0.125, fc_channels=16)
    opts = ["MODEL.WEIGHTS", "x", "MODEL.NET.FC_CHANNELS", "16"]
    received, record, _ = handed_over(net, cfg_of(*opts, preset="fpn/coco_vgg16_fpn.yaml"))
    assert (record["expected"], record["arrived"]) == (26, 26)
    assert {n.split(".")[0] for n in record["left_over"]} == {"fc6", "fc7", "linear"}
    assert "left over 6 (fc6.{bias, weight}, fc7.{bias, weight}, linear" in str(received)


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.ROI_HEADS.NAME", "RegionHeads"], "Set MODEL.ROI_HEADS.NAME StandardROIHeads"),
        (["MODEL.FPN.IN_FEATURES", "['res3']"], r"IN_FEATURES is \['res3'\] .*\(the net resnet50"),
        (["MODEL.RPN.IN_FEATURES", "['p2']"], r"RPN\.IN_FEATURES is \['p2'\] \(command line\)"),
        (["MODEL.FPN.FUSE_TYPE", "max"], "FUSE_TYPE is 'max', expected one of 'sum', 'avg'"),
    ],
)
def test_what_fits_no_pyramid_is_refused(opts, message):
    """Levels follow from the net, and are never typed."""
    with pytest.raises(ConfigError, match=message):
        cfg_of(*opts)


def test_a_stage_that_the_net_has_not_is_refused_without_the_facts_too():
    """From Python, where nobody filled the config in; the net's own sentence."""
    cfg = cfg_of("MODEL.FPN.IN_FEATURES", "['res4', 'res9']", filled=False)
    with pytest.raises(ConfigError, match="MODEL.NET: no stage 'res9'; this net has stem, res2"):
        build_net_fpn_backbone(cfg, None)


@pytest.mark.parametrize("strides", [(16,), (8, 16), (4, 16), (2,)])
def test_a_net_without_stages_of_fitting_strides_is_refused(strides):
    """Every level is half of the one before; the first has stride 4."""
    stages = tuple(Stage(f"s{s}", 8, s) for s in strides)
    with pytest.raises(ConfigError, match=f"the net have strides {', '.join(map(str, strides))}"):
        pyramid_stages(SimpleNamespace(stages=lambda: stages))
