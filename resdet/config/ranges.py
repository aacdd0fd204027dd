"""What values a key may have, checked at the start, all faults on one page.

A value outside would hang, end in a traceback hours later, or train something that nobody meant.

Not for: values that are words (`keys.ALLOWED`), or types (`config`).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from detectron2.config import CfgNode
from detectron2.solver import build as solver_build

Check = Callable[[Any], bool]


def _number(low: float, high: float = math.inf, *, without_low: bool = False) -> Check:
    def check(value: Any) -> bool:
        # NaN compares with nothing.
        above = value > low if without_low else value >= low
        return bool(above and value <= high and value != math.inf)

    return check


def _all(check: Check, *, least: int = 1, most: float = math.inf) -> Check:
    """A sequence of `least` to `most` values that pass."""

    def of_sequence(value: Any) -> bool:
        return (
            isinstance(value, list | tuple)
            and least <= len(value) <= most
            and all(_is_number(v) and check(v) for v in value)
        )

    return of_sequence


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _sizes(value: Any) -> bool:
    """Anchors: one list of numbers above 0 per map, or one for all."""
    rows = value if value and isinstance(value[0], list | tuple) else [value]
    return all(_all(_number(0, without_low=True))(row) for row in rows)


def _falling_rate_steps(value: Any) -> bool:
    return _all(_number(0), least=0)(value) and list(value) == sorted(value)


def _shorter_sides(value: Any) -> bool:
    return _all(_number(1))((value,) if isinstance(value, int) else value)


# What TEST.BEST_METRIC may name, of any set.
BEST_METRICS = ("AP", "AP50", "top1_error", "top5_error")
# torch's threads take memory each; more than these help nobody.
MOST_THREADS = 4 * (os.cpu_count() or 1)
_NATURAL = (_number(0), "0 or more")
_POSITIVE = (_number(1), "1 or more")
_SHARE = (_number(0, 1), "0 to 1")
_ABOVE = (_number(0, without_low=True), "a number above 0")
_SIDES = (_shorter_sides, "one or more numbers of pixels, each 1 or more")

# Dotted key: (check, what it expects in words).
RANGES: dict[str, tuple[Check, str]] = {
    "VERSION": (lambda v: v == 2, "2, Detectron2's"),
    "SEED": (_number(-1, 2**63 - 1), "-1 or a number below 2**63"),
    "MODEL.DEVICE": (
        lambda v: re.fullmatch(r"auto|cpu|cuda(:\d+)?", v) is not None,
        "auto, cpu, cuda or cuda:N",
    ),
    "MODEL.PIXEL_MEAN": (_all(lambda v: True, least=3, most=3), "three numbers"),
    "MODEL.PIXEL_STD": (_all(_ABOVE[0], least=3, most=3), "three numbers above 0"),
    "MODEL.NET.NORM_EPS": (lambda v: 0 <= v < 1, "0 or more, below 1"),
    "MODEL.ANCHOR_GENERATOR.SIZES": (_sizes, "lists of numbers above 0"),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": (_sizes, "lists of numbers above 0"),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": _POSITIVE,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": _SHARE,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": _SHARE,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": _SHARE,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": _POSITIVE,
    "MODEL.RPN.NMS_THRESH": _SHARE,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": _POSITIVE,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": _POSITIVE,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": _POSITIVE,
    "MODEL.RPN.POST_NMS_TOPK_TEST": _POSITIVE,
    "INPUT.MIN_SIZE_TRAIN": _SIDES,
    "INPUT.MIN_SIZE_TEST": _NATURAL,
    "INPUT.MAX_SIZE_TRAIN": _POSITIVE,
    "INPUT.MAX_SIZE_TEST": _POSITIVE,
    "INPUT.MAX_PIXELS": _POSITIVE,
    "SOLVER.IMS_PER_BATCH": _POSITIVE,
    "SOLVER.BASE_LR": (_number(0, 1e6), "0 or more"),
    "SOLVER.MAX_ITER": _POSITIVE,
    "SOLVER.STEPS": (_falling_rate_steps, "steps of 0 or more, rising"),
    "SOLVER.GAMMA": (_number(0, 1e6), "0 or more"),
    "SOLVER.MOMENTUM": (lambda v: 0 <= v < 1, "0 or more, below 1"),
    "SOLVER.WEIGHT_DECAY": (_number(0, 1e6), "0 or more"),
    "SOLVER.WARMUP_ITERS": _NATURAL,
    "SOLVER.WARMUP_FACTOR": (_number(0, 1), "0 to 1"),
    "SOLVER.WARMUP_METHOD": (lambda v: v in ("linear", "constant"), "linear or constant"),
    "SOLVER.CHECKPOINT_PERIOD": _NATURAL,
    "SOLVER.REFERENCE_BATCH": _NATURAL,
    "DATALOADER.NUM_WORKERS": _NATURAL,
    "TEST.DETECTIONS_PER_IMAGE": (_number(-1), "-1 (all) or more"),
    "TEST.EVAL_PERIOD": _NATURAL,
    "TEST.BEST_METRIC": (
        lambda v: v == "" or v.rpartition("/")[2] in BEST_METRICS,
        f'"" or one of {", ".join(BEST_METRICS)}, with SET/ before it where it is another set\'s',
    ),
    "TEST.EVAL_IMAGES": _NATURAL,
    "TEST.IMS_PER_BATCH": _POSITIVE,
    "EVAL.SAMPLES": _NATURAL,
    "ENGINE.THREADS": (_number(0, MOST_THREADS), f"0 to {MOST_THREADS}, four a core here"),
    "ENGINE.IMAGES_PER_PASS": _NATURAL,
    "ENGINE.WORKER_TIMEOUT": (_number(0, 1e9), "0 or more seconds"),
    "ENGINE.DISK_WAIT": (_number(0, 1e9), "0 or more seconds"),
    "ENGINE.KEEP_CHECKPOINTS": _NATURAL,
    "ENGINE.CLIP_GRADIENT_NORM": (_number(0, 1e30), "0 or more"),
    "PRETRAIN.CROP": _POSITIVE,
    "PRETRAIN.TEST_SIDE": _POSITIVE,
    "PRETRAIN.JITTER": (_all(_number(1), least=2, most=2), "two numbers of pixels"),
    "PRETRAIN.BN_IMAGES": _NATURAL,
    "PRETRAIN.CACHE_MB": _NATURAL,
    "PRETRAIN.COLOR_STD": (_number(0, 1e6), "0 or more"),
}


def faults(cfg: CfgNode, get: Callable[[CfgNode, str], Any]) -> Iterator[tuple[str, Any, str]]:
    """(key, value, what was expected) of every value outside its range."""
    for key, (check, expected) in RANGES.items():
        value = get(cfg, key)
        try:
            fits = check(value)
        except TypeError:  # text or None among numbers
            fits = False
        if not fits:
            yield key, value, expected
    names = schedulers()
    if cfg.SOLVER.LR_SCHEDULER_NAME not in names:
        yield "SOLVER.LR_SCHEDULER_NAME", cfg.SOLVER.LR_SCHEDULER_NAME, " or ".join(names)
    for key in ("DATASETS.TRAIN", "DATASETS.TEST"):
        if not all(isinstance(name, str) and name for name in get(cfg, key)):
            yield key, get(cfg, key), "names of data sets"


def schedulers() -> tuple[str, ...]:
    """Those that the installed Detectron2 builds; its main has one more than 0.6."""
    known = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")
    constants = solver_build.build_lr_scheduler.__code__.co_consts
    return tuple(name for name in known if name in constants)
