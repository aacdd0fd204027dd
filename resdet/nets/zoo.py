"""Nets by name: `build("resnet50")`, `build("cifar_plain20", num_classes=10)`.

Foreign nets have names, too: `timm:convnext_tiny` is timm's, and what `register` was given is the
user's own.

Not for: weights, or which net a file holds (`resdet.weights`).
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resdet.nets.families import FAMILIES, depth_and_ending, family_of
from resdet.nets.net import Net
from resdet.nets.registry import build_registered, registered
from resdet.nets.timm import PREFIX, build_timm

NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)


def names() -> tuple[str, ...]:
    """All names with a depth of the papers; CIFAR nets exist for any depth 6n + 2."""
    return tuple(name for family in FAMILIES for name in family.names())


def build(name: str, num_classes: int = 1000, **options: Any) -> Net:
    """The net of this name, He-initialised, in training mode.

    Args:
        name: one of `names()`, or `cifar_resnet<6n+2>`, `cifar_plain<6n+2>`; `timm:<name>` for
            a net of timm, untrained (it takes `pooled_size` and timm's own options); a name given
            to `register`, whose builder takes the options.
        num_classes: K, at least 1.
        options: `norm_eps` (eps of all norms, in (0, 1), instead of the net's own, which is 1e-5
            for ours), `width` (factor on all channels, 1.0), and what the family takes:
            `shortcut`, `stride_in_1x1`, `stem`, `pooled_size`, `res5_dilation` for residual and
            plain nets;
            `pools`, `pooled_size`, `fc_channels`, `dropout` for VGG.

    Raises:
        ValueError: the name is unknown (the known ones are listed), the family has no such
            option, or an option has a value out of range.

    Example:
        >>> build("resnet18", num_classes=10).linear
        Linear(in_features=512, out_features=10, bias=True)
    """
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}, expected at least 1")
    eps = options.pop("norm_eps", None)
    net = _build(name, num_classes, options)
    if eps is not None:
        _set_eps(net, eps)
    return net


def last_layer(name: str, **options: Any) -> dict[str, int]:
    """The tensors with a place for each class, and along which axis: those of the last layer.

    It is "linear" in our nets; others call it as they like, and may have two. So it is what differs
    between two numbers of classes; nothing is computed.

    Raises:
        ValueError: as `build`.

    Example:
        >>> last_layer("resnet18")
        {'linear.weight': 0, 'linear.bias': 0}
    """
    few, more = (_shapes(name, number, dict(options)) for number in (3, 5))
    return {
        tensor: next(axis for axis, side in enumerate(shape) if side != more[tensor][axis])
        for tensor, shape in few.items()
        if shape != more[tensor]
    }


def classes_in(tensors: Mapping[str, torch.Tensor], name: str, **options: Any) -> int | None:
    """How many classes a net of these tensors tells apart; None where its last layer is not there.

    Raises:
        ValueError: as `build`.
    """
    places = last_layer(name, **options).items()
    sides = (tensors[n].shape[axis:] for n, axis in places if n in tensors)
    return next((int(side[0]) for side in sides if side), None)


def _shapes(name: str, num_classes: int, options: dict[str, Any]) -> dict[str, torch.Size]:
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                net = build(name, num_classes, **options)
        # A user's own builder may look at values.
        except RuntimeError:
            net = build(name, num_classes, **options)
    return {tensor: values.shape for tensor, values in net.state_dict().items()}


def _set_eps(net: Net, eps: float) -> None:
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise ValueError(f"norm_eps is {eps!r}, expected a number above 0 and below 1")
    for module in net.modules():
        if isinstance(module, NORMS):
            module.eps = eps


def _build(name: str, num_classes: int, options: dict[str, Any]) -> Net:
    if name.startswith(PREFIX):
        return build_timm(name.removeprefix(PREFIX), num_classes, **options)
    if name in registered():
        return build_registered(name, num_classes, **options)
    width = float(options.pop("width", 1.0))
    if not 0 < width <= 64:
        raise ValueError(f"width is {width}, expected a factor above 0, such as 0.5")

    def scaled(channels: int) -> int:
        return max(1, round(channels * width))

    family, variant = family_of(name), depth_and_ending(name)
    if family is not None and variant is not None:
        depth, ending = variant
        options = {**family.defaults, **family.endings[ending], **options, **family.fixed}
        args = (*family.layers(depth), scaled(family.channels), num_classes)
        return _make(name, family.net, args, options)
    known = (*names(), *registered())
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ValueError(
        f"no net is called {name!r}; {hint}known: {', '.join(known)}, {PREFIX}<a name of timm>, "
        "and those of your own in the script that registers them (docs/own_net.md)"
    )


def _make(name: str, family: Callable[..., Net], args: tuple, options: dict[str, Any]) -> Net:
    known = [
        p.name
        for p in inspect.signature(family).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"{name} has no option {', '.join(unknown)}; it takes width, {', '.join(known)}"
        )
    return family(*args, **options)
