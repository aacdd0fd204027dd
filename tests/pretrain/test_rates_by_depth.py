"""SOLVER.LAYER_DECAY on nets of several makers, as classifiers and inside detectors."""

from collections import OrderedDict

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling import build_model

from resdet import nets
from resdet.detect.architecture.backbone import stages_in
from resdet.engine.solver.optimizers import rate_factors
from resdet.nets import registry
from tests.support import detectors, tiny
from tests.support.recipes import ALONE, training_in

TIMM = {"MODEL.NET.NAME": "timm:resnet18", "MODEL.NET.STEM": None, "MODEL.NET.WIDTH": None}
VGG = {**ALONE, "SOLVER.BASE_LR": 1.0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("depth")
    tiny.class_folders(place / "data")
    return place


def rates(training):
    """The first part of each parameter's name to the rates that its parameters have."""
    names = {id(p): name for name, p in training.net.named_parameters()}
    found = {}
    for group in training.loop.optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)].removeprefix("model.").partition(".")[0]
            found.setdefault(name, set()).add(round(group["initial_lr"], 9))
    return found


def test_a_classifier_of_timm_s_trains_as_it_did_before_there_were_rates_by_depth(place):
    """Its stages are no attributes of it; one of them is an activation behind two layers."""
    before = training_in(place, "off", {**TIMM, "SOLVER.MAX_ITER": 1})
    before.train(resuming=False)
    assert set().union(*rates(before).values()) == {0.05}
    keys = {**TIMM, "SOLVER.MAX_ITER": 1, "ENGINE.ACTIVATION_CHECKPOINTING": "on"}
    recomputed = training_in(place, "recomputed", keys)
    recomputed.train(resuming=False)
    for name, tensor in before.net.state_dict().items():
        assert torch.equal(tensor, recomputed.net.state_dict()[name]), name


def test_rates_of_timm_s_stages_are_those_of_their_depth(place):
    """Five stages below the last layer; the first is a convolution with its norm."""
    found = rates(training_in(place, "timm", {**TIMM, "SOLVER.LAYER_DECAY": 0.5,
                                              "SOLVER.BASE_LR": 1.0}))  # fmt: skip
    assert found == {
        "conv1": {0.03125}, "bn1": {0.03125}, "layer1": {0.0625}, "layer2": {0.125},
        "layer3": {0.25}, "layer4": {0.5}, "fc": {1.0},
    }  # fmt: skip


def test_rates_of_a_vision_transformer_are_timm_s_own(place):
    """The oracle is timm's layer decay: the classifier keeps the rate, the norm is the last
    block's."""
    optim = pytest.importorskip("timm.optim")
    keys = {**TIMM, "MODEL.NET.NAME": "timm:test_vit", "SOLVER.LAYER_DECAY": 0.5,
            "SOLVER.BASE_LR": 1.0, "MODEL.NET.DROP_PATH": 0.2}  # fmt: skip
    training = training_in(place, "vit", keys)
    names = {id(p): name for name, p in training.net.model.named_parameters()}

    def by_name(groups, key):
        return {names[id(p)]: round(g[key], 9) for g in groups for p in g["params"]}

    theirs = optim.param_groups_layer_decay(training.net.model, weight_decay=0.0, layer_decay=0.5)
    expected = by_name(theirs, "lr_scale")
    assert by_name(training.loop.optimizer.param_groups, "initial_lr") == expected
    assert (expected["head.weight"], expected["norm.weight"]) == (1.0, 0.5)
    assert max(getattr(m, "drop_prob", 0) for m in training.net.modules()) == pytest.approx(0.2)


@pytest.mark.parametrize(("decay", "of_embeddings"), [(None, 0.01), (0.0, 0.0)])
def test_embeddings_of_a_classifier_have_their_own_weight_decay(place, decay, of_embeddings):
    """The oracle is timm's list; off, they have that of all weights."""
    pytest.importorskip("timm")
    keys = {**TIMM, "MODEL.NET.NAME": "timm:test_vit", "SOLVER.WEIGHT_DECAY": 0.01,
            "SOLVER.WEIGHT_DECAY_EMBED": decay}  # fmt: skip
    if decay is None:
        del keys["SOLVER.WEIGHT_DECAY_EMBED"]
    training = training_in(place, f"embed_{decay}", keys)
    model = training.net.model
    names = {id(p): name for name, p in model.named_parameters()}
    decays = {
        names[id(p)]: group["weight_decay"]
        for group in training.loop.optimizer.param_groups
        for p in group["params"]
    }
    listed = model.no_weight_decay() & decays.keys()
    assert {"pos_embed", "cls_token"} <= listed
    assert {decays[name] for name in listed} == {of_embeddings}
    assert decays["blocks.0.attn.qkv.weight"] == 0.01


def test_a_net_without_a_tail_has_rates_by_timm_s_groups(place):
    """EfficientNet's stem and five stages; what is behind the last has its rate."""
    pytest.importorskip("timm")
    keys = {**TIMM, "MODEL.NET.NAME": "timm:test_efficientnet", "SOLVER.LAYER_DECAY": 0.5,
            "SOLVER.BASE_LR": 1.0}  # fmt: skip
    found = rates(training_in(place, "no tail", keys))
    assert found == {
        "conv_stem": {0.015625}, "bn1": {0.015625}, "blocks": {0.03125, 0.0625, 0.125, 0.25, 0.5},
        "conv_head": {0.5}, "bn2": {0.5}, "classifier": {1.0},
    }  # fmt: skip


def test_a_last_block_that_timm_groups_with_the_classifier_has_a_rate_of_its_own():
    """Qwen3's: twelve blocks, a stem, and no group behind them."""
    pytest.importorskip("timm")
    with torch.device("meta"):
        groups = nets.build("timm:qwen3_vit_88m", 7).groups()
    assert len(groups) == 13 and not any(n.startswith("head") for names in groups for n in names)
    assert all(name.startswith("encoder.blocks.11.") for name in groups[-1][:8])
    with torch.device("meta"), pytest.raises(ValueError, match="does not group the parameters"):
        nets.build("timm:pit_ti_224", 7).groups()


def test_of_vgg_s_linear_layers_the_last_alone_has_the_rate_itself(place):
    """As in a detector, whose tail fc6 and fc7 are."""
    found = rates(training_in(place, "vgg", {**VGG, "SOLVER.LAYER_DECAY": 0.5}))
    assert (found["linear"], found["fc7"], found["fc6"]) == ({1.0}, {0.5}, {0.25}), found
    assert (found["conv3"], found["conv1"]) == ({0.125}, {0.03125}), found
    model = detectors.detector("vgg11", {"FC_CHANNELS": 32})
    factors = rate_factors(stages_in(model), 0.5)
    assert factors[model.roi_heads.fc7.weight] == 0.5
    assert factors[model.roi_heads.fc6.weight] == 0.25
    assert factors[model.backbone.conv5[0].weight] == 0.125


def test_stages_below_one_name_are_stages_of_their_own():
    """timm's ConvNeXt has stages.0 (its stem is a part of it, as for FREEZE_AT) to stages.3, and a
    norm behind them."""
    opts = ("MODEL.NET.NAME", "timm:convnext_atto", "MODEL.WEIGHTS", "given here")
    model = build_model(detectors.config_of(*opts))
    factors = rate_factors(stages_in(model), 0.5)
    names = {name: factors.get(p, 1.0) for name, p in model.named_parameters()}
    expected = {
        "stem": 5,
        "stages.0": 5,
        "stages.1": 4,
        "stages.2": 3,
        "stages.3": 2,
        "head.norm": 1,
    }
    for stage, power in expected.items():
        (factor,) = {f for name, f in names.items() if f".{stage}." in name}
        assert factor == 0.5**power, stage
    assert {f for name, f in names.items() if "proposal_generator" in name} == {1.0}


class OwnNet(torch.nn.Sequential):
    """Three stages and a last layer; its tail begins at the shared stage, whatever is asked."""

    shared_stage, pooled_size, tail_channels = "b", 4, 6

    def __init__(self, num_classes):
        conv, pool = torch.nn.Conv2d, torch.nn.AdaptiveAvgPool2d(1)
        layers = {"a": conv(3, 4, 3, 2, 1), "b": conv(4, 5, 3, 2, 1), "c": conv(5, 6, 3, 2, 1),
                  "pool": torch.nn.Sequential(pool, torch.nn.Flatten()),
                  "last": torch.nn.Linear(6, num_classes)}  # fmt: skip
        super().__init__(OrderedDict(layers))
        self.num_classes = num_classes

    def stages(self):
        return tuple(nets.Stage(*s) for s in (("a", 4, 2), ("b", 5, 4), ("c", 6, 8)))

    def trunk(self, to=None):
        names = "abc"[: "abc".index(to or "b") + 1]
        return nets.Chain((name, getattr(self, name)) for name in names)

    def tail(self, after=None):
        return nets.Chain([("c", self.c), ("pool", self.pool)])


def test_a_stage_in_the_tail_of_a_net_of_ones_own_counts_once(place, monkeypatch):
    """By hand: the last stage is one below the last layer."""
    monkeypatch.setattr(registry, "_BUILDERS", {"own": OwnNet})
    keys = {**TIMM, "MODEL.NET.NAME": "own", "SOLVER.LAYER_DECAY": 0.5, "SOLVER.BASE_LR": 1.0}
    found = rates(training_in(place, "own", keys))
    assert found == {"a": {0.125}, "b": {0.25}, "c": {0.5}, "last": {1.0}}
