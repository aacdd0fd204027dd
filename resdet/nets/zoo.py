"""Nets by name: `build("resnet50")`, `build("cifar_plain20", num_classes=10)`.

Foreign nets have names, too: `timm:convnext_tiny` is timm's, and what `register` was given is the
user's own.

Not for: weights, or which net a file holds (`resdet.weights`).
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable
from typing import Any

from resdet.nets.net import Net
from resdet.nets.registry import build_registered, registered
from resdet.nets.resnet import BasicBlock, Bottleneck, ResNet
from resdet.nets.timm import PREFIX, build_timm
from resdet.nets.vgg import VGG

# depth: (block, blocks of res2 … res5); table 1 of the paper.
RESNETS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
# configurations A, B, D, E of the VGG paper.
VGGS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CIFAR_DEPTHS = (20, 32, 44, 56, 110, 1202)


def names() -> tuple[str, ...]:
    """All names with a depth of the papers; CIFAR nets exist for any depth 6n + 2."""
    return (
        *(f"{family}{depth}" for family in ("resnet", "plain") for depth in RESNETS),
        *(f"vgg{depth}{norm}" for depth in VGGS for norm in ("", "_bn")),
        *(f"cifar_{family}{d}" for family in ("resnet", "plain") for d in CIFAR_DEPTHS),
    )


def build(name: str, num_classes: int = 1000, **options: Any) -> Net:
    """The net of this name, He-initialised, in training mode.

    Args:
        name: one of `names()`, or `cifar_resnet<6n+2>`, `cifar_plain<6n+2>`; `timm:<name>` for
            a net of timm, untrained (it takes `pooled_size` and timm's own options); a name given
            to `register`, whose builder takes the options.
        num_classes: K, at least 1.
        options: `width` (factor on all channels, 1.0), and what the family takes:
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
    if name.startswith(PREFIX):
        return build_timm(name.removeprefix(PREFIX), num_classes, **options)
    if name in registered():
        return build_registered(name, num_classes, **options)
    width = float(options.pop("width", 1.0))
    if not 0 < width <= 64:
        raise ValueError(f"width is {width}, expected a factor above 0, such as 0.5")

    def scaled(channels: int) -> int:
        return max(1, round(channels * width))

    if match := re.fullmatch(r"(resnet|plain)(18|34|50|101|152)", name):
        block, blocks = RESNETS[int(match[2])]
        options = _plain(match[1], options)
        return _make(name, ResNet, (block, blocks, scaled(64), num_classes), options)
    if match := re.fullmatch(r"cifar_(resnet|plain)(\d+)", name):
        depth = int(match[2])
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"{name}: the depth of a CIFAR net is 6n + 2 (8, 14, 20, …)")
        options = {"shortcut": "A", "stem": "cifar", "pooled_size": 16, **options}
        options = _plain(match[1], options)
        per_stage = (depth // 6,) * 3
        return _make(name, ResNet, (BasicBlock, per_stage, scaled(16), num_classes), options)
    if match := re.fullmatch(r"vgg(11|13|16|19)(_bn)?", name):
        options = {"norm": match[2] is not None, **options}
        return _make(name, VGG, (VGGS[int(match[1])], scaled(64), num_classes), options)
    known = (*names(), *registered())
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ValueError(
        f"no net is called {name!r}; {hint}known: {', '.join(known)}, {PREFIX}<a name of timm>"
    )


def _plain(family: str, options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "shortcut": "none"} if family == "plain" else options


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
