"""A whole net among other tensors, held against logits of torchvision's own ResNet-18."""

import functools

import pytest
import torch
import torchvision

from resdet import nets, weights
from resdet.cli.main import run_command
from resdet.errors import WeightsError
from resdet.weights.doctor.diagnosis import inspect
from tests.support.foreign_nets import randomised

PLACES = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


@functools.cache
def theirs(seed=0, name="resnet18"):
    return randomised(getattr(torchvision.models, name)(num_classes=7), seed)


def state(seed=0, last=True, name="resnet18"):
    every = theirs(seed, name).state_dict()
    return {n: t for n, t in every.items() if last or not n.startswith("fc.")}


def under(prefix, tensors):
    return {f"{prefix}{n}": t for n, t in tensors.items()}


def children(tensors):
    """The names of nn.Sequential(*net.children()), by the order of torchvision's modules."""
    return {".".join([PLACES[n.split(".")[0]], *n.split(".")[1:]]): t for n, t in tensors.items()}


def features(tensors, seed=0):
    """Largest difference of what is pooled before the last layer, ours against torchvision's."""
    ours = nets.build("resnet18", 7, stride_in_1x1=False).eval()
    received = ours.load_state_dict(tensors, strict=False)
    assert not received.unexpected_keys
    assert all(n.startswith("linear.") for n in received.missing_keys)
    net = theirs(seed)
    body = torch.nn.Sequential(*list(net.children())[:-1])
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = torch.nn.Sequential(ours.trunk(), ours.tail())(images)
        return float((found - body(images).flatten(1)).abs().max())


TRUNK = state(last=False)
MLP = {"layers.0.weight": torch.ones(8, 512), "layers.3.weight": torch.ones(4, 8)}
# A file's tensors, how many are left aside, and one of their names.
FILES = {
    "projector and prototypes": (
        under("module.", {**TRUNK, **under("projection_head.", MLP),
                          "prototypes.weight": torch.ones(3, 4)}), 3, "prototypes.weight"),
    "numbered children": (
        {**under("backbone.", children(TRUNK)), **under("projection_head.", MLP)},
        2, "projection_head.layers.0.weight"),
    "a backbone and another module": (
        {**under("backbone.", TRUNK), "anything.weight": torch.ones(2)}, 1, "anything.weight"),
    "a loss with weights": (
        {**under("net.", state()), "criterion.weight": torch.ones(7)}, 1, "criterion.weight"),
    "a metric": (
        {**under("classifier.", state()), "train_acc.correct": torch.tensor(0)},
        1, "train_acc.correct"),
    "an MLP for the last layer": (
        {**under("module.encoder.", {**TRUNK, "fc.0.weight": torch.ones(4, 512)}),
         "module.predictor.0.weight": torch.ones(4, 4)}, 2, "encoder.fc.0.weight"),
    "dropout before the last layer": (
        {**TRUNK, "fc.1.weight": torch.ones(5, 512), "fc.1.bias": torch.ones(5)}, 2, "fc.1.bias"),
    "a projection for the last layer": (
        {**TRUNK, "fc.weight": torch.ones(5, 512)}, 1, "fc.weight"),
    "FSDP": (under("_fsdp_wrapped_module.", state()), 0, ""),
    "torchvision's detector": (
        {**under("backbone.body.", TRUNK), "backbone.fpn.inner.weight": torch.ones(2),
         "rpn.head.conv.weight": torch.ones(2), "roi_heads.box_head.fc6.weight": torch.ones(2)},
        3, "rpn.head.conv.weight"),
    "mmdetection's detector": (
        {**under("backbone.", TRUNK), "neck.lateral_convs.0.conv.weight": torch.ones(2),
         "roi_head.bbox_head.fc_cls.weight": torch.ones(2)}, 2, "neck.lateral_convs.0.conv.weight"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_whole_trunk_is_loaded_and_the_rest_left_aside_by_name(tmp_path, case):
    """swav#6, lightly#1621, byol-pytorch#48, mmdetection#8654; the function is torchvision's."""
    content, aside, name = FILES[case]
    torch.save({"state_dict": content}, tmp_path / "x.pth")
    tensors, card = weights.load(tmp_path / "x.pth")
    assert (card.net, card.origin) == ("resnet18", "torchvision")
    assert features(tensors) < 1e-4
    report = inspect(tmp_path / "x.pth")
    assert report.loadable, report.problems
    if aside:
        (note,) = [n for n in report.notes if n.startswith("left aside")]
        assert f"{aside} tensors" in note and name.split(".")[0] in note


def test_a_last_layer_beside_the_trunk_arrives_too(tmp_path):
    """Logits of torchvision's net, out of a Lightning module around it."""
    torch.save(FILES["a metric"][0], tmp_path / "x.pth")
    tensors, _ = weights.load(tmp_path / "x.pth")
    ours = nets.build("resnet18", 7, stride_in_1x1=False).eval()
    ours.load_state_dict(tensors)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs()(images), atol=1e-4)


def test_bottlenecks_are_found_by_the_same_rule(tmp_path):
    content = under("backbone.", children(state(last=False, name="resnet50")))
    torch.save({**content, "projector.weight": torch.ones(2)}, tmp_path / "x.pth")
    tensors, card = weights.load(tmp_path / "x.pth")
    assert card.net == "resnet50" and card.net_options["stride_in_1x1"] is False
    theirs_ = state(name="resnet50")["layer4.2.conv2.weight"]
    assert torch.equal(tensors["res5.2.conv2.weight"], theirs_)


TWO = {
    "encoder_q.|encoder_k.": under("module.encoder_q.", state(0))
    | under("module.encoder_k.", state(1)),
    "student.backbone.|teacher.backbone.": under("student.backbone.", state(0, last=False))
    | under("teacher.backbone.", state(1, last=False)) | {"student.head.weight": torch.ones(2)},
    ".|ema.": state(0) | under("ema.", state(1)),
}  # fmt: skip


@pytest.mark.parametrize("case", TWO)
def test_two_whole_nets_are_listed_and_either_can_be_named(tmp_path, case):
    """Which is meant is not guessed; what the page says to type loads that one, bit for bit."""
    torch.save({"state_dict": TWO[case]}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="2 whole nets") as error:
        weights.load(tmp_path / "x.pth")
    page = str(error.value)
    for seed, part in enumerate(case.split("|")):
        typed = next(w for w in page.split() if w.endswith(part) or w.endswith(f"{part};"))
        typed = typed.rstrip(";")
        assert f"--part {typed}" in page and f"MODEL.WEIGHTS_PART {typed}" in page
        tensors, card = weights.load(tmp_path / "x.pth", part=typed)
        assert card.net == "resnet18" and features(tensors, seed) < 1e-4
        assert inspect(tmp_path / "x.pth", part=typed).loadable


def test_a_module_beside_the_trunk_that_may_be_a_piece_of_it_is_asked_about(tmp_path):
    """BAM's attention stands beside torchvision's modules: the names are whole, the net is not."""
    torch.save({**state(), "bam1.gate.weight": torch.ones(2)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"1 others.*may be a piece of it") as error:
        weights.load(tmp_path / "x.pth")
    assert "bam1.gate.weight" in str(error.value) and "--part ." in str(error.value)
    tensors, _ = weights.load(tmp_path / "x.pth", part=".")
    assert features(tensors) < 1e-4


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t | {"backbone.layer1.0.se.fc1.weight": torch.ones(2)},
        lambda t: {n: v for n, v in t.items() if "layer4.1.bn2.weight" not in n},
        lambda t: {n: v[:3] if "layer3.0.conv1" in n else v for n, v in t.items()},
    ],
)
def test_a_net_that_is_not_whole_or_another_is_no_whole_net(tmp_path, change):
    """F18: squeeze and excitation inside, one tensor short, one of another shape."""
    content = change(under("backbone.", TRUNK)) | {"criterion.weight": torch.ones(2)}
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="names of no origin|another net|other shapes"):
        weights.load(tmp_path / "x.pth")


def test_a_card_and_a_conversion_take_a_part(tmp_path):
    """The card beside the file remembers the prefix; the conversion's logits are compared."""
    torch.save(TWO[".|ema."], tmp_path / "x.pth")
    path = str(tmp_path / "x.pth")
    assert run_command("convert_weights", ["card", path, "--part", "ema."]) == 0
    assert features(weights.load(path)[0], 1) < 1e-4
    out = str(tmp_path / "y.pth")
    assert run_command("convert_weights", ["convert", path, "--to", "torchvision", "-o", out]) == 0
    written = torch.load(out, weights_only=True)
    assert torch.equal(written["fc.weight"], state(1)["fc.weight"])
