"""A recipe's values into a config, and what a user states beside them.

A recipe is laid over what stands below it, as a file over its `_BASE_`: what files state that the
stating file is based on gives way, and what is stated beside the recipe or above it (in the same
file, in a file based on that, on the command line) stays: a departure, which `--explain`, the
report and `compare` name. A key without which it would be another recipe is refused instead.

Not for: the values (`transfer_recipes`), or values that follow from the net
(`resdet.detect.architecture.derived_keys`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from resdet.config.detectron2_keys import ONLY_MAINS_SCHEDULES, RPN_ALONE
from resdet.config.recipes.transfer_recipes import (
    COSINE,
    FROZEN,
    IN_STEPS,
    KEY,
    RATE,
    RECIPES,
    TransferRecipe,
    departures,
)

# Region heads that are the net's own last stage, in training a part of it.
OF_THE_NET = ("RegionHeads", "Res5ROIHeads")


# Stated below a recipe, these would only be noted as not read with it.
_OF_STEPS = ("SOLVER.STEPS", "SOLVER.GAMMA")
_OF_SGD = ("SOLVER.MOMENTUM", "SOLVER.NESTEROV")
# Main's cosine would end elsewhere.
_OF_MAIN = tuple(f"SOLVER.{name}" for name in ONLY_MAINS_SCHEDULES)
_OF_AVERAGE = ("SOLVER.EMA_STEPS",)
_OF_CLIPPING = tuple(
    f"SOLVER.CLIP_GRADIENTS.{name}" for name in ("CLIP_TYPE", "CLIP_VALUE", "NORM_TYPE")
)


class StatedOrder:
    """Which keys a recipe is laid over, as they are stated one after the other.

    Attributes:
        below: keys that were stated before the recipe by another file, and not again.
    """

    def __init__(self) -> None:
        self.below: frozenset[str] = frozenset()
        self._files: dict[str, object] = {}

    def add(self, key: str, file: object) -> None:
        """Args: file: what states the key; equal for the same file alone."""
        if key == KEY:
            self.below = frozenset(k for k, other in self._files.items() if other != file)
        else:
            self.below -= {key}
        self._files[key] = file


def lay_recipe(config: Any, below: frozenset[str], defaults: Mapping[str, Any]) -> None:
    """Fills a `Config` with what TRANSFER.RECIPE sets before the net is known.

    Args:
        below: stated keys that give way. defaults: of all keys.

    Raises:
        ConfigError: a key is stated with another value, and with that it is another recipe.
    """
    recipe = RECIPES.get(config.cfg.TRANSFER.RECIPE)
    if recipe is None:
        return
    source = f"{KEY} {recipe.name}"
    gone = {key: config.stated.pop(key) for key in recipe.keys if key in below}
    values = values_of(recipe, config.cfg)
    for key in below.intersection(_OF_MAIN):
        gone[key], values[key] = config.stated.pop(key), defaults[key]
    # Until the net is known.
    values |= {k: v for k, v in recipe.of_net.items() if k not in recipe.strict or k in gone}
    for key, value in values.items():
        if key in config.stated and key not in recipe.strict:
            continue
        over = f", over {gone[key]}" if key in gone else ""
        config.fill({key: value}, f"{source}{over}")
    for key in _not_read(recipe):
        if key in below and key in config.stated:
            del config.stated[key]
            config.derived[key] = f"not read with {source}"


def _not_read(recipe: TransferRecipe) -> tuple[str, ...]:
    is_cosine = recipe.values["SOLVER.LR_SCHEDULER_NAME"] == COSINE
    is_sgd = recipe.values["SOLVER.OPTIMIZER"] == "SGD"
    return (
        *(_OF_STEPS if is_cosine else ()),
        *(() if is_sgd else _OF_SGD),
        *_OF_AVERAGE,
        *_OF_CLIPPING,
    )


def reason_of_departure(config: Any, flat: Mapping[str, Any]) -> dict[str, str]:
    """Keys of the recipe that are stated with another value, with what the recipe has.

    Args:
        flat: dotted key to value of the config.
    """
    recipe = RECIPES.get(config.cfg.TRANSFER.RECIPE)
    if recipe is None:
        return {}
    found = departures(recipe, flat, config.by_net).items()
    return {key: f"departs from {KEY} {recipe.name}: {own!r}" for key, (_, own) in found}


def values_of(recipe: TransferRecipe, cfg: Any) -> dict[str, Any]:
    """What it sets of a config before the net is known, its rate among it."""
    images = cfg.SOLVER.REFERENCE_BATCH or cfg.SOLVER.IMS_PER_BATCH
    return {RATE: recipe.rate_for(images), **recipe.values}


def faults_of_recipe(cfg: Any, stated: Mapping[str, str]) -> Iterator[str]:
    """What a recipe does not go with.

    Args:
        stated: dotted key to where it was stated.
    """
    recipe = RECIPES.get(cfg.TRANSFER.RECIPE)
    if recipe is None:
        return
    if cfg.SOLVER.SCHEME != "joint":
        yield (
            f"{KEY} is {recipe.name}, and SOLVER.SCHEME {cfg.SOLVER.SCHEME}, whose steps have "
            f"schedules of their own. Set SOLVER.SCHEME joint, or leave {KEY} out."
        )
    solver = cfg.SOLVER
    falls = solver.LR_SCHEDULER_NAME != IN_STEPS or any(s < solver.MAX_ITER for s in solver.STEPS)
    if not falls and "SOLVER.STEPS" not in stated:
        yield (
            f"{KEY} is {recipe.name}, whose rate falls in steps, and SOLVER.STEPS, which nobody "
            f"stated, has {tuple(solver.STEPS)}, none before SOLVER.MAX_ITER {solver.MAX_ITER}: it "
            f"would never fall. State SOLVER.STEPS, such as ({round(solver.MAX_ITER * 0.75)},)."
        )
    has_regions = cfg.MODEL.META_ARCHITECTURE != RPN_ALONE
    if recipe == FROZEN and has_regions and cfg.MODEL.ROI_HEADS.NAME in OF_THE_NET:
        yield (
            f"{KEY} is frozen, and MODEL.ROI_HEADS.NAME {cfg.MODEL.ROI_HEADS.NAME}: the heads are "
            "the net's own last stage, so they would train with it, and be others for every net. "
            "Take a preset of configs/frozen, or set MODEL.BACKBONE.NAME build_net_fpn_backbone "
            "MODEL.ROI_HEADS.NAME StandardROIHeads."
        )
