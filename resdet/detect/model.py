"""The config keys that the weights' card and the net determine, before the model is built.

Not for: building (`detectron2.modeling.build_model`), or the weights themselves (`trainer`).
"""

from __future__ import annotations

import logging

from resdet import nets
from resdet.config import Config
from resdet.detect import derived_keys
from resdet.detect.backbone import build_net
from resdet.errors import ConfigError
from resdet.weights import Card

logger = logging.getLogger("resdet.detect")


def fill_from_weights_and_net(config: Config, card: Card | None) -> nets.Net | None:
    """Fills the keys that card and net determine; refuses contradictions.

    Raises:
        ConfigError: a stated key differs, or live norms would get folded statistics (F21).
    """
    cfg = config.cfg
    if card is not None:
        config.fill(derived_keys.of_card(card), f"the card of {cfg.MODEL.WEIGHTS}")
        if warning := derived_keys.other_exif(card, cfg.INPUT.EXIF):
            logger.warning(warning)
        if card.norm.get("folded") and cfg.MODEL.NET.NORM == "BN":
            raise ConfigError(
                f"MODEL.NET.NORM is BN, but the norms of {cfg.MODEL.WEIGHTS} are folded into its "
                "convolutions: they can only stay frozen. Say MODEL.NET.NORM auto."
            )
    elif not cfg.MODEL.WEIGHTS:
        config.fill({"MODEL.BACKBONE.FREEZE_AT": 0}, "random weights are never frozen")
    if not cfg.MODEL.NET.NAME:
        return None
    net = build_net(cfg)
    maps = derived_keys.of_net(net, cfg.MODEL.BACKBONE.NAME, cfg.MODEL.ROI_HEADS.NAME)
    config.fill(maps, f"the net {cfg.MODEL.NET.NAME}")
    return net
