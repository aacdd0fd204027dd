"""Nets of timm that do not run layer by layer: their maps are timm's own, names and all."""

import copy
import importlib
import io

import pytest
import torch
import torch.nn.functional as F

from resdet import nets
from resdet.nets.net import Stage
from resdet.nets.timm_maps import TimmMaps, input_scale

timm = pytest.importorskip("timm")

# The smallest of each kind: options make them shallow.
NETS = {
    "test_vit": {},
    "vit_tiny_patch16_224": {"depth": 2},
    "vit_small_patch14_dinov2": {"depth": 1},  # patches of 14 pixels, a token in front
    "vit_small_patch14_reg4_dinov2": {"depth": 1},  # four registers
    "eva02_tiny_patch14_224": {"depth": 1},  # rotary positions
    "vit_base_patch32_clip_224": {"depth": 1},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 1, 1)},  # channels last
    "pvt_v2_b0": {},
    "hrnet_w18_small": {},  # branches
}
SIZE = (128, 192)


def built(name):
    torch.manual_seed(0)
    return nets.build(f"timm:{name}", 7, **NETS[name]).eval()


def expected(net):
    """Names of the stages that a pyramid stands on: the last of each stride."""
    return list({stage.stride: stage.name for stage in net.stages()}.values())


@pytest.mark.parametrize("name", NETS)
def test_maps_are_timms_own_to_the_bit(name):
    """The oracle is timm's feature interface on a second model that nothing was taken off."""
    net, whole = built(name), built(name).model
    names = expected(net)
    x = torch.randn(2, 3, *SIZE)
    patch = net.model.feature_info[-1]["reduction"]
    resized = x
    if patch == 14:
        resized = F.interpolate(x, (112, 168), mode="bilinear", antialias=True)
    with torch.no_grad():
        theirs = whole.forward_intermediates(resized, output_fmt="NCHW", intermediates_only=True)
        ours = net.maps(names)(x)
    by_name = dict(zip([s.name for s in net.stages()], theirs, strict=True))
    assert list(ours) == names
    for stage in net.stages():
        if stage.name in names:
            assert torch.equal(ours[stage.name], by_name[stage.name])
            height, width = (side // stage.stride for side in SIZE)
            assert ours[stage.name].shape == (2, stage.channels, height, width)


@pytest.mark.parametrize("name", NETS)
def test_names_are_timms_and_every_tensor_is_in_one_group(name):
    net = built(name)
    before = net.state_dict()
    maps = net.maps(expected(net))
    state = maps.state_dict()
    assert state.keys() <= before.keys()
    assert all(state[key].data_ptr() == before[key].data_ptr() for key in state)
    grouped = [name for _, names in maps.groups() for name in names]
    assert sorted(grouped) == sorted(name for name, _ in maps.named_parameters())
    first, stem = next(iter(maps.groups()))
    assert first == "stem" and any("patch_embed" in n or n.startswith("conv1") for n in stem)


def test_what_is_done_to_the_view_is_done_to_the_net():
    """Values, modules that are replaced, copies, and training mode, by which the net drops."""
    net = built("test_vit")
    (name,) = expected(net)
    maps = net.maps([name])
    x = torch.randn(1, 3, 64, 64)
    before = maps(x)[name]
    twin = copy.deepcopy(maps)
    assert torch.equal(twin(x)[name], before)
    with torch.no_grad():
        twin.cls_token.add_(1)
    assert not torch.equal(twin(x)[name], before)
    assert torch.equal(maps(x)[name], before)
    maps.load_state_dict(twin.state_dict())
    assert torch.equal(maps(x)[name], twin(x)[name])
    file = io.BytesIO()
    torch.save(maps.state_dict(), file)
    assert maps.double()(x.double())[name].dtype == torch.float64
    maps.train()
    assert net.model.training and maps.training
    maps.eval()
    assert not net.model.training


def test_patches_that_are_no_power_of_two_stand_for_the_nearest():
    assert input_scale([Stage("a", 1, 14)]) == 14 / 16
    assert input_scale([Stage("a", 1, 16), Stage("b", 1, 16)]) == 1.0
    assert input_scale([Stage("a", 1, 4), Stage("b", 1, 8)]) == 1.0
    assert [s.stride for s in built("vit_small_patch14_dinov2").stages()] == [16]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("maxvit_rmlp_pico_rw_256", "which takes no image of 192 x 128: width"),
        ("hiera_tiny_224", "which takes no image of 192 x 128: "),
    ],
)
def test_a_net_of_one_size_is_refused_with_what_it_says(name, reason):
    net = nets.build(f"timm:{name}", 7)
    with pytest.raises(ValueError, match=f"timm:{name} is a .*{reason}"):
        net.maps([net.stages()[-1].name])


# Nets of one size, made shallow: options of timm, and the side of the square.
SQUARES = {
    "beit_base_patch16_224": ({"depth": 1}, 96),
    "cait_xxs24_224": ({"depth": 2}, 96),
    "test_maxvit": ({}, 96),
    "test_vit_relpos": ({}, 96),
    "coat_lite_tiny": ({"serial_depths": (1, 1, 1, 1)}, 96),
    "gcvit_xxtiny": ({}, 96),
}


def of_one_size(name, side):
    torch.manual_seed(0)
    return nets.build(f"timm:{name}", 7, image_size=side, **SQUARES[name][0]).eval()


@pytest.mark.parametrize("name", SQUARES)
def test_a_net_of_one_size_has_timms_maps_of_the_padded_image(name):
    """The oracle is timm's feature interface on a square that is zero beyond the image."""
    options, side = SQUARES[name]
    net = of_one_size(name, side)
    torch.manual_seed(0)
    whole = timm.create_model(name, num_classes=7, img_size=side, **options).eval()
    whole.load_state_dict(net.state_dict())
    names = expected(net)
    x = torch.randn(2, 3, 64, 96)
    square = torch.zeros(2, 3, side, side)
    square[:, :, :64] = x
    with torch.no_grad():
        theirs = whole.forward_intermediates(square, output_fmt="NCHW", intermediates_only=True)
        ours = net.maps(names)(x)
    by_name = dict(zip([s.name for s in net.stages()], theirs, strict=True))
    assert not net.runs_layer_by_layer
    for stage in net.stages():
        if stage.name in names:
            rows, columns = 64 // stage.stride, 96 // stage.stride
            assert torch.equal(ours[stage.name], by_name[stage.name][:, :, :rows, :columns])
            assert ours[stage.name].shape == (2, stage.channels, rows, columns)
    with pytest.raises(ValueError, match=f"image of 128 x 64 for a net .* for {side} x {side}"):
        net.maps(names)(torch.zeros(1, 3, 64, 128))


def test_maps_of_one_module_have_names_of_their_own():
    """CoaT's last three maps come from one list of layers."""
    declared = nets.build("timm:coat_tiny", 7, image_size=64).stages()
    assert [s.name for s in declared] == [
        "serial_blocks1", *(f"parallel_blocks.stride{stride}" for stride in (8, 16, 32))
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "test_maxvit"])
def test_what_depends_on_the_size_is_resampled_as_timm_does_it(name):
    """The oracle is timm's own way from a file to a model of another size."""
    options, side = SQUARES[name]
    torch.manual_seed(1)
    usual = timm.create_model(name, num_classes=7, **options)
    with torch.no_grad():
        for parameter in usual.parameters():
            parameter.normal_()
    whole = timm.create_model(name, num_classes=7, img_size=side, **options)
    rule = importlib.import_module(type(whole).__module__).checkpoint_filter_fn
    whole.load_state_dict(rule(dict(usual.state_dict()), whole))
    net = of_one_size(name, side)
    maps = net.maps(expected(net))
    found = maps.resampled(usual.state_dict())
    own = maps.state_dict()
    other = {n for n, t in usual.state_dict().items() if n in own and own[n].shape != t.shape}
    assert other and found.keys() == other
    for key, tensor in found.items():
        assert torch.equal(tensor, whole.state_dict()[key])


def test_positions_that_timm_leaves_are_resampled_as_a_map():
    """CaiT: 14 x 14 cells to 6 x 6 by the filter that timm has for files of others."""
    usual = timm.create_model("cait_xxs24_224", num_classes=7, depth=2).state_dict()
    usual["pos_embed"].normal_()
    net = of_one_size("cait_xxs24_224", 96)
    found = net.maps(expected(net)).resampled(usual)
    grid = usual["pos_embed"].reshape(1, 14, 14, -1).movedim(-1, 1)
    smaller = F.interpolate(grid, (6, 6), mode="bicubic", antialias=True)
    assert list(found) == ["pos_embed"]
    assert torch.equal(found["pos_embed"], smaller.flatten(2).mT)


def test_biases_that_timm_leaves_are_resampled_as_it_does_elsewhere():
    """GC ViT, at 224 with windows of 7; its layers know their window, as those of MaxViT."""
    from timm.layers import resize_rel_pos_bias_table

    usual = timm.create_model("gcvit_xxtiny", num_classes=7).state_dict()
    net = of_one_size("gcvit_xxtiny", 96)
    maps = net.maps(expected(net))
    found = maps.resampled(usual)
    assert found
    for name, tensor in found.items():
        window = maps.get_submodule(name.rpartition(".")[0]).window_size
        assert window != (7, 7)
        shape = tuple(maps.state_dict()[name].shape)
        assert torch.equal(tensor, resize_rel_pos_bias_table(usual[name], window, shape))


def test_what_cannot_be_resampled_is_left_for_the_transfer_to_refuse():
    """Rows of the mixing of tokens, one for each cell."""
    usual = timm.create_model("gmlp_ti16_224", num_classes=7).state_dict()
    net = nets.build("timm:gmlp_ti16_224", 7, image_size=96)
    assert net.maps(expected(net)).resampled(usual) == {}
    any_size = built("test_vit")
    assert any_size.maps(expected(any_size)).resampled(usual) == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("csatv2", "timm:csatv2 cannot be built with image_size=96: .*leave them out"),
        ("resnet18", "timm:resnet18 cannot be built with image_size=96.*leave them out"),
        ("halonet26t", "takes no image of 96 x 96: AssertionError"),
        ("vit_small_patch14_dinov2", "takes images of any size, which are resized by 0.875"),
    ],
)
def test_a_square_that_does_not_fit_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        net = nets.build(f"timm:{name}", 7, image_size=96)
        net.maps([net.stages()[-1].name])


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224", "convnext_atto"])
def test_without_values_a_net_is_taken_apart_as_with_them(name):
    """A plan of a training is made of a detector on the meta device."""
    with torch.device("meta"):
        planned = nets.build(f"timm:{name}", 7)
    assert planned.runs_layer_by_layer == nets.build(f"timm:{name}", 7).runs_layer_by_layer


def test_a_net_without_a_tail_is_sent_to_a_pyramid():
    """That is what these nets have one for."""
    for name, strides in (("test_vit", "16"), ("swin_tiny_patch4_window7_224", "4, 8, 16, 32")):
        with pytest.raises(ValueError, match=f"maps at strides {strides}: use it with an FPN"):
            built(name).tail()


def test_as_a_classifier_the_net_is_timms():
    """The options for images of any size change nothing at the net's own."""
    for name in ("test_vit", "swin_tiny_patch4_window7_224"):
        net = built(name)
        torch.manual_seed(0)
        theirs = timm.create_model(name, pretrained=False, num_classes=7, **NETS[name]).eval()
        side = theirs.pretrained_cfg["input_size"][-1]
        x = torch.randn(1, 3, side, side)
        with torch.no_grad():
            assert torch.equal(net(x), theirs(x))


def test_a_map_is_a_view_and_no_child():
    maps = built("test_vit").maps(["blocks.5"])
    assert isinstance(maps, TimmMaps)
    assert not any(isinstance(child, TimmMaps) for child in maps.children())
