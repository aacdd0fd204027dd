"""One record for each family of nets: its names, depths, class and options.

All code that looks up a name (`zoo`, `registry`, the config) does so here. A net of timm or of a
user's own has no record: its name is timm's or its user's, and its builder knows its options.

Not for: building (`zoo`), names of tensors (`resdet.weights`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resdet.nets.net import Net
from resdet.nets.resnet import BasicBlock, Bottleneck, ResNet
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


@dataclass(frozen=True)
class Family:
    """A family of nets: `resnet50` is family `resnet`, depth 50, ending "".

    Attributes:
        name: what names begin with, before the depth.
        depths: those of its paper.
        net: the class; its keyword-only arguments are the options.
        channels: of the first stage, at width 1.
        endings: of names, to the options that each stands for; they may be overruled.
        defaults: options that are not the class's own defaults; they may be overruled, too.
        fixed: options that make the family; they may not.
        is_cifar: a depth is any 6n + 2.
        has_stride_choice: `stride_in_1x1` is an option, so a card and a config always state it.
    """

    name: str
    depths: tuple[int, ...]
    net: type[Net]
    channels: int
    endings: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"": {}})
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    is_cifar: bool = False
    has_stride_choice: bool = True

    def names(self) -> tuple[str, ...]:
        """Names of the depths of its paper."""
        return tuple(f"{self.name}{depth}{e}" for depth in self.depths for e in self.endings)

    def usual(self, ending: str) -> dict[str, Any]:
        """Every option with the value that a net of the family has unless another is given."""
        parameters = inspect.signature(self.net).parameters.values()
        own = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
        return {**own, **self.defaults, **self.endings[ending], **self.fixed}

    def layers(self, depth: int) -> tuple[Any, ...]:
        """What the class takes before its channels: (block, blocks of stages) or (convolutions,).

        Raises:
            ValueError: not the depth of a CIFAR net.
        """
        if not self.is_cifar:
            return (VGGS[depth],) if self.net is VGG else RESNETS[depth]
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(
                f"{self.name}{depth}: the depth of a CIFAR net is 6n + 2 (8, 14, 20, …)"
            )
        return BasicBlock, (depth // 6,) * 3


_PLAIN = {"shortcut": "none"}
_CIFAR = {"shortcut": "A", "stem": "cifar", "pooled_size": 16}
FAMILIES = (
    Family("resnet", tuple(RESNETS), ResNet, 64),
    Family("plain", tuple(RESNETS), ResNet, 64, fixed=_PLAIN),
    Family(
        "vgg",
        tuple(VGGS),
        VGG,
        64,
        endings={"": {"norm": False}, "_bn": {"norm": True}},
        has_stride_choice=False,
    ),
    Family("cifar_resnet", CIFAR_DEPTHS, ResNet, 16, defaults=_CIFAR, is_cifar=True),
    Family("cifar_plain", CIFAR_DEPTHS, ResNet, 16, defaults=_CIFAR, fixed=_PLAIN, is_cifar=True),
)
# Names that belong to the families at any depth, built or not.
_NAME = re.compile(rf"({'|'.join(family.name for family in FAMILIES)})(\d+)(_bn)?")


def family_of(name: str) -> Family | None:
    """The family that a name belongs to, at any depth, built or not; None for another's."""
    match = _NAME.fullmatch(name)
    return next(f for f in FAMILIES if f.name == match[1]) if match else None


def depth_and_ending(name: str) -> tuple[int, str] | None:
    """Those of a net that a family has; None where it has no such depth or ending."""
    match, family = _NAME.fullmatch(name), family_of(name)
    if match is None or family is None:
        return None
    depth, ending = int(match[2]), match[3] or ""
    has_depth = family.is_cifar or (str(depth) == match[2] and depth in family.depths)
    return (depth, ending) if has_depth and ending in family.endings else None
