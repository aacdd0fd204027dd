"""Nets of a user's own: registering, building, and what `check_net` reports of broken ones."""

import doctest

import pytest
import torch
from torch import nn

from resdet import nets
from resdet.nets import registry
from resdet.nets.chain import Chain, by_stage, place


class Small(nn.Module):
    """Two stages at strides 2 and 4, a tail of one convolution; all as a right net has it."""

    shared_stage, pooled_size, tail_channels = "b", 4, 6

    def __init__(self, num_classes=3):
        super().__init__()
        self.num_classes = num_classes
        self.a = nn.Conv2d(3, 4, 3, 2, 1)
        self.b = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 5, 3, 2, 1))
        self.c = nn.Conv2d(5, 6, 3, 1, 1)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.last = nn.Linear(6, num_classes)

    def stages(self):
        return (nets.Stage("a", 4, 2), nets.Stage("b", 5, 4))

    def trunk(self, to=None):
        return Chain([("a", self.a), ("b", self.b)][: 1 if to == "a" else 2])

    def tail(self, after=None):
        return Chain([("c", self.c), ("pool", self.pool)])

    def forward(self, x):
        return self.last(self.tail()(self.trunk()(x)))


@pytest.fixture
def clean_registry(monkeypatch):
    monkeypatch.setattr(registry, "_BUILDERS", {})


def test_a_net_that_keeps_its_promises_passes_and_stays_as_it_was():
    """No value, no mode and no random state is changed by the check."""
    net = Small()
    net.b.eval()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    state = torch.get_rng_state()
    nets.check_net(net)
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    assert net.training and net.a.training and not net.b.training
    assert torch.equal(torch.get_rng_state(), state)


def test_our_own_nets_pass():
    for name, options in (("resnet18", {"width": 0.125}), ("cifar_resnet8", {})):
        nets.check_net(nets.build(name, 5, **options))


class NoTail(Small):
    tail = None


class WrongChannels(Small):
    def stages(self):
        return (nets.Stage("a", 4, 2), nets.Stage("b", 7, 4))


class WrongStride(Small):
    def stages(self):
        return (nets.Stage("a", 4, 2), nets.Stage("b", 5, 8))


class FallingStrides(Small):
    def stages(self):
        return (nets.Stage("a", 4, 4), nets.Stage("b", 5, 2))


class Tuples(Small):
    def stages(self):
        return (("a", 4, 2), ("b", 5, 4))


class NoSuchShared(Small):
    shared_stage = "res4"


class WrongTail(Small):
    tail_channels = 7


class TailOfAnotherWidth(Small):
    def tail(self, after=None):
        return Chain([("c", nn.Identity()), ("last", self.last)])


class WrongClasses(Small):
    def forward(self, x):
        return super().forward(x)[:, :2]


class TrunkThatIgnoresTo(Small):
    def trunk(self, to=None):
        return Chain([("a", self.a)])


class OtherNames(Small):
    def trunk(self, to=None):
        return Chain([("conv", self.a), ("a", nn.Identity()), ("b", self.b)])


class Copies(Small):
    def trunk(self, to=None):
        return Chain([("a", nn.Conv2d(3, 4, 3, 2, 1)), ("b", self.b)][: 1 if to == "a" else 2])


class InPlace(Small):
    def __init__(self):
        super().__init__()
        self.b[0] = nn.ReLU(inplace=True)


class NotASequential(Small):
    def trunk(self, to=None):
        return nn.ModuleList([self.a, self.b])


class TrunkOfOneSize(Small):
    def __init__(self):
        super().__init__()
        self.b.append(nn.Sequential(nn.Flatten(1), nn.Linear(5 * 56 * 56, 5)))


class NoImage(Small):
    def forward(self, x):
        raise AssertionError


class FloatSize(Small):
    pooled_size = 4.0


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (NoTail, r"tail\(\) is missing: tail\(after\) gives the layers behind"),
        (WrongChannels, r"promises Stage.name='b', channels=7, stride=4., but .* gave \(1, 5"),
        (WrongStride, "32 x 32 cells at 128 pixels and 40 x 40 at 160: a stride of 8 gives 4 more"),
        (FallingStrides, r"stages\(\) gives strides \[4, 2\], expected strides that never fall"),
        (Tuples, r"stages\(\) gives tuple, expected resdet.nets.Stage"),
        (NoSuchShared, r"shared_stage is 'res4', expected one of a, b"),
        (WrongTail, r"on two regions of shape \(2, 5, 4, 4\) gives \(2, 6\), expected \(2, 7\)"),
        (TailOfAnotherWidth, r"tail\(\) on two regions .* fails: "),
        (WrongClasses, r"forward\(\) on two 128 x 128 images gives \(2, 2\), expected \(2, 3\)"),
        (TrunkThatIgnoresTo, r"trunk\('b'\) has the layers a, expected a, b among them"),
        (OtherNames, r"has the tensor conv.weight, which the net's state_dict\(\) does not have"),
        (Copies, r"has a copy of a.weight: expected the net's own layer"),
        (InPlace, r"the layer behind a changes the map of a in place"),
        (NotASequential, r"trunk\('b'\): got a ModuleList, expected an nn.Sequential"),
        (TrunkOfOneSize, r"trunk\(\): the layer b fails: mat1 .*its input has \(1, 4, 64, 64\)"),
        (NoImage, r"NoImage.forward\(\) fails: AssertionError .its input has \(2, 3, 128, 128\)"),
        (FloatSize, r"pooled_size is 4.0 \(float\), expected int"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named_with_what_came(net, message):
    """Each net above breaks one promise of `Small`; the message states which, expected and got."""
    with pytest.raises(ValueError, match=message):
        nets.check_net(net())


class ClassifierOfOneSize(Small):
    """The last layers take the map of 224 pixels alone, as fc6 of VGG."""

    def __init__(self, num_classes=3):
        super().__init__(num_classes)
        self.fc6 = nn.Linear(5 * 56 * 56, 6)

    def forward(self, x):
        return self.last(self.fc6(self.trunk()(x).flatten(1)))


def test_a_classifier_of_one_size_is_tried_on_the_usual_ones():
    """A detector runs the trunk on images of any size, and the last layers on none."""
    nets.check_net(ClassifierOfOneSize())
    net = ClassifierOfOneSize()
    net.num_classes = 4
    message = r"forward\(\) on two 224 x 224 images gives \(2, 3\), expected \(2, 4\)"
    with pytest.raises(ValueError, match=message):
        nets.check_net(net)


def test_what_is_no_module_at_all_is_refused():
    with pytest.raises(ValueError, match="the builder gave a int, expected a torch.nn.Module"):
        nets.check_net(3)


@pytest.mark.usefixtures("clean_registry")
def test_a_registered_net_is_built_by_its_name():
    nets.register("small", Small)
    assert isinstance(nets.build("small", 7), Small)
    assert nets.build("small", 7).num_classes == 7
    with pytest.raises(ValueError, match="small .Small. cannot be built with the options width"):
        nets.build("small", width=0.5)
    with pytest.raises(ValueError, match="no net is called 'smal'; did you mean small"):
        nets.build("smal")
    with pytest.raises(ValueError, match="your own in the script that registers them .docs/own_n"):
        nets.build("squeezenet1_1")


@pytest.mark.usefixtures("clean_registry")
def test_a_builders_own_fault_is_not_taken_for_an_option_of_the_users():
    nets.register("mine", lambda num_classes, **options: Small(classes=num_classes))
    with pytest.raises(TypeError, match="unexpected keyword argument 'classes'"):
        nets.build("mine", dropout=0.5)


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small", "registered as 'small' already"),
        ("timm:mine", "names with a colon belong to an origin"),
        ("resnet50", "it is resdet's own"),
        ("cifar_plain8", "it is resdet's own"),
        ("", "cannot be registered as ''"),
    ],
)
def test_names_that_are_taken_are_refused(name, message):
    nets.register("small", Small)
    with pytest.raises(ValueError, match=message):
        nets.register(name, Small)
    with pytest.raises(TypeError, match="the builder of 'other' is a int"):
        nets.register("other", 3)


@pytest.mark.parametrize("name", [*nets.names(), "resnet26", "plain50_bn", "cifar_resnet9"])
def test_every_name_of_a_family_is_reserved_at_any_depth(name):
    with pytest.raises(ValueError, match=f"cannot be registered as {name!r}: it is resdet's own"):
        nets.register(name, Small)


def test_a_chain_puts_layers_where_their_dots_say():
    """Names of the state dict are the names given; order is that of running (worked by hand)."""
    one, two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
    chain = Chain([("stages.1", one), ("stages.0", two)])
    assert next(iter(chain.state_dict())) == "stages.1.weight"
    x = torch.randn(1, 3, 2, 2)
    assert torch.equal(chain(x), two(one(x)))
    chain.replace("stages.0", nn.Identity())
    assert torch.equal(chain(x), one(x))


@pytest.mark.parametrize("second", ["stem", "stem.0"])
def test_a_name_that_is_taken_is_refused(second):
    parent = nn.Module()
    place(parent, "stem", nn.Linear(1, 1))
    with pytest.raises(ValueError, match="cannot be placed: Module already has a 'stem'"):
        place(parent, second, nn.Linear(1, 1))


def test_the_examples_of_the_chain_run():
    assert doctest.testmod(nets.chain).attempted == 4
    assert doctest.testmod(nets.chain).failed == 0


def test_layers_behind_the_last_stage_belong_to_none():
    assert by_stage(["a", "b", "c"], ["b"]) == {"b": ["a", "b"]}
