"""Any net's trunk as a Detectron2 backbone, and the rule for batch norm in detection.

The stages become children of the backbone under their own names (`backbone.res2.0.conv1.weight`),
so stock Detectron2 checkpoints load by name, and a net's own weights without any renaming.

Not for: the tail (`region_heads`), or which weights arrive (`trainer`).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn

from resdet import nets
from resdet.config import net_options
from resdet.engine.precision import Precision
from resdet.errors import ConfigError

NORMS = ("auto", "FrozenBN", "BN")


def build_net(cfg: Any, num_classes: int = 1000) -> nets.Net:
    """The net that MODEL.NET describes.

    Raises:
        ConfigError: no such net, or it has no such option.
    """
    try:
        # Its draws are its own: whatever is initialised next starts alike for every net.
        with torch.random.fork_rng(devices=[]):
            return nets.build(cfg.MODEL.NET.NAME, num_classes, **net_options(cfg))
    except ValueError as error:
        raise ConfigError(f"MODEL.NET: {error}") from None


def is_new(stage: str, tensors: Iterable[str], patterns: Sequence[str]) -> bool:
    """Whether TRANSFER.NEW declares a stage new, e.g. by ("res5.*",).

    Args:
        tensors: names within the stage, as in its state dict.
        patterns: as `weights.transfer` takes them.

    Raises:
        ConfigError: a part of the stage is declared new: its norms would be half of each kind.
    """
    names = [f"{stage}.{name}" for name in tensors]
    fresh = [n for n in names if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
    if fresh and len(fresh) < len(names):
        raise ConfigError(
            f"TRANSFER.NEW {list(patterns)} declares {len(fresh)} of the {len(names)} tensors of "
            f"{stage} new (first: {fresh[0]}). Name whole stages, such as '{stage}.*'."
        )
    return bool(fresh)


def norm_of_stage(stage: str, *, norm: str, weights: str, is_new: bool) -> str:
    """ "FrozenBN" or "BN" for one stage; frozen norms need statistics that arrived.

    Raises:
        ConfigError: unknown `norm`, or FrozenBN asked for where the weights are random.
    """
    if norm not in NORMS:
        raise ConfigError(f"MODEL.NET.NORM is {norm!r}, expected one of {', '.join(NORMS)}.")
    random = not weights or is_new
    if norm == "FrozenBN" and random:
        why = f"TRANSFER.NEW declares {stage} new" if weights else "MODEL.WEIGHTS is empty"
        raise ConfigError(
            f"MODEL.NET.NORM is FrozenBN, but {why}: the norms of {stage} would be frozen at their "
            "initial values. Give MODEL.WEIGHTS, or say MODEL.NET.NORM auto (live where new)."
        )
    return "BN" if norm == "BN" or random else "FrozenBN"


def apply_norms(stages: nn.Sequential, cfg: Any) -> nn.Sequential:
    """The stages with their norms frozen or live as `norm_of_stage` says."""
    for name, stage in list(stages.named_children()):
        fresh = is_new(name, stage.state_dict(), cfg.TRANSFER.NEW)
        weights, norm = cfg.MODEL.WEIGHTS, cfg.MODEL.NET.NORM
        if norm_of_stage(name, norm=norm, weights=weights, is_new=fresh) == "FrozenBN":
            setattr(stages, name, FrozenBatchNorm2d.convert_frozen_batchnorm(stage))
    return stages


def freeze(module: nn.Module) -> nn.Module:
    """No gradients, norms fixed: as Detectron2 freezes the first stages."""
    for parameter in module.parameters():
        parameter.requires_grad = False
    return FrozenBatchNorm2d.convert_frozen_batchnorm(module)


class NetBackbone(Backbone):
    """The trunk of a net. (N, 3, H, W) to a dict from stage name to map, in float32.

    Args:
        stages: named stages in the order in which they run.
        out_features: names of the stages whose maps are given.
        shapes: channels and stride of those.
        precision: how the layers compute; the maps leave in the type of the input.
    """

    def __init__(
        self,
        stages: nn.Sequential,
        out_features: Sequence[str],
        shapes: dict[str, ShapeSpec],
        precision: Precision = Precision(),  # noqa: B008 frozen
    ):
        super().__init__()
        self.stage_names = [name for name, _ in stages.named_children()]
        for name, stage in stages.named_children():
            self.add_module(name, stage)
        self._out_features = list(out_features)
        self._shapes = shapes
        self.precision = precision

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs, dtype = {}, x.dtype
        with self.precision.autocast():
            x = self.precision.input(x)
            for name in self.stage_names:
                x = getattr(self, name)(x)
                if name in self._out_features:
                    outputs[name] = x.to(dtype)
        return outputs

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: self._shapes[name] for name in self._out_features}


@BACKBONE_REGISTRY.register()
def build_net_backbone(cfg: Any, input_shape: ShapeSpec) -> NetBackbone:
    """The trunk of MODEL.NET up to the last of MODEL.RPN.IN_FEATURES and ROI_HEADS.IN_FEATURES.

    The first MODEL.BACKBONE.FREEZE_AT stages do not train (2: the stem and res2, or conv1 and
    conv2 of VGG, as the paper's detectors).

    Raises:
        ConfigError: FREEZE_AT is out of range, or a frozen stage would hold random weights (F45).
    """
    net = build_net(cfg)
    shapes = {s.name: ShapeSpec(channels=s.channels, stride=s.stride) for s in net.stages()}
    wanted = {*cfg.MODEL.RPN.IN_FEATURES, *cfg.MODEL.ROI_HEADS.IN_FEATURES} & set(shapes)
    out_features = [name for name in shapes if name in wanted] or [net.shared_stage]
    stages = net.trunk(out_features[-1])
    names = [name for name, _ in stages.named_children()]
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT
    if not 0 <= freeze_at <= len(names):
        raise ConfigError(
            f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}, but the trunk of {cfg.MODEL.NET.NAME} has "
            f"{len(names)} stages ({', '.join(names)}): 0 to {len(names)}."
        )
    stages = apply_norms(stages, cfg)
    for name in names[:freeze_at]:
        stage = getattr(stages, name)
        if not cfg.MODEL.WEIGHTS or is_new(name, stage.state_dict(), cfg.TRANSFER.NEW):
            raise ConfigError(
                f"MODEL.BACKBONE.FREEZE_AT {freeze_at} freezes {name}, whose weights are random. "
                "Give MODEL.WEIGHTS, or say MODEL.BACKBONE.FREEZE_AT 0."
            )
        setattr(stages, name, freeze(stage))
    precision = Precision.of(cfg.MODEL.DEVICE, cfg.ENGINE.BF16, cfg.ENGINE.CHANNELS_LAST)
    return NetBackbone(stages, out_features, shapes, precision)
