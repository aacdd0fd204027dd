"""What an origin is: how it names tensors, what input its files expect, what its values mean.

One `Origin` per file of this folder has all of it; `registry` has their table. Code that several
origins share is here, too.

Not for: any one origin.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resdet.nets import families
from resdet.weights.cards import Input
from resdet.weights.formats.contents import Contents, Tensors

BN_NAMES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
COUNTER = "num_batches_tracked"
# eps of every norm of every origin here; files do not contain it.
EPS = 1e-5
IMAGENET_RGB = Input("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
BGR_MEAN = (103.53, 116.28, 123.675)
Notes = tuple[str, ...]


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
        block, blocks = families.RESNETS[int(match[2])]
        return list(_residual(blocks, block.expansion, 64, shortcuts=match[1] == "resnet"))
    if (match := re.fullmatch(r"cifar_(resnet|plain)(\d+)", net)) and int(match[2]) % 6 == 2:
        # Option A has no tensors, so residual and plain nets hold the same.
        return list(_residual((int(match[2]) // 6,) * 3, 1, 16, shortcuts=False))
    if match := re.fullmatch(r"vgg(11|13|16|19)(_bn)?", net):
        return list(_vgg(families.VGGS[int(match[1])], has_norm=match[2] is not None))
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


# -- an origin ---------------------------------------------------------------------------------


_TORCH_LEAVES = {n: f".{n}" for n in BN_NAMES}


@dataclass(frozen=True)
class Names:
    """How one origin names the tensors of a family of nets.

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


@dataclass(frozen=True)
class Habits:
    """What is known of a foreign file without asking; None where nothing is.

    Attributes:
        options: of the net; `stride_in_1x1` is there where it is known or has no effect.
        verified: from a record beside the file, not from the habit of its origin.
    """

    origin: str
    net: str
    input: Input | None
    options: dict[str, Any]
    verified: bool = False


def _as_it_is(
    tensors: Tensors, raw: Mapping[str, torch.Tensor], where: str
) -> tuple[Tensors, Notes]:
    return tensors, ()


def _written_as_it_is(net: str, ours: Tensors) -> tuple[Tensors, Notes]:
    return ours, ()


def _as_usual(path: Path, contents: Contents, habits: Habits) -> Habits:
    return habits


@dataclass(frozen=True)
class Origin:
    """The names, habits and layouts of one origin, and the library that builds its nets.

    Attributes:
        input: the input format of its files; None where files do not state it.
        stride_in_1x1: of bottlenecks; None where files do not state it.
        names: its namings, the usual one first; several where families or habits differ.
        folded: norms are scale and shift only.
        keeps_counters: writes `num_batches_tracked`.
        extras: patterns of tensors that its files hold beside the net.
        used: those of the extras whose values `to_ours` takes up; they are not left out.
        hint: what most of its files expect, for the refusal of a file that does not state it.
        habits: what is known of one file beyond this, from its contents and the files beside it.
        to_ours: (tensors under our names, all of the file, where) to our meaning, with sentences.
        from_ours: (net, our tensors) to its meaning, with sentences.
        library: has its nets to compare with; "" where none does. `build` makes one by our name.
    """

    name: str
    input: Input | None
    stride_in_1x1: bool | None
    names: tuple[Names, ...]
    folded: bool = False
    keeps_counters: bool = True
    extras: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    hint: str = ""
    habits: Callable[[Path, Contents, Habits], Habits] = _as_usual
    to_ours: Callable[[Tensors, Mapping[str, torch.Tensor], str], tuple[Tensors, Notes]] = _as_it_is
    from_ours: Callable[[str, Tensors], tuple[Tensors, Notes]] = _written_as_it_is
    library: str = ""
    build: Callable[[Any, str, int], nn.Module] | None = None


# -- shared by several -------------------------------------------------------------------------


RESNETS = tuple(f"resnet{d}" for d in families.RESNETS)
PLAINS = tuple(f"plain{d}" for d in families.RESNETS)
VGGS = tuple(f"vgg{d}{norm}" for d in families.VGGS for norm in ("", "_bn"))
CIFARS = tuple(f"cifar_resnet{d}" for d in families.CIFAR_DEPTHS)
CIFAR_PLAINS = tuple(f"cifar_plain{d}" for d in families.CIFAR_DEPTHS)
BOTTLENECKS = ("resnet50", "resnet101", "resnet152")


def vgg_naming(last: dict[str, str]) -> Callable[[list[Layer]], dict[str, tuple[str, str]]]:
    """`features.N`, counted over convolutions, norms, ReLUs and poolings; then `last`."""

    def names(every: list[Layer]) -> dict[str, tuple[str, str]]:
        names, index, stage = {}, 0, "conv1"
        for layer in every:
            if layer.name in last:
                names[layer.name] = (last[layer.name], "")
                continue
            if layer.name.split(".")[0] != stage:
                stage = layer.name.split(".")[0]
                index += 1  # max pooling
            names[layer.name] = (f"features.{index}", f"features.{index + 1}")
            index += 3 if layer.has_norm else 2  # convolution, norm, ReLU
        return names

    return names


def to_linear(ours: Tensors) -> Tensors:
    """(4096, 512, 7, 7) to (4096, 25088): channels, rows, columns, as `flatten` orders them."""
    return {
        n: t.flatten(1) if n in ("fc6.weight", "fc7.weight") and t.ndim == 4 else t
        for n, t in ours.items()
    }
