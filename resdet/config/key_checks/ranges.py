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


def _names(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(name, str) and name for name in value)
    )


def _is_pair(text: str) -> bool:
    first, equals, second = text.partition("=")
    return bool(first and equals and second) and "=" not in second


def _rows_of_four(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_FOUR[0], value))


def _sizes(value: Any) -> bool:
    """Anchors: one list of numbers above 0 per map, or one for all."""
    rows = value if value and isinstance(value[0], list | tuple) else [value]
    return all(_all(_number(0, without_low=True))(row) for row in rows)


def _falling_rate_steps(value: Any) -> bool:
    return _all(_number(0), least=0)(value) and list(value) == sorted(value)


def _rising_sides(value: Any) -> bool:
    return _all(_number(1, LONGEST_SIDE), least=0)(value) and sorted(set(value)) == list(value)


def _shorter_sides(value: Any) -> bool:
    return _all(_number(1, LONGEST_SIDE))((value,) if isinstance(value, int) else value)


def _one_of(*words: Any) -> tuple[Check, str]:
    return lambda value: value in words, f"one of {', '.join(map(str, words))}"


# What TEST.BEST_METRIC may name, of any set.
BEST_METRICS = ("AP", "AP50", "segm_AP", "segm_AP50", "mAP", "AR100", "AR1000", "top1_error",
                "top5_error")  # fmt: skip
# torch's threads take memory each; more than these help nobody.
MOST_THREADS = 4 * (os.cpu_count() or 1)
_NATURAL = (_number(0), "0 or more")
_POSITIVE = (_number(1), "1 or more")
_SHARE = (_number(0, 1), "0 to 1")
_BELOW_1 = (lambda v: 0 <= v < 1, "0 or more, below 1")
_ABOVE = (_number(0, without_low=True), "a number above 0")
# In pixels, of what an image is resized to: two gigabytes of one image in float32 are none.
LONGEST_SIDE = 16_384
_SIDE = (_number(1, LONGEST_SIDE), f"1 to {LONGEST_SIDE:,} pixels")
_SIDES = (_shorter_sides, f"one or more numbers of pixels, each 1 to {LONGEST_SIDE:,}")
# The widest published layers have a quarter of it; the largest published batches are as large.
MOST_CHANNELS = MOST_IMAGES = 65_536
_CHANNELS = (_number(1, MOST_CHANNELS), f"1 to {MOST_CHANNELS:,}")
_BATCH = (_number(1, MOST_IMAGES), f"1 to {MOST_IMAGES:,}")
_LAYERS = (_number(0, 64), "0 to 64")
_FACTOR = (_number(0, 1e6), "0 to 1e6")
_FOUR = (_all(_number(0, without_low=True), least=4, most=4), "four numbers above 0")
_NAMES = (_names, "one or more names of maps")
_LABELS = (_all(lambda v: v in (-1, 0, 1), least=2), "labels of -1, 0 and 1")
_OVERLAPS = (
    lambda v: _all(_number(0, 1))(v) and list(v) == sorted(v),
    "one or more numbers of 0 to 1, rising",
)
_BOX_LOSS = _one_of("smooth_l1", "giou", "diou", "ciou")

# Dotted key: (check, what it expects in words).
RANGES: dict[str, tuple[Check, str]] = {
    "VERSION": (lambda v: v == 2, "2, Detectron2's"),
    "SEED": (_number(-1, 2**63 - 1), "-1 or a number below 2**63"),
    "OUTPUT_DIR": (lambda v: isinstance(v, str) and bool(v.strip()), "the name of a folder"),
    "MODEL.DEVICE": (
        lambda v: re.fullmatch(r"auto|cpu|cuda(:\d+)?", v) is not None,
        "auto, cpu, cuda or cuda:N",
    ),
    "MODEL.PIXEL_MEAN": (_all(lambda v: True, least=3, most=3), "three numbers"),
    "MODEL.PIXEL_STD": (_all(_ABOVE[0], least=3, most=3), "three numbers above 0"),
    "MODEL.NET.NORM_EPS": (lambda v: 0 <= v < 1, "0 or more, below 1"),
    "MODEL.ANCHOR_GENERATOR.SIZES": (_sizes, "lists of numbers above 0"),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": (_sizes, "lists of numbers above 0"),
    "MODEL.ANCHOR_GENERATOR.OFFSET": (lambda v: 0 <= v < 1, "0 or more, below 1"),
    "MODEL.BACKBONE.FREEZE_AT": _LAYERS,
    "MODEL.FPN.OUT_CHANNELS": _CHANNELS,
    "MODEL.FPN.IN_FEATURES": (lambda v: len(v) == 0 or _names(v), "names of maps"),
    "MODEL.NET.WIDTH": (_number(0, 64, without_low=True), "a factor above 0, at most 64"),
    "MODEL.NET.DROPOUT": (lambda v: v == -1 or 0 <= v < 1, "0 or more, below 1, or -1"),
    "MODEL.NET.DROP_PATH": (lambda v: v == -1 or 0 <= v < 1, "0 or more, below 1, or -1"),
    "MODEL.NET.FC_CHANNELS": (_number(0, MOST_CHANNELS), f"0 to {MOST_CHANNELS:,}"),
    "MODEL.NET.POOLED_SIZE": _LAYERS,
    "MODEL.NET.IMAGE_SIZE": (
        lambda v: 0 <= v <= LONGEST_SIDE and v % 32 == 0,
        f"0, or a multiple of 32, at most {LONGEST_SIDE:,}",
    ),
    "MODEL.NET.POOLS": (_number(0, 5), "1 to 5, or 0"),
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": _NATURAL,
    "MODEL.RESNETS.DEPTH": _one_of(18, 34, 50, 101, 152),
    "MODEL.RESNETS.RES5_DILATION": _one_of(1, 2),
    "MODEL.RESNETS.NUM_GROUPS": _CHANNELS,
    "MODEL.RESNETS.WIDTH_PER_GROUP": _CHANNELS,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": _CHANNELS,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": _CHANNELS,
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": _CHANNELS,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": (
        lambda v: len(v) == 4 and all(isinstance(x, bool) for x in v),
        "True or False of each of four stages",
    ),
    "MODEL.RESNETS.OUT_FEATURES": _NAMES,
    "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": (_rows_of_four, "rows of four numbers above 0"),
    "MODEL.ROI_BOX_CASCADE_HEAD.IOUS": (_all(_number(0, 1)), "one or more numbers of 0 to 1"),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": _BOX_LOSS,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": _FACTOR,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": _FOUR,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": _CHANNELS,
    "MODEL.ROI_BOX_HEAD.FC_DIM": _CHANNELS,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": _LAYERS,
    "MODEL.ROI_BOX_HEAD.NUM_FC": _LAYERS,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": (_number(1, 256), "1 to 256"),
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": (_number(-1, 256), "0 (by size) to 256"),
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": _FACTOR,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": _CHANNELS,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": _LAYERS,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": (_number(1, 256), "1 to 256"),
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": (_number(-1, 256), "0 (by size) to 256"),
    "MODEL.ROI_HEADS.IN_FEATURES": _NAMES,
    "MODEL.ROI_HEADS.IOU_LABELS": _LABELS,
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": _OVERLAPS,
    "MODEL.ROI_HEADS.NUM_CLASSES": _CHANNELS,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": _POSITIVE,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": _SHARE,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": _SHARE,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": _SHARE,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": _POSITIVE,
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": _BOX_LOSS,
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": _FACTOR,
    "MODEL.RPN.BBOX_REG_WEIGHTS": _FOUR,
    "MODEL.RPN.BOUNDARY_THRESH": (_number(-1), "-1 (none is dropped) or more"),
    "MODEL.RPN.CONV_DIMS": (
        _all(lambda v: v == -1 or 1 <= v <= MOST_CHANNELS),
        f"numbers of channels, 1 to {MOST_CHANNELS:,}, or -1",
    ),
    "MODEL.RPN.IN_FEATURES": _NAMES,
    "MODEL.RPN.IOU_LABELS": _LABELS,
    "MODEL.RPN.IOU_THRESHOLDS": _OVERLAPS,
    "MODEL.RPN.LOSS_WEIGHT": _FACTOR,
    "MODEL.RPN.POSITIVE_FRACTION": _SHARE,
    "MODEL.RPN.SMOOTH_L1_BETA": _FACTOR,
    "MODEL.RPN.NMS_THRESH": _SHARE,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": _POSITIVE,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": _POSITIVE,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": _POSITIVE,
    "MODEL.RPN.POST_NMS_TOPK_TEST": _POSITIVE,
    "INPUT.MIN_SIZE_TRAIN": _SIDES,
    "INPUT.MIN_SIZE_TEST": (_number(0, LONGEST_SIDE), f"0 to {LONGEST_SIDE:,} pixels"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": _one_of("choice", "range"),
    "INPUT.MASK_FORMAT": _one_of("polygon", "bitmask"),
    "INPUT.RANDOM_FLIP": _one_of("horizontal", "vertical", "none"),
    "INPUT.ALPHA_OVER": (
        lambda v: len(v) == 0 or _all(_number(0, 255), least=3, most=3)(v),
        "three numbers of 0 to 255, or ()",
    ),
    "INPUT.MAX_SIZE_TRAIN": _POSITIVE,
    "INPUT.MAX_SIZE_TEST": _POSITIVE,
    "INPUT.MAX_PIXELS": _POSITIVE,
    "INPUT.SQUARE_PAD": (
        lambda v: _number(0, LONGEST_SIDE)(v) and v % 32 == 0,
        f"a multiple of 32, 0 to {LONGEST_SIDE:,} pixels",
    ),
    "SOLVER.IMS_PER_BATCH": _BATCH,
    "SOLVER.BASE_LR": (_number(0, 1e6), "0 or more"),
    "SOLVER.MAX_ITER": _POSITIVE,
    "SOLVER.RPN.IMS_PER_BATCH": (_number(0, MOST_IMAGES), f"0 to {MOST_IMAGES:,}"),
    "SOLVER.RPN.BASE_LR": (_number(0, 1e6), "0 or more"),
    "SOLVER.RPN.MAX_ITER": _NATURAL,
    "SOLVER.RPN.STEPS": (_falling_rate_steps, "steps of 0 or more, rising"),
    "SOLVER.STEPS": (_falling_rate_steps, "steps of 0 or more, rising"),
    "SOLVER.GAMMA": (_number(0, 1e6), "0 or more"),
    "SOLVER.MOMENTUM": _BELOW_1,
    "SOLVER.WEIGHT_DECAY": (_number(0, 1e6), "0 or more"),
    "SOLVER.WARMUP_ITERS": _NATURAL,
    "SOLVER.WARMUP_FACTOR": (_number(0, 1), "0 to 1"),
    "SOLVER.WARMUP_METHOD": (lambda v: v in ("linear", "constant"), "linear or constant"),
    "SOLVER.CHECKPOINT_PERIOD": _NATURAL,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": (
        lambda v: v in ("value", "norm"),
        "value or norm, of each parameter; ENGINE.CLIP_GRADIENT_NORM is of all together",
    ),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": _ABOVE,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": _ABOVE,
    "SOLVER.REFERENCE_BATCH": _NATURAL,
    "SOLVER.BIAS_LR_FACTOR": _FACTOR,
    "SOLVER.LAYER_DECAY": (_number(0, 1, without_low=True), "above 0, at most 1"),
    "SOLVER.EMA_DECAY": _BELOW_1,
    "SOLVER.EMA_STEPS": _POSITIVE,
    "SOLVER.WEIGHT_DECAY_NORM": _FACTOR,
    "SOLVER.WEIGHT_DECAY_EMBED": (
        lambda v: v is None or (_is_number(v) and 0 <= v <= 1e6),
        "None (WEIGHT_DECAY) or 0 to 1e6",
    ),
    "SOLVER.WEIGHT_DECAY_BIAS": (
        lambda v: v is None or (_is_number(v) and 0 <= v <= 1e6),
        "None (WEIGHT_DECAY) or 0 to 1e6",
    ),
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": _POSITIVE,
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": _POSITIVE,
    "DATALOADER.NUM_WORKERS": (_number(0, 1024), "0 to 1,024"),
    "DATASETS.ILSVRC_PER_CLASS": _NATURAL,
    "DATASETS.CLIP_BOXES": (_number(0, 1e6), "0 or more pixels"),
    "TRANSFER.HEAD_NAMES": (
        lambda v: len(v) == 0 or (_names(v) and all(_is_pair(pair) for pair in v)),
        "pairs of names such as ('car=auto',)",
    ),
    "TRANSFER.NEW": (lambda v: len(v) == 0 or _names(v), "names of tensors, such as ('res5.*',)"),
    "TEST.DETECTIONS_PER_IMAGE": (_number(-1), "-1 (all) or more"),
    "TEST.EVAL_PERIOD": _NATURAL,
    "TEST.BEST_METRIC": (
        lambda v: v == "" or v.rpartition("/")[2] in BEST_METRICS,
        f'"" or one of {", ".join(BEST_METRICS)}, with SET/ before it where it is another set\'s',
    ),
    "TEST.EARLY_STOP": _NATURAL,
    "TEST.EVAL_IMAGES": _NATURAL,
    "TEST.IMS_PER_BATCH": _BATCH,
    "TEST.SCALES": (_rising_sides, f"rising numbers of pixels, each 1 to {LONGEST_SIDE:,}, or ()"),
    "TEST.SCALES_MAX_SIZE": (_number(0, LONGEST_SIDE), f"0 to {LONGEST_SIDE:,} pixels"),
    "TEST.ENSEMBLE": (
        lambda v: len(v) == 0 or _names(v),
        "run folders or files of detectors, such as ('runs/voc07_vgg16',), or ()",
    ),
    "EVAL.SAMPLES": _NATURAL,
    "ENGINE.THREADS": (_number(0, MOST_THREADS), f"0 to {MOST_THREADS}, four a core here"),
    "ENGINE.IMAGES_PER_PASS": _NATURAL,
    "ENGINE.WORKER_TIMEOUT": (_number(0, 1e9), "0 or more seconds"),
    "ENGINE.DISK_WAIT": (_number(0, 1e9), "0 or more seconds"),
    "ENGINE.KEEP_CHECKPOINTS": (_number(2), "2 or more"),
    "ENGINE.CLIP_GRADIENT_NORM": (_number(0, 1e30), "0 or more"),
    "LOC.CROP": _SIDE,
    "LOC.JITTER": (_all(_SIDE[0], least=2, most=2), "two numbers of pixels"),
    "LOC.TEST_SIDE": _SIDE,
    "LOC.HIDDEN": (_number(1, 1e5), "1 or more channels"),
    "LOC.ANCHORS_PER_IMAGE": (_number(2, 1e6), "2 or more"),
    "LOC.PROPOSALS": (_number(1, 1e6), "1 or more"),
    "LOC.TEST": (
        lambda v: _names(v) and set(v) <= {"centre", "dense"} and len(set(v)) == len(v),
        "('centre',), ('dense',) or both",
    ),
    "LOC.SIZES": (_all(_SIDE[0]), "numbers of pixels"),
    "LOC.RCNN_ITERS": _NATURAL,
    "LOC.RCNN_BATCH": _BATCH,
    "PRETRAIN.CROP": _SIDE,
    "PRETRAIN.TEST_SIDE": _SIDE,
    "PRETRAIN.JITTER": (_all(_SIDE[0], least=2, most=2), "two numbers of pixels"),
    "PRETRAIN.BN_IMAGES": (_number(-1), "-1 (all) or more"),
    "PRETRAIN.LABEL_SMOOTHING": _BELOW_1,
    "PRETRAIN.MIXUP_ALPHA": (_number(0, 1e6), "0 or more"),
    "PRETRAIN.CUTMIX_ALPHA": (_number(0, 1e6), "0 or more"),
    "PRETRAIN.PLATEAU_PERIOD": _POSITIVE,
    "PRETRAIN.PLATEAU_THRESHOLD": (_number(0, 100), "0 to 100"),
    "PRETRAIN.PLATEAU_PATIENCE": _NATURAL,
    "PRETRAIN.WARMUP_UNTIL_ERROR": (_number(0, 100), "0 to 100"),
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
    sides, sampling = cfg.INPUT.MIN_SIZE_TRAIN, "INPUT.MIN_SIZE_TRAIN_SAMPLING"
    if get(cfg, sampling) == "range" and (len(sides) != 2 or sides[0] > sides[1]):
        yield (
            "INPUT.MIN_SIZE_TRAIN",
            sides,
            f"its two ends, the smaller first, with {sampling} range",
        )
    names = schedulers()
    if cfg.SOLVER.LR_SCHEDULER_NAME not in names:
        yield "SOLVER.LR_SCHEDULER_NAME", cfg.SOLVER.LR_SCHEDULER_NAME, " or ".join(names)
    for part in ("MODEL.RPN", "MODEL.ROI_HEADS"):
        labels, steps = get(cfg, f"{part}.IOU_LABELS"), get(cfg, f"{part}.IOU_THRESHOLDS")
        if len(labels) != len(steps) + 1:
            yield (
                f"{part}.IOU_LABELS",
                labels,
                f"{len(steps) + 1}, one more than {part}.IOU_THRESHOLDS",
            )
    for key, what in (("DATASETS.TRAIN", "names of data sets"),
                      ("DATASETS.TEST", "names of data sets"),
                      ("DATASETS.PROPOSAL_FILES_TRAIN", "paths of files"),
                      ("DATASETS.PROPOSAL_FILES_TEST", "paths of files")):  # fmt: skip
        if not all(isinstance(name, str) and name for name in get(cfg, key)):
            yield key, get(cfg, key), what


def schedulers() -> tuple[str, ...]:
    """Those that the installed Detectron2 builds; its main has one more than 0.6."""
    known = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")
    constants = solver_build.build_lr_scheduler.__code__.co_consts
    return tuple(name for name in known if name in constants)
