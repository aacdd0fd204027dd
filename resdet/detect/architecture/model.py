"""The config keys that the weights' card and the net determine, before the model is built.

Not for: building (`detectron2.modeling.build_model`), or the weights themselves (`trainer`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator
from typing import Any

from resdet import nets
from resdet.config import Config, get_cfg, get_key
from resdet.config.detectron2_keys import DETECTOR, RPN_ALONE, is_stock
from resdet.config.recipes.transfer_recipes import RECIPES
from resdet.detect.architecture import derived_keys
from resdet.detect.architecture.backbone import build_net
from resdet.errors import ConfigError, ResdetError, first_few
from resdet.weights import Card

logger = logging.getLogger("resdet.detect")


def fill_from_weights_and_net(config: Config, card: Card | None) -> nets.Net | None:
    """Fills the keys that card and net determine; refuses contradictions.

    Raises:
        ConfigError: a stated key differs, live norms would get folded statistics (F21), or the
            model needs what Detectron2 was installed without (F61).
    """
    cfg = config.cfg
    _refuse_without_operators(cfg)
    _settle_proposals(config)
    if stock := is_stock(cfg):
        _refuse_keys_of_net(config)
    if card is not None:
        backbone = cfg.MODEL.BACKBONE.NAME
        keys = (
            derived_keys.of_card_for_stock(card, backbone) if stock else derived_keys.of_card(card)
        )
        config.fill(keys, f"the card of {cfg.MODEL.WEIGHTS}")
        if warning := derived_keys.other_exif(card, cfg.INPUT.EXIF):
            logger.warning(warning)
        if warning := derived_keys.mean_image_left_out(card):
            logger.warning(warning)
        if card.norm.get("folded") and cfg.MODEL.NET.NORM == "BN":
            raise ConfigError(
                f"MODEL.NET.NORM is BN, but the norms of {cfg.MODEL.WEIGHTS} are folded into its "
                "convolutions: they can only stay frozen. Set MODEL.NET.NORM auto."
            )
    elif not cfg.MODEL.WEIGHTS:
        random: dict[str, Any] = {"MODEL.BACKBONE.FREEZE_AT": 0}
        if stock and cfg.MODEL.RESNETS.NORM == "FrozenBN":
            random["MODEL.RESNETS.NORM"] = "BN"
        config.fill(random, "random weights are never frozen")
    _refuse_context(cfg)
    if not cfg.MODEL.NET.NAME:
        _fill_recipe(config, None)
        return None
    net = build_net(cfg)
    maps = derived_keys.of_net(
        net, cfg.MODEL.BACKBONE.NAME, cfg.MODEL.ROI_HEADS.NAME, masks=cfg.MODEL.MASK_ON
    )
    config.fill(maps, f"the net {cfg.MODEL.NET.NAME}")
    _fill_recipe(config, net)
    return net


def _fill_recipe(config: Config, net: nets.Net | None) -> None:
    """What of the recipe follows from the net; what a user stated otherwise stays, or is refused
    where it would be another recipe."""
    config.by_net = derived_keys.of_recipe(config.cfg, net)
    name = config.cfg.TRANSFER.RECIPE
    for key, value in config.by_net.items():
        if key not in config.stated or key in RECIPES[name].strict:
            config.fill({key: value}, f"TRANSFER.RECIPE {name}")


def is_rpn_alone(cfg: Any) -> bool:
    """Whether this config is of an RPN without region heads."""
    return bool(cfg.MODEL.META_ARCHITECTURE == RPN_ALONE)


def refuse_parts(cfg: Any, where: str) -> None:
    """Raises ConfigError for what is no whole detector, where one is expected.

    Args:
        where: its run folder or file, for the message.
    """
    if not is_rpn_alone(cfg) and not cfg.MODEL.LOAD_PROPOSALS:
        return
    what = (
        "an RPN alone, which makes proposals without classes"
        if is_rpn_alone(cfg)
        else "Fast R-CNN alone, whose proposals come from a file"
    )
    raise ConfigError(
        f"{where} holds {what}. Give a whole detector: a run of joint training, or of "
        "SOLVER.SCHEME alternating."
    )


@contextlib.contextmanager
def build_faults_as_pages(config: Config) -> Iterator[None]:
    """Gives a page to what Detectron2 and torch raise while they build from stated keys.

    Detectron2 checks few of its keys: a map that the backbone lacks is a KeyError, a name that it
    does not know an AssertionError.

    Raises:
        ConfigError: the block raised anything but a page of ours; names the stated keys of MODEL.
    """
    try:
        yield
    except (ResdetError, OSError):
        raise
    except Exception as error:
        defaults = get_cfg()
        # Those of the command line first: they are what was changed last.
        stated = sorted(
            (
                (where, key)
                for key, where in config.stated.items()
                if key.startswith("MODEL.") and get_key(config.cfg, key) != get_key(defaults, key)
            ),
            key=lambda entry: entry[0] != "command line",
        )
        if not stated:
            raise
        keys = first_few([f"{where}: {key} {get_key(config.cfg, key)!r}" for where, key in stated])
        cause = str(error).partition("\n")[0][:300] or "no reason given"
        raise ConfigError(
            f"no detector can be built from these keys: {cause} ({type(error).__name__}). "
            f"Detectron2 got\n{keys}\nChange what does not fit; --debug shows where it failed."
        ) from error


# What Detectron2 computes by its own compiled operators alone, by key.
COMPILED_ONLY = {
    "MODEL.ROI_HEADS.NAME": "RROIHeads",
    "MODEL.PROPOSAL_GENERATOR.NAME": "RRPN",
    "MODEL.ANCHOR_GENERATOR.NAME": "RotatedAnchorGenerator",
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignRotated",
}


def _refuse_keys_of_net(config: Config) -> None:
    """Raises ConfigError for keys of MODEL.NET, where the backbone is Detectron2's own."""
    defaults = get_cfg()
    stated = {
        key: where
        for key, where in config.stated.items()
        if key.startswith("MODEL.NET.") and get_key(config.cfg, key) != get_key(defaults, key)
    }
    if stated:
        keys = first_few([f"{where}: {key}" for key, where in stated.items()], indent="")
        raise ConfigError(
            f"{keys}\nMODEL.BACKBONE.NAME is {config.cfg.MODEL.BACKBONE.NAME}, which reads no key "
            "of MODEL.NET. Leave them out, or give the net too: MODEL.NET.NAME resnet50 "
            "MODEL.BACKBONE.NAME build_net_backbone (or build_net_fpn_backbone)."
        )


def _settle_proposals(config: Config) -> None:
    """Fast R-CNN alone has no generator of proposals; raises ConfigError where it cannot be had."""
    cfg, key = config.cfg, "MODEL.LOAD_PROPOSALS"
    files = (*cfg.DATASETS.PROPOSAL_FILES_TRAIN, *cfg.DATASETS.PROPOSAL_FILES_TEST)
    typed = f"{key} False MODEL.PROPOSAL_GENERATOR.NAME RPN"
    if not cfg.MODEL.LOAD_PROPOSALS:
        if cfg.MODEL.PROPOSAL_GENERATOR.NAME == "PrecomputedProposals":
            raise ConfigError(
                f"MODEL.PROPOSAL_GENERATOR.NAME is PrecomputedProposals, and {key} False: this "
                f"detector has no proposals. Set {key} True, or add: {typed}"
            )
        return
    if pickles := [f for f in files if f.endswith((".pkl", ".pickle")) or "://" in f]:
        raise ConfigError(
            f"{key} is True, and {pickles[0]} is a file of Detectron2: its proposal files are "
            "pickles, which run what is in them, and addresses are not fetched. Give a file that "
            "an RPN of train_det wrote (docs/alternating.md): DATASETS.PROPOSAL_FILES_TRAIN. To "
            f"train an RPN with it instead, leave it out, or add: {typed}"
        )
    if cfg.MODEL.META_ARCHITECTURE != DETECTOR:
        raise ConfigError(
            f"{key} is True, and MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}, which only "
            f"makes proposals. Leave one of the two out, or add: {key} False"
        )
    config.fill({"MODEL.PROPOSAL_GENERATOR.NAME": "PrecomputedProposals"}, f"{key} True")


def _refuse_context(cfg: Any) -> None:
    """Raises ConfigError for global context in region heads that do not read it."""
    if cfg.MODEL.REGION_HEADS.CONTEXT and cfg.MODEL.ROI_HEADS.NAME != "RegionHeads":
        raise ConfigError(
            f"MODEL.REGION_HEADS.CONTEXT is True, but MODEL.ROI_HEADS.NAME is "
            f"{cfg.MODEL.ROI_HEADS.NAME}, which has no global context: only RegionHeads, whose "
            "regions run through the net's own last layers. Set MODEL.REGION_HEADS.CONTEXT False, "
            "or take a preset with RegionHeads, such as coco_r101."
        )


def _refuse_without_operators(cfg: Any) -> None:
    """Raises ConfigError for what needs compiled operators, where there are none (F61)."""
    asked = [f"{key} {name}" for key, name in COMPILED_ONLY.items() if get_key(cfg, key) == name]
    if any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE) and not cfg.MODEL.NET.NAME:
        asked.append(f"MODEL.RESNETS.DEFORM_ON_PER_STAGE {cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE}")
    if asked and importlib.util.find_spec("detectron2._C") is None:
        raise ConfigError(
            f"{', '.join(asked)}: Detectron2 computes this by its compiled operators, which this "
            "installation lacks (resdet doctor shows it). Build Detectron2 with them, or leave "
            "that out; nets, RoIAlign and NMS of all presets need none."
        )
