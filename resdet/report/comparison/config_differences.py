"""Every config key that differs between runs, in a bin each.

    backbone     the net and the weights it starts from: what the comparison is about; two names of
                 the same weights are bookkeeping
    net          what follows from the net: the name of its shared stage, its cells per region;
                 stages frozen where weights arrive and not where they are random
    card         preprocessing that belongs to the weights, where each run's card has the same
    bookkeeping  where and how often something is written; the seed. Named, harmless
    other        everything else

Not for: what becomes of them (`comparability`, `recipe_differences`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOT_SET = "(not set)"
_BACKBONE_PREFIX = "MODEL.NET."
# How a net trains, and not what it is.
_OF_TRAINING = ("MODEL.NET.DROP_PATH",)
# TRANSFER.NEW lists what of the net starts at random all the same: a part of its start.
_BACKBONE = ("MODEL.BACKBONE.NAME", "TRANSFER.NEW")
# By which name the weights were given; what arrived is known by its hash.
_WEIGHTS = ("MODEL.WEIGHTS", "MODEL.WEIGHTS_PART")
# That weights may be left out, which shows where they are.
_FROM_SCRATCH = "TRANSFER.FROM_SCRATCH"
# Stock Detectron2 nets, where MODEL.NET.NAME is empty, are described under these keys.
_STOCK_PREFIXES = ("MODEL.RESNETS.",)
# Set by `detect` from the net itself; a user cannot state another value.
_NET = (
    "MODEL.FPN.IN_FEATURES",
    "MODEL.RPN.IN_FEATURES",
    "MODEL.ROI_HEADS.IN_FEATURES",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION",
)
FREEZE_AT = "MODEL.BACKBONE.FREEZE_AT"
CARD_KEYS = {
    "MODEL.PIXEL_MEAN": "mean",
    "MODEL.PIXEL_STD": "std",
    "INPUT.FORMAT": "color_order",
}
_BOOKKEEPING = (
    "OUTPUT_DIR",
    "SEED",
    "VIS_PERIOD",
    "SOLVER.CHECKPOINT_PERIOD",
    "ENGINE.KEEP_CHECKPOINTS",
    "ENGINE.DISK_WAIT",
    "EVAL.SAMPLES",
    # The report computes every number anew.
    "EVAL.ENGINE",
    # Of the machine; what it may change is named with the environment.
    "MODEL.DEVICE",
    "DATALOADER.NUM_WORKERS",
    "ENGINE.THREADS",
    "ENGINE.WORKERS",
    "ENGINE.WORKER_TIMEOUT",
    "ENGINE.KEEP_MEMORY",
    "ENGINE.TRUNK_CACHE",
    # Sets that not all runs were scored on are left out of the report, which lists them.
    "DATASETS.TEST",
    "TEST.EVAL_PERIOD",
    # What a run's model is, the last or the best, its run.json states.
    "TEST.BEST_METRIC",
    "TEST.EVAL_IMAGES",
    # These neither train nor detect.
    "TEST.VALIDATION_LOSS",
    "TEST.EXPECTED_RESULTS",
)


@dataclass(frozen=True)
class ConfigDifference:
    """One config key whose value is not the same in all runs; `values` in the order of the runs."""

    key: str
    values: tuple[Any, ...]
    kind: str


def config_differences(
    configs: Sequence[Mapping[str, Any]],
    cards: Sequence[Mapping[str, Any]],
    loaded: Sequence[str] = (),
) -> list[ConfigDifference]:
    """Every key whose value is not the same everywhere, with its bin.

    Args:
        configs: dotted key to value, one per run.
        cards: the card of each run's weights; {} where there is none.
        loaded: SHA-256 of the tensors that each run started from; "" where it is not known. The
            same weights may have two names: a path, an address.
    """
    same_weights = bool(loaded) and "" not in loaded and len(set(loaded)) == 1
    all_started = all(config.get("MODEL.WEIGHTS") for config in configs)
    stock = any(not config.get("MODEL.NET.NAME") for config in configs)
    differences = []
    for key in sorted(set().union(*configs)):
        values = tuple(config.get(key, NOT_SET) for config in configs)
        if any(not _same(value, values[0]) for value in values[1:]):
            kind = _kind(key, values, cards, stock=stock)
            if (key in _WEIGHTS and same_weights) or (key == _FROM_SCRATCH and all_started):
                kind = "bookkeeping"
            if key == FREEZE_AT and _freezes_only_what_arrived(configs, values):
                kind = "net"
            differences.append(ConfigDifference(key, values, kind))
    return differences


def _freezes_only_what_arrived(configs: Sequence[Mapping[str, Any]], values: Sequence[Any]) -> bool:
    """Random weights are never frozen, so FREEZE_AT is 0 from scratch and one value elsewhere."""
    scratch = {v for c, v in zip(configs, values, strict=True) if not c.get("MODEL.WEIGHTS")}
    others = {v for c, v in zip(configs, values, strict=True) if c.get("MODEL.WEIGHTS")}
    return scratch == {0} and len(others) == 1


def _kind(
    key: str, values: Sequence[Any], cards: Sequence[Mapping[str, Any]], *, stock: bool
) -> str:
    is_of_net = key.startswith(_BACKBONE_PREFIX) and key not in _OF_TRAINING
    if is_of_net or key in (*_BACKBONE, *_WEIGHTS, _FROM_SCRATCH):
        return "backbone"
    if stock and key.startswith(_STOCK_PREFIXES):
        return "backbone"
    if key in _NET:
        return "net"
    if key in CARD_KEYS:
        expected = [(card.get("input") or {}).get(CARD_KEYS[key]) for card in cards]
        agree = all(w is not None and _same(v, w) for v, w in zip(values, expected, strict=True))
        return "card" if agree else "other"
    return "bookkeeping" if key in _BOOKKEEPING else "other"


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return (type(a) is type(b) and bool(a == b)) or _equal_numbers(a, b)


def _equal_numbers(a: Any, b: Any) -> bool:
    number = (int, float)
    if isinstance(a, bool) or isinstance(b, bool):
        return False
    return isinstance(a, number) and isinstance(b, number) and a == b
