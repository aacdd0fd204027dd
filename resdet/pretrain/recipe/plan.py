"""What a classifier's training will be: its plan, from the config and the sets' sizes.

Not for: the estimate from a few steps (`engine.starts.start_estimate`).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from resdet import nets
from resdet.engine.starts.start_estimate import Plan, scorings
from resdet.errors import ConfigError
from resdet.nets.timm import TimmNet


def plan_of_classifier(
    cfg: Any,
    net: nn.Module,
    *,
    start: int = 0,
    images: int | None = None,
    test_images: tuple[int, int] | None = None,
) -> Plan:
    """Of a resolved config.

    Args:
        net: on "meta", it needs no memory. start: steps that are done.
        images: of the training set. test_images: of PRETRAIN.VAL, and of all sets that are scored.

    Raises:
        ConfigError: the net takes no image of PRETRAIN.CROP.
    """
    steps = cfg.SOLVER.MAX_ITER - start
    scored = None
    if test_images is not None:
        val, every = test_images
        scored = every * (scorings(cfg, start) + 1)
        if cfg.PRETRAIN.PLATEAU == "val":
            scored += val * (steps // cfg.PRETRAIN.PLATEAU_PERIOD)
    return Plan.of_solver(
        cfg,
        net,
        start=start,
        images=images,
        scored_images=scored,
        statistics_images=_statistics_images(cfg, images),
        multiply_adds=_multiply_adds(cfg, net),
    )


def _multiply_adds(cfg: Any, net: nn.Module) -> int:
    crop = cfg.PRETRAIN.CROP
    try:
        return nets.multiply_adds(net, crop)
    except ValueError as error:
        page = f"PRETRAIN.CROP is {crop}, but {error}. Set the side that {cfg.MODEL.NET.NAME} takes"
        if isinstance(net, TimmNet):
            page += f" ({net.own_side} is timm's), or build it for this one: MODEL.NET.IMAGE_SIZE"
        raise ConfigError(f"{page}.") from None


def _statistics_images(cfg: Any, images: int | None) -> int | None:
    number, batch = cfg.PRETRAIN.BN_IMAGES, cfg.SOLVER.IMS_PER_BATCH
    return images if number < 0 else max(1, number // batch) * batch if number else 0
