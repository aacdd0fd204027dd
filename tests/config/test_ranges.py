"""Every value that would hang, crash later or mean nothing is refused at the start, all at once."""

import pytest

pytest.importorskip("detectron2")

from resdet.config import detectron2_keys as table
from resdet.config import get_cfg, get_key, refuse_keys_of_other, resolve
from resdet.config.config import flatten, unread
from resdet.config.key_checks.ranges import RANGES, schedulers
from resdet.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SOLVER.IMS_PER_BATCH", "0"), ("SOLVER.BASE_LR", "-1"), ("SOLVER.BASE_LR", ".nan"),
        ("SOLVER.BASE_LR", ".inf"), ("SOLVER.MAX_ITER", "-5"), ("SOLVER.MAX_ITER", "0"),
        ("SOLVER.MOMENTUM", "-0.9"), ("SOLVER.MOMENTUM", "1"), ("SOLVER.STEPS", "(30, 20)"),
        ("SOLVER.LR_SCHEDULER_NAME", "Cosine"), ("SOLVER.WARMUP_METHOD", "cubic"),
        ("DATALOADER.NUM_WORKERS", "-3"), ("SEED", str(2**70)), ("SEED", "-2"), ("VERSION", "99"),
        ("MODEL.PIXEL_STD", "[0, 1, 1]"), ("MODEL.PIXEL_STD", "[1, 1]"),
        ("MODEL.PIXEL_MEAN", "[1, 2]"), ("MODEL.PIXEL_MEAN", "['a', 'b', 'c']"),
        ("INPUT.MIN_SIZE_TRAIN", "()"), ("INPUT.MIN_SIZE_TRAIN", "(0,)"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[[]]"), ("MODEL.ANCHOR_GENERATOR.SIZES", "[]"),
        ("MODEL.DEVICE", "tpu"), ("DATASETS.TRAIN", "(5,)"), ("DATASETS.TEST", "('',)"),
        ("EVAL.SAMPLES", "-1"), ("ENGINE.THREADS", "-1"), ("ENGINE.THREADS", "1000000"),
        ("ENGINE.IMAGES_PER_PASS", "-3"), ("ENGINE.KEEP_CHECKPOINTS", "1"),
        ("ENGINE.CLIP_GRADIENT_NORM", "-1"),
        ("MODEL.ROI_HEADS.POSITIVE_FRACTION", "1.5"), ("MODEL.RPN.NMS_THRESH", "-0.1"),
        ("PRETRAIN.JITTER", "(256,)"), ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "-1.0"), ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", "0.0"),
    ],
)  # fmt: skip
def test_a_value_outside_its_range_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"command line: {key} (is|has) .*, expected"):
        resolve(None, [key, value])


@pytest.mark.parametrize("sides", ["(600,)", "(800, 600)", "(480, 600, 800)"])
def test_a_range_of_sides_has_two_ends(sides: str) -> None:
    """Detectron2 asserts their number, and draws from them in a data worker."""
    opts = ["INPUT.MIN_SIZE_TRAIN", sides]
    resolve(None, opts)
    with pytest.raises(ConfigError, match=r"MIN_SIZE_TRAIN is .*, expected its two ends, the sm"):
        resolve(None, [*opts, "INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"])
    resolve(None, ["INPUT.MIN_SIZE_TRAIN", "(640, 800)", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"])


def test_all_faults_are_on_one_page() -> None:
    with pytest.raises(ConfigError) as error:
        resolve(None, ["SOLVER.BASE_LR", "-1", "SEED", "-7", "SOLVER.AMP.ENABLED", "True"])
    assert len(str(error.value).splitlines()) == 3


def test_the_defaults_are_within_their_ranges_and_each_key_exists() -> None:
    resolve(None)
    known = {key for key, _ in flatten(get_cfg())}
    assert set(RANGES) <= known and len(RANGES) > 45


def test_schedulers_are_those_that_detectron2_builds() -> None:
    """0.6 has two; main has a third. Each is built, and another is what Detectron2 refuses."""
    import torch
    from detectron2.solver import build_lr_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1)], 0.1)
    for name in schedulers():
        cfg = resolve(None, ["SOLVER.LR_SCHEDULER_NAME", name]).cfg
        build_lr_scheduler(cfg, optimizer)
    assert len(schedulers()) in (2, 3)


# -- keys that nothing reads -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        # F50: no float16, so no scale of the loss that could collapse.
        ("SOLVER.AMP.ENABLED", "True", "is not read: set ENGINE.BF16 auto"),
        ("MODEL.KEYPOINT_ON", "True", "is not read: keypoints are not trained here"),
        ("TEST.AUG.ENABLED", "True", "is not read: testing at several scales"),
        ("INPUT.CROP.ENABLED", "True", "is not read"),
        ("TEST.PRECISE_BN.ENABLED", "True", "PRETRAIN.BN_IMAGES"),
        ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "samplers by class"),
        ("MODEL.RETINANET.NUM_CONVS", "3", "is without meaning here: only for MODEL.META_ARCH"),
        ("DATALOADER.REPEAT_THRESHOLD", "0.1", "is without meaning here"),
        ("VIS_PERIOD", "100", "EVAL.SAMPLES"),
    ],
)
def test_a_key_that_nothing_reads_is_refused(key: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"command line: {key} .*{words}.*Leave it out"):
        resolve(None, [key, value])
    # Detectron2's default, as stock files state it, asks for nothing.
    resolve(None, [key, repr(get_key(get_cfg(), key))])


@pytest.mark.parametrize(
    ("key", "value", "beside", "words"),
    [
        (
            "MODEL.RESNETS.DEPTH",
            "101",
            ["MODEL.NET.NAME", "resnet50"],
            "only for Detectron2's own ResNet",
        ),
        ("MODEL.FPN.OUT_CHANNELS", "64", ["MODEL.BACKBONE.NAME", "build_net_backbone"], "pyramid"),
        ("MODEL.ROI_BOX_HEAD.NUM_FC", "2", ["MODEL.ROI_HEADS.NAME", "RegionHeads"], "last stage"),
        (
            "MODEL.ROI_BOX_CASCADE_HEAD.IOUS",
            "(0.4, 0.5, 0.6)",
            ["MODEL.ROI_HEADS.NAME", "StandardROIHeads"],
            "CascadeROIHeads",
        ),
        (
            "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO",
            "2",
            ["MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIPool"],
            "only for RoIAlign",
        ),
        (
            "SOLVER.STEPS",
            "(3,)",
            ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"],
            "WarmupMultiStepLR",
        ),
        (
            "SOLVER.GAMMA",
            "0.5",
            ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"],
            "falls in steps",
        ),
        ("MODEL.ROI_MASK_HEAD.NUM_CONV", "4", [], "only with MODEL.MASK_ON True"),
        ("INPUT.MASK_FORMAT", "bitmask", [], "only with MODEL.MASK_ON True"),
        (
            "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION",
            "7",
            ["MODEL.MASK_ON", "True", "MODEL.ROI_HEADS.NAME", "RegionHeads"],
            "last stage gives for the box",
        ),
        ("SOLVER.WARMUP_FACTOR", "0.1", ["SOLVER.WARMUP_ITERS", "0"], "WARMUP_ITERS above 0"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "2.0", [], "CLIP_GRADIENTS.ENABLED True"),
    ],
)
def test_a_key_that_is_read_beside_others_alone_is_refused_without_them(
    key: str, value: str, beside: list[str], words: str
) -> None:
    """In Detectron2's own builders, which name each of these keys in one branch alone."""
    with pytest.raises(ConfigError, match=rf"command line: {key} .*without meaning.*{words}"):
        resolve(None, [key, value, *beside])
    assert table.fate_of(key).kind == table.READ


def test_keys_beside_what_reads_them_are_taken() -> None:
    read = ["MODEL.RESNETS.DEPTH", "101", "SOLVER.STEPS", "(3,)", "SOLVER.GAMMA", "0.5"]
    read += ["SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "2.0"]
    read += ["MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.NUM_FC", "1"]
    cfg = resolve(None, read).cfg
    assert cfg.MODEL.RESNETS.DEPTH == 101 and cfg.SOLVER.STEPS == (3,)


def test_what_stock_bases_state_is_noted(tmp_path) -> None:
    """Base-RCNN-FPN.yaml sets up a mask head that a box detector does not build."""
    path = tmp_path / "base.yaml"
    path.write_text("MODEL: {ROI_MASK_HEAD: {NUM_CONV: 4}}\n", encoding="utf-8")
    (note,) = unread(resolve(path))
    assert note.text == (
        "base.yaml, line 1: MODEL.ROI_MASK_HEAD.NUM_CONV 4 is without meaning here: only with "
        "MODEL.MASK_ON True."
    )


def test_every_entry_of_the_table_is_about_a_key_of_detectron2() -> None:
    """Those that only main has are looked for by their last name."""
    keys = [key for key, _ in flatten(get_cfg())]
    conditional = [name for condition in table.CONDITIONS for name in condition.keys]
    of_main = {f"SOLVER.{name}" for name in table.ONLY_MAINS_SCHEDULES}
    for name in {*table.FATES, *conditional} - of_main:
        assert any(k == name or (name[-1] == "." and k.startswith(name)) for k in keys), name


@pytest.mark.parametrize(
    ("command", "key", "value"),
    [
        ("pretrain_cls", "MODEL.RPN.NMS_THRESH", "0.6"),
        ("pretrain_cls", "ENGINE.FAST_TRAINING", "on"),
        ("pretrain_cls", "DATASETS.TRAIN", "('voc_2007_test',)"),
        ("pretrain_cls", "DATASETS.DROP_ORPHANS", "3"),
        ("pretrain_cls", "DATASETS.VOC_ORIGIN", "0"),
        ("pretrain_cls", "MODEL.NET.NORM", "FrozenBN"),
        ("pretrain_cls", "TEST.SCALES_MAX_SIZE", "900"),
        ("train_det", "PRETRAIN.CROP", "96"),
    ],
)
def test_keys_of_the_other_command_are_refused(command: str, key: str, value: str) -> None:
    other = {"pretrain_cls": "train_det", "train_det": "pretrain_cls"}[command]
    config = resolve(None, [key, value])
    with pytest.raises(ConfigError, match=f"{key} is read by {other} alone"):
        refuse_keys_of_other(config, command)
    refuse_keys_of_other(config, other)


def test_a_key_that_begins_like_anothers_is_a_classifiers() -> None:
    """MODEL.NET.NORM is a detector's, and NORM_EPS any net's."""
    config = resolve(None, ["MODEL.NET.NORM_EPS", "1e-3"])
    refuse_keys_of_other(config, "pretrain_cls")
    assert config.cfg.MODEL.NET.NORM_EPS == 1e-3
    with pytest.raises(ConfigError, match=r"MODEL\.NET\.NORM is read by train_det alone"):
        refuse_keys_of_other(resolve(None, ["MODEL.NET.NORM", "FrozenBN"]), "pretrain_cls")
