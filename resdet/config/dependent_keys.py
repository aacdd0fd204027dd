"""Keys that nothing reads without another one: stated alone they are refused, never passed over.

Not for: keys of Detectron2 (`detectron2_keys`), or values of one key (`ranges`).
"""

from __future__ import annotations

from collections.abc import Iterator

from resdet.config.config import Config, get_cfg, get_key
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


def check_dependent(config: Config) -> None:
    """Raises ConfigError with all that `faults_of_dependent` gives."""
    if faults := list(faults_of_dependent(config)):
        raise ConfigError(first_few(faults, indent=""))
