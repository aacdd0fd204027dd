"""What becomes of each key of Detectron2: read, refused with what does it here, or without meaning.

`docs/detectron2_keys.md` is made from this table, over the keys of the installed Detectron2.

Not for: keys of ours (`keys`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

READ, REFUSED, NONE = "read", "refused", "no meaning here"


class Fate(NamedTuple):
    """What becomes of a key.

    Attributes:
        kind: `READ`, `REFUSED` (unless it has the value of Detectron2's default) or `NONE`.
        note: what does it here, or why it has no meaning.
    """

    kind: str
    note: str = ""


_LATER = "not built yet"
# Keys, or beginnings of keys that end with a dot; the longest that fits counts.
FATES: dict[str, Fate] = {
    "SOLVER.AMP.ENABLED": Fate(REFUSED, "set ENGINE.BF16 auto: mixed precision is bfloat16 here"),
    "SOLVER.REFERENCE_WORLD_SIZE": Fate(REFUSED, "set SOLVER.REFERENCE_BATCH and SCALE_LR"),
    "MODEL.KEYPOINT_ON": Fate(
        REFUSED, "keypoints are not trained here; without them this detector trains its boxes alone"
    ),
    "TEST.AUG.ENABLED": Fate(REFUSED, f"testing at several scales is {_LATER}"),
    "TEST.PRECISE_BN.ENABLED": Fate(
        REFUSED, "a classifier's statistics are recomputed with PRETRAIN.BN_IMAGES"
    ),
    "INPUT.CROP.ENABLED": Fate(REFUSED, f"crops for detection are {_LATER}"),
    "DATALOADER.SAMPLER_TRAIN": Fate(
        REFUSED,
        f"samplers by class are {_LATER}; with TrainingSampler images come in a seeded order",
    ),
    "VIS_PERIOD": Fate(REFUSED, "EVAL.SAMPLES keeps pictures, which the report shows"),
    "GLOBAL.HACK": Fate(REFUSED, "no code here looks at it"),
    "TEST.AUG.": Fate(NONE, "only with TEST.AUG.ENABLED"),
    "TEST.PRECISE_BN.": Fate(NONE, "only with TEST.PRECISE_BN.ENABLED"),
    "TEST.KEYPOINT_OKS_SIGMAS": Fate(NONE, "only for keypoints"),
    "INPUT.CROP.": Fate(NONE, "only with INPUT.CROP.ENABLED"),
    "DATALOADER.REPEAT_THRESHOLD": Fate(NONE, "only for a sampler by class"),
    "MODEL.ROI_KEYPOINT_HEAD.": Fate(NONE, "only for keypoints"),
    "MODEL.SEM_SEG_HEAD.": Fate(NONE, "only for semantic segmentation"),
    "MODEL.PANOPTIC_FPN.": Fate(NONE, "only for panoptic segmentation"),
    "MODEL.RETINANET.": Fate(NONE, "only for MODEL.META_ARCHITECTURE RetinaNet"),
}


# MODEL.META_ARCHITECTURE: the detectors here (the second is an RPN alone), and what the others are.
DETECTOR, RPN_ALONE = "GeneralizedRCNN", "ProposalNetwork"
_OTHERS_TOOL = (
    "Train it with Detectron2's own tools/train_net.py, and score its results file with resdet "
    "evaluate coco"
)
META_ARCHITECTURES = {
    "RetinaNet": f"RetinaNet, a detector without regions, is {_LATER}. {_OTHERS_TOOL}",
    "FCOS": f"FCOS, a detector without regions, is {_LATER}. {_OTHERS_TOOL}",
    "PanopticFPN": "panoptic segmentation is not trained here. Its boxes are those of "
    "faster_rcnn_R_50_FPN_1x.yaml",
    "SemanticSegmentor": "semantic segmentation has no boxes",
}


def is_stock(cfg: Any) -> bool:
    """Whether the backbone is one of Detectron2's own, be it named or its default."""
    return not cfg.MODEL.NET.NAME and not cfg.MODEL.BACKBONE.NAME.startswith("build_net_")


class Condition(NamedTuple):
    """Keys that the code reads only beside certain values of others.

    Attributes:
        keys: whole, or beginnings that end with a dot.
        holds: of a config: they are read. note: when that is.
    """

    keys: tuple[str, ...]
    holds: Callable[[Any], bool]
    note: str


_BOX_HEAD = tuple(
    f"MODEL.ROI_BOX_HEAD.{name}"
    for name in ("NAME", "NUM_FC", "FC_DIM", "NUM_CONV", "CONV_DIM", "NORM")
)
_MASK_POOLING = tuple(
    f"MODEL.ROI_MASK_HEAD.{name}"
    for name in ("POOLER_RESOLUTION", "POOLER_SAMPLING_RATIO", "POOLER_TYPE")
)
_OF_REGIONS = tuple(
    f"MODEL.ROI_HEADS.{name}"
    for name in ("BATCH_SIZE_PER_IMAGE", "IOU_LABELS", "IOU_THRESHOLDS", "NMS_THRESH_TEST",
                 "POSITIVE_FRACTION", "PROPOSAL_APPEND_GT", "SCORE_THRESH_TEST")
)  # fmt: skip
_CLIPPING = tuple(
    f"SOLVER.CLIP_GRADIENTS.{name}" for name in ("CLIP_TYPE", "CLIP_VALUE", "NORM_TYPE")
)


def _has_schedule(name: str) -> Callable[[Any], bool]:
    return lambda cfg: bool(name == cfg.SOLVER.LR_SCHEDULER_NAME)


# Of Detectron2's main alone, as `ONLY_MAIN`.
ONLY_MAINS_SCHEDULES = {
    "BASE_LR_END": "WarmupCosineLR",
    "NUM_DECAYS": "WarmupStepWithFixedGammaLR",
}
CONDITIONS = (
    Condition(("MODEL.RESNETS.",), is_stock, "only for Detectron2's own ResNet; MODEL.NET is ours"),
    Condition(
        ("MODEL.FPN.",),
        lambda cfg: "fpn" in cfg.MODEL.BACKBONE.NAME,
        "only with a MODEL.BACKBONE.NAME that has a pyramid",
    ),
    Condition(
        _BOX_HEAD,
        lambda cfg: cfg.MODEL.ROI_HEADS.NAME not in ("RegionHeads", "Res5ROIHeads"),
        "only with StandardROIHeads or CascadeROIHeads; else the net's last stage is the head",
    ),
    Condition(
        ("MODEL.ROI_BOX_CASCADE_HEAD.",),
        lambda cfg: cfg.MODEL.ROI_HEADS.NAME == "CascadeROIHeads",
        "only with MODEL.ROI_HEADS.NAME CascadeROIHeads",
    ),
    Condition(
        _MASK_POOLING,
        lambda cfg: (
            cfg.MODEL.MASK_ON and cfg.MODEL.ROI_HEADS.NAME not in ("RegionHeads", "Res5ROIHeads")
        ),
        "only with MODEL.MASK_ON True and StandardROIHeads or CascadeROIHeads; else masks are made "
        "from what the net's last stage gives for the box",
    ),
    Condition(
        ("MODEL.ROI_MASK_HEAD.", "INPUT.MASK_FORMAT"),
        lambda cfg: cfg.MODEL.MASK_ON,
        "only with MODEL.MASK_ON True",
    ),
    Condition(
        ("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO",),
        lambda cfg: cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE != "ROIPool",
        "only for RoIAlign; RoI pooling takes the largest value of each cell",
    ),
    Condition(
        ("MODEL.ANCHOR_GENERATOR.ANGLES",),
        lambda cfg: cfg.MODEL.ANCHOR_GENERATOR.NAME == "RotatedAnchorGenerator",
        "only for rotated anchors",
    ),
    Condition(
        ("SOLVER.STEPS",),
        lambda cfg: cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupMultiStepLR",
        "only with SOLVER.LR_SCHEDULER_NAME WarmupMultiStepLR",
    ),
    Condition(
        ("SOLVER.GAMMA",),
        lambda cfg: cfg.SOLVER.LR_SCHEDULER_NAME != "WarmupCosineLR",
        "only where the rate falls in steps",
    ),
    *(
        Condition(
            (f"SOLVER.{name}",),
            _has_schedule(schedule),
            f"only with SOLVER.LR_SCHEDULER_NAME {schedule}",
        )
        for name, schedule in ONLY_MAINS_SCHEDULES.items()
    ),
    Condition(
        ("SOLVER.WARMUP_FACTOR", "SOLVER.WARMUP_METHOD"),
        lambda cfg: cfg.SOLVER.WARMUP_ITERS > 0,
        "only with SOLVER.WARMUP_ITERS above 0",
    ),
    Condition(
        ("SOLVER.MOMENTUM", "SOLVER.NESTEROV"),
        lambda cfg: cfg.SOLVER.OPTIMIZER == "SGD",
        "only with SOLVER.OPTIMIZER SGD",
    ),
    Condition(
        _CLIPPING,
        lambda cfg: cfg.SOLVER.CLIP_GRADIENTS.ENABLED,
        "only with SOLVER.CLIP_GRADIENTS.ENABLED True",
    ),
    Condition(
        (
            "DATASETS.PROPOSAL_FILES_TRAIN",
            "DATASETS.PROPOSAL_FILES_TEST",
            "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN",
            "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST",
        ),
        lambda cfg: cfg.MODEL.LOAD_PROPOSALS,
        "only with MODEL.LOAD_PROPOSALS True",
    ),
    Condition(
        # NAME and IN_FEATURES decide which of the net's maps an RPN takes.
        (*_OF_REGIONS, "MODEL.MASK_ON", "MODEL.ROI_BOX_HEAD.", "MODEL.ROI_BOX_CASCADE_HEAD."),
        lambda cfg: cfg.MODEL.META_ARCHITECTURE != RPN_ALONE,
        "only with region heads: MODEL.META_ARCHITECTURE ProposalNetwork has none",
    ),
    Condition(
        ("MODEL.RPN.", "MODEL.ANCHOR_GENERATOR."),
        lambda cfg: not cfg.MODEL.LOAD_PROPOSALS,
        "only with an RPN: MODEL.LOAD_PROPOSALS True has none",
    ),
)


# Of Detectron2's main alone, by its last name, as 0.6 does not have the key.
_SOFTMAX = "the region head here has the softmax of the paper, over classes and background"
PRECISION = "FLOAT32_PRECISION"
ONLY_MAIN = {
    "REPEAT_SQRT": Fate(NONE, "only for a sampler by class"),
    PRECISION: Fate(REFUSED, "set ENGINE.TF32"),
    "RESCALE_INTERVAL": Fate(REFUSED, "the rate after the warm-up is that of its step"),
    "USE_SIGMOID_CE": Fate(REFUSED, _SOFTMAX),
    "USE_FED_LOSS": Fate(REFUSED, _SOFTMAX),
    "FED_LOSS_FREQ_WEIGHT_POWER": Fate(NONE, "only with USE_FED_LOSS True"),
    "FED_LOSS_NUM_CLASSES": Fate(NONE, "only with USE_FED_LOSS True"),
}


def fate_of(key: str, cfg: Any = None) -> Fate:
    """Of any key; those that no entry names are read.

    Args:
        cfg: the config around it, for keys that are read beside certain values of others alone.
            Without it they are read, with that as their note.
    """
    if key == PRECISION and cfg is not None and cfg.FLOAT32_PRECISION == "highest":
        # Torch's own setting for products of matrices, and Detectron2's own accuracy tests.
        on = cfg.ENGINE.TF32 == "on"
        return Fate(REFUSED, "ENGINE.TF32 is on") if on else Fate(READ, "so it is without TF32")
    if (name := key.rpartition(".")[2]) in ONLY_MAIN:
        return ONLY_MAIN[name]
    fits = [name for name in FATES if _fits(name, key)]
    if fits:
        return FATES[max(fits, key=len)]
    mine = [c for c in CONDITIONS if any(_fits(name, key) for name in c.keys)]
    for condition in mine if cfg is not None else ():
        if not condition.holds(cfg):
            return Fate(NONE, condition.note)
    return Fate(READ, mine[0].note if mine else "")


def _fits(name: str, key: str) -> bool:
    return key == name or (name[-1] == "." and key.startswith(name))
