"""Every number of the detectors' presets: the paper's protocol, and Detectron2's model zoo."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("detectron2")


from resdet.config import check_reference_batch, flatten, get_key, resolve
from resdet.detect.architecture.model import fill_from_weights_and_net
from tests.support.preset_files import (
    ALTERNATING_LEAVES,
    CONFIGS,
    DC5_LEAVES,
    FPN_LEAVES,
    MASK_LEAVES,
    MODERN_LEAVES,
    PAPER_LEAVES,
    of,
)

# -- the paper's protocol, number by number -----------------------------------------------------

# paper: stated in He et al. 2015 or Faster R-CNN (arXiv:1506.01497); code: py-faster-rcnn's.
PAPER_DETECTOR: dict[str, Any] = {
    # paper: shorter side 600 in training and test, one scale; code: longer side at most 1000.
    "INPUT.MIN_SIZE_TRAIN": (600,),
    "INPUT.MIN_SIZE_TEST": 600,
    "INPUT.MAX_SIZE_TRAIN": 1000,
    "INPUT.MAX_SIZE_TEST": 1000,
    # code: every image mirrored as well.
    "INPUT.RANDOM_FLIP": "horizontal",
    # 2.6: as stock; without a card. Weights bring their own.
    "INPUT.FORMAT": "BGR",
    "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
    "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    # code: conv1_1 to conv2_2 of VGG do not train; 2.6: stem and res2.
    "MODEL.BACKBONE.FREEZE_AT": 2,
    # paper: ratios 1:1, 1:2, 2:1; nothing that crosses the border is trained on.
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.ANCHOR_GENERATOR.OFFSET": 0.5,
    "MODEL.RPN.BOUNDARY_THRESH": 0,
    # VGG's width in paper and code; ResNet's is not stated.
    "MODEL.RPN.CONV_DIMS": [512],
    # paper: positive above 0.7, negative below 0.3; 256 anchors of an image, up to 1:1.
    "MODEL.RPN.IOU_THRESHOLDS": [0.3, 0.7],
    "MODEL.RPN.IOU_LABELS": [0, -1, 1],
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 256,
    "MODEL.RPN.POSITIVE_FRACTION": 0.5,
    # code: smooth L1 with sigma 3, so beta 1 / 9, over 256: the paper's lambda 10 over 2400.
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.RPN.SMOOTH_L1_BETA": 0.1111,
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 1.0,
    "MODEL.RPN.LOSS_WEIGHT": 1.0,
    "MODEL.RPN.BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0),
    # paper: NMS 0.7, 2000 in training, 300 in test; code: of 12000 and 6000.
    "MODEL.RPN.NMS_THRESH": 0.7,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 12000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 300,
    # paper: 128 regions of 2 images, so 64 of each; Fast R-CNN: a quarter from 0.5 up.
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
    # COCO's rule in the paper, code's for all: background is everything below 0.5.
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.5],
    "MODEL.ROI_HEADS.IOU_LABELS": [0, 1],
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": True,
    # paper: max pooling. code: deviations 0.1, 0.1, 0.2, 0.2; sigma 1; a box for each class.
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIPool",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 1.0,
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": False,
    # code: scores above 0.05, NMS 0.3, at most 100.
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3,
    "TEST.DETECTIONS_PER_IMAGE": 100,
    # paper: momentum 0.9, decay 5e-4; code: biases at twice the rate and decayed, steps of 0.1.
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.NESTEROV": False,
    "SOLVER.WEIGHT_DECAY": 0.0005,
    "SOLVER.WEIGHT_DECAY_BIAS": None,
    "SOLVER.BIAS_LR_FACTOR": 2.0,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    # 2.6: Detectron2's warm-up is kept.
    "SOLVER.WARMUP_METHOD": "linear",
    "SOLVER.WARMUP_FACTOR": 0.001,
}

PAPER_VOC: dict[str, Any] = {
    # paper: three scales, 9 anchors; 2 images a step at 0.001.
    "MODEL.ANCHOR_GENERATOR.SIZES": [[128, 256, 512]],
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.REFERENCE_BATCH": 2,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.WARMUP_ITERS": 100,
    "ENGINE.IMAGES_PER_PASS": 0,
    # code: difficult objects are not trained on.
    "DATASETS.VOC_DIFFICULT": "drop",
}

VOC07, VOC07_TEST, VOC12 = "voc_2007_trainval", "voc_2007_test", "voc_2012_trainval"
PAPER: dict[str, dict[str, Any]] = {
    # code: 70k steps, one drop after 50k.
    "voc07": {
        **PAPER_VOC,
        "DATASETS.TRAIN": (VOC07,),
        "DATASETS.TEST": (VOC07_TEST,),
        "SOLVER.STEPS": (50_000,),
        "SOLVER.MAX_ITER": 70_000,
    },
    # 2.6: one drop at 70 %, end at 17 to 28 epochs; the papers give no number.
    "voc0712": {
        **PAPER_VOC,
        "DATASETS.TRAIN": (VOC07, VOC12),
        "DATASETS.TEST": (VOC07_TEST,),
        "SOLVER.STEPS": (112_000,),
        "SOLVER.MAX_ITER": 160_000,
    },
    "voc0712pp": {
        **PAPER_VOC,
        "DATASETS.TRAIN": (VOC07, VOC07_TEST, VOC12),
        "DATASETS.TEST": (),
        "SOLVER.STEPS": (140_000,),
        "SOLVER.MAX_ITER": 200_000,
    },
    # paper: a scale more; 16 images a step, 240k and 80k steps. 2.6: 0.001 for 2 images is 0.008.
    "coco": {
        "MODEL.ANCHOR_GENERATOR.SIZES": [[64, 128, 256, 512]],
        "SOLVER.IMS_PER_BATCH": 16,
        "SOLVER.REFERENCE_BATCH": 16,
        "SOLVER.BASE_LR": 0.008,
        "SOLVER.WARMUP_ITERS": 1000,
        "ENGINE.IMAGES_PER_PASS": 2,
        "DATASETS.VOC_DIFFICULT": "keep",
        "DATASETS.TRAIN": ("coco_2014_train",),
        "DATASETS.TEST": ("coco_2014_val",),
        "SOLVER.STEPS": (240_000,),
        "SOLVER.MAX_ITER": 320_000,
    },
}
# Images to train on, as the sets' makers state; COCO's modern set is train2017.
IMAGES = {"voc07": 5_011, "voc0712": 16_551, "voc0712pp": 21_503, "coco": 82_783}
EPOCHS = {"voc07": (27.9, 28.0), "voc0712": (17, 28), "voc0712pp": (17, 28), "coco": (61.8, 61.9)}

# Ours, and no number of a protocol: how a net gets into the detector, and where it runs.
OURS = {
    "MODEL.BACKBONE.NAME",
    "MODEL.DEVICE",
    "MODEL.META_ARCHITECTURE",
    "MODEL.NET.NAME",
    "MODEL.NET.NORM",
    "MODEL.ROI_HEADS.NAME",
    "MODEL.WEIGHTS",
    "SEED",
    "VERSION",
}


@pytest.mark.parametrize("path", PAPER_LEAVES, ids=lambda p: p.stem)
def test_a_paper_preset_has_every_number_of_the_papers_protocol(path):
    """The table above: He et al. 2015, Faster R-CNN, py-faster-rcnn."""
    table = PAPER_DETECTOR | PAPER[path.stem.split("_")[0]]
    assert of(table, path) == table


@pytest.mark.parametrize("path", PAPER_LEAVES, ids=lambda p: p.stem)
def test_a_paper_preset_states_nothing_that_the_table_does_not_know(path):
    """A key without a source would be a number that nobody looked up."""
    table = PAPER_DETECTOR | PAPER[path.stem.split("_")[0]]
    assert set(resolve(path).stated) - set(table) - OURS == set()


@pytest.mark.parametrize("protocol", PAPER)
def test_a_paper_schedule_has_its_epochs_and_states_so(protocol):
    """2.5: passes over the training images; the base file's first line has the same number."""
    table = PAPER[protocol]
    epochs = table["SOLVER.MAX_ITER"] * table["SOLVER.IMS_PER_BATCH"] / IMAGES[protocol]
    low, high = EPOCHS[protocol]
    assert low <= epochs <= high
    # 112k of 160k, 50k of 70k, 240k of 320k.
    assert 0.7 <= table["SOLVER.STEPS"][0] / table["SOLVER.MAX_ITER"] <= 0.75
    preset = (CONFIGS / "base" / f"{protocol}_paper.yaml").read_text(encoding="utf-8")
    assert f"({epochs:.1f} epochs," in preset


# -- the four alternating steps -----------------------------------------------------------------

# paper and code: 2 images (COCO 16) for Fast R-CNN, 1 (COCO 8) for RPN, 0.001 for all; alt_opt.
VOC_STEPS: dict[str, Any] = {
    "SOLVER.SCHEME": "alternating",
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.RPN.IMS_PER_BATCH": 1,
    "SOLVER.RPN.BASE_LR": 0.001,
    "SOLVER.RPN.MAX_ITER": 80_000,
    "SOLVER.RPN.STEPS": (60_000,),
    # code: no cut before NMS, 2,000 after.
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 1_000_000,
}
FOUR_STEPS: dict[str, dict[str, Any]] = {
    # code: 30k and 40k for Fast R-CNN, 60k and 80k for RPN.
    "voc07": {**VOC_STEPS, "SOLVER.STEPS": (30_000,), "SOLVER.MAX_ITER": 40_000},
    # MATLAB's solver 30k60k.
    "voc0712": {**VOC_STEPS, "SOLVER.STEPS": (30_000,), "SOLVER.MAX_ITER": 60_000},
    # Fast R-CNN: 100k with steps of 40k.
    "voc0712pp": {**VOC_STEPS, "SOLVER.STEPS": (40_000, 80_000), "SOLVER.MAX_ITER": 100_000},
    # paper, appendix A: 240k and 80k.
    "coco": {
        **VOC_STEPS,
        "SOLVER.STEPS": (240_000,),
        "SOLVER.MAX_ITER": 320_000,
        "SOLVER.RPN.IMS_PER_BATCH": 8,
        "SOLVER.RPN.MAX_ITER": 320_000,
        "SOLVER.RPN.STEPS": (240_000,),
    },
}


@pytest.mark.parametrize("path", ALTERNATING_LEAVES, ids=lambda p: p.stem)
def test_four_steps_have_the_papers_detector_and_every_number_of_theirs(path):
    """Nothing is stated beyond them; the detector is that of the joint presets."""
    data = path.stem.split("_")[0]
    table = PAPER_DETECTOR | PAPER[data] | FOUR_STEPS[data]
    assert of(table, path) == table
    assert set(resolve(path).stated) - set(table) - OURS == set()


def test_another_batch_scales_both_schedules_by_the_linear_rule():
    """F34: four times the images for Fast R-CNN are four times the RPN's, too."""
    path = next(p for p in ALTERNATING_LEAVES if p.stem == "voc07_vgg16_alternating")
    config = resolve(path, ["SOLVER.IMS_PER_BATCH", "8", "SOLVER.SCALE_LR", "linear"])
    check_reference_batch(config)
    solver = config.cfg.SOLVER
    assert (solver.BASE_LR, solver.MAX_ITER, solver.STEPS) == (0.004, 10_000, (7_500,))
    rpn = solver.RPN
    assert (rpn.IMS_PER_BATCH, rpn.BASE_LR, rpn.MAX_ITER, rpn.STEPS) == (
        4,
        0.004,
        20_000,
        (15_000,),
    )


# -- the modern protocol: Detectron2's model zoo -------------------------------------------------

ZOO = {
    ("coco", "modern"): "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml",
    ("coco", "fpn"): "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    ("coco", "dc5"): "COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml",
    ("voc", "modern"): "PascalVOC-Detection/faster_rcnn_R_50_C4.yaml",
    ("voc", "fpn"): "PascalVOC-Detection/faster_rcnn_R_50_FPN.yaml",
}
# Stock has the net's own weights and classes in its config; ours come from elsewhere. Its net has
# keys of its own, and masks are off.
FROM_ELSEWHERE = {
    "MODEL.WEIGHTS",
    "MODEL.ROI_HEADS.NUM_CLASSES",
    "MODEL.RESNETS.OUT_FEATURES",
    "MODEL.RESNETS.RES5_DILATION",
    "MODEL.ROI_MASK_HEAD.NUM_CONV",
}
# VGG's stages have other names, and its pyramid three of them.
OF_VGG = {"MODEL.FPN.IN_FEATURES": ["conv3", "conv4", "conv5"]}
ENGINE = {"ENGINE.IMAGES_PER_PASS": 2, "SOLVER.REFERENCE_BATCH": 16}
MODERN_DATA: dict[str, dict[str, Any]] = {
    "coco": {},
    "voc0712": {},
    # Not in the zoo: the same recipe for the same number of epochs, drops at 2/3 and 8/9.
    "voc07": {
        "DATASETS.TRAIN": (VOC07,),
        "SOLVER.STEPS": (3700, 4900),
        "SOLVER.MAX_ITER": 5500,
    },
    "voc0712pp": {
        "DATASETS.TRAIN": (VOC07, VOC07_TEST, VOC12),
        "DATASETS.TEST": (),
        "SOLVER.STEPS": (15_600, 20_800),
        "SOLVER.MAX_ITER": 23_400,
    },
}


def expected_of_zoo(path: Path) -> dict[str, Any]:
    """Every key of the file that Detectron2 ships, and what is ours beside it."""
    zoo = pytest.importorskip("detectron2.model_zoo")
    protocol, net, recipe = path.stem.split("_")
    stock = zoo.get_config_file(ZOO["coco" if protocol == "coco" else "voc", recipe])
    expected = dict(flatten(resolve(stock).cfg)) | ENGINE | MODERN_DATA[protocol]
    expected["MODEL.NET.RES5_DILATION"] = expected["MODEL.RESNETS.RES5_DILATION"]
    if recipe == "fpn" and net == "vgg16":
        expected |= OF_VGG
    return expected


@pytest.mark.parametrize("path", MODERN_LEAVES, ids=lambda p: p.stem)
def test_a_modern_preset_is_the_zoos_in_every_key(path):
    """Against the files that Detectron2 ships, in all keys that stock Detectron2 has, and ours."""
    expected = expected_of_zoo(path)
    ours = of(expected, path)
    assert {k for k in ours if ours[k] != expected[k]} - FROM_ELSEWHERE - OURS == set()
    assert len(expected) > 200


@pytest.mark.parametrize("path", [*FPN_LEAVES, *DC5_LEAVES], ids=lambda p: p.stem)
def test_an_fpn_or_dc5_preset_is_the_zoos_in_every_key(path):
    """The same, once the net has named which maps are taken: res5, or p2 to p6 on which stages."""
    expected = expected_of_zoo(path)
    config = resolve(path, ["MODEL.WEIGHTS", "x"])
    check_reference_batch(config)
    fill_from_weights_and_net(config, None)
    ours = {key: get_key(config.cfg, key) for key in expected}
    # Of the keys that are ours, two choose the detector; here they are looked at.
    assert ours["MODEL.ROI_HEADS.NAME"] == "StandardROIHeads"
    builder = "build_net_fpn_backbone" if path in FPN_LEAVES else "build_net_backbone"
    assert ours["MODEL.BACKBONE.NAME"] == builder
    assert {k for k in ours if ours[k] != expected[k]} - FROM_ELSEWHERE - OURS == set()
    assert len(expected) > 200


@pytest.mark.parametrize("path", MASK_LEAVES, ids=lambda p: p.stem)
def test_a_preset_with_masks_is_the_zoos_in_every_key(path):
    """mask_rcnn_R_50_C4_1x.yaml and its FPN, the mask head's keys among them."""
    _, net, kind, _ = path.stem.split("_")
    zoo = pytest.importorskip("detectron2.model_zoo")
    name = f"COCO-InstanceSegmentation/mask_rcnn_R_50_{kind.upper()}_1x.yaml"
    expected = dict(flatten(resolve(zoo.get_config_file(name)).cfg)) | ENGINE
    expected |= OF_VGG if net == "vgg16" else {}
    config = resolve(path, ["MODEL.WEIGHTS", "x"])
    check_reference_batch(config)
    fill_from_weights_and_net(config, None)
    ours = {key: get_key(config.cfg, key) for key in expected}
    of_net = FROM_ELSEWHERE - {"MODEL.ROI_MASK_HEAD.NUM_CONV"}
    assert {k for k in ours if ours[k] != expected[k]} - of_net - OURS == set()
    assert ours["MODEL.MASK_ON"] is expected["MODEL.MASK_ON"] is True
    assert ours["MODEL.ROI_MASK_HEAD.NUM_CONV"] == (4 if kind == "fpn" else 0)


# Base-RCNN-FPN.yaml, Base-RCNN-DilatedC5.yaml and what lies on them, number by number.
ONE_TIMES: dict[str, Any] = {
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.BASE_LR": 0.02,
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 1024,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
}
FPN: dict[str, Any] = ONE_TIMES | {
    "MODEL.FPN.OUT_CHANNELS": 256,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
}
DC5: dict[str, Any] = ONE_TIMES | {
    "MODEL.NET.RES5_DILATION": 2,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 12_000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
}
STOCK_SETS: dict[str, dict[str, Any]] = {
    "coco": {
        "DATASETS.TRAIN": ("coco_2017_train",),
        "DATASETS.TEST": ("coco_2017_val",),
        "INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800),
        "SOLVER.STEPS": (60_000, 80_000),
        "SOLVER.MAX_ITER": 90_000,
        "SOLVER.WARMUP_ITERS": 1000,
    },
    "voc0712": {
        "DATASETS.TRAIN": (VOC07, VOC12),
        "DATASETS.TEST": (VOC07_TEST,),
        "INPUT.MIN_SIZE_TRAIN": (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800),
        "INPUT.MIN_SIZE_TEST": 800,
        "SOLVER.STEPS": (12_000, 16_000),
        "SOLVER.MAX_ITER": 18_000,
        "SOLVER.WARMUP_ITERS": 100,
    },
}
STOCK_SETS["voc07"] = STOCK_SETS["voc0712"] | MODERN_DATA["voc07"]


@pytest.mark.parametrize("path", [*FPN_LEAVES, *DC5_LEAVES], ids=lambda p: p.stem)
def test_an_fpn_or_dc5_preset_has_the_numbers_of_detectron2s_files(path):
    """Written out, so that a Detectron2 that changes its files cannot change ours unseen."""
    table = (FPN if path in FPN_LEAVES else DC5) | STOCK_SETS[path.stem.split("_")[0]]
    assert of(table, path) == table


@pytest.mark.parametrize("protocol", ["voc07", "voc0712pp"])
def test_a_modern_schedule_that_is_not_in_the_zoo_has_the_zoos_epochs(protocol):
    """The zoo's own comment: 18k steps of 16 over 16,551 images are 17.4 epochs."""
    table = MODERN_DATA[protocol]
    epochs = table["SOLVER.MAX_ITER"] * 16 / IMAGES[protocol]
    assert epochs == pytest.approx(18_000 * 16 / IMAGES["voc0712"], rel=0.01)
    drops = [step / table["SOLVER.MAX_ITER"] for step in table["SOLVER.STEPS"]]
    assert drops == pytest.approx([2 / 3, 8 / 9], rel=0.01)
