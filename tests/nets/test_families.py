"""The record of families: the papers' nets by name, and options as the classes take them."""

import inspect

import pytest

from resdet import nets
from resdet.nets.families import FAMILIES, family_of


def test_the_names_are_those_of_the_papers():
    """He et al. 2015, table 1 and section 4.2; Simonyan and Zisserman 2014, table 1."""
    depths = {
        "resnet": (18, 34, 50, 101, 152), "plain": (18, 34, 50, 101, 152),
        "cifar_resnet": (20, 32, 44, 56, 110, 1202), "cifar_plain": (20, 32, 44, 56, 110, 1202),
    }  # fmt: skip
    expected = {f"{family}{depth}" for family, every in depths.items() for depth in every}
    expected |= {f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")}
    assert set(nets.names()) == expected and len(nets.names()) == len(expected)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_stride_has_a_choice_where_the_class_takes_one(family):
    options = inspect.signature(family.net).parameters
    assert family.has_stride_choice == ("stride_in_1x1" in options)
    for stated in (family.defaults, family.fixed, *family.endings.values()):
        assert all(options[name].kind is inspect.Parameter.KEYWORD_ONLY for name in stated)


@pytest.mark.parametrize(
    "name", ["resnet26", "vgg12", "vgg016", "resnet50_bn", "cifar_resnet20_bn", "plain18_bn"]
)
def test_a_name_of_a_family_without_such_a_net_is_unknown(name):
    assert family_of(name) is not None
    with pytest.raises(ValueError, match=f"no net is called {name!r}"):
        nets.build(name)


@pytest.mark.parametrize("name", ["timm:vgg16", "resnet", "vgg_mine", "my_resnet50", "resnet50d"])
def test_other_names_belong_to_no_family(name):
    assert family_of(name) is None


def test_what_makes_a_family_is_not_overruled_and_its_defaults_are():
    assert nets.build("plain18", 2, width=0.1, shortcut="B").shortcut == "none"
    net = nets.build("cifar_plain8", 2, width=0.1, shortcut="C", pooled_size=8)
    assert (net.shortcut, net.pooled_size) == ("none", 8)
    assert nets.build("cifar_resnet8", 2, width=0.1, shortcut="B").shortcut == "B"
