"""Every key of ours, defined once: its meaning, its values, and what "off" is.

With these defaults Detectron2 behaves as without these keys.

Not for: reading a config (`config`), or what the keys do.
"""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode

from resdet.config.localization_keys import add_localization_keys
from resdet.config.paper_keys import add_paper_keys
from resdet.config.recipes.transfer_recipes import RECIPES


def add_keys(cfg: CfgNode) -> None:
    """Our keys on top of Detectron2's, all off."""
    _add_net_keys(cfg)
    _add_engine_keys(cfg)
    _add_test_keys(cfg)
    _add_solver_keys(cfg)
    _add_pretrain_keys(cfg)
    _add_data_keys(cfg)
    add_paper_keys(cfg)
    add_localization_keys(cfg)


def _add_net_keys(cfg: CfgNode) -> None:
    # MODEL.WEIGHTS is Detectron2's: a file of any origin, an address (docs/weights.md), or, of
    # `train_det` and `train_loc`, "auto" (every preset): the run of `pretrain_cls --config
    # imagenet_NET`, else the net's public weights, else refused.

    # Of a file with several nets, the one that is meant: a key that holds its tensors
    # ("model_ema"), a prefix of their names ("encoder_q."), or both ("teacher/backbone."); "." is
    # what lies at the top. "" = off: the file's one net; several are refused by name.
    cfg.MODEL.WEIGHTS_PART = ""

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
    # How often training skips a block (drop path, stochastic depth): the share of the last one, in
    # [0, 1), rising linearly from 0 at the first. Nets of timm that have it; -1 = off: as timm
    # builds the net (0; Swin 0.1).
    net.DROP_PATH = -1.0
    # Cells a side per region for the tail; 0 = the net's own (14 residual, 7 VGG).
    net.POOLED_SIZE = 0
    # 2: res5 stays at the stride of res4 and its 3x3 convolutions are dilated (the DC5 detector).
    # 1 = off. Residual and plain nets only.
    net.RES5_DILATION = 1
    # Side of the square that images are padded to, in pixels, for nets of timm that are built for
    # one size (BEiT, MaxViT, Hiera; docs/timm.md): at least the longest side of an image, a
    # multiple of 32. 0 = off: images of any size. A file's positions are resampled to it.
    net.IMAGE_SIZE = 0
    # What norms add to the variance; 0 = off: the net's own (1e-5 for ours). Set from the card.
    net.NORM_EPS = 0.0
    # Batch norm in detection. "FrozenBN": fixed everywhere (the paper, appendix A); refused where
    # weights are random, and of a net whose norms are others. "BN": live everywhere. "auto":
    # FrozenBN where weights arrive, BN in what is new. Other norms train where their stage does.
    net.NORM = "auto"

    # -- Weights: what must arrive -------------------------------------------------------
    transfer = cfg.TRANSFER = CfgNode()
    # What trains, and how: "frozen" (heads and pyramid on a fixed net), "finetune" (the paper's
    # SGD) or "finetune-vit" (AdamW, rates by depth, a cosine). It sets SOLVER's rate, optimizer and
    # shape of the schedule and MODEL.BACKBONE.FREEZE_AT (`resdet.config.recipes`); length, batch
    # and data stay. "" = off: no key is touched.
    transfer.RECIPE = ""
    # True: MODEL.WEIGHTS may be empty, and the detector then starts from random weights.
    # False = off: an empty MODEL.WEIGHTS is refused.
    transfer.FROM_SCRATCH = False
    # Patterns of net tensors that start fresh although weights are given, e.g. ("res5.*",).
    transfer.NEW = ()
    # Predictors of a whole detector with other classes: "new" (fresh, counted as such) or
    # "by_name" (rows of classes that both have are copied). The same classes always arrive,
    # put in order by name.
    transfer.HEADS = "new"
    # Names of classes for "by_name" beside equal ones and COCO's and VOC's names of the same things
    # (`weights.predictors.SYNONYMS`): "NAME IN THE FILE=NAME HERE", such as ("car=auto",).
    # () = off: those alone.
    transfer.HEAD_NAMES = ()
    # The data set whose classes a foreign detector was trained for; "" = off: the file's.
    transfer.HEAD_CLASSES = ""


def _add_engine_keys(cfg: CfgNode) -> None:
    engine = cfg.ENGINE = CfgNode()
    # Convolutions and linear layers of the net in bfloat16, weights in float32: "off", "on", or
    # "auto" (on where the device has bf16 instructions).
    engine.BF16 = "off"
    # Memory layout of the net's maps: "off", "on", or "auto" (on where bf16 is on).
    engine.CHANNELS_LAST = "off"
    # Detecting with the folded, gathered form of the trained model (`resdet.detect.fast`),
    # in the type set by BF16: the same detections within rounding, faster. "off" or "on".
    engine.FAST_INFERENCE = "off"
    # Detection training with norms folded into weights, regions summed from map cells and a short
    # NMS (`resdet.detect.fast.fast_training`), in the type set by BF16: the same losses and
    # gradients within rounding, faster. "off" or "on".
    engine.FAST_TRAINING = "off"
    # torch's fused SGD step, the same within rounding: "off", "on" (refused where there is none),
    # or "auto" (on where there is one: CPUs and CUDA).
    engine.FUSED_OPTIMIZER = "off"
    # torch.compile of the net for training classifiers, the same within rounding; the first step
    # takes a minute or more: "off" or "on". Detection has FAST_TRAINING and refuses "on".
    engine.COMPILE = "off"
    # Of each block of a classifier in training only the input stays in memory, and the backward
    # pass computes it again: the same numbers, more time. "off" or "on"; detection refuses "on".
    engine.ACTIVATION_CHECKPOINTING = "off"
    # A folder for the maps of a trunk that is frozen as a whole: computed once for each image,
    # read from there in every step, test and further run with the same trunk (`detect.frozen`).
    # Needs INPUT.SQUARE_PAD. "" = off: computed whenever an image is seen.
    engine.TRUNK_CACHE = ""
    # TensorFloat-32 on a GPU, 10 bits of a float32's 23: "off" leaves torch's own setting
    # (convolutions yes, matrix products no), "on" allows it in both, "never" in neither.
    engine.TF32 = "off"
    # True: only algorithms that give the same bits in every run, also on a GPU, where some are
    # slower by far (pooling of regions) and some are missing, which torch then names.
    engine.DETERMINISTIC = False
    # Memory freed in a step stays with the process (`engine.speed.kept_memory`): "off", or "auto"
    # (on where the C library can: glibc). The same numbers, faster on a CPU.
    engine.KEEP_MEMORY = "off"
    # Threads of torch; 0 = torch's own choice.
    engine.THREADS = 0
    # Loader workers of each process. "off": DATALOADER.NUM_WORKERS. "auto": the cores that the
    # net leaves (one core serves a GPU; on a CPU, THREADS), at most 16, and 0 for sets in memory.
    engine.WORKERS = "off"
    # Seconds after which a loader worker that gives no batch stops the training (exit code 3, the
    # state saved). 0 = off: it is waited for, as in Detectron2 (F66).
    engine.WORKER_TIMEOUT = 0.0
    # Seconds for which a training waits for space where the disk is too full for a checkpoint.
    # 0 = off: it stops at once, with exit code 3 (F38). With several processes at most 1,500: they
    # wait for the first one, and give up after 30 minutes.
    engine.DISK_WAIT = 0.0
    # Checkpoints kept beside the final one; at least 2.
    engine.KEEP_CHECKPOINTS = 2
    # True: --resume goes on though the training images or annotations are not those it began with;
    # the run records it.
    engine.ALLOW_CHANGED_DATA = False
    # Images of one process that pass through the net at once; gradients of a step add up, which
    # saves memory. 0 = off: the whole batch. Each part's losses count by its share of the batch,
    # and live batch norm sees its part alone.
    engine.IMAGES_PER_PASS = 0
    # Gradients are scaled down to this total norm; 0 = off.
    engine.CLIP_GRADIENT_NORM = 0.0


def _add_test_keys(cfg: CfgNode) -> None:
    # The best model so far is kept as model_best.safetensors or model_best.pth, by this number:
    # AP or AP50 (the largest) for train_det, top1_error or top5_error (the smallest) for
    # pretrain_cls; of the first test set, or SET/NAME. Measured every TEST.EVAL_PERIOD steps and at
    # the end. "" = off: the last model alone (F37).
    cfg.TEST.BEST_METRIC = ""
    # The training ends when so many evaluations in a row, every TEST.EVAL_PERIOD steps, were not
    # better than the best by TEST.BEST_METRIC, which must be set. 0 = off: at SOLVER.MAX_ITER.
    cfg.TEST.EARLY_STOP = 0
    # True: the detector's losses on the annotated test sets, as in training but without flips and
    # at the test size, every TEST.EVAL_PERIOD steps, in metrics.json and the curves. False = off.
    cfg.TEST.VALIDATION_LOSS = False
    # Of each test set, so many images are scored during training, evenly spread over it and the
    # same each time; their curve bears the number. 0 = off: all. The end scores all in any case.
    cfg.TEST.EVAL_IMAGES = 0
    # Images of each process that are detected on at once. 1 = off, as Detectron2. More suit a GPU;
    # smaller images are padded to the largest, which may change boxes near their edges.
    cfg.TEST.IMS_PER_BATCH = 1


def _add_solver_keys(cfg: CfgNode) -> None:
    # The batch for which BASE_LR, STEPS and MAX_ITER were made; 0 = off. Another IMS_PER_BATCH is
    # refused until SCALE_LR is set (F34).
    cfg.SOLVER.REFERENCE_BATCH = 0
    # "linear": rate, steps and length follow the batch. "keep": left as they are. "" = undecided.
    cfg.SOLVER.SCALE_LR = ""
    # "SGD" = off: Detectron2's, with MOMENTUM and NESTEROV. "AdamW": torch's, betas 0.9 and 0.999.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # The rate of a stage with n stages of the net above it is LAYER_DECAY^(n + 1) times BASE_LR;
    # what is new on top of the net has BASE_LR. Above 0, at most 1; 1 = off.
    cfg.SOLVER.LAYER_DECAY = 1.0
    # Weight decay of position embeddings and tokens of a net of timm, those that timm lists as
    # without decay. None = off: SOLVER.WEIGHT_DECAY, as all weights.
    cfg.SOLVER.WEIGHT_DECAY_EMBED = None
    # Weights and BN statistics averaged over the steps: average = EMA_DECAY * average +
    # (1 - EMA_DECAY) * weights, in every EMA_STEPS-th step, from the end of the warm-up on. The
    # average is what is scored and kept. 0 to below 1; 0 = off.
    cfg.SOLVER.EMA_DECAY = 0.0
    cfg.SOLVER.EMA_STEPS = 1


def _add_pretrain_keys(cfg: CfgNode) -> None:
    pretrain = cfg.PRETRAIN = CfgNode()
    # Names, folders of class folders, wds:PATTERN, hf:NAME:SPLIT (`resdet.data`). TEST may be "".
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
    # Mean image of the training set, subtracted pixel by pixel instead of MODEL.PIXEL_MEAN: "off",
    # "on" (every image must have CROP x CROP pixels, as CIFAR's; PIXEL_MEAN must not be stated).
    pretrain.MEAN_IMAGE = "off"
    # Share of the label that is spread over all classes in the loss, 0 to below 1; 0 = off.
    pretrain.LABEL_SMOOTHING = 0.0
    # alpha of the Beta distribution by which pairs of images are mixed (mixup), or a rectangle of
    # one is put into the other (CutMix); both: one or the other in each step. 0 = off.
    pretrain.MIXUP_ALPHA = 0.0
    pretrain.CUTMIX_ALPHA = 0.0
    # The rate is multiplied by SOLVER.GAMMA when the error does not fall any more, instead of at
    # SOLVER.STEPS (which must be ()). "off", "val" (top-1 error of PRETRAIN.VAL), or "train" (mean
    # top-1 error of the training batches since the last measurement).
    pretrain.PLATEAU = "off"
    # Steps from one measurement of that error to the next, beginning after the warm-up.
    pretrain.PLATEAU_PERIOD = 5000
    # An error counts as lower where it is more than so many points of percent below the lowest.
    pretrain.PLATEAU_THRESHOLD = 0.1
    # Measurements in a row that may not be lower; the next such one lowers the rate.
    pretrain.PLATEAU_PATIENCE = 5
    # The rate stays at SOLVER.WARMUP_FACTOR of itself until the mean top-1 training error of the
    # last 100 steps is below this, in percent (SOLVER.WARMUP_ITERS must be 0). 0 = off.
    pretrain.WARMUP_UNTIL_ERROR = 0.0
    # Training images over which BN statistics are recomputed at the end; 0 = off, -1 = all of them,
    # each once.
    pretrain.BN_IMAGES = 0
    # Decoded images stay in memory when the set needs at most so many MB; 0 = off. Loader workers
    # share the room, each keeping its own: workers 0 suit a cache best (ENGINE.WORKERS auto).
    pretrain.CACHE_MB = 0
    # "on": training crops in less time. Only the part of an image that becomes the crop is resized:
    # the crop of "off" within 2 of 255 levels. Where that part has twice, 4 or 8 times the pixels a
    # side and nothing is cached, its JPEG is decoded so many times smaller: 1 to 2 levels from
    # "off" a value, at most 6 in the mean of a crop. Random draws are those of "off"; test crops
    # are always made the whole way.
    pretrain.SCALED_DECODE = "off"


def _add_data_keys(cfg: CfgNode) -> None:
    data = cfg.DATASETS
    # Faults that may be passed over: listed images without a file (training sets alone),
    # annotations of images that are not there, boxes without area. A number is the exact count in
    # every set that has such faults; "NAME=COUNT", or a list of these, is the exact count in the
    # sets so named, and no other set may have any. 0 = off: refuse (F1, F7, F11).
    data.ALLOW_MISSING = 0
    data.DROP_ORPHANS = 0
    data.DROP_DEGENERATE = 0
    # Objects without a whole mask of their image's size, which are left out (counts as above); read
    # with MODEL.MASK_ON True alone. 0 = off: refuse.
    data.DROP_MASKLESS = 0
    # Boxes that leave the image by at most so many pixels are clipped; 0 = refuse (F12).
    data.CLIP_BOXES = 0.0
    # First pixel of VOC's XML: 1 (VOC) or 0 (many labelling tools) (F13).
    data.VOC_ORIGIN = 1
    # VOC's difficult objects in training: "keep" (Detectron2) or "drop" (py-faster-rcnn) (F15).
    data.VOC_DIFFICULT = "keep"
    # Of the images of ilsvrc_det_train at most so many of each class, evenly spread over its list,
    # as R-CNN took its training images of ILSVRC. 0 = off: all that are positive for a class.
    data.ILSVRC_PER_CLASS = 0
    # EXIF orientation: "apply" (Detectron2) or "ignore" (F30).
    cfg.INPUT.EXIF = "apply"
    # 16-bit images: "refuse", "high_byte", "stretch" (F28).
    cfg.INPUT.SIXTEEN_BIT = "refuse"
    # RGB under a transparent picture, such as (255, 255, 255); () = off: alpha is dropped (F29).
    cfg.INPUT.ALPHA_OVER = ()
    # Larger images are refused (F32).
    cfg.INPUT.MAX_PIXELS = 90_000_000
    # A detector's images are padded to squares of this side, a multiple of 32 that is no less than
    # their longest side, as ViTDet pads them. 0 = off: to the size that the backbone asks for.
    cfg.INPUT.SQUARE_PAD = 0

    evaluation = cfg.EVAL = CfgNode()
    # "d2": IoU > threshold, as Detectron2 and py-faster-rcnn; "devkit": IoU >= threshold (F53).
    evaluation.VOC_STYLE = "d2"
    # What computes a run's COCO numbers: "official", pycocotools; "fast", ours, the same numbers in
    # a tenth of its time and memory, held against pycocotools on a sample of the images each time
    # (a difference refuses the numbers).
    evaluation.ENGINE = "official"
    # True: training images may be test images; the report states it in its title (F6).
    evaluation.ALLOW_LEAK = False
    # Pictures kept in the run folder for the report.
    evaluation.SAMPLES = 12


# Keys that take one of a few words; an unknown word must not mean "off".
ALLOWED: dict[str, tuple[Any, ...]] = {
    "MODEL.NET.NORM": ("auto", "FrozenBN", "BN"),
    "MODEL.NET.RES5_DILATION": (1, 2),
    "MODEL.FPN.FUSE_TYPE": ("sum", "avg"),
    "TRANSFER.RECIPE": ("", *RECIPES),
    "TRANSFER.HEADS": ("new", "by_name"),
    "ENGINE.BF16": ("off", "on", "auto"),
    "ENGINE.CHANNELS_LAST": ("off", "on", "auto"),
    "ENGINE.FAST_INFERENCE": ("off", "on"),
    "ENGINE.FAST_TRAINING": ("off", "on"),
    "ENGINE.FUSED_OPTIMIZER": ("off", "on", "auto"),
    "ENGINE.COMPILE": ("off", "on"),
    "ENGINE.ACTIVATION_CHECKPOINTING": ("off", "on"),
    "ENGINE.TF32": ("off", "on", "never"),
    "ENGINE.KEEP_MEMORY": ("off", "auto"),
    "ENGINE.WORKERS": ("off", "auto"),
    "SOLVER.SCALE_LR": ("", "linear", "keep"),
    "SOLVER.OPTIMIZER": ("SGD", "AdamW"),
    "TEST.BOX_REFINEMENT": ("off", "on"),
    "SOLVER.SCHEME": ("joint", "alternating"),
    "PRETRAIN.AUGMENTATION": ("paper", "area", "pad", "none"),
    "PRETRAIN.SCALED_DECODE": ("off", "on"),
    "PRETRAIN.MEAN_IMAGE": ("off", "on"),
    "PRETRAIN.PLATEAU": ("off", "val", "train"),
    "DATASETS.VOC_DIFFICULT": ("keep", "drop"),
    "LOC.RCNN": ("off", "on"),
    "DATASETS.VOC_ORIGIN": (1, 0),
    # Another one of Detectron2's would be read as RGB.
    "INPUT.FORMAT": ("RGB", "BGR"),
    "INPUT.EXIF": ("apply", "ignore"),
    "INPUT.SIXTEEN_BIT": ("refuse", "high_byte", "stretch"),
    "EVAL.VOC_STYLE": ("d2", "devkit"),
    "EVAL.ENGINE": ("official", "fast"),
}

# Keys that hold one count for all data sets, or the counts of the sets that are named.
COUNTS = (
    "DATASETS.ALLOW_MISSING",
    "DATASETS.DROP_ORPHANS",
    "DATASETS.DROP_DEGENERATE",
    "DATASETS.DROP_MASKLESS",
)

# Keys, or beginnings of keys that end with a dot, that one of the training commands reads, and
# another never; those of train_det that train_loc does not read are in `localization_keys`.
ONLY_OF = {
    "pretrain_cls": ("PRETRAIN.",),
    "train_loc": ("LOC.",),
    "train_det": (
        "MODEL.RPN.",
        "MODEL.ROI_HEADS.",
        "MODEL.ROI_BOX_HEAD.",
        "MODEL.MASK_ON",
        "MODEL.ROI_MASK_HEAD.",
        "INPUT.MASK_FORMAT",
        "INPUT.SQUARE_PAD",
        "ENGINE.TRUNK_CACHE",
        "DATASETS.ALLOW_MISSING",
        "DATASETS.CLIP_BOXES",
        "DATASETS.DROP_DEGENERATE",
        "DATASETS.DROP_MASKLESS",
        "DATASETS.DROP_ORPHANS",
        "DATASETS.ILSVRC_PER_CLASS",
        "DATASETS.VOC_DIFFICULT",
        "DATASETS.VOC_ORIGIN",
        "MODEL.META_ARCHITECTURE",
        "MODEL.NET.NORM",
        "MODEL.ROI_BOX_CASCADE_HEAD.",
        "MODEL.FPN.",
        "MODEL.BACKBONE.",
        "MODEL.ANCHOR_GENERATOR.",
        "MODEL.PROPOSAL_GENERATOR.",
        "MODEL.RESNETS.",
        "MODEL.LOAD_PROPOSALS",
        "DATASETS.TRAIN",
        "DATASETS.TEST",
        "DATASETS.PROPOSAL_FILES_TRAIN",
        "DATASETS.PROPOSAL_FILES_TEST",
        "SOLVER.SCHEME",
        "SOLVER.RPN.",
        "INPUT.MIN_SIZE_TRAIN",
        "INPUT.MIN_SIZE_TRAIN_SAMPLING",
        "INPUT.MIN_SIZE_TEST",
        "INPUT.MAX_SIZE_TRAIN",
        "INPUT.MAX_SIZE_TEST",
        "INPUT.RANDOM_FLIP",
        "EVAL.",
        "TEST.VALIDATION_LOSS",
        "TRANSFER.RECIPE",
        "TRANSFER.HEADS",
        "TRANSFER.HEAD_CLASSES",
        "TRANSFER.HEAD_NAMES",
        "TEST.DETECTIONS_PER_IMAGE",
        "TEST.IMS_PER_BATCH",
        "TEST.BOX_REFINEMENT",
        "TEST.SCALES",
        "TEST.SCALES_MAX_SIZE",
        "TEST.ENSEMBLE",
        "MODEL.REGION_HEADS.",
        "TEST.EXPECTED_RESULTS",
        "ENGINE.FAST_TRAINING",
        "ENGINE.FAST_INFERENCE",
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS",
        "DATALOADER.ASPECT_RATIO_GROUPING",
    ),
}
