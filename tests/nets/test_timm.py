"""Nets of timm: the same module, names and numbers; what cannot be split is refused."""

import builtins

import pytest
import torch

from resdet import nets

timm = pytest.importorskip("timm")

# One of each kind of block, stem, downsampling and head of the three families; the smallest there.
SPLIT = [
    "resnet18",
    "resnet18d",  # deep stem, average pooling in the shortcut
    "seresnet18",
    "resnet26t",  # tiered stem, bottleneck
    "test_resnet",
    "regnetx_002",
    "regnety_002",  # squeeze and excitation
    "regnetz_005",
    "convnext_atto",
    "convnext_atto_ols",  # overlapping stem
    "test_convnext2",
    "convnextv2_atto",  # response norm
]
FPN_ONLY = ["test_efficientnet", "mobilenetv3_small_050", "test_byobnet"]
NO_BACKBONE = {
    "test_vit": "VisionTransformer, which does not run layer by layer",
    "swin_tiny_patch4_window7_224": "SwinTransformer, which does not run layer by layer",
    "hrnet_w18_small": "HighResolutionNet, which has no layer stem, though timm declares it",
}


def built(name):
    """After the same seed `timm.create_model` gives the same values."""
    torch.manual_seed(0)
    return nets.build(f"timm:{name}", 7).eval()


@pytest.mark.parametrize("name", SPLIT)
def test_trunk_tail_and_last_layer_are_timms_forward_to_the_bit(name):
    """The oracle is timm's own forward pass of a second model with the same seed."""
    net = built(name)
    torch.manual_seed(0)
    theirs = timm.create_model(name, pretrained=False, num_classes=7).eval()
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = theirs(x)
        features = net.tail()(net.trunk()(x))
        last = net.model.get_submodule(net.classifier)
        assert torch.equal(net(x), expected)
        assert torch.equal(last(features), expected)
        assert features.shape == (2, net.tail_channels)
        assert torch.equal(features, theirs.forward_head(theirs.forward_features(x), True))


@pytest.mark.parametrize("name", SPLIT)
def test_names_are_timms_and_shared_by_trunk_and_tail(name):
    """A bijection: every tensor of timm's state dict but the last layer's, in one place."""
    net = built(name)
    theirs = timm.create_model(name, pretrained=False, num_classes=7)
    assert list(net.state_dict()) == list(theirs.state_dict())
    net.load_state_dict(theirs.state_dict())
    trunk, tail = net.trunk().state_dict(), net.tail().state_dict()
    assert not set(trunk) & set(tail)
    last = {f"{net.classifier}.weight", f"{net.classifier}.bias"}
    assert set(trunk) | set(tail) == set(theirs.state_dict()) - last
    for key, tensor in {**trunk, **tail}.items():
        assert torch.equal(tensor, theirs.state_dict()[key])
    back = timm.create_model(name, pretrained=False, num_classes=7)
    back.load_state_dict(net.state_dict(), strict=True)


@pytest.mark.parametrize("name", [*SPLIT, *FPN_ONLY])
def test_stages_are_timms_declared_ones_and_true(name):
    """`feature_info`, and the maps that timm itself gives with features_only."""
    net = built(name)
    torch.manual_seed(0)
    theirs = timm.create_model(name, pretrained=False, features_only=True).eval()
    info = theirs.feature_info
    stages = net.stages()
    assert [s.channels for s in stages] == list(info.channels())
    assert [s.stride for s in stages] == list(info.reduction())
    x = torch.randn(1, 3, 96, 96)
    theirs.load_state_dict(
        {k: net.state_dict()[_timm_name(k, net)] for k in theirs.state_dict()}, strict=True
    )
    with torch.no_grad():
        maps = theirs(x)
        for stage, expected in zip(stages, maps, strict=True):
            assert torch.equal(net.trunk(stage.name)(x), expected)


def _timm_name(name, net):
    """timm's features_only wrapper flattens `stages.0` to `stages_0`; nothing else changes."""
    known = net.state_dict()
    if name in known:
        return name
    (found,) = [k for k in known if k.replace(".", "_") == name.replace(".", "_")]
    return found


@pytest.mark.parametrize("name", [*SPLIT[:2], "regnetx_002", "convnext_atto"])
def test_nets_of_timm_keep_the_promises_of_the_three_methods(name):
    nets.check_net(built(name))


def test_drop_out_of_timms_resnet_is_in_the_tail():
    """timm's ResNet drops by a function before its last layer; behind it the tail must, too."""
    net = nets.build("timm:test_resnet", 7, drop_rate=0.5).train()
    assert net.tail().names == ["layer4", "global_pool", "drop"]
    dropped = net.tail()(torch.randn(64, 192, 4, 4)) == 0
    # 6,144 values dropped with 1/2: 0.5 +- 0.006; what ReLU had made 0 in all cells is rare.
    assert 0.47 < dropped.float().mean() < 0.6
    x = torch.randn(1, 192, 4, 4)
    assert torch.equal(net.eval().tail()(x), net.tail()(x))


def rates_of(model):
    return [
        m.drop_prob for m in model.modules() if isinstance(getattr(m, "drop_prob", None), float)
    ]


@pytest.mark.parametrize(
    "name", ["convnext_atto", "test_efficientnet", "test_vit", "swin_s3_tiny_224"]
)
def test_stochastic_depth_is_spread_over_the_blocks_as_timm_does_it(name):
    """The oracle is timm with the rate given to it; without one timm's own build, Swin's 0.1."""
    for rate in (0.0, 0.3):
        theirs = rates_of(timm.create_model(name, num_classes=7, drop_path_rate=rate))
        assert rates_of(nets.build(f"timm:{name}", 7, drop_path=rate).model) == theirs
        assert bool(theirs and max(theirs)) == bool(rate)
    usual = rates_of(nets.build(f"timm:{name}", 7).model)
    assert usual == rates_of(timm.create_model(name, num_classes=7))
    expected = 0.1 if name.startswith("swin") else 0.0
    assert max(usual, default=0.0) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["convmixer_768_32", "vgg11", "test_vit", "resnet18"])
def test_which_nets_take_stochastic_depth_is_what_timm_builds(name):
    net = nets.build(f"timm:{name}", 3)
    try:
        timm.create_model(name, drop_path_rate=0.1)
    except TypeError:
        assert not net.takes_drop_path
    else:
        assert net.takes_drop_path


def test_stochastic_depth_that_would_drop_nothing_is_refused():
    """One block has the rate of the first, 0; VGG knows no such rate."""
    with pytest.raises(ValueError, match=r"VisionTransformer, whose blocks drop nothing: .*0.2"):
        nets.build("timm:test_vit", 7, drop_path=0.2, depth=1)
    with pytest.raises(ValueError, match="timm:vgg11 cannot be built with drop_path_rate=0.2"):
        nets.build("timm:vgg11", 7, drop_path=0.2)
    with pytest.raises(ValueError, match="resnet18 has no option drop_path"):
        nets.build("resnet18", 7, drop_path=0.2)


@pytest.mark.parametrize("name", FPN_ONLY)
def test_nets_with_maps_and_no_split_suggest_fpn(name):
    net = built(name)
    assert net.shared_stage == ""
    with pytest.raises(ValueError, match=f"timm:{name} is a .* cannot be split at stride 16"):
        net.tail()
    with pytest.raises(ValueError, match="8, 16, 32: use it with an FPN"):
        net.trunk()


def test_a_dilated_last_stage_cannot_be_a_tail():
    net = nets.build("timm:test_resnet", 7, output_stride=16)
    with pytest.raises(ValueError, match="has its last stages at strides 16 and 16"):
        net.tail()


@pytest.mark.parametrize("name", NO_BACKBONE)
def test_nets_that_do_not_run_layer_by_layer_are_refused(name):
    """No guess: the layers' maps are compared with those in timm's own forward pass."""
    net = built(name)
    with pytest.raises(ValueError, match=NO_BACKBONE[name]):
        net.trunk(net.stages()[-1].name)


def test_a_layer_between_stages_that_is_no_child_is_noticed(monkeypatch):
    """A forward pass that does more than its children: the comparison must see it."""
    net = built("test_efficientnet")
    whole = type(net.model).forward_features
    monkeypatch.setattr(type(net.model), "forward_features", lambda m, x: whole(m, x + 1))
    with pytest.raises(ValueError, match="does not run layer by layer .blocks.0 gets another"):
        net.trunk("blocks.4")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("convnext_tyni", {}, "has no net 'convnext_tyni'; close: convnext_tiny"),
        ("zzzz", {}, "has no net 'zzzz'; timm.list_models.. lists them"),
        ("hf-hub:someone/something", {}, "has no net 'hf-hub:someone/something'"),
        ("resnet50.none", {}, "has no weights 'none' of resnet50; tags: .*a1_in1k"),
        ("resnet18", {"width": 0.5}, "timm:resnet18 cannot be built with width=0.5: .*width"),
        ("resnet18", {"pretrained": True}, "takes no pretrained: weights come from a file"),
    ],
)
def test_refusals_list_what_there_is(name, options, message):
    with pytest.raises(ValueError, match=message):
        nets.build(f"timm:{name}", **options)


def test_without_timm_the_error_states_what_to_install(monkeypatch):
    whole = builtins.__import__

    def without(name, *rest, **more):
        if name == "timm":
            raise ModuleNotFoundError("No module named 'timm'", name="timm")
        return whole(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"not installed. Run: pip install 'resdet\[timm\]'"):
        nets.build("timm:resnet18")


def test_odd_sizes_round_as_the_page_states():
    """Worked by hand: 100 pixels are 25 patches of 4, then 12 and 6; a padded net has 7 cells."""
    x = torch.zeros(1, 3, 100, 111)
    assert built("convnext_atto").trunk()(x).shape[-2:] == (6, 6)
    assert built("regnetx_002").trunk()(x).shape[-2:] == (7, 7)
    padded = torch.zeros(1, 3, 128, 128)
    for name in ("convnext_atto", "regnetx_002"):
        assert built(name).trunk()(padded).shape[-2:] == (8, 8)
