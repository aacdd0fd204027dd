"""Keys of a classifier's recipe that need one another: what follows from one, what is refused.

Not for: values of one key alone (`ranges`), or keys that are read with another one alone
(`dependent_keys`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from resdet.config.config import Config, get_cfg, get_key
from resdet.config.key_checks.dependent_keys import faults_of_dependent
from resdet.errors import ConfigError, first_few


def settle(config: Config, *, processes: int = 1) -> None:
    """Fills what follows from the recipe's keys.

    Args:
        processes: among which a batch is shared.

    Raises:
        ConfigError: keys contradict each other, or one would not be read; all of them.
    """
    faults = list(_faults(config, processes))
    if faults:
        raise ConfigError(first_few(faults, indent=""))
    if config.cfg.PRETRAIN.PLATEAU != "off":
        config.fill({"SOLVER.STEPS": ()}, "PRETRAIN.PLATEAU, which decides the drops")
    if config.cfg.PRETRAIN.WARMUP_UNTIL_ERROR > 0:
        config.fill({"SOLVER.WARMUP_ITERS": 0}, "PRETRAIN.WARMUP_UNTIL_ERROR, which ends it")


def _faults(config: Config, processes: int) -> Iterator[str]:
    cfg, recipe = config.cfg, config.cfg.PRETRAIN
    off = get_cfg()
    yield from faults_of_dependent(config)
    yield from _of_crops(recipe)
    if recipe.PLATEAU != "off":
        yield from _of_plateau(config)
    if recipe.WARMUP_UNTIL_ERROR > 0 and cfg.SOLVER.WARMUP_ITERS and (
        where := config.stated.get("SOLVER.WARMUP_ITERS")
    ):  # fmt: skip
        yield (
            f"{where}: SOLVER.WARMUP_ITERS is {cfg.SOLVER.WARMUP_ITERS}, and "
            "PRETRAIN.WARMUP_UNTIL_ERROR ends the warm-up by the error. Set one of them to 0."
        )
    if recipe.MEAN_IMAGE == "on":
        yield from _of_mean_image(config, off)
    if cfg.SOLVER.IMS_PER_BATCH % processes:
        yield (
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which {processes} processes "
            "cannot share equally. Choose a multiple of their number."
        )
    share = cfg.SOLVER.IMS_PER_BATCH // processes
    together = min(share, cfg.ENGINE.IMAGES_PER_PASS or share)
    if (recipe.MIXUP_ALPHA > 0 or recipe.CUTMIX_ALPHA > 0) and together < 2:
        yield (
            "PRETRAIN.MIXUP_ALPHA and CUTMIX_ALPHA mix images that pass through the net together, "
            f"and {together} does: raise SOLVER.IMS_PER_BATCH or ENGINE.IMAGES_PER_PASS, or set "
            "both to 0."
        )


def _of_crops(recipe: Any) -> Iterator[str]:
    if recipe.AUGMENTATION != "paper":
        return
    smallest, largest = recipe.JITTER
    if smallest > largest:
        yield f"PRETRAIN.JITTER is {tuple(recipe.JITTER)}. Give the smaller side first."
    elif smallest < recipe.CROP:
        yield (
            f"PRETRAIN.JITTER is {tuple(recipe.JITTER)}, and PRETRAIN.CROP {recipe.CROP}: a crop "
            f"does not fit into an image of side {smallest:g}. Raise JITTER (paper: (256, 480) for "
            "224), or lower CROP."
        )


def _of_plateau(config: Config) -> Iterator[str]:
    solver = config.cfg.SOLVER
    if len(solver.STEPS) and (where := config.stated.get("SOLVER.STEPS")):
        yield (
            f"{where}: SOLVER.STEPS is {tuple(solver.STEPS)}, and PRETRAIN.PLATEAU lowers the rate "
            'by the error. Set SOLVER.STEPS "()", or PRETRAIN.PLATEAU off.'
        )
    if solver.LR_SCHEDULER_NAME != "WarmupMultiStepLR":
        yield (
            f"SOLVER.LR_SCHEDULER_NAME is {solver.LR_SCHEDULER_NAME}, and PRETRAIN.PLATEAU lowers "
            "the rate by the error: it goes with WarmupMultiStepLR alone."
        )
    if not 0 < solver.GAMMA < 1:
        yield (
            f"SOLVER.GAMMA is {solver.GAMMA:g}: PRETRAIN.PLATEAU multiplies the rate by it, so it "
            "must lie between 0 and 1 (paper: 0.1)."
        )
    if config.cfg.PRETRAIN.PLATEAU == "val" and not config.cfg.PRETRAIN.VAL:
        yield "PRETRAIN.PLATEAU is val, and PRETRAIN.VAL is empty. Name a set, or use train."


def _of_mean_image(config: Config, off: Any) -> Iterator[str]:
    cfg, key = config.cfg, "MODEL.PIXEL_MEAN"
    if key in config.stated and list(get_key(cfg, key)) != list(get_key(off, key)):
        yield (
            f"{config.stated[key]}: {key} is not read with PRETRAIN.MEAN_IMAGE on, which subtracts "
            "the training set's own. Leave it out."
        )
    if cfg.PRETRAIN.AUGMENTATION not in ("pad", "none"):
        yield (
            f"PRETRAIN.MEAN_IMAGE is on, and PRETRAIN.AUGMENTATION {cfg.PRETRAIN.AUGMENTATION} "
            "resizes images: a mean image goes with pad and none."
        )
    if cfg.PRETRAIN.COLOR_STD > 0:
        yield (
            f"PRETRAIN.MEAN_IMAGE is on, and PRETRAIN.COLOR_STD is {cfg.PRETRAIN.COLOR_STD:g}: "
            "colours are shifted in whole images, before a mean is subtracted. Set it to 0."
        )
    if cfg.PRETRAIN.SCALED_DECODE == "on":
        yield (
            "PRETRAIN.MEAN_IMAGE is on, and images of one size are never decoded smaller: set "
            "PRETRAIN.SCALED_DECODE off."
        )
    if cfg.PRETRAIN.TEST_SIDE != cfg.PRETRAIN.CROP:
        yield (
            f"PRETRAIN.MEAN_IMAGE is on, and PRETRAIN.TEST_SIDE {cfg.PRETRAIN.TEST_SIDE} is not "
            f"PRETRAIN.CROP {cfg.PRETRAIN.CROP}: images are tested whole."
        )
