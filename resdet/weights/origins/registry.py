"""The table of origins, and what follows from it: tensor names and meaning, to ours and back.

A table of names is a bijection over all tensors of one net. Nothing is ever matched by shape or by
the longest suffix (`docs/faults.md` F18). No library of an origin is needed to know its names.

Not for: whose a file is (`identify`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from resdet.errors import WeightsError
from resdet.weights.formats.contents import Tensors
from resdet.weights.origins.akamaster import AKAMASTER
from resdet.weights.origins.detectron2 import CAFFE2, DETECTRON2, MSRA
from resdet.weights.origins.huggingface import HUGGINGFACE
from resdet.weights.origins.origin import COUNTER, Names, Origin, layers, to_linear
from resdet.weights.origins.pycls import PYCLS
from resdet.weights.origins.timm import TIMM
from resdet.weights.origins.torchvision import TORCHVISION

# Of two whose names fit a file alike, the first: timm's ResNets have torchvision's names.
ORIGINS: dict[str, Origin] = {
    o.name: o for o in (TORCHVISION, TIMM, DETECTRON2, MSRA, CAFFE2, PYCLS, HUGGINGFACE, AKAMASTER)
}


def tables(origin: str, net: str) -> list[dict[str, str]]:
    """Our name to theirs for every tensor of a net, the usual table first.

    Raises:
        ValueError: the origin is unknown or has no such net; lists what there is.
    """
    if origin not in ORIGINS:
        raise ValueError(f"no origin {origin!r}; known: {', '.join(ORIGINS)}")
    tables_of_net = [_table(names, net) for names in ORIGINS[origin].names if net in names.nets]
    if not tables_of_net:
        known = sorted({n for names in ORIGINS[origin].names for n in names.nets})
        raise ValueError(f"{origin} has no twin of {net!r}; it has {', '.join(known)}")
    return tables_of_net


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
    """The nets of ours that an origin has, too."""
    return tuple(dict.fromkeys(n for names in ORIGINS[origin].names for n in names.nets))


def _table(names: Names, net: str) -> dict[str, str]:
    every = layers(net)
    places = (
        names.every(every)
        if names.every
        else {layer.name: names.layer(layer) for layer in every if names.layer}
    )
    table: dict[str, str] = {}
    for layer in every:
        there, norm = places[layer.name]
        for ours, theirs in names.leaves:
            if ours == "weight" or layer.has_bias:
                table[f"{layer.name}.{ours}"] = f"{there}{theirs}"
        if layer.has_norm:
            for ours, theirs in names.norm_leaves:
                table[f"{layer.name}.norm.{ours}"] = f"{norm}{theirs}"
    return table


def to_our_values(
    origin: Origin, ours: Tensors, raw: Mapping[str, torch.Tensor], where: str
) -> tuple[Tensors, tuple[str, ...]]:
    """Tensors under our names with our meaning, and what was converted, in sentences."""
    notes: tuple[str, ...] = ()
    if any(t.ndim == 4 and n.startswith("fc") for n, t in ours.items()):
        ours = to_linear(ours)
        notes = ("fc6 and fc7 are convolutions there, linear layers here",)
    ours, more = origin.to_ours(ours, raw, where)
    return ours, (*notes, *more)


def to_names_of(origin: str, net: str, tensors: Tensors) -> tuple[Tensors, tuple[str, ...]]:
    """Our tensors under an origin's names, with its meaning; and what was converted, in sentences.

    Raises:
        WeightsError: the origin has no such net.
    """
    if net.startswith(f"{origin}:"):
        return tensors, ()
    try:
        names = table(origin, net)
    except ValueError as error:
        raise WeightsError(f"{error}.") from None
    converted, notes = ORIGINS[origin].from_ours(net, tensors)
    if not ORIGINS[origin].keeps_counters:
        converted = {n: t for n, t in converted.items() if not n.endswith(COUNTER)}
    return {names[name]: t for name, t in converted.items() if name in names}, notes
