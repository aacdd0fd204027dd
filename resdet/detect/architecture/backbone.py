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
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, ResNet
from torch import nn

from resdet import nets
from resdet.config import drop_path_option, net_options
from resdet.detect.architecture.maps_backbone import MapsBackbone, fitted, maps_backbone
from resdet.detect.architecture.norms import (
    disable_dropout,
    freeze_norms,
    gradients_if_needed,
    is_fixed,
    refuse_frozen_without_batch_norm,
)
from resdet.engine.speed.precision import Precision
from resdet.errors import ConfigError
from resdet.nets.chain import Chain, by_stage, place, stages_and_rest
from resdet.nets.timm import TimmNet
from resdet.nets.timm_maps import TimmMaps

NORMS = ("auto", "FrozenBN", "BN")


def build_net(cfg: Any, num_classes: int = 1000) -> nets.Net:
    """The net that MODEL.NET describes.

    Raises:
        ConfigError: no such net, it has no such option, or a user's own net has a fault.
    """
    name = cfg.MODEL.NET.NAME
    options = {**net_options(cfg), **drop_path_option(cfg)}
    try:
        # A random generator of its own: what is initialised next starts the same for every net.
        with torch.random.fork_rng(devices=[]):
            net = nets.build(name, num_classes, **options)
            if name in nets.registered():
                nets.check_net(net)
            return net
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
            "initial values. Give MODEL.WEIGHTS, or set MODEL.NET.NORM auto (live where new)."
        )
    return "BN" if norm == "BN" or random else "FrozenBN"


def apply_norms(layers: nn.Module, cfg: Any) -> Chain:
    """The layers of a trunk or tail, their norms frozen or live by `norm_of_stage`."""
    stages = Chain.of(layers)
    refuse_frozen_without_batch_norm(stages, cfg)
    for name, stage in stages.items():
        fresh = is_new(name, stage.state_dict(), cfg.TRANSFER.NEW)
        weights, norm = cfg.MODEL.WEIGHTS, cfg.MODEL.NET.NORM
        if norm_of_stage(name, norm=norm, weights=weights, is_new=fresh) == "FrozenBN":
            stages.replace(name, freeze_norms(stage, name))
    return stages


def freeze(module: nn.Module, where: str = "") -> nn.Module:
    """No gradients, norms fixed: as Detectron2 freezes the first stages; nothing drops either."""
    for parameter in module.parameters():
        parameter.requires_grad = False
    return freeze_norms(disable_dropout(module), where)


def parts_to_freeze(cfg: Any, last: str) -> int:
    """How many parts MODEL.BACKBONE.FREEZE_AT counts in the trunk up to the stage `last`.

    Raises:
        ConfigError: the net has no such trunk.
    """
    net = build_net(cfg)
    try:
        if isinstance(net, TimmNet) and not net.runs_layer_by_layer:
            return len(list(net.maps([last]).groups()))
        return len(by_stage(net.trunk(last).names, [stage.name for stage in net.stages()]))
    except ValueError as error:
        raise ConfigError(f"MODEL.NET: {error}") from None


class NetBackbone(Backbone):
    """The trunk of a net. (N, 3, H, W) to a dict from stage name to map, in float32.

    Where all of it is frozen it always computes as in a test, and no gradient is kept.

    Args:
        stages: named layers in the order in which they run; a name may have dots, as timm's do.
        out_features: names of the stages whose maps are given.
        shapes: channels and stride of those.
        precision: how the layers compute; the maps leave in the type of the input.
        left_behind: names of the net's tensors that the trunk does not hold.

    Attributes:
        square_pad: side of the squares that images are padded to (INPUT.SQUARE_PAD); 0: off.
        fits_cells: a map has the image's side over its stride cells, as a pyramid needs it; of a
            net that pads less, the outermost cells are repeated.
    """

    square_pad = 0
    fits_cells = False

    def __init__(
        self,
        stages: nn.Module,
        out_features: Sequence[str],
        shapes: dict[str, ShapeSpec],
        precision: Precision = Precision(),  # noqa: B008 frozen
        left_behind: Sequence[str] = (),
    ):
        super().__init__()
        self.left_behind = tuple(left_behind)
        chain = Chain.of(stages)
        self.stage_names = list(chain.names)
        for name, stage in chain.items():
            place(self, name, stage)
        self._out_features = list(out_features)
        self._shapes = shapes
        self.precision = precision

    def train(self, mode: bool = True) -> NetBackbone:
        super().train(mode and not is_fixed(self))
        return self

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs, dtype, sides = {}, x.dtype, x.shape[-2:]
        with self.precision.autocast(), gradients_if_needed(self):
            x = self.precision.input(x)
            for name in self.stage_names:
                x = self.get_submodule(name)(x)
                if name in self._out_features:
                    outputs[name] = x.to(dtype)
        if self.fits_cells:
            strides = {name: self._shapes[name].stride for name in outputs}
            return {n: fitted(x, [s // strides[n] for s in sides]) for n, x in outputs.items()}
        return outputs

    @property
    def size_divisibility(self) -> int:
        return self.square_pad

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: self._shapes[name] for name in self._out_features}


@BACKBONE_REGISTRY.register()
def build_net_backbone(cfg: Any, input_shape: ShapeSpec) -> NetBackbone | MapsBackbone:
    """The trunk of MODEL.NET up to the last of MODEL.RPN.IN_FEATURES and ROI_HEADS.IN_FEATURES.

    With `RegionHeads` that is the shared stage (C4). With `StandardROIHeads` it is the net's last
    one: res5, dilated where MODEL.NET.RES5_DILATION is 2 (DC5), or conv5 of VGG, which has stride
    16 without dilation: VGG's DC5 is its C4 detector with fresh layers in place of fc6 and fc7.

    Raises:
        ConfigError: as `net_backbone`.
    """
    net = build_net(cfg)
    expected = {*cfg.MODEL.RPN.IN_FEATURES, *cfg.MODEL.ROI_HEADS.IN_FEATURES}
    out_features = [stage.name for stage in net.stages() if stage.name in expected]
    backbone = net_backbone(cfg, net, out_features or [net.shared_stage])
    backbone.square_pad = cfg.INPUT.SQUARE_PAD
    return backbone


def net_backbone(
    cfg: Any, net: nets.Net, out_features: Sequence[str]
) -> NetBackbone | MapsBackbone:
    """The trunk of a net up to the last of `out_features`, with norms, frozen stages, precision.

    The first MODEL.BACKBONE.FREEZE_AT stages do not train (2: the stem and res2, or conv1 and
    conv2 of VGG, as the paper's detectors). Stages are counted as the net's `stages()` has them;
    layers before the first belong to it.

    Raises:
        ConfigError: FREEZE_AT is out of range, a frozen stage would hold random weights (F45), or
            the net has no such trunk.
    """
    if isinstance(net, TimmNet) and not net.runs_layer_by_layer:
        return maps_backbone(cfg, net, out_features)
    shapes = {s.name: ShapeSpec(channels=s.channels, stride=s.stride) for s in net.stages()}
    try:
        stages = apply_norms(net.trunk(out_features[-1]), cfg)
    except ValueError as error:
        raise ConfigError(f"MODEL.NET: {error}") from None
    held = set(stages.state_dict())
    left_behind = [name for name in net.state_dict() if name not in held]
    layers = by_stage(stages.names, shapes)
    names = list(layers)
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT
    if not 0 <= freeze_at <= len(names):
        raise ConfigError(
            f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}, but the trunk of {cfg.MODEL.NET.NAME} has "
            f"{len(names)} stages ({', '.join(names)}): 0 to {len(names)}."
        )
    for name in [layer for stage in names[:freeze_at] for layer in layers[stage]]:
        stage = stages.get_submodule(name)
        if not cfg.MODEL.WEIGHTS or is_new(name, stage.state_dict(), cfg.TRANSFER.NEW):
            raise ConfigError(
                f"MODEL.BACKBONE.FREEZE_AT {freeze_at} freezes {name}, whose weights are random. "
                "Give MODEL.WEIGHTS, or set MODEL.BACKBONE.FREEZE_AT 0."
            )
        stages.replace(name, freeze(stage, name))
    precision = Precision.of_config(cfg)
    return NetBackbone(stages, out_features, shapes, precision, left_behind)


def net_part(model: nn.Module) -> nn.Module:
    """The net inside a detector, stage by stage under the net's own names: trunk, then tail.

    Region heads that are not the net's own (FPN, DC5) have no tail of it, and an RPN alone has no
    region heads. Detectron2's own ResNet has the names of ours.
    """
    trunk = trunk_of(model)
    if isinstance(trunk, MapsBackbone):
        return trunk.maps
    net = nn.Module()
    region_heads: Any = getattr(model, "roi_heads", None)
    is_stock = isinstance(trunk, ResNet)
    for name in ("stem", *trunk.stage_names) if is_stock else trunk.stage_names:
        place(net, name, trunk.get_submodule(name))
    for name in ("res5",) if is_stock else getattr(region_heads, "tail_names", ()):
        if hasattr(region_heads, name.split(".")[0]):
            place(net, name, region_heads.get_submodule(name))
    return net


def stages_in(model: nn.Module) -> list[nn.Module]:
    """The stages of the net inside a detector, from the images on, then each layer behind them.

    Raises:
        ConfigError: as `trunk_of`.
    """
    trunk, heads = trunk_of(model), getattr(model, "roi_heads", None)
    if isinstance(trunk, ResNet | MapsBackbone):
        return list(parts_of_net(model).values())
    # Of the whole net, also those behind the trunk.
    names = trunk._shapes
    found = stages_and_rest(trunk, trunk.stage_names, names)
    if tail := getattr(heads, "tail_names", ()):
        assert isinstance(heads, nn.Module)
        found += stages_and_rest(heads, tail, names)
    return list(found)


def embeddings_in(model: nn.Module) -> list[nn.Parameter]:
    """Position embeddings and tokens of the net inside a detector; [] where it has none."""
    found = [module for module in model.modules() if isinstance(module, MapsBackbone)]
    return [parameter for module in found for parameter in module.maps.embeddings()]


def parts_of_net(model: nn.Module) -> dict[str, nn.Module]:
    """The parts of the net inside a detector, from the images on: stages, or groups of timm's."""
    net = net_part(model)
    if not isinstance(net, TimmMaps):
        return dict(net.named_children())
    parameters = dict(net.named_parameters())
    return {
        name: nn.ParameterList(parameters[inside] for inside in names)
        for name, names in net.groups()
    }


def trunk_of(model: nn.Module) -> NetBackbone | MapsBackbone | ResNet:
    """The net's stages in a detector, be they its backbone or what its pyramid stands on.

    Raises:
        ConfigError: the backbone is neither ours nor Detectron2's ResNet.
    """
    for module in model.modules():
        if isinstance(module, NetBackbone | MapsBackbone | ResNet):
            return module
    raise ConfigError(
        "MODEL.BACKBONE.NAME builds neither a net of MODEL.NET nor Detectron2's ResNet, so a "
        "classifier has no place in it. Give a whole detector in MODEL.WEIGHTS."
    )
