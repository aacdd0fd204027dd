"""The recipes of TRANSFER.RECIPE as data, and the recipe that a config has.

A recipe is what a detector's training does with its net beside the detector, the data and the
length: which parts train, the optimizer, its rates and its schedule. Two backbones are compared
fairly under one recipe (`docs/recipes.md`).

    frozen        no part of the net trains; the same pyramid and heads on top of every net
    finetune      SGD as He et al. 2015 trained their detectors (appendix A)
    finetune-vit  AdamW with rates by depth, as Li et al. 2022 trained plain transformers
                  (arXiv:2203.16527), falling as a cosine

Needs no package, so that a report reads it, too.

Not for: filling a config (`recipe_filling`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

KEY = "TRANSFER.RECIPE"
RATE = "SOLVER.BASE_LR"
FREEZE_AT = "MODEL.BACKBONE.FREEZE_AT"
LAYER_DECAY = "SOLVER.LAYER_DECAY"
DROP_PATH = "MODEL.NET.DROP_PATH"
COSINE = "WarmupCosineLR"
IN_STEPS = "WarmupMultiStepLR"


@dataclass(frozen=True)
class TransferRecipe:
    """One value of TRANSFER.RECIPE.

    Attributes:
        rate, images: SOLVER.BASE_LR for a batch of so many images; of another batch by the linear
            rule.
        values: its other keys.
        of_net: keys whose value follows from the net, with what they have until it is known.
        strict: keys that may not be stated otherwise: with another value it is another recipe.
    """

    name: str
    rate: float
    images: int
    values: Mapping[str, Any]
    of_net: Mapping[str, Any] = field(default_factory=dict)
    strict: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        return (RATE, *self.values, *self.of_net)

    def rate_for(self, images: int) -> float:
        """SOLVER.BASE_LR for a batch of so many images."""
        return self.rate * images / self.images


# Norms without weight decay, one rate for weights and biases, no average, nothing clipped.
_PLAIN: dict[str, Any] = {
    "SOLVER.WEIGHT_DECAY_NORM": 0.0,
    "SOLVER.WEIGHT_DECAY_BIAS": None,
    "SOLVER.BIAS_LR_FACTOR": 1.0,
    "SOLVER.WEIGHT_DECAY_EMBED": None,
    "SOLVER.EMA_DECAY": 0.0,
    "SOLVER.CLIP_GRADIENTS.ENABLED": False,
    "ENGINE.CLIP_GRADIENT_NORM": 0.0,
}
_ADAMW_COSINE = {**_PLAIN, "SOLVER.OPTIMIZER": "AdamW", "SOLVER.LR_SCHEDULER_NAME": COSINE}

FROZEN = TransferRecipe(
    name="frozen",
    # As Swin's and ConvNeXt's detectors. The steps of AdamW do not grow with the maps, whose size
    # differs from net to net; those of SGD do, and one rate would be another thing for every net.
    rate=1e-4,
    images=16,
    values={
        **_ADAMW_COSINE,
        "SOLVER.WEIGHT_DECAY": 0.05,
        LAYER_DECAY: 1.0,
        "MODEL.NET.NORM": "auto",
        DROP_PATH: -1.0,
    },
    # All parts of the net.
    of_net={FREEZE_AT: 2},
    strict=(FREEZE_AT, LAYER_DECAY, "MODEL.NET.NORM", DROP_PATH),
)
FINETUNE = TransferRecipe(
    name="finetune",
    # Fast R-CNN's and Faster R-CNN's 0.001 for 2 images, as configs/base/*_paper.yaml.
    rate=1e-3,
    images=2,
    values={
        **_PLAIN,
        "SOLVER.OPTIMIZER": "SGD",
        "SOLVER.MOMENTUM": 0.9,
        "SOLVER.NESTEROV": False,
        "SOLVER.WEIGHT_DECAY": 5e-4,
        "SOLVER.BIAS_LR_FACTOR": 2.0,
        LAYER_DECAY: 1.0,
        "SOLVER.LR_SCHEDULER_NAME": IN_STEPS,
        "SOLVER.GAMMA": 0.1,
        FREEZE_AT: 2,
        DROP_PATH: -1.0,
    },
)
FINETUNE_VIT = TransferRecipe(
    name="finetune-vit",
    rate=1e-4,
    images=64,
    values={
        **_ADAMW_COSINE,
        "SOLVER.WEIGHT_DECAY": 0.1,
        "SOLVER.WEIGHT_DECAY_EMBED": 0.0,
        FREEZE_AT: 0,
    },
    of_net={LAYER_DECAY: 0.7, DROP_PATH: -1.0},
)


class ByDepth(NamedTuple):
    """What finetune-vit takes from the depth of a net: up to so many blocks."""

    blocks: float
    layer_decay: float
    drop_path: float


# ViT-B, ViT-L and ViT-H of ViTDet (Detectron2, projects/ViTDet); smaller ones as ViT-B.
_DEPTHS = (ByDepth(12, 0.7, 0.1), ByDepth(24, 0.8, 0.4), ByDepth(math.inf, 0.9, 0.5))


def by_depth(blocks: int) -> ByDepth:
    """Of finetune-vit, for a plain transformer of so many blocks.

    Example:
        >>> [by_depth(blocks).layer_decay for blocks in (12, 24, 32)]
        [0.7, 0.8, 0.9]
    """
    return next(depth for depth in _DEPTHS if blocks <= depth.blocks)


RECIPES = {recipe.name: recipe for recipe in (FROZEN, FINETUNE, FINETUNE_VIT)}

# Keys that belong to a recipe beside those that one sets: the shape of the schedule.
_SHAPE = (
    "SOLVER.STEPS",
    "SOLVER.WARMUP_FACTOR",
    "SOLVER.WARMUP_ITERS",
    "SOLVER.WARMUP_METHOD",
    "SOLVER.EMA_STEPS",
)
# Keys in which two recipes may differ; in no other one (length, batch, data, detector).
RECIPE_KEYS = frozenset(
    {KEY, *_SHAPE, *(key for recipe in RECIPES.values() for key in recipe.keys)}
)


def departures(
    recipe: TransferRecipe, config: Mapping[str, Any], by_net: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Keys of a recipe that have another value: that one, and the recipe's.

    Args:
        config: dotted key to value; a key that is not there, as in an older run, has its own.
        by_net: what the recipe has for the net of that config, of its keys `of_net`.
    """
    images = config.get("SOLVER.IMS_PER_BATCH") or recipe.images
    expected = {RATE: recipe.rate_for(images), **recipe.values, **by_net}
    found = {
        key: (config[key], value)
        for key, value in expected.items()
        if key in config and not _equal(config[key], value)
    }
    if not config.get("MODEL.WEIGHTS", True) and config.get(FREEZE_AT) == 0:
        found.pop(FREEZE_AT, None)  # random weights are never frozen
    return found


def _equal(a: Any, b: Any) -> bool:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (a, b))
    # A rate that followed the batch.
    return math.isclose(a, b, rel_tol=1e-6) if numbers else bool(a == b)


@dataclass(frozen=True)
class RecipeOfRun:
    """The recipe that a config has.

    Attributes:
        name: of `RECIPES`; "" where the keys are of none of them.
        is_stated: TRANSFER.RECIPE names it; else its values alone do.
        departures: keys with another value: that one, and the recipe's.
        words: what stands for it in a sentence.
    """

    name: str
    is_stated: bool
    departures: Mapping[str, tuple[Any, Any]]
    words: str


def recipe_of(config: Mapping[str, Any], by_net: Mapping[str, Any]) -> RecipeOfRun:
    """The recipe of a resolved config: that of TRANSFER.RECIPE, else the one that its keys make up.

    Args:
        config: dotted key to value.
        by_net: what the recipe has for its net; {} where that is not known.
    """
    if recipe := RECIPES.get(str(config.get(KEY) or "")):
        found = departures(recipe, config, by_net)
        changed = ", ".join(
            f"{key} {_text(value)} instead of {_text(own)}"
            for key, (value, own) in sorted(found.items())
        )
        words = f"{recipe.name} (but for {changed})" if changed else recipe.name
        return RecipeOfRun(recipe.name, True, found, words)
    # By keys nobody can tell how many parts a net has, so the others must be named.
    if set(FINETUNE.keys) <= set(config) and not departures(FINETUNE, config, {}):
        return RecipeOfRun(FINETUNE.name, False, {}, f"{FINETUNE.name} (by its keys)")
    return RecipeOfRun("", False, {}, f"by keys ({', '.join(_parts(config))})")


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parts(config: Mapping[str, Any]) -> Sequence[str]:
    """What a training does with its net, in words; what an older run has no key for is left out."""
    optimizer = config.get("SOLVER.OPTIMIZER", "SGD")
    rate, batch = config.get(RATE), config.get("SOLVER.IMS_PER_BATCH")
    parts = [str(optimizer)]
    if rate is not None:
        parts[0] += f" at {_text(rate)}" + (f" for {batch} images" if batch else "")
    if schedule := config.get("SOLVER.LR_SCHEDULER_NAME"):
        named = {COSINE: "falling as a cosine", IN_STEPS: "falling in steps"}
        parts.append(named.get(schedule, schedule))
    if (decay := config.get("SOLVER.WEIGHT_DECAY")) is not None:
        parts.append(f"decay {_text(decay)}")
    if (by_depth := config.get(LAYER_DECAY, 1.0)) != 1:
        parts.append(f"rates times {_text(by_depth)} a stage")
    if (average := config.get("SOLVER.EMA_DECAY", 0.0)) > 0:
        parts.append(f"weights averaged with {_text(average)}")
    if (fixed := config.get(FREEZE_AT)) is not None:
        parts.append(f"FREEZE_AT {fixed}")
    return parts
