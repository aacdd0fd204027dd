"""Transformers and HRNet of timm under a pyramid, from a file with a card to detections."""

import importlib
import json

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("detectron2")

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_model

import resdet.detect  # noqa: F401 registers
from resdet import nets, weights
from resdet.detect.architecture.backbone import net_part, parts_of_net, stages_in
from resdet.detect.architecture.fpn import NetFPN
from resdet.detect.architecture.simple_pyramid import SimplePyramid
from resdet.detect.starting_weights import load_backbone
from resdet.engine.evaluation import evaluating
from resdet.engine.solver.optimizers import rate_factors
from resdet.errors import ConfigError, WeightsError
from resdet.run.folder import Run
from resdet.weights.cards import card_of_timm
from tests.support import children, tiny, trainings
from tests.support.detectors import config_of

timm = pytest.importorskip("timm")

LEVELS = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}


class OneMap(Backbone):
    """A map that is given, at stride 16."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return {"last": x}

    def output_shape(self):
        return {"last": ShapeSpec(channels=self.channels, stride=16)}


def detector(name, *opts):
    return build_model(
        config_of(
            "MODEL.NET.NAME", f"timm:{name}", "MODEL.BACKBONE.NAME", "build_net_fpn_backbone",
            "MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_BOX_HEAD.NAME",
            "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", "1",
            "MODEL.ANCHOR_GENERATOR.SIZES", "[[32],[64],[128],[256],[512]]", *opts,
        )
    )  # fmt: skip


def test_the_simple_pyramid_is_that_of_li_et_al_step_by_step():
    """Each level by torch's own functions from the same parameters; strides 4, 8, 16, 32, 64."""
    torch.manual_seed(0)
    pyramid = SimplePyramid(OneMap(32), "last", LEVELS, 8).double()
    for parameter in pyramid.parameters():
        torch.nn.init.normal_(parameter)
    p = dict(pyramid.named_parameters())
    x = torch.randn(2, 32, 6, 4, dtype=torch.float64)

    def norm(x, weight, bias):
        return F.layer_norm(x.movedim(1, -1), x.shape[1:2], weight, bias, 1e-6).movedim(-1, 1)

    def finish(x, level, first):
        for place in (first, first + 1):
            name = f"simfp_{level}.{place}"
            x = F.conv2d(x, p[f"{name}.weight"], padding=place - first)
            x = norm(x, p[f"{name}.norm.weight"], p[f"{name}.norm.bias"])
        return x

    def finer(x, name):
        return F.conv_transpose2d(x, p[f"{name}.weight"], p[f"{name}.bias"], stride=2)

    up = F.gelu(norm(finer(x, "simfp_2.0"), p["simfp_2.1.weight"], p["simfp_2.1.bias"]))
    expected = {
        "p2": finish(finer(up, "simfp_2.3"), 2, 4),
        "p3": finish(finer(x, "simfp_3.0"), 3, 1),
        "p4": finish(x, 4, 0),
        "p5": finish(F.max_pool2d(x, 2, 2), 5, 1),
    }
    expected["p6"] = expected["p5"][:, :, ::2, ::2]
    output = pyramid(x)
    assert list(output) == list(expected)
    for name, level in expected.items():
        torch.testing.assert_close(output[name], level, rtol=1e-10, atol=1e-10)
    assert {n: s.stride for n, s in pyramid.output_shape().items()} == {**LEVELS, "p6": 64}


def test_the_simple_pyramid_is_detectron2s():
    """Main has one; names and numbers are its own."""
    vit = pytest.importorskip("detectron2.modeling.backbone.vit", reason="Detectron2 0.6 has none")
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool

    torch.manual_seed(0)
    ours = SimplePyramid(OneMap(32), "last", LEVELS, 8)
    theirs = vit.SimpleFeaturePyramid(
        OneMap(32), "last", 8, (4.0, 2.0, 1.0, 0.5), top_block=LastLevelMaxPool(), norm="LN"
    )
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 32, 6, 4)
    with torch.no_grad():
        for name, level in theirs(x).items():
            assert torch.equal(ours(x)[name], level)


@pytest.mark.parametrize(
    ("name", "pyramid"), [("test_vit", SimplePyramid), ("hrnet_w18_small", NetFPN)]
)
def test_a_detector_holds_every_tensor_of_the_trunk_under_timms_names(name, pyramid):
    """The oracle is timm's state dict; what stands behind the last map is left behind, counted."""
    model = detector(name)
    assert isinstance(model.backbone, pyramid)
    theirs = timm.create_model(name, pretrained=False)
    inside = set(net_part(model).state_dict())
    behind = set(theirs.state_dict()) - inside
    assert inside < set(theirs.state_dict())
    last = {"norm", "head", "downsamp_modules", "final_layer", "classifier"}
    assert {n.split(".")[0] for n in behind} <= last
    where = "net" if pyramid is SimplePyramid else "bottom_up"
    detectors = {n.removeprefix(f"backbone.{where}.") for n in model.state_dict()}
    assert inside <= detectors


def test_the_first_parts_are_frozen_as_timm_groups_them():
    model = detector("test_vit", "MODEL.WEIGHTS", "x", "MODEL.BACKBONE.FREEZE_AT", "2")
    parts = parts_of_net(model)
    assert list(parts)[:3] == ["stem", "group 1", "group 2"]
    fixed = {
        name for name, part in parts.items() if not any(p.requires_grad for p in part.parameters())
    }
    assert fixed == {"stem", "group 1"}
    trained = {n for n, p in net_part(model).named_parameters() if p.requires_grad}
    first = ("cls_token", "pos_embed", "patch_embed", "blocks.0.")
    assert not any(name.startswith(first) for name in trained)
    assert any(name.startswith("blocks.1.") for name in trained)
    with pytest.raises(ConfigError, match=r"expected 0 \(random weights are never frozen"):
        detector("test_vit", "MODEL.BACKBONE.FREEZE_AT", "2")
    with pytest.raises(ConfigError, match=r"has 7 parts \(stem, group 1.*: 0 to 7"):
        detector("test_vit", "MODEL.WEIGHTS", "x", "MODEL.BACKBONE.FREEZE_AT", "8")


@pytest.mark.parametrize("name", ["test_vit", "convnext_atto"])
def test_stochastic_depth_is_a_key_and_rests_in_frozen_parts(name):
    """One trunk that gives its maps at once, one that runs layer by layer."""

    def rates(*opts):
        modules = net_part(detector(name, *opts)).modules()
        return [m.drop_prob for m in modules if isinstance(getattr(m, "drop_prob", None), float)]

    own = rates("MODEL.NET.DROP_PATH", "0.3")
    assert own == sorted(own) and own[-1] == pytest.approx(0.3) and 0 < own[1] < own[2]
    assert not any(rates())
    given = ("MODEL.WEIGHTS", "x", "MODEL.BACKBONE.FREEZE_AT", "3")
    frozen = rates("MODEL.NET.DROP_PATH", "0.3", *given)
    assert frozen[-1] == own[-1] and sum(map(bool, frozen)) < sum(map(bool, own))
    with pytest.raises(ConfigError, match="MODEL.NET.DROP_PATH .*0 or more, below 1, or -1"):
        detector(name, "MODEL.NET.DROP_PATH", "1.0")


def test_rates_fall_with_depth_as_timm_has_them():
    """The oracle is timm's own layer decay; RPN, pyramid and region heads keep the rate."""
    model = detector("test_vit")
    factors = rate_factors(stages_in(model), 0.5)
    net = timm.create_model("test_vit")
    groups = importlib.import_module("timm.optim").param_groups_layer_decay(
        net, weight_decay=0.0, layer_decay=0.5
    )
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    expected = {name: scales[id(p)] for name, p in net.named_parameters()}
    own = dict(net_part(model).named_parameters())
    assert len(own) == len(factors) and expected["blocks.5.norm1.weight"] == 0.5
    assert {name: factors[p] for name, p in own.items()} == {name: expected[name] for name in own}


@pytest.mark.parametrize(
    ("name", "norms"), [("test_vit", "LayerNorm"), ("convnext_atto", "LayerNorm")]
)
def test_norms_without_statistics_are_not_asked_to_be_frozen(name, norms):
    given = ("MODEL.WEIGHTS", "x", "MODEL.NET.NORM")
    with pytest.raises(ConfigError, match=f"FrozenBN, but timm:{name} has no batch norm.*{norms}"):
        detector(name, *given, "FrozenBN")
    live = net_part(detector(name, *given, "BN", "MODEL.BACKBONE.FREEZE_AT", "0"))
    assert all(p.requires_grad for p in live.parameters())


def test_what_is_new_is_not_frozen():
    """A part that TRANSFER.NEW names has random weights."""
    given = ("MODEL.WEIGHTS", "x", "MODEL.BACKBONE.FREEZE_AT", "2", "TRANSFER.NEW")
    with pytest.raises(
        ConfigError, match=r"freezes blocks.0.*TRANSFER.NEW blocks.0.\* declares new"
    ):
        detector("test_vit", *given, "('blocks.5.*','blocks.0.*')")
    detector("test_vit", *given, "('blocks.5.*',)")


def test_a_rule_of_fusion_is_refused_where_nothing_is_fused():
    with pytest.raises(ConfigError, match=r"FUSE_TYPE is avg, but .* fuses nothing. Leave it out"):
        detector("test_vit", "MODEL.FPN.FUSE_TYPE", "avg")
    detector("hrnet_w18_small", "MODEL.FPN.FUSE_TYPE", "avg")


def test_batch_norms_of_branches_are_frozen_where_weights_arrive():
    frozen = detector("hrnet_w18_small", "MODEL.WEIGHTS", "x", "MODEL.BACKBONE.FREEZE_AT", "0")
    kinds = {type(m).__name__ for m in net_part(frozen).modules()}
    assert "FrozenBatchNorm2d" in kinds and "BatchNorm2d" not in kinds
    given = ("MODEL.WEIGHTS", "x", "MODEL.BACKBONE.FREEZE_AT", "0")
    net = net_part(detector("test_maxvit", *SQUARE, *given))  # which has a layer called stages
    assert not any(type(m).__name__ == "BatchNormAct2d" for m in net.modules())
    live = detector("hrnet_w18_small")
    assert "BatchNorm2d" in {type(m).__name__ for m in net_part(live).modules()}


def test_a_net_trains_on_as_before_when_it_was_measured():
    """The model inside drops by its own flag, which is no child's."""
    backbone = detector("test_vit").backbone.train()
    model = backbone.net.maps._model
    with evaluating(backbone):
        assert not model.training
    assert model.training and backbone.net.maps.training


def test_any_size_of_image_is_taken():
    """Padded to multiples of 32 by the pyramid; the map's cells stand for 16 pixels."""
    model = detector("test_vit").eval()
    with torch.no_grad():
        (output,) = model([{"image": torch.zeros(3, 70, 101), "height": 70, "width": 101}])
    assert output["instances"].image_size == (70, 101)


SQUARE = ("MODEL.NET.IMAGE_SIZE", "96", "INPUT.MAX_SIZE_TRAIN", "96", "INPUT.MAX_SIZE_TEST", "90")


def test_a_net_of_one_size_starts_from_a_file_of_another():
    """MaxViT's biases at 160 become those of a detector at 96, counted and named."""
    model = detector("test_maxvit", *SQUARE).eval()
    theirs = timm.create_model("test_maxvit").state_dict()
    theirs["stem.norm1.running_mean"] += 1
    received = load_backbone(model, theirs, "maxvit.pth", ())
    assert received.expected == len(received.arrived)
    assert received.resampled and all("bias_table" in name for name in received.resampled)
    assert received.to_dict()["resampled"] == list(received.resampled)
    assert f"resampled for the size of images {len(received.resampled)} (" in str(received)
    with torch.no_grad():
        (output,) = model([{"image": torch.zeros(3, 70, 90), "height": 70, "width": 90}])
    assert output["instances"].image_size == (70, 90)
    whole = load_backbone(detector("test_vit"), built_vit(), "vit.pth", ())
    assert "resampled" not in whole.to_dict()
    mixer = detector("gmlp_ti16_224", *SQUARE)
    with pytest.raises(WeightsError, match=r"Of another shape:\n.*\(196, 196\) in the file"):
        load_backbone(mixer, timm.create_model("gmlp_ti16_224").state_dict(), "gmlp.pth", ())


def built_vit():
    return timm.create_model("test_vit").state_dict()


def test_a_net_of_one_size_is_told_what_it_needs():
    with pytest.raises(
        ConfigError, match=r"takes no .*state it, such as MODEL.NET.IMAGE_SIZE 1344"
    ):
        detector("test_maxvit")
    with pytest.raises(ConfigError, match=r"IMAGE_SIZE is 96, but images may have 1344 pixels .*"):
        detector("test_maxvit", *SQUARE[:4])
    with pytest.raises(ConfigError, match=r"INPUT.MIN_SIZE_TEST 0 \(images are not resized\)"):
        detector("test_maxvit", *SQUARE, "INPUT.MIN_SIZE_TEST", "0")
    with pytest.raises(ConfigError, match=r"MODEL.NET.IMAGE_SIZE .*multiple of 32"):
        detector("test_maxvit", "MODEL.NET.IMAGE_SIZE", "100")
    with pytest.raises(ConfigError, match=r"resnet18 has no option image_size"):
        detector("resnet18", "MODEL.NET.NAME", "resnet18", *SQUARE)


def test_a_vision_transformer_from_its_file_to_detections(tmp_path):
    """Every tensor counted; two steps, a stop, one more: equal to three in one go; scored."""
    tiny.voc_tree(tmp_path / "voc")
    net = nets.build("timm:test_vit", 3)
    weights.save(tmp_path / "net.safetensors", net.state_dict(), card_of_timm(net))
    keys = {"SOLVER.MAX_ITER": 3, "SOLVER.CHECKPOINT_PERIOD": 1, "SOLVER.LAYER_DECAY": 0.7,
            "SOLVER.OPTIMIZER": "AdamW", "SOLVER.BASE_LR": 1e-4}  # fmt: skip
    text = trainings.detector(trainings.HANDED_OVER, {"MODEL.NET": None}, trainings.PYRAMID, keys)
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")

    def train(*opts, kill_at=None):
        words = ("train_det", "--config", "c.yaml", *opts, "MODEL.WEIGHTS", "net.safetensors")
        return children.run_cli(*words, cwd=tmp_path, kill_at=kill_at)

    whole = train("--output", "whole")
    assert whole.returncode == 0, whole.stderr[-3000:]
    assert train("--output", "parts", kill_at=2).returncode == -9
    assert train("--output", "parts", "--resume").returncode == 0
    runs = [Run.open(tmp_path / name) for name in ("whole", "parts")]
    transfer = runs[0].read("transfer.json")
    kept = {k for k in net.state_dict() if not k.startswith(("head.", "norm."))}
    assert (transfer["expected"], transfer["arrived"]) == (len(kept), len(kept))
    assert len(transfer["left_over"]) == 4
    states = [torch.load(run.path / "model_final.pth", weights_only=True)["model"] for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    (name,) = runs[0].result_sets()
    images = json.loads((runs[0].results(name) / "images.json").read_text("utf-8"))
    assert len(images["evaluated"]) == 3
    explained = train("--output", "no", "--explain")
    assert explained.returncode == 0, explained.stderr[-2000:]
    assert "anchors    3 a cell of p2 (stride 4)" in explained.stdout


def test_without_a_pyramid_regions_are_pooled_from_the_one_map():
    """The form that DC5 has: Detectron2's own region heads on the trunk's last map, timm's own."""
    model = detector(
        "test_vit", "MODEL.BACKBONE.NAME", "build_net_backbone", "MODEL.ANCHOR_GENERATOR.SIZES",
        "[[32,64]]",
    ).eval()  # fmt: skip
    x = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        (found,) = model.backbone(x).values()
        theirs = timm.create_model("test_vit", pretrained=False).eval()
        theirs.load_state_dict(net_part(model).state_dict(), strict=False)
        *_, expected = theirs.forward_intermediates(
            x, indices=1, norm=False, intermediates_only=True
        )
        (output,) = model([{"image": torch.zeros(3, 70, 101), "height": 70, "width": 101}])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert output["instances"].image_size == (70, 101)
