"""Tensor names of every origin, as explicit tables from ours to theirs.

A table is a bijection over all tensors of one net. Nothing is ever matched by shape or by the
longest suffix (`docs/faults.md` F18). No library of an origin is needed to know its names.

    torchvision   conv1, bn1, layer1.0.conv1, layer1.0.downsample.0, fc; features.0, classifier.0
    timm          ResNets as torchvision; VGG features.0, pre_logits.fc1, head.fc
    detectron2    stem.conv1, stem.conv1.norm, res2.0.conv1, res2.0.shortcut, linear: ours
    msra          conv1_w, res_conv1_bn_gamma, res2_0_branch2a_w, fc1000_w (Detectron2's R-50.pkl)
    caffe2        the same with res2_0_branch2a_bn_s, _bn_b: norms folded (Detectron's R-50.pkl)
    pycls         stem.conv, s1.b1.f.a, s1.b1.f.a_bn, s1.b1.proj, head.fc
    huggingface   resnet.embedder.embedder.convolution, resnet.encoder.stages.0.layers.0.layer.0
    akamaster     conv1, bn1, layer1.0.conv1, linear (CIFAR nets, option A)

Not for: how an origin's input must look, or what its values mean (`origins`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from resdet.nets.zoo import CIFAR_DEPTHS, RESNETS, VGGS

BN_NAMES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer of a net: our name, and what hangs on it."""

    name: str
    has_norm: bool
    has_bias: bool

    @property
    def place(self) -> tuple[int, int, str]:
        """("res4.1.conv2") to (4, 1, "conv2")."""
        stage, block, leaf = self.name.split(".")
        return int(stage[3:]), int(block), leaf


# Our layer to (its name, the name of its norm) there.
Naming = Callable[[Layer], tuple[str, str]]


def layers(net: str) -> list[Layer]:
    """The layers of one of our nets that hold tensors, in the order in which they run.

    Options that change tensors (shortcut, width) are the family's own.

    Raises:
        ValueError: no table is known for this net.
    """
    if match := re.fullmatch(r"(resnet|plain)(18|34|50|101|152)", net):
        block, blocks = RESNETS[int(match[2])]
        return list(_residual(blocks, block.expansion, 64, shortcuts=match[1] == "resnet"))
    if (match := re.fullmatch(r"cifar_(resnet|plain)(\d+)", net)) and int(match[2]) % 6 == 2:
        # Option A has no tensors, so residual and plain nets hold the same.
        return list(_residual((int(match[2]) // 6,) * 3, 1, 16, shortcuts=False))
    if match := re.fullmatch(r"vgg(11|13|16|19)(_bn)?", net):
        return list(_vgg(VGGS[int(match[1])], has_norm=match[2] is not None))
    raise ValueError(f"no tensor names are known for {net!r}")


def _residual(
    blocks: tuple[int, ...], expansion: int, channels: int, *, shortcuts: bool
) -> Iterator[Layer]:
    yield Layer("stem.conv1", has_norm=True, has_bias=False)
    in_channels = channels
    for i, num_blocks in enumerate(blocks):
        out_channels = channels * 2**i * expansion
        for j in range(num_blocks):
            if shortcuts and j == 0 and (i > 0 or in_channels != out_channels):
                yield Layer(f"res{i + 2}.{j}.shortcut", has_norm=True, has_bias=False)
            for k in range(1, 4 if expansion == 4 else 3):
                yield Layer(f"res{i + 2}.{j}.conv{k}", has_norm=True, has_bias=False)
        in_channels = out_channels
    yield Layer("linear", has_norm=False, has_bias=True)


def _vgg(convs_per_stage: tuple[int, ...], *, has_norm: bool) -> Iterator[Layer]:
    for i, num_convs in enumerate(convs_per_stage):
        for j in range(num_convs):
            yield Layer(f"conv{i + 1}.{j}", has_norm=has_norm, has_bias=True)
    for name in ("fc6", "fc7", "linear"):
        yield Layer(name, has_norm=False, has_bias=True)


# -- one naming per origin -------------------------------------------------------------------


def _torchvision_resnet(layer: Layer) -> tuple[str, str]:
    if layer.name == "stem.conv1":
        return "conv1", "bn1"
    if layer.name == "linear":
        return "fc", ""
    stage, block, leaf = layer.place
    there = f"layer{stage - 1}.{block}"
    if leaf == "shortcut":
        return f"{there}.downsample.0", f"{there}.downsample.1"
    return f"{there}.{leaf}", f"{there}.bn{leaf[4:]}"


def _akamaster(layer: Layer) -> tuple[str, str]:
    return ("linear", "") if layer.name == "linear" else _torchvision_resnet(layer)


def _detectron2(layer: Layer) -> tuple[str, str]:
    return layer.name, f"{layer.name}.norm"


def _detectron2_converted(layer: Layer) -> tuple[str, str]:
    # Its converter of torchvision's files puts everything outside the stages under the stem.
    return ("stem.fc", "") if layer.name == "linear" else _detectron2(layer)


def _pycls(layer: Layer) -> tuple[str, str]:
    if layer.name == "stem.conv1":
        return "stem.conv", "stem.bn"
    if layer.name == "linear":
        return "head.fc", ""
    stage, block, leaf = layer.place
    there = f"s{stage - 1}.b{block + 1}"
    if leaf == "shortcut":
        return f"{there}.proj", f"{there}.bn"
    letter = "abc"[int(leaf[4:]) - 1]
    return f"{there}.f.{letter}", f"{there}.f.{letter}_bn"


def _huggingface(layer: Layer) -> tuple[str, str]:
    if layer.name == "linear":
        return "classifier.1", ""
    if layer.name == "stem.conv1":
        there = "resnet.embedder.embedder"
    else:
        stage, block, leaf = layer.place
        there = f"resnet.encoder.stages.{stage - 2}.layers.{block}"
        there += ".shortcut" if leaf == "shortcut" else f".layer.{int(leaf[4:]) - 1}"
    return f"{there}.convolution", f"{there}.normalization"


def _caffe2(layer: Layer) -> tuple[str, str]:
    """Underscores; the leaves have other names, too (`_CAFFE2_LEAVES`)."""
    if layer.name == "stem.conv1":
        return "conv1", "res_conv1_bn"
    if layer.name == "linear":
        return "fc1000", ""
    stage, block, leaf = layer.place
    branch = "branch1" if leaf == "shortcut" else f"branch2{'abc'[int(leaf[4:]) - 1]}"
    there = f"res{stage}_{block}_{branch}"
    return there, f"{there}_bn"


def _caffe2_pred(layer: Layer) -> tuple[str, str]:
    return ("pred", "") if layer.name == "linear" else _caffe2(layer)


def _vgg_naming(last: dict[str, str]) -> Callable[[list[Layer]], dict[str, tuple[str, str]]]:
    """`features.N`, counted over convolutions, norms, ReLUs and poolings; then `last`."""

    def names(every: list[Layer]) -> dict[str, tuple[str, str]]:
        found, index, stage = {}, 0, "conv1"
        for layer in every:
            if layer.name in last:
                found[layer.name] = (last[layer.name], "")
                continue
            if layer.name.split(".")[0] != stage:
                stage = layer.name.split(".")[0]
                index += 1  # max pooling
            found[layer.name] = (f"features.{index}", f"features.{index + 1}")
            index += 3 if layer.has_norm else 2  # convolution, norm, ReLU
        return found

    return names


_TORCH_LEAVES = {n: f".{n}" for n in BN_NAMES}
_MSRA_LEAVES = {
    "weight": "_gamma",
    "bias": "_beta",
    "running_mean": "_running_mean",
    "running_var": "_running_var",
}
_CAFFE2_LEAVES = {"weight": "_s", "bias": "_b"}


@dataclass(frozen=True)
class Names:
    """How one origin calls the tensors of a family of nets.

    Attributes:
        nets: those that it has, by our names.
        layer: naming of one layer, or of all at once.
        leaves: our leaf of a convolution or linear layer to theirs.
        norm_leaves: our leaf of a norm to theirs; what is not in it, the origin does not keep.
    """

    nets: tuple[str, ...]
    layer: Naming | None = None
    every: Callable[[list[Layer]], dict[str, tuple[str, str]]] | None = None
    leaves: tuple[tuple[str, str], ...] = (("weight", ".weight"), ("bias", ".bias"))
    norm_leaves: tuple[tuple[str, str], ...] = tuple(_TORCH_LEAVES.items())


_RESNETS = tuple(f"resnet{d}" for d in RESNETS)
_PLAINS = tuple(f"plain{d}" for d in RESNETS)
_VGGS = tuple(f"vgg{d}{norm}" for d in VGGS for norm in ("", "_bn"))
_CIFARS = tuple(f"cifar_resnet{d}" for d in CIFAR_DEPTHS)
_CIFAR_PLAINS = tuple(f"cifar_plain{d}" for d in CIFAR_DEPTHS)
_BOTTLENECKS = ("resnet50", "resnet101", "resnet152")
_CAFFE2 = (("weight", "_w"), ("bias", "_b"))
_TORCHVISION_LAST = {"fc6": "classifier.0", "fc7": "classifier.3", "linear": "classifier.6"}
_TIMM_LAST = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "linear": "head.fc"}

# Origin to its namings; several where families or habits differ.
NAMES: dict[str, tuple[Names, ...]] = {
    "torchvision": (
        Names(_RESNETS, _torchvision_resnet),
        Names(_VGGS, every=_vgg_naming(_TORCHVISION_LAST)),
    ),
    "timm": (
        Names(_RESNETS, _torchvision_resnet),
        Names(_VGGS, every=_vgg_naming(_TIMM_LAST)),
    ),
    "detectron2": (
        Names((*_RESNETS, *_PLAINS, *_VGGS, *_CIFARS, *_CIFAR_PLAINS), _detectron2),
        Names(_RESNETS, _detectron2_converted),
    ),
    "msra": tuple(
        Names(_BOTTLENECKS, naming, None, _CAFFE2, tuple(_MSRA_LEAVES.items()))
        for naming in (_caffe2, _caffe2_pred)
    ),
    "caffe2": tuple(
        Names(_BOTTLENECKS, naming, None, _CAFFE2, tuple(_CAFFE2_LEAVES.items()))
        for naming in (_caffe2, _caffe2_pred)
    ),
    "pycls": (Names(_BOTTLENECKS, _pycls),),
    "huggingface": (Names(_RESNETS, _huggingface),),
    "akamaster": (Names(_CIFARS, _akamaster),),
}


def tables(origin: str, net: str) -> list[dict[str, str]]:
    """Our name to theirs for every tensor of a net, the usual table first.

    Raises:
        ValueError: the origin is unknown or has no such net; lists what there is.
    """
    if origin not in NAMES:
        raise ValueError(f"no origin {origin!r}; known: {', '.join(NAMES)}")
    found = [_table(names, net) for names in NAMES[origin] if net in names.nets]
    if not found:
        known = sorted({n for names in NAMES[origin] for n in names.nets})
        raise ValueError(f"{origin} has no twin of {net!r}; it has {', '.join(known)}")
    return found


def table(origin: str, net: str) -> dict[str, str]:
    """The table by which files for an origin are written.

    Example:
        >>> table("torchvision", "resnet50")["res4.0.shortcut.norm.bias"]
        'layer3.0.downsample.1.bias'
        >>> table("pycls", "resnet50")["res4.0.conv2.weight"]
        's3.b1.f.b.weight'
    """
    return tables(origin, net)[0]


def nets_of(origin: str) -> tuple[str, ...]:
    """The nets of ours that an origin has a twin of."""
    return tuple(dict.fromkeys(n for names in NAMES[origin] for n in names.nets))


def _table(names: Names, net: str) -> dict[str, str]:
    every = layers(net)
    places = (
        names.every(every)
        if names.every
        else {layer.name: names.layer(layer) for layer in every if names.layer}
    )
    found: dict[str, str] = {}
    for layer in every:
        there, norm = places[layer.name]
        for ours, theirs in names.leaves:
            if ours == "weight" or layer.has_bias:
                found[f"{layer.name}.{ours}"] = f"{there}{theirs}"
        if layer.has_norm:
            for ours, theirs in names.norm_leaves:
                found[f"{layer.name}.norm.{ours}"] = f"{norm}{theirs}"
    return found
