"""A net that gives all its maps at once (transformers, HRNet) as a Detectron2 backbone.

Its parts, from the images on, are those that timm groups its parameters into: the stem with tokens
and positions, then stage by stage, or block by block of a plain transformer. The first
MODEL.BACKBONE.FREEZE_AT of them do not train.

Not for: nets that run stage by stage (`backbone`), or a pyramid on the maps (`fpn`,
`simple_pyramid`).
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resdet.detect.architecture.norms import (
    disable_dropout,
    freeze_norms,
    gradients_if_needed,
    is_fixed,
    refuse_frozen_without_batch_norm,
)
from resdet.engine.speed.precision import Precision
from resdet.errors import ConfigError
from resdet.nets.timm import TimmNet
from resdet.nets.timm_maps import NO_IMAGE, TimmMaps

DIVISIBLE = 32


def fitted(x: torch.Tensor, cells: Sequence[int]) -> torch.Tensor:
    """(N, C, h, w) to (N, C, *cells): edges repeated, or cut, on both sides, the rest at the right
    and lower one. A map of that size stays as it is."""
    missing = [expected - side for expected, side in zip(cells, x.shape[-2:], strict=True)]
    if not any(missing):
        return x
    # Rounded towards zero, so that what is cut is treated as what is repeated.
    before = [int(n / 2) for n in missing]
    pads = [n for b, m in reversed(list(zip(before, missing, strict=True))) for n in (b, m - b)]
    x = F.pad(x, [min(n, 0) for n in pads])
    return F.pad(x, [max(n, 0) for n in pads], mode="replicate")


class MapsBackbone(Backbone):
    """(N, 3, H, W), H and W multiples of 32, to a dict from stage name to map, in float32.

    Of a net that pads less than its strides have, the outermost cells are repeated.

    Where all of it is frozen it always computes as in a test, and no gradient is kept.

    Attributes:
        maps: the net inside; its tensors lie directly below the backbone, under the net's names.
        left_behind: names of the net's tensors that are not part of the trunk.
        square_pad: side of the squares that images are padded to (INPUT.SQUARE_PAD); 0: off.
    """

    square_pad = 0

    def __init__(
        self,
        maps: TimmMaps,
        precision: Precision = Precision(),  # noqa: B008 frozen
        left_behind: Sequence[str] = (),
    ):
        super().__init__()
        self._out_features = [stage.name for stage in maps.given_stages]
        self.precision = precision
        self.left_behind = tuple(left_behind)
        maps.share_with(self)

    @property
    def stage_names(self) -> list[str]:
        return [name for name, _ in self.named_children()]

    @property
    def size_divisibility(self) -> int:
        return self.square_pad or DIVISIBLE

    def train(self, mode: bool = True) -> MapsBackbone:
        mode = mode and not is_fixed(self)
        super().train(mode)
        self.maps.train(mode)
        return self

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        dtype, sides = x.dtype, x.shape[-2:]
        cells = {s.name: [side // s.stride for side in sides] for s in self.maps.given_stages}
        with self.precision.autocast(), gradients_if_needed(self):
            outputs = self.maps(self.precision.input(x))
        return {name: fitted(output.to(dtype), cells[name]) for name, output in outputs.items()}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            s.name: ShapeSpec(channels=s.channels, stride=s.stride) for s in self.maps.given_stages
        }


def maps_backbone(cfg: Any, net: TimmNet, out_features: Sequence[str]) -> MapsBackbone:
    """The net up to the last of `out_features`, with norms, frozen parts, precision.

    Raises:
        ConfigError: the net gives no such maps, FREEZE_AT is out of range, or a frozen part would
            hold random weights.
    """
    before = list(net.state_dict())
    _refuse_larger_images(cfg)
    try:
        maps = net.maps(out_features)
    except ValueError as error:
        raise ConfigError(f"MODEL.NET: {error}{_advice(cfg, str(error))}") from None
    held = set(maps.state_dict())
    groups = dict(maps.groups())
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT
    if not 0 <= freeze_at <= len(groups):
        raise ConfigError(
            f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}, but {cfg.MODEL.NET.NAME} has {len(groups)} "
            f"parts ({', '.join(groups)}): 0 to {len(groups)}."
        )
    fixed = {name for part in list(groups)[:freeze_at] for name in groups[part]}
    if fixed and not cfg.MODEL.WEIGHTS:
        raise ConfigError(
            f"MODEL.BACKBONE.FREEZE_AT {freeze_at} freezes {', '.join(list(groups)[:freeze_at])}, "
            "whose weights are random. Give MODEL.WEIGHTS, or set MODEL.BACKBONE.FREEZE_AT 0."
        )
    for pattern in cfg.TRANSFER.NEW:
        if random := fnmatch.filter(sorted(fixed), pattern):
            raise ConfigError(
                f"MODEL.BACKBONE.FREEZE_AT {freeze_at} freezes {random[0]}, which TRANSFER.NEW "
                f"{pattern} declares new: its weights are random. Leave the pattern out, or set "
                "MODEL.BACKBONE.FREEZE_AT 0."
            )
    _apply_norms(maps, cfg, fixed)
    for name, parameter in maps.named_parameters():
        if name in fixed:
            parameter.requires_grad = False
    for name, module in maps.named_modules():
        inside = [f"{name}.{p}" if name else p for p, _ in module.named_parameters()]
        if inside and fixed.issuperset(inside):
            disable_dropout(module)
    return MapsBackbone(maps, Precision.of_config(cfg), [n for n in before if n not in held])


def _longest_side(cfg: Any) -> int:
    """The most pixels that a side of an image may have, padding counted."""
    images = cfg.INPUT
    longest = max(
        images.MAX_SIZE_TRAIN, images.MAX_SIZE_TEST, images.SQUARE_PAD, cfg.TEST.SCALES_MAX_SIZE
    )
    return int(math.ceil(longest / DIVISIBLE) * DIVISIBLE)


def _refuse_larger_images(cfg: Any) -> None:
    """Raises ConfigError where an image may be larger than the square of a net of one size."""
    side, longest = cfg.MODEL.NET.IMAGE_SIZE, _longest_side(cfg)
    if side and not cfg.INPUT.MIN_SIZE_TEST:
        raise ConfigError(
            f"MODEL.NET.IMAGE_SIZE is {side}, and INPUT.MIN_SIZE_TEST 0 (images are not resized), "
            f"so that one may be larger. Set INPUT.MIN_SIZE_TEST {side}."
        )
    if side and longest > side:
        raise ConfigError(
            f"MODEL.NET.IMAGE_SIZE is {side}, but images may have {longest} pixels a side "
            "(INPUT.MAX_SIZE_TRAIN, MAX_SIZE_TEST or SQUARE_PAD, or TEST.SCALES_MAX_SIZE, "
            f"padded to multiples of {DIVISIBLE}). Set MODEL.NET.IMAGE_SIZE {longest}, or smaller "
            "images."
        )


def _advice(cfg: Any, fault: str) -> str:
    """What to do about a net that may be one of one size."""
    if cfg.MODEL.NET.IMAGE_SIZE or NO_IMAGE not in fault:
        return ""
    return (
        f". A net of one size is built for a square that images are padded to: state it, such as "
        f"MODEL.NET.IMAGE_SIZE {_longest_side(cfg)} (the longest side of an image; docs/timm.md)."
    )


def _apply_norms(maps: nn.Module, cfg: Any, fixed: set[str]) -> None:
    """Batch norms frozen or live as in nets that run stage by stage; other norms as they are."""
    from resdet.detect.architecture.backbone import is_new, norm_of_stage  # which calls this module

    refuse_frozen_without_batch_norm(maps, cfg)
    weights, norm = cfg.MODEL.WEIGHTS, cfg.MODEL.NET.NORM
    for name, module in list(maps.named_modules()):
        if isinstance(module, _BatchNorm):
            fresh = is_new(name, module.state_dict(), cfg.TRANSFER.NEW)
            kind = norm_of_stage(name, norm=norm, weights=weights, is_new=fresh)
            if kind == "FrozenBN" or f"{name}.weight" in fixed:
                maps.set_submodule(name, freeze_norms(module, name))
