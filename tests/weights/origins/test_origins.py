"""Files of every origin: told by their names, and the same function under ours, in float64."""

import pickle

import numpy as np
import pytest
import torch
import torchvision

from resdet import nets
from resdet.errors import WeightsError
from resdet.weights import Input
from resdet.weights.formats import containers
from resdet.weights.formats.contents import Contents
from resdet.weights.origins import detectron2, registry
from resdet.weights.origins.identify import identify
from resdet.weights.origins.origin import COUNTER
from resdet.weights.origins.registry import ORIGINS, to_names_of
from tests.support.foreign_nets import (
    AkamasterResNet,
    HuggingFaceResNet,
    PyclsResNet,
    randomised,
)

TOLERANCE = 1e-10  # float64, the same operations


def contents(tensors, **more):
    return Contents(dict(tensors), "torch", **more)


def image(side=64):
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1)).double()


def logits(found, x):
    with torch.device("meta"):
        net = nets.build(found.net, found.num_classes, **found.options)
    net = net.to_empty(device="cpu")
    tensors = dict(found.tensors)
    counters = {n: torch.zeros((), dtype=torch.long) for n in net.state_dict() if COUNTER in n}
    net.load_state_dict({**counters, **tensors})
    with torch.no_grad():
        return net.double().eval()(x)


TORCHVISION = [
    *(f"resnet{d}" for d in (18, 34, 50, 101, 152)),
    *(f"vgg{d}{norm}" for d in (11, 13, 16, 19) for norm in ("", "_bn")),
]


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_names_are_told_and_come_back(name):
    """torchvision's own state dict: every tensor has its place, there and back."""
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)().state_dict()
    found = identify(contents(theirs), name)
    assert (found.origin.name, found.net, found.missing, found.extras) == (
        "torchvision",
        name,
        (),
        (),
    )
    back, _ = to_names_of("torchvision", name, found.tensors)
    assert {n: t.shape for n, t in back.items()} == {n: t.shape for n, t in theirs.items()}


@pytest.mark.parametrize("name", TORCHVISION)
def test_timms_names_and_shapes_come_back(name):
    """timm's own state dict, VGG's convolutional fc6 and fc7 with it."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs = timm.create_model(name).state_dict()
    found = identify(contents(theirs), name)
    assert (found.net, found.missing, found.extras) == (name, (), ())
    assert found.origin.name == ("timm" if name.startswith("vgg") else "torchvision")
    back, _ = to_names_of("timm", name, found.tensors)
    assert {n: t.shape for n, t in back.items()} == {n: t.shape for n, t in theirs.items()}


def test_timms_vgg_states_the_same_under_our_names():
    """timm's own VGG-11 with BN: its fully connected layers are convolutions."""
    timm = pytest.importorskip("timm")
    theirs = randomised(timm.create_model("vgg11_bn", num_classes=7))
    found = identify(contents(theirs.state_dict()), "x")
    x = image(224)
    with torch.no_grad():
        expected = theirs.double()(x)
    torch.testing.assert_close(logits(found, x), expected, rtol=0, atol=TOLERANCE)


FOREIGN = {
    "pycls": (lambda: PyclsResNet((3, 4, 6, 3), 11), "resnet50"),
    "huggingface-18": (lambda: HuggingFaceResNet((2, 2, 2, 2), False, 11), "resnet18"),
    "huggingface-50": (lambda: HuggingFaceResNet((3, 4, 6, 3), True, 11), "resnet50"),
    "akamaster": (lambda: AkamasterResNet(3), "cifar_resnet20"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_nets_give_the_same_under_our_names_and_come_back(case):
    """The origin's net, built in `foreign_nets` from its source: logits; bits there and back."""
    build, net = FOREIGN[case]
    theirs = randomised(build())
    state = theirs.state_dict()
    found = identify(contents(state), "x")
    assert (found.origin.name, found.net, found.missing) == (case.split("-")[0], net, ())
    back, _ = to_names_of(found.origin.name, net, found.tensors)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[n], state[n]) for n in state)
    if net == "resnet50":
        found.options["stride_in_1x1"] = False
    x = image(32)
    with torch.no_grad():
        expected = theirs.double()(x)
    torch.testing.assert_close(logits(found, x), expected, rtol=0, atol=TOLERANCE)


def test_option_a_with_zeros_around_is_another_function_without_its_conversion():
    """What renaming alone would give: the published CIFAR nets score 21.7 % instead of 92.2 %."""
    theirs = randomised(AkamasterResNet(3))
    table = registry.table("akamaster", "cifar_resnet20")
    state = theirs.state_dict()
    net = nets.build("cifar_resnet20", 10)
    net.load_state_dict({o: state[t] for o, t in table.items()})
    x = image(32)
    with torch.no_grad():
        apart = (net.double().eval()(x) - theirs.double()(x)).abs().max()
    assert apart > 1e-3


# -- Caffe2's files --------------------------------------------------------------------------


def caffe2_blobs(kind, bias=0.0):
    """A ResNet-50 as Detectron ("caffe2") and Detectron2 ("msra") write theirs, from their docs."""
    generator = np.random.default_rng(0)
    blobs = {}

    def layer(name, norm, shape):
        fan = float(np.prod(shape[1:]))
        blobs[f"{name}_w"] = generator.normal(0, fan**-0.5, shape).astype(np.float32)
        channels = shape[0]
        leaves = (
            ("_s", "_b")
            if kind == "caffe2"
            else ("_gamma", "_beta", "_running_mean", "_running_var")
        )
        for leaf in leaves:
            blobs[f"{norm}{leaf}"] = generator.uniform(0.5, 1.5, channels).astype(np.float32)

    layer("conv1", "res_conv1_bn", (64, 3, 7, 7))
    blobs["conv1_b"] = np.full(64, bias, np.float32)
    in_channels = 64
    for i, num_blocks in enumerate((3, 4, 6, 3)):
        inner = 64 * 2**i
        for j in range(num_blocks):
            block = f"res{i + 2}_{j}"
            if j == 0:
                layer(f"{block}_branch1", f"{block}_branch1_bn", (4 * inner, in_channels, 1, 1))
            for letter, shape in (
                ("a", (inner, in_channels, 1, 1)),
                ("b", (inner, inner, 3, 3)),
                ("c", (4 * inner, inner, 1, 1)),
            ):
                layer(f"{block}_branch2{letter}", f"{block}_branch2{letter}_bn", shape)
            in_channels = 4 * inner
    blobs["fc1000_w"] = generator.normal(0, 0.02, (1000, 2048)).astype(np.float32)
    blobs["fc1000_b"] = np.zeros(1000, np.float32)
    return blobs


@pytest.mark.parametrize("kind", ["caffe2", "msra"])
def test_caffe2_files_give_what_detectron2_makes_of_them(tmp_path, kind):
    """Detectron2's own reader fills its own ResNet from the same .pkl; the logits are equal."""
    checkpoint = pytest.importorskip("detectron2.checkpoint")
    layers = pytest.importorskip("detectron2.layers")
    resnet = pytest.importorskip("detectron2.modeling.backbone.resnet")
    path = tmp_path / "R-50.pkl"
    blobs = caffe2_blobs(kind)
    content = {"blobs": blobs} if kind == "caffe2" else blobs
    path.write_bytes(pickle.dumps(content, protocol=2))
    stages = resnet.ResNet.make_default_stages(50, norm="FrozenBN", stride_in_1x1=True)
    theirs = resnet.ResNet(resnet.BasicStem(3, 64, norm="FrozenBN"), stages, num_classes=1000)
    checkpoint.DetectionCheckpointer(theirs, save_dir="").load(str(path))
    with torch.no_grad():  # it has no place for fc1000
        theirs.linear.weight.copy_(torch.from_numpy(blobs["fc1000_w"]))
        theirs.linear.bias.copy_(torch.from_numpy(blobs["fc1000_b"]))
    if kind == "caffe2":
        # Its reader sets 1 where its layer means 1 - eps (F21): 5e-6 per norm, 53 of them.
        for norm in (m for m in theirs.modules() if isinstance(m, layers.FrozenBatchNorm2d)):
            norm.running_var.sub_(norm.eps)
    found = identify(containers.read(path), path.name)
    assert (found.origin.name, found.net, found.missing) == (kind, "resnet50", ())
    assert found.options == {"stride_in_1x1": True}
    assert found.origin.input.color_order == "BGR"
    x = image()
    with torch.no_grad():
        expected = theirs.double().eval()(x)["linear"]
    torch.testing.assert_close(logits(found, x), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", ["caffe2", "msra"])
def test_caffe2_files_come_back_bit_for_bit(kind):
    """Without a bias, which has no place in our nets."""
    blobs = caffe2_blobs(kind)
    del blobs["conv1_b"]
    state = {n: torch.from_numpy(b) for n, b in blobs.items()}
    found = identify(contents(state), "x")
    back, _ = to_names_of(kind, "resnet50", found.tensors)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[n], state[n]) for n in state)


@pytest.mark.parametrize("kind", ["caffe2", "msra"])
def test_the_bias_of_the_first_convolution_is_kept(kind):
    """By hand: conv(x) + b through the norm is what a norm with a smaller mean gives."""
    blobs = caffe2_blobs(kind, bias=0.25)
    found = identify(contents({n: torch.from_numpy(b) for n, b in blobs.items()}), "x")
    assert any("conv1_b, up to 0.25, moved into the norm" in note for note in found.notes)
    stem = nets.build("resnet50").stem.conv1
    stem.load_state_dict(
        {n[len("stem.conv1.") :]: t for n, t in found.tensors.items() if n.startswith("stem.conv1")}
        | {"norm.num_batches_tracked": torch.tensor(0)}
    )
    x = image(16)
    stem = stem.double().eval()
    plain = torch.nn.functional.conv2d(x, torch.from_numpy(blobs["conv1_w"]).double(), None, 2, 3)
    norm = {n[len("res_conv1_bn") :]: torch.from_numpy(b).double()[None, :, None, None]
            for n, b in blobs.items() if n.startswith("res_conv1_bn")}  # fmt: skip
    if kind == "caffe2":
        by_hand = (plain + 0.25) * norm["_s"] + norm["_b"]
    else:
        deviation = (norm["_running_var"] + 1e-5).sqrt()
        by_hand = (plain + 0.25 - norm["_running_mean"]) / deviation * norm["_gamma"] + norm[
            "_beta"
        ]
    with torch.no_grad():
        # 1 - eps is rounded to float32 in the folded case.
        torch.testing.assert_close(stem(x), by_hand.relu(), rtol=1e-6, atol=1e-6)


def test_folding_keeps_the_function():
    """By hand: scale = w / sqrt(v + eps), shift = b - m * scale."""
    ours = {
        "stem.conv1.norm.weight": torch.tensor([2.0]),
        "stem.conv1.norm.bias": torch.tensor([1.0]),
        "stem.conv1.norm.running_mean": torch.tensor([3.0]),
        "stem.conv1.norm.running_var": torch.tensor([4.0 - 1e-5]),
    }
    folded = detectron2.fold(ours)
    assert folded.keys() == {"stem.conv1.norm.weight", "stem.conv1.norm.bias"}
    assert folded["stem.conv1.norm.weight"].item() == pytest.approx(1.0)
    assert folded["stem.conv1.norm.bias"].item() == pytest.approx(1.0 - 3.0)


# -- detectors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "trunk", "tail"),
    [
        ("C4", "backbone.", "roi_heads."),
        ("FPN", "backbone.bottom_up.", "backbone.bottom_up."),
        ("DC5", "backbone.", "backbone."),
    ],
)
def test_the_net_is_taken_out_of_a_detector(kind, trunk, tail):
    """Names as in Detectron2's model zoo logs (detectron2#1698, #1726)."""
    with torch.device("meta"):
        state = nets.build("resnet50").state_dict()
    net = {
        f"{tail if n.startswith('res5') else trunk}{n}": t
        for n, t in state.items()
        if not n.startswith("linear") and COUNTER not in n
    }
    others = ["proposal_generator.rpn_head.conv.weight", "roi_heads.box_predictor.cls_score.bias"]
    if kind == "FPN":
        others.append("backbone.fpn_lateral2.weight")
    found = identify(contents({**net, **{n: torch.zeros(1) for n in others}}), "x")
    assert (found.detector, found.net, found.missing) == (kind, "resnet50", ())
    assert set(found.extras) == set(others)


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnext50_32x4d", "names of torchvision's resnet50, but 176 of 320 tensors have other"),
        ("wide_resnet50_2", "names of torchvision's resnet50, but 176 of 320 tensors have other"),
        ("densenet121", "names of no origin that resdet knows"),
        ("squeezenet1_1", "names of no origin that resdet knows"),
    ],
)
def test_other_nets_are_not_taken_for_ours(name, message):
    """F18: torchvision's own; by name and shape 144 of a ResNeXt's 320 tensors would fit."""
    with torch.device("meta"):
        state = getattr(torchvision.models, name)().state_dict()
    with pytest.raises(WeightsError, match=message):
        identify(contents(state), name)


def test_a_net_of_which_most_is_missing_is_no_such_net():
    """timm's ResNet-26 has 147 of a ResNet-50's 267 tensors, by name and shape."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        state = timm.create_model("resnet26").state_dict()
    with pytest.raises(WeightsError, match="120 of 267 tensors are missing .*a smaller net"):
        identify(contents(state), "x")


@pytest.mark.parametrize("gone", ["conv1.weight", "layer2.0.conv2.weight"])
def test_half_a_net_of_option_a_is_refused(gone):
    """Its channels are put in order along the whole stream."""
    state = {n: t for n, t in AkamasterResNet(3).state_dict().items() if n != gone}
    with pytest.raises(WeightsError, match="is missing. Give the whole file"):
        identify(contents(state), "x")


def test_half_precision_norms_are_folded_out_in_float32():
    """float16 has no 1 - eps."""
    blobs = {n: torch.from_numpy(b).half() for n, b in caffe2_blobs("caffe2").items()}
    found = identify(contents(blobs), "x")
    variance = found.tensors["res2.0.conv1.norm.running_var"]
    assert variance.dtype == torch.float32 and (variance < 1).all()


@pytest.mark.parametrize(("name", "first"), [("seresnet50", "layer1.0.se.fc1.bias"),
                                             ("resnet50d", "conv1.0.weight")])  # fmt: skip
def test_relatives_of_a_resnet_are_named_by_what_stands_out(name, first):
    """F18: an SE-ResNet-50 would fill a ResNet-50 320 of 320; timm's own state dicts."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    with pytest.raises(WeightsError, match=f"resnet50, but .* have no place there; first: {first}"):
        identify(contents(state), name)


def test_every_table_is_a_bijection_over_every_tensor():
    """Counted against the nets themselves; counters and folded statistics aside."""
    seen = 0
    for origin in ORIGINS:
        for net in registry.nets_of(origin):
            if "1202" in net:
                continue
            with torch.device("meta"):
                state = nets.build(net).state_dict()
            for table in registry.tables(origin, net):
                assert len(set(table.values())) == len(table)
                lost = {n for n in state if n not in table}
                assert all(COUNTER in n or (origin == "caffe2" and "running" in n) for n in lost)
                assert not set(table) - set(state)
                seen += 1
    # torchvision (and its ResNets' children by number), timm, detectron2 (and its converter's),
    # msra, caffe2, pycls, the other two.
    assert seen == (13 + 5) + 13 + (28 + 5) + 6 + 6 + 3 + 5 + 5


def test_one_entry_of_the_table_is_all_that_an_origin_takes(tmp_path, monkeypatch):
    """Told by its names, given its habits, converted both ways: nothing else knows of it."""
    from resdet import weights
    from resdet.weights.origins import identify as module
    from resdet.weights.origins import registry
    from resdet.weights.origins.origin import Names, Origin

    added = Origin(
        "halved",
        Input("BGR", (1.0, 2.0, 3.0), (60.0, 61.0, 62.0)),
        stride_in_1x1=False,
        names=(Names(("resnet18",), lambda layer: (f"a/{layer.name}", f"b/{layer.name}")),),
        keeps_counters=False,
        to_ours=lambda ours, raw, where: ({n: t * 2 for n, t in ours.items()}, ("doubled",)),
        from_ours=lambda net, ours: ({n: t / 2 for n, t in ours.items()}, ("halved",)),
    )
    monkeypatch.setitem(registry.ORIGINS, "halved", added)
    module.candidates.cache_clear()
    try:
        torch.manual_seed(0)
        ours = {
            n: t.normal_().abs_() if t.is_floating_point() else t
            for n, t in nets.build("resnet18", 4, width=0.125).state_dict().items()
        }
        theirs, notes = to_names_of("halved", "resnet18", ours)
        assert notes == ("halved",)
        name = "res2.0.conv1.norm.bias"
        assert torch.equal(theirs["b/res2.0.conv1.bias"], ours[name] / 2)
        torch.save(theirs, tmp_path / "x.pth")
        tensors, card = weights.load(tmp_path / "x.pth")
    finally:
        module.candidates.cache_clear()
    assert (card.origin, card.input, card.verified) == ("halved", added.input, False)
    assert tensors.keys() == {n for n in ours if not n.endswith(COUNTER)}
    assert all(torch.equal(t, ours[n]) for n, t in tensors.items())
