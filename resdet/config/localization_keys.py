"""Keys of ImageNet's localisation (He et al. 2015, appendix C), read by `train_loc` alone.

Not for: the other keys (`keys`), or what these do (`resdet.detect.localization`).
"""

from __future__ import annotations

from detectron2.config import CfgNode

# Other commands' keys, or beginnings of them that end with a dot, that `train_loc` has no use for;
# those of MODEL.RPN, MODEL.ANCHOR_GENERATOR and MODEL.BACKBONE.FREEZE_AT it reads.
NOT_READ = (
    "PRETRAIN.", "TRANSFER.HEADS", "TRANSFER.HEAD_CLASSES", "MODEL.ROI_HEADS.",
    "MODEL.ROI_BOX_HEAD.", "MODEL.ROI_MASK_HEAD.", "MODEL.ROI_KEYPOINT_HEAD.", "MODEL.FPN.",
    "MODEL.RESNETS.", "MODEL.META_ARCHITECTURE", "MODEL.BACKBONE.NAME", "MODEL.PROPOSAL_GENERATOR.",
    "MODEL.MASK_ON", "MODEL.RPN.HEAD_NAME", "MODEL.RPN.CONV_DIMS", "MODEL.RPN.BATCH_SIZE_PER_IMAGE",
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "MODEL.RPN.PRE_NMS_TOPK_TEST", "MODEL.RPN.POST_NMS_TOPK_TRAIN",
    "MODEL.RPN.POST_NMS_TOPK_TEST", "MODEL.RPN.BBOX_REG_LOSS_TYPE", "MODEL.RPN.LOSS_WEIGHT",
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT", "MODEL.RPN.IN_FEATURES", "MODEL.RPN.POSITIVE_FRACTION",
    "INPUT.MIN_SIZE_TRAIN", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "INPUT.MIN_SIZE_TEST",
    "INPUT.MAX_SIZE_TRAIN", "INPUT.MAX_SIZE_TEST",
    "INPUT.SQUARE_PAD", "ENGINE.TRUNK_CACHE", "INPUT.CROP.", "TEST.", "EVAL.VOC_STYLE",
    "EVAL.ENGINE", "EVAL.SAMPLES",
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS",
    "DATALOADER.ASPECT_RATIO_GROUPING", "ENGINE.FAST_INFERENCE", "ENGINE.FAST_TRAINING",
    "ENGINE.COMPILE", "ENGINE.ACTIVATION_CHECKPOINTING", "DATASETS.VOC_DIFFICULT",
    "DATASETS.VOC_ORIGIN", "DATASETS.ILSVRC_PER_CLASS", "DATASETS.DROP_MASKLESS",
    "DATASETS.PROPOSAL_FILES_TRAIN", "DATASETS.PROPOSAL_FILES_TEST",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN", "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST",
    "MODEL.LOAD_PROPOSALS", "MODEL.ROI_BOX_CASCADE_HEAD.", "INPUT.MASK_FORMAT",
    "TRANSFER.HEAD_NAMES", "TRANSFER.RECIPE", "SOLVER.SCHEME", "SOLVER.RPN.", "SOLVER.OPTIMIZER",
    "SOLVER.LAYER_DECAY", "SOLVER.EMA_DECAY", "SOLVER.EMA_STEPS", "SOLVER.WEIGHT_DECAY_EMBED",
    "MODEL.NET.DROP_PATH", "MODEL.REGION_HEADS.",
)  # fmt: skip


def add_localization_keys(cfg: CfgNode) -> None:
    """The keys; each off or as the paper has it."""
    loc = cfg.LOC = CfgNode()
    # Side of the square crops that train, and of the regions that the second net takes, in pixels.
    loc.CROP = 224
    # Shorter side of a training image before its random crop, uniform in this range, in pixels.
    loc.JITTER = (256, 480)
    # Shorter side before the centre crop of the test "centre", in pixels.
    loc.TEST_SIDE = 256
    # The stage that the per-class RPN stands on; "" = off: the net's last one.
    loc.STAGE = ""
    # Channels of the RPN's 3x3 convolution before its two siblings.
    loc.HIDDEN = 512
    # Anchors of each image that train, positive and negative ones 1:1 as far as there are any.
    loc.ANCHORS_PER_IMAGE = 8
    # Best proposals of a class that an image keeps, after NMS at MODEL.RPN.NMS_THRESH.
    loc.PROPOSALS = 200
    # How images are tested: "centre" (one crop), "dense" (whole images of all LOC.SIZES), or both.
    loc.TEST = ("centre",)
    # Shorter sides of "dense", in pixels.
    loc.SIZES = (224, 256, 384, 480, 640)
    # A file of class scores (`evaluate cls`) on the test images, whose five best classes are
    # localised, too. "" = off: the known class alone.
    loc.SCORES = ""
    # The second net, R-CNN on warped proposals, that gives them new scores and boxes: "off", "on".
    loc.RCNN = "off"
    # Its steps; 0 = off: SOLVER.MAX_ITER. SOLVER.STEPS are those of both.
    loc.RCNN_ITERS = 0
    # Regions that it tests at once.
    loc.RCNN_BATCH = 64
