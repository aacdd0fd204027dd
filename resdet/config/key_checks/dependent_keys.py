"""Keys that nothing reads without another one: stated alone they are refused, never passed over.

Not for: keys of Detectron2 (`detectron2_keys`), or values of one key (`ranges`).
"""

from __future__ import annotations

from collections.abc import Iterator

from resdet.config.config import Config, get_cfg, get_key
from resdet.config.detectron2_keys import is_stock
from resdet.errors import ConfigError, first_few

# Keys, each with one without which nothing reads it.
ONLY_WITH = (
    ("PRETRAIN.PLATEAU_PERIOD", "PRETRAIN.PLATEAU"),
    ("PRETRAIN.PLATEAU_THRESHOLD", "PRETRAIN.PLATEAU"),
    ("PRETRAIN.PLATEAU_PATIENCE", "PRETRAIN.PLATEAU"),
    ("SOLVER.EMA_STEPS", "SOLVER.EMA_DECAY"),
    ("DATASETS.DROP_MASKLESS", "MODEL.MASK_ON"),
    ("TRANSFER.HEAD_NAMES", "TRANSFER.HEADS"),
    ("TEST.EARLY_STOP", "TEST.BEST_METRIC"),
    ("TEST.EVAL_IMAGES", "TEST.EVAL_PERIOD"),
    ("TEST.VALIDATION_LOSS", "TEST.EVAL_PERIOD"),
    ("TEST.VALIDATION_LOSS", "DATASETS.TEST"),
)


def faults_of_dependent(config: Config) -> Iterator[str]:
    """A line for each stated key that has an effect with another one alone, which is off."""
    cfg, off = config.cfg, get_cfg()
    for key, needed in ONLY_WITH:
        is_off = get_key(cfg, needed) == get_key(off, needed)
        if is_off and key in config.stated and get_key(cfg, key) != get_key(off, key):
            yield (
                f"{config.stated[key]}: {key} is read with {needed} alone, which is off. Set "
                f"{needed}, or leave {key} out."
            )


def faults_of_square(config: Config) -> Iterator[str]:
    """What does not fit INPUT.SQUARE_PAD, or ENGINE.TRUNK_CACHE, which takes each image one way."""
    cfg = config.cfg
    size, side = cfg.INPUT, cfg.INPUT.SQUARE_PAD
    if side:
        for key in ("MAX_SIZE_TRAIN", "MAX_SIZE_TEST"):
            if size[key] > side:
                yield f"INPUT.{key} is {size[key]}, more than INPUT.SQUARE_PAD {side}. Lower it."
        if not size.MIN_SIZE_TEST:
            yield (
                f"INPUT.MIN_SIZE_TEST is 0 (images are not resized), so that one may be larger "
                f"than INPUT.SQUARE_PAD {side}. Set it to {side}."
            )
        if is_stock(cfg):
            yield (
                f"INPUT.SQUARE_PAD is {side}, which only backbones of MODEL.NET read. Leave it "
                f"out, or take another than MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME}."
            )
        if cfg.TEST.SCALES:
            yield f"TEST.SCALES have images of several sizes, and INPUT.SQUARE_PAD {side} one."
    if cfg.ENGINE.TRUNK_CACHE and not side:
        yield (
            "ENGINE.TRUNK_CACHE is read with INPUT.SQUARE_PAD alone, which is off: maps depend on "
            "what an image is padded to. Set INPUT.SQUARE_PAD, or leave ENGINE.TRUNK_CACHE out."
        )
    if cfg.ENGINE.TRUNK_CACHE:
        needed = {
            "INPUT.RANDOM_FLIP": "none", "INPUT.CROP.ENABLED": False, "SOLVER.SCHEME": "joint",
            "INPUT.MIN_SIZE_TRAIN": (size.MIN_SIZE_TEST,),
            "INPUT.MAX_SIZE_TRAIN": size.MAX_SIZE_TEST, "TEST.ENSEMBLE": (),
            "MODEL.LOAD_PROPOSALS": False, "TEST.AUG.ENABLED": False,
        }  # fmt: skip
        for key, value in needed.items():
            found = get_key(cfg, key)
            if (tuple(found) if isinstance(value, tuple) else found) != value:
                yield (
                    f"{key} is {found}, and ENGINE.TRUNK_CACHE has one map of each image, as the "
                    f'test takes it. Set {key} "{value}", or leave ENGINE.TRUNK_CACHE out.'
                )


def check_dependent(config: Config) -> None:
    """Raises ConfigError with all that `faults_of_dependent` and `faults_of_square` give."""
    if faults := [*faults_of_dependent(config), *faults_of_square(config)]:
        raise ConfigError(first_few(faults, indent=""))
