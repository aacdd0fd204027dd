"""Facts that fill the config: those of the card, the net and the data sets, not typed by the user.

Each function gives dotted keys and values for `Config.fill`, which refuses contradictions with
both values (`docs/faults.md` F19, F20, F43).

Not for: what a user decides.
"""

from __future__ import annotations

from typing import Any

from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads

from resdet import nets
from resdet.config.recipes.transfer_recipes import (
    DROP_PATH,
    FINETUNE_VIT,
    FREEZE_AT,
    FROZEN,
    LAYER_DECAY,
    RECIPES,
    by_depth,
)
from resdet.config.recipes.transfer_recipes import KEY as RECIPE_KEY
from resdet.data.records import DetectionSet
from resdet.detect.architecture.backbone import parts_to_freeze
from resdet.detect.architecture.fpn import LEVELS, STRIDES, pyramid_stages
from resdet.detect.architecture.region_heads import layers_to_map
from resdet.errors import ConfigError
from resdet.nets.timm import TimmNet
from resdet.weights import Card

# Of Detectron2's ResNet, FREEZE_AT's: stem and res2 to res5.
PARTS_OF_STOCK = 5
# Option of `nets.build` to key of MODEL.NET.
OPTION_KEYS = {
    "shortcut": "SHORTCUT",
    "stride_in_1x1": "STRIDE_IN_1X1",
    "width": "WIDTH",
    "stem": "STEM",
    "pools": "POOLS",
    "fc_channels": "FC_CHANNELS",
    "dropout": "DROPOUT",
    "pooled_size": "POOLED_SIZE",
    "res5_dilation": "RES5_DILATION",
    "norm_eps": "NORM_EPS",
}
# Options that a detector states for itself, whatever the classifier had.
FREE_OPTIONS = ("image_size",)


def of_card(card: Card) -> dict[str, Any]:
    """The net that the weights belong to, and its input format.

    Raises:
        ConfigError: the card has an option of the net that no key of MODEL.NET holds.
    """
    if unknown := sorted({*card.net_options} - {*OPTION_KEYS, *FREE_OPTIONS}):
        raise ConfigError(
            f"The card of {card.net} has the net option {', '.join(unknown)}, which no key of "
            f"MODEL.NET holds (it has {', '.join(OPTION_KEYS)}). Register a net that has it built "
            "in (docs/own_net.md), and save the weights with a card of that name."
        )
    facts: dict[str, Any] = {
        "INPUT.FORMAT": card.input.color_order,
        "MODEL.PIXEL_MEAN": list(card.input.mean),
        "MODEL.PIXEL_STD": list(card.input.std),
        "MODEL.NET.NAME": card.net,
    }
    for option, value in card.net_options.items():
        if option in OPTION_KEYS:
            facts[f"MODEL.NET.{OPTION_KEYS[option]}"] = value
    return facts


def of_card_for_stock(card: Card, backbone: str) -> dict[str, Any]:
    """The same for a config of Detectron2's own ResNet, whose keys are under MODEL.RESNETS.

    Raises:
        ConfigError: the weights are of a net that Detectron2's backbone does not build.
    """
    depth = card.net.removeprefix("resnet")
    # Its frozen norms have this eps, whatever a config states.
    usual = {"shortcut": ("", "B"), "norm_eps": (1e-5,)}
    odd = {
        name
        for name, value in card.net_options.items()
        if name != "stride_in_1x1" and value not in usual.get(name, ())
    }
    if not depth.isdecimal() or odd:
        options = f" with {', '.join(sorted(odd))}" if odd else ""
        raise ConfigError(
            f"MODEL.BACKBONE.NAME is {backbone}, Detectron2's own ResNet, but the weights are of "
            f"{card.net}{options}. Give weights of a ResNet, or take a preset around {card.net}: "
            "MODEL.BACKBONE.NAME build_net_backbone has any net."
        )
    return {
        "INPUT.FORMAT": card.input.color_order,
        "MODEL.PIXEL_MEAN": list(card.input.mean),
        "MODEL.PIXEL_STD": list(card.input.std),
        "MODEL.RESNETS.DEPTH": int(depth),
        "MODEL.RESNETS.STRIDE_IN_1X1": card.net_options.get("stride_in_1x1", True),
    }


def other_exif(card: Card, exif: str) -> str:
    """A warning where the classifier's images were rotated by another rule than the detector's.

    The rule belongs to a data set and its boxes, not to weights, so both are legal (F30).
    """
    if card.input.exif == exif:
        return ""
    return (
        f"EXIF orientation: {exif} here, {card.input.exif} when the weights were trained. It "
        "matters only for pictures that have one."
    )


def mean_image_left_out(card: Card) -> str:
    """A warning where the classifier had a mean for each pixel, and a detector has one per channel.

    He et al.'s own weights were trained so, and Detectron2 runs them with the mean image's mean.
    """
    if not card.input.mean_image:
        return ""
    mean = ", ".join(f"{value:.3f}" for value in card.input.mean)
    return (
        f"the weights were trained with a mean for each pixel of {card.input.size} x "
        f"{card.input.size}; images of a detector have any size: its mean per channel is taken "
        f"({mean})."
    )


def of_net(
    net: nets.Net, backbone: str = "", region_heads: str = "", *, masks: bool = False
) -> dict[str, Any]:
    """Which maps RPN and region heads take, and how many cells the net's own tail takes.

    Args:
        backbone: MODEL.BACKBONE.NAME; `build_net_fpn_backbone` gives p2 to p6.
        region_heads: MODEL.ROI_HEADS.NAME; Detectron2's `StandardROIHeads` and its kind take the
            net's last map (C5), all others the shared one (C4).
        masks: MODEL.MASK_ON; the net's own tail must then have a map.

    Raises:
        ConfigError: the net has no stages for a pyramid, no tail for regions, or no map in it for
            masks; or the region heads do not fit a pyramid.
    """
    has_own_layers = region_heads in ROI_HEADS_REGISTRY and issubclass(
        ROI_HEADS_REGISTRY.get(region_heads), StandardROIHeads
    )
    if backbone == "build_net_fpn_backbone":
        if not has_own_layers:
            raise ConfigError(
                f"MODEL.ROI_HEADS.NAME is {region_heads}, whose layers take one map of the net, "
                "but MODEL.BACKBONE.NAME build_net_fpn_backbone gives five of a pyramid. Set "
                "MODEL.ROI_HEADS.NAME StandardROIHeads."
            )
        return {
            "MODEL.FPN.IN_FEATURES": pyramid_stages(net),
            "MODEL.RPN.IN_FEATURES": list(LEVELS),
            "MODEL.ROI_HEADS.IN_FEATURES": list(STRIDES),
        }
    if has_own_layers:
        last = net.stages()[-1].name
        return {"MODEL.RPN.IN_FEATURES": [last], "MODEL.ROI_HEADS.IN_FEATURES": [last]}
    try:
        tail = net.tail()
    except ValueError as error:
        raise ConfigError(f"MODEL.NET: {error}.") from None
    if masks and not layers_to_map(tail, net):
        raise ConfigError(
            "MODEL.MASK_ON is True, but the net's layers for a region "
            f"({', '.join(tail.names)}) give a vector, and no map to draw a mask from. Set "
            "MODEL.BACKBONE.NAME build_net_fpn_backbone and MODEL.ROI_HEADS.NAME "
            "StandardROIHeads, whose mask head has a map of its own (coco_vgg16_fpn_masks is such "
            "a preset); or MODEL.MASK_ON False."
        )
    return {
        "MODEL.RPN.IN_FEATURES": [net.shared_stage],
        "MODEL.ROI_HEADS.IN_FEATURES": [net.shared_stage],
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": net.pooled_size,
    }


def of_recipe(cfg: Any, net: nets.Net | None) -> dict[str, Any]:
    """What of TRANSFER.RECIPE follows from the net, once its maps are known; {} without a recipe.

    Args:
        net: of MODEL.NET; None for Detectron2's own ResNet.

    Raises:
        ConfigError: everything is to stay fixed, and the weights are random.
    """
    recipe = RECIPES.get(cfg.TRANSFER.RECIPE)
    if recipe == FROZEN:
        if not cfg.MODEL.WEIGHTS:
            raise ConfigError(
                f"{RECIPE_KEY} is frozen, and MODEL.WEIGHTS is empty: what would stay fixed has "
                "random weights. Give MODEL.WEIGHTS, or another recipe: "
                f"{', '.join(name for name in RECIPES if name != recipe.name)}."
            )
        return {FREEZE_AT: PARTS_OF_STOCK if net is None else parts_to_freeze(cfg, _last(cfg, net))}
    if recipe == FINETUNE_VIT and net is not None:
        strides = [stage.stride for stage in net.stages()]
        is_plain = isinstance(net, TimmNet) and len(set(strides)) == 1
        depth = by_depth(len(strides))
        # Plain, and no transformer: ConvMixer has none.
        has_it = is_plain and net.takes_drop_path
        drop_path = depth.drop_path if has_it else FINETUNE_VIT.of_net[DROP_PATH]
        return {LAYER_DECAY: depth.layer_decay, DROP_PATH: drop_path}
    return {}


def _last(cfg: Any, net: nets.Net) -> str:
    """The last stage whose map is used."""
    pyramid = cfg.MODEL.FPN.IN_FEATURES if "fpn" in cfg.MODEL.BACKBONE.NAME else ()
    used = {*(pyramid or (*cfg.MODEL.RPN.IN_FEATURES, *cfg.MODEL.ROI_HEADS.IN_FEATURES))}
    return [stage.name for stage in net.stages() if stage.name in used][-1]


def of_sets(train: list[DetectionSet], test: list[DetectionSet]) -> dict[str, Any]:
    """The number of classes; every set must have the same names in the same order (F4).

    Raises:
        ConfigError: two sets differ; names which and in what.
    """
    if not train and not test:
        raise ConfigError("DATASETS.TEST is empty: there is nothing to score. Name a set.")
    first, *rest = [*train, *test]
    for other in rest:
        if other.classes == first.classes:
            continue
        only = [c for c in other.classes if c not in first.classes]
        missing = [c for c in first.classes if c not in other.classes]
        raise ConfigError(
            f"{first.name} has {len(first.classes)} classes, {other.name} has "
            f"{len(other.classes)}: the lists differ. Only in {other.name}: "
            f"{', '.join(only[:5]) or 'none'}; only in {first.name}: "
            f"{', '.join(missing[:5]) or 'none'}. A detector is trained and tested "
            "on one list of classes: change DATASETS.TRAIN or DATASETS.TEST."
        )
    return {"MODEL.ROI_HEADS.NUM_CLASSES": len(first.classes)}
