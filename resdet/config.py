"""Our keys on top of Detectron2's config, read strictly; what was stated, and what follows from it.

Every key of ours is defined here, once, with its meaning, its values and what "off" is. With the
defaults below a config means to Detectron2 what it always meant.

Reading is strict (`faults.md` F47, F48): unknown keys are refused with file and line, integers
widened to floats. What was *stated* is remembered, so that a fact that comes from elsewhere (a
card, a net, a data set) can fill a key, but never overrule the user.

Not for: what the keys do (classes get plain values, never the config), or YAML (`config_file`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from resdet.config_file import parse_text, read_file
from resdet.errors import ConfigError, first_few


def get_cfg() -> CfgNode:
    """Detectron2's defaults with our keys, all off."""
    cfg = get_detectron2_cfg()
    _add_net_keys(cfg)
    _add_engine_keys(cfg)
    _add_data_keys(cfg)
    return cfg


def _add_net_keys(cfg: CfgNode) -> None:
    # -- The net: one class for classifier and backbone -----------------------------------
    net = cfg.MODEL.NET = CfgNode()
    # A name of resdet.nets.names(), timm:<a name of timm>, or a name that was registered in Python
    # (docs/own_net.md). "" = off: the stock Detectron2 model of the other keys.
    net.NAME = ""
    # "none", "A", "B", "C"; "" = the family's own (B; A for CIFAR nets).
    net.SHORTCUT = ""
    # Stride 2 in a bottleneck's first 1x1 (the paper, Detectron2) or in its 3x3 (torchvision).
    # Set from the card where there is one.
    net.STRIDE_IN_1X1 = True
    # Factor on all channels, above 0.
    net.WIDTH = 1.0
    # "imagenet", "small", "cifar"; "" = the family's own. Residual and plain nets only.
    net.STEM = ""
    # Number of 2x2 poolings, 1 to 5; 0 = all five. VGG only.
    net.POOLS = 0
    # Outputs of fc6 and fc7; 0 = 4096. VGG only.
    net.FC_CHANNELS = 0
    # On fc6 and fc7, in [0, 1); -1 = 0.5. VGG only.
    net.DROPOUT = -1.0
    # Cells a side per region for the tail; 0 = the net's own (14 residual, 7 VGG).
    net.POOLED_SIZE = 0
    # 2: res5 stays at the stride of res4 and its 3x3 convolutions are dilated (the DC5 detector).
    # 1 = off. Residual and plain nets only.
    net.RES5_DILATION = 1
    # Batch norm in detection. "FrozenBN": fixed everywhere (the paper, appendix A); refused where
    # weights are random. "BN": live everywhere. "auto": FrozenBN where weights arrive, BN in what
    # is new.
    net.NORM = "auto"

    # -- Weights: what must arrive -------------------------------------------------------
    transfer = cfg.TRANSFER = CfgNode()
    # True: MODEL.WEIGHTS may be empty, and the detector then starts from random weights.
    # False = off: an empty MODEL.WEIGHTS is refused.
    transfer.FROM_SCRATCH = False
    # Patterns of net tensors that start fresh although weights are given, e.g. ("res5.*",).
    transfer.NEW = ()
    # Predictors of a whole detector with other classes: "new" (fresh, counted as such) or
    # "by_name" (rows of classes that both have are carried over). The same classes always arrive,
    # put in order by name.
    transfer.HEADS = "new"
    # The data set whose classes a foreign detector was trained for; "" = off: as the file says.
    transfer.HEAD_CLASSES = ""


def _add_engine_keys(cfg: CfgNode) -> None:
    engine = cfg.ENGINE = CfgNode()
    # Convolutions and linear layers of the net in bfloat16, weights in float32: "off", "on", or
    # "auto" (on where the device has bf16 instructions).
    engine.BF16 = "off"
    # Memory layout of the net's maps: "off", "on", or "auto" (on where bf16 is on).
    engine.CHANNELS_LAST = "off"
    # Detecting with the folded, gathered form of the trained model (`resdet.detect.fast`), in the
    # type that BF16 says: the same detections within rounding, sooner. "off" or "on".
    engine.FAST_INFERENCE = "off"
    # Threads of torch; 0 = torch's own choice.
    engine.THREADS = 0
    # Checkpoints kept beside the final one; at least 2.
    engine.KEEP_CHECKPOINTS = 2
    # Images of one process that pass through the net at once; gradients of a step add up, which
    # saves memory. 0 = off: the whole batch. Each part's losses count by its share of the batch,
    # and live batch norm sees its part alone.
    engine.IMAGES_PER_PASS = 0
    # Gradients are scaled down to this total norm; 0 = off.
    engine.CLIP_GRADIENT_NORM = 0.0

    # The batch for which BASE_LR, STEPS and MAX_ITER were made; 0 = off. Another IMS_PER_BATCH is
    # refused until SCALE_LR says what to do (F34).
    cfg.SOLVER.REFERENCE_BATCH = 0
    # "linear": rate, steps and length follow the batch. "keep": left as they are. "" = undecided.
    cfg.SOLVER.SCALE_LR = ""

    pretrain = cfg.PRETRAIN = CfgNode()
    # Names or folders of class folders (`resdet.data`). TEST may be "".
    pretrain.TRAIN = "digits_crops_train"
    pretrain.VAL = "digits_crops_val"
    pretrain.TEST = ""
    # Side of the square input, in pixels.
    pretrain.CROP = 224
    # Shorter side before the centre crop of the 1-crop test, in pixels.
    pretrain.TEST_SIDE = 256
    # "paper": shorter side uniform in JITTER, random crop. "area": random area 8-100 % and ratio
    # (torchvision's). "pad": 4 pixels of zeros, random crop (CIFAR). "none": centre crop.
    pretrain.AUGMENTATION = "paper"
    pretrain.JITTER = (256, 480)
    # Mirrored half of the time.
    pretrain.FLIP = True
    # AlexNet's colour augmentation: standard deviation of alpha; 0 = off (paper: 0.1).
    pretrain.COLOR_STD = 0.0
    # Training images over which BN statistics are recomputed at the end; 0 = off.
    pretrain.BN_IMAGES = 0
    # Decoded images stay in memory when the set needs at most so many MB; 0 = off.
    pretrain.CACHE_MB = 0


def _add_data_keys(cfg: CfgNode) -> None:
    data = cfg.DATASETS
    # Faults that may be passed over: listed images without a file (training sets alone),
    # annotations of images that are not there, boxes without area. A number is the exact count in
    # every set that has such faults; "NAME=COUNT", or a list of these, is the exact count in the
    # sets so named, and no other set may have any. 0 = off: refuse (F1, F7, F11).
    data.ALLOW_MISSING = 0
    data.DROP_ORPHANS = 0
    data.DROP_DEGENERATE = 0
    # Boxes that leave the image by at most so many pixels are clipped; 0 = refuse (F12).
    data.CLIP_BOXES = 0.0
    # First pixel of VOC's XML: 1 (VOC) or 0 (many labelling tools) (F13).
    data.VOC_ORIGIN = 1
    # VOC's difficult objects in training: "keep" (Detectron2) or "drop" (py-faster-rcnn) (F15).
    data.VOC_DIFFICULT = "keep"
    # EXIF orientation: "apply" (Detectron2) or "ignore" (F30).
    cfg.INPUT.EXIF = "apply"
    # 16-bit images: "refuse", "high_byte", "stretch" (F28).
    cfg.INPUT.SIXTEEN_BIT = "refuse"
    # RGB under a transparent picture, such as (255, 255, 255); () = off: alpha is dropped (F29).
    cfg.INPUT.ALPHA_OVER = ()
    # Larger images are refused (F32).
    cfg.INPUT.MAX_PIXELS = 90_000_000

    evaluation = cfg.EVAL = CfgNode()
    # "d2": IoU > threshold, as Detectron2 and py-faster-rcnn; "devkit": IoU >= threshold (F53).
    evaluation.VOC_STYLE = "d2"
    # True: training images may be test images; the report says so in its title (F6).
    evaluation.ALLOW_LEAK = False
    # Pictures kept in the run folder for the report.
    evaluation.SAMPLES = 12


# -- reading -------------------------------------------------------------------------------


@dataclass
class Config:
    """A config with its history.

    Attributes:
        cfg: the values; a Detectron2 CfgNode.
        stated: dotted key to where it was stated ("coco_r101.yaml, line 12", "command line").
        derived: dotted key to why it has its value, where nobody stated it.
    """

    cfg: CfgNode
    stated: dict[str, str] = field(default_factory=dict)
    derived: dict[str, str] = field(default_factory=dict)

    def fill(self, facts: Mapping[str, Any], source: str) -> None:
        """Sets keys from facts; what was stated otherwise is a contradiction.

        Raises:
            ConfigError: a key was stated with another value; all such keys, both values, where.
        """
        clashes = []
        for key, value in facts.items():
            current = get_key(self.cfg, key)
            if key in self.stated and not _same(current, value):
                clashes.append(
                    f"{key} is {_show(current)} ({self.stated[key]}), "
                    f"but {source} says {_show(value)}"
                )
        if clashes:
            raise ConfigError(
                first_few(clashes, indent="")
                + "\nLeave these keys out: they are set by themselves."
            )
        for key, value in facts.items():
            if not _same(get_key(self.cfg, key), value):
                set_key(self.cfg, key, value)
            if key not in self.stated:
                self.derived[key] = source

    def to_yaml(self) -> str:
        return self.cfg.dump()

    def explain(self) -> str:
        """One line per key that is not Detectron2's or our default: value and reason."""
        defaults = dict(flatten(get_cfg()))
        lines = []
        for key, value in flatten(self.cfg):
            reason = self.stated.get(key) or self.derived.get(key)
            if reason and (key in self.derived or not _same(value, defaults.get(key))):
                lines.append(f"{key:45} {_show(value):32} {reason}")
        return "\n".join(lines)


def resolve(config_file: Path | str | None, opts: Sequence[str] = ()) -> Config:
    """The config of a file (with its `_BASE_`) and of `KEY VALUE` pairs, strictly read.

    Raises:
        ConfigError: file missing or not safe YAML, base missing or in a circle, key unknown or
            twice, value of another type; with file and line.
    """
    config = Config(get_cfg())
    if config_file is not None:
        for key, value, where in read_file(Path(config_file)):
            _apply(config, key, value, where)
    refuse_late_flags(opts)
    if len(opts) % 2:
        raise ConfigError(
            f"KEY VALUE pairs expected at the end, but {opts[-1]!r} stands alone: "
            "give it a value, as in SOLVER.MAX_ITER 20."
        )
    for key, text in zip(opts[::2], opts[1::2], strict=True):
        _apply(config, key, parse_text(text), "command line")
    _check_values(config)
    return config


# Keys that take one of a few words; a word that nobody knows must not mean "off".
ALLOWED: dict[str, tuple[Any, ...]] = {
    "MODEL.NET.NORM": ("auto", "FrozenBN", "BN"),
    "MODEL.NET.RES5_DILATION": (1, 2),
    "MODEL.FPN.FUSE_TYPE": ("sum", "avg"),
    "TRANSFER.HEADS": ("new", "by_name"),
    "ENGINE.BF16": ("off", "on", "auto"),
    "ENGINE.CHANNELS_LAST": ("off", "on", "auto"),
    "ENGINE.FAST_INFERENCE": ("off", "on"),
    "SOLVER.SCALE_LR": ("", "linear", "keep"),
    "PRETRAIN.AUGMENTATION": ("paper", "area", "pad", "none"),
    "DATASETS.VOC_DIFFICULT": ("keep", "drop"),
    "DATASETS.VOC_ORIGIN": (1, 0),
    "INPUT.EXIF": ("apply", "ignore"),
    "INPUT.SIXTEEN_BIT": ("refuse", "high_byte", "stretch"),
    "EVAL.VOC_STYLE": ("d2", "devkit"),
}


# Keys that hold one count for all data sets, or the counts of the sets that are named.
COUNTS = ("DATASETS.ALLOW_MISSING", "DATASETS.DROP_ORPHANS", "DATASETS.DROP_DEGENERATE")


# Detectron2 unpickles what these name (F23).
PROPOSAL_FILES = (
    "MODEL.LOAD_PROPOSALS",
    "DATASETS.PROPOSAL_FILES_TRAIN",
    "DATASETS.PROPOSAL_FILES_TEST",
)


def _check_values(config: Config) -> None:
    """Raises ConfigError for all values that no reader of their key knows."""
    allowed = dict(ALLOWED)
    if config.cfg.MODEL.NET.NAME:
        allowed["INPUT.FORMAT"] = ("RGB", "BGR")
    faults = [
        f"{config.stated.get(key, 'default')}: {key} is {_show(get_key(config.cfg, key))}, "
        f"expected one of {', '.join(map(_show, choices))}."
        for key, choices in allowed.items()
        if get_key(config.cfg, key) not in choices
    ]
    faults += [
        f"{config.stated.get(key, 'default')}: {key} is {_show(get_key(config.cfg, key))}, but "
        "proposal files are pickles, which run what is in them; they are not read. Leave it out: "
        "the RPN proposes regions."
        for key in PROPOSAL_FILES
        if get_key(config.cfg, key)
    ]
    if faults:
        raise ConfigError(first_few(faults, indent=""))


def refuse_late_flags(opts: Sequence[str]) -> None:
    """Raises ConfigError for a flag behind the first KEY VALUE pair, which argparse swallows."""
    for word in opts:
        if word.startswith("--"):
            raise ConfigError(
                f"{word} comes after the first KEY VALUE pair; put flags before the pairs."
            )


def flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf, sorted by key."""
    for key in sorted(node):
        value = node[key]
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def get_key(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def set_key(cfg: CfgNode, key: str, value: Any) -> None:
    *path, leaf = key.split(".")
    for part in path:
        cfg = cfg[part]
    are_lists = isinstance(cfg[leaf], tuple | list) and isinstance(value, tuple | list)
    cfg[leaf] = type(cfg[leaf])(value) if are_lists else value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _show(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_show(v) for v in value) + "]"
    return repr(value)


def _apply(config: Config, key: str, value: Any, where: str) -> None:
    node: Any = config.cfg
    for part in key.split("."):
        if not isinstance(node, CfgNode) or part not in node:
            known = [k for k, _ in flatten(config.cfg)]
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{where}: {key} does not exist.{hint}")
        parent, node = node, node[part]
    if isinstance(node, CfgNode):
        raise ConfigError(
            f"{where}: {key} holds keys of its own; give one of them, "
            f"such as {key}.{next(iter(node), '')}."
        )
    where_key = f"{where}: {key}"
    fitting = _counted(value, where_key) if key in COUNTS else _coerced(value, node, where_key)
    parent[key.rpartition(".")[2]] = fitting
    config.stated[key] = where


def _coerced(value: Any, old: Any, where: str) -> Any:
    if isinstance(old, bool) or isinstance(value, bool):
        fits = isinstance(value, bool) and isinstance(old, bool)
    elif isinstance(old, float) and isinstance(value, int):
        return float(value)
    elif isinstance(old, tuple | list) and isinstance(value, tuple | list):
        return type(old)(value)
    else:
        fits = old is None or value is None or type(value) is type(old)
        if isinstance(old, str) and not isinstance(value, str):
            fits = False
    if not fits:
        raise ConfigError(
            f"{where} is {value!r} ({type(value).__name__}), "
            f"expected {type(old).__name__} such as {old!r}."
        )
    return value


def _counted(value: Any, where: str) -> int | tuple[str, ...]:
    """The count for all sets, or "NAME=COUNT" of one set or several."""
    if type(value) is int and value >= 0:
        return value
    entries = (value,) if isinstance(value, str) else value
    if not isinstance(entries, tuple | list) or not all(map(_is_count_of_a_set, entries)):
        raise ConfigError(
            f"{where} is {_show(value)}, expected a count of 0 or more, or the counts of sets such "
            "as 'voc_2007_trainval=3' or ('voc_2007_trainval=3', 'voc_2007_test=1')."
        )
    names = [entry.rpartition("=")[0] for entry in entries]
    if len(set(names)) < len(names):
        raise ConfigError(f"{where} is {_show(value)}: a set stands twice. Keep one count of each.")
    return tuple(entries)


def _is_count_of_a_set(entry: Any) -> bool:
    name, _, count = entry.rpartition("=") if isinstance(entry, str) else ("", "", "")
    return bool(name) and count.isdecimal()


def _counts(value: int | Sequence[str]) -> int | dict[str, int]:
    """The value of a key of `COUNTS`: for all sets, or by name (which may hold a "=" itself)."""
    if isinstance(value, int):
        return value
    parts = (entry.rpartition("=") for entry in value)
    return {name: int(count) for name, _, count in parts}


def check_reference_batch(config: Config) -> None:
    """Scales the schedule to IMS_PER_BATCH as SOLVER.SCALE_LR says (F34).

    Raises:
        ConfigError: the batch differs from REFERENCE_BATCH and nobody decided.
    """
    solver = config.cfg.SOLVER
    if solver.REFERENCE_BATCH <= 0 or solver.IMS_PER_BATCH == solver.REFERENCE_BATCH:
        return
    factor = solver.IMS_PER_BATCH / solver.REFERENCE_BATCH
    scaled = {
        "SOLVER.BASE_LR": solver.BASE_LR * factor,
        "SOLVER.MAX_ITER": round(solver.MAX_ITER / factor),
        "SOLVER.STEPS": tuple(round(s / factor) for s in solver.STEPS),
        "SOLVER.WARMUP_ITERS": round(solver.WARMUP_ITERS / factor),
    }
    if solver.SCALE_LR == "linear":
        source = f"SOLVER.SCALE_LR linear, batch {solver.IMS_PER_BATCH} of {solver.REFERENCE_BATCH}"
        for key, value in scaled.items():
            if config.stated.get(key) != "command line":
                set_key(config.cfg, key, value)
                config.derived[key] = source
    elif solver.SCALE_LR != "keep":
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {solver.IMS_PER_BATCH}, but BASE_LR {solver.BASE_LR} "
            f"belongs to {solver.REFERENCE_BATCH}. Say SOLVER.SCALE_LR linear (BASE_LR "
            f"{scaled['SOLVER.BASE_LR']:g}, MAX_ITER {scaled['SOLVER.MAX_ITER']}) "
            "or SOLVER.SCALE_LR keep."
        )


# -- plain values for classes that never see a config ---------------------------------------

# Names of the families of resdet.nets; a name that is not theirs is a foreign net's.
OWN_NET = re.compile(r"(resnet|plain|vgg|cifar_resnet|cifar_plain)\d+(_bn)?")


def net_options(cfg: Any) -> dict[str, Any]:
    """The options of MODEL.NET that are not left to the family, for `nets.build`.

    Width and stride rule of our own nets are always said, so that cards hold them; to a foreign
    net goes only what somebody set, and it refuses what it does not take.
    """
    net = cfg.MODEL.NET
    options: dict[str, Any] = {"width": net.WIDTH}
    if not net.NAME.startswith("vgg"):
        options["stride_in_1x1"] = net.STRIDE_IN_1X1
    if not OWN_NET.fullmatch(net.NAME):
        unset = {"width": 1.0, "stride_in_1x1": True}
        options = {name: value for name, value in options.items() if value != unset[name]}
    choices = (
        ("shortcut", net.SHORTCUT, ""),
        ("stem", net.STEM, ""),
        ("pools", net.POOLS, 0),
        ("fc_channels", net.FC_CHANNELS, 0),
        ("dropout", net.DROPOUT, -1.0),
        ("pooled_size", net.POOLED_SIZE, 0),
        ("res5_dilation", net.RES5_DILATION, 1),
    )
    return options | {option: value for option, value, off in choices if value != off}


def data_options(cfg: CfgNode) -> dict[str, Any]:
    """How data sets and images are read, for `resdet.data.DataOptions`."""
    data, images = cfg.DATASETS, cfg.INPUT
    return {
        "allow_missing": _counts(data.ALLOW_MISSING),
        "drop_orphans": _counts(data.DROP_ORPHANS),
        "drop_degenerate": _counts(data.DROP_DEGENERATE),
        "clip_boxes": data.CLIP_BOXES,
        "voc_origin": data.VOC_ORIGIN,
        "exif": images.EXIF,
        "sixteen_bit": images.SIXTEEN_BIT,
        "alpha_over": tuple(images.ALPHA_OVER) or None,
        "max_pixels": images.MAX_PIXELS,
    }
