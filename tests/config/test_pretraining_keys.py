"""Keys of a recipe: what follows from one, what is refused with the key that accepts it."""

from __future__ import annotations

import pytest

pytest.importorskip("detectron2")

from resdet.config import check_reference_batch, resolve
from resdet.config.key_checks.dependent_keys import ONLY_WITH, check_dependent
from resdet.config.key_checks.pretraining_keys import settle
from resdet.errors import ConfigError

PLATEAU = ["PRETRAIN.PLATEAU", "val"]
MEAN = ["PRETRAIN.MEAN_IMAGE", "on", "PRETRAIN.AUGMENTATION", "pad", "PRETRAIN.TEST_SIDE", "224"]


def settled(*opts: str, processes: int = 1):
    config = resolve(None, list(opts))
    settle(config, processes=processes)
    return config


def test_off_changes_nothing() -> None:
    before, after = resolve(None), settled()
    assert before.to_yaml() == after.to_yaml() and not after.derived


def test_a_plateau_takes_the_place_of_steps_and_an_error_that_of_warm_up_steps() -> None:
    """Detectron2's defaults have 30,000 and 1,000, which nobody stated."""
    assert settled(*PLATEAU).cfg.SOLVER.STEPS == ()
    config = settled("PRETRAIN.WARMUP_UNTIL_ERROR", "80")
    assert config.cfg.SOLVER.WARMUP_ITERS == 0
    assert "SOLVER.WARMUP_ITERS" in config.derived


def test_a_batch_that_processes_cannot_share_equally_is_refused() -> None:
    """Gradients are averaged over the processes, so a smaller share would count for more."""
    settled("SOLVER.IMS_PER_BATCH", "6", processes=3)
    with pytest.raises(ConfigError, match="IMS_PER_BATCH is 6, which 4 processes cannot share"):
        settled("SOLVER.IMS_PER_BATCH", "6", processes=4)


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        ([*PLATEAU, "SOLVER.STEPS", "(5,)"], r"SOLVER.STEPS is \(5,\).* SOLVER.STEPS \"\(\)\""),
        ([*PLATEAU, "SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"], "with WarmupMultiStepLR alone"),
        ([*PLATEAU, "SOLVER.GAMMA", "1.0"], "SOLVER.GAMMA is 1: .*between 0 and 1"),
        ([*PLATEAU, "PRETRAIN.VAL", ""], "PRETRAIN.VAL is empty. Name a set, or use train"),
        (
            ["PRETRAIN.WARMUP_UNTIL_ERROR", "80", "SOLVER.WARMUP_ITERS", "400"],
            "command line: SOLVER.WARMUP_ITERS is 400, .* Set one of them to 0",
        ),
        ([*MEAN, "MODEL.PIXEL_MEAN", "[1.0, 2.0, 3.0]"], "PIXEL_MEAN is not read .*Leave it out"),
        ([*MEAN, "PRETRAIN.AUGMENTATION", "area"], "AUGMENTATION area resizes images"),
        ([*MEAN, "PRETRAIN.COLOR_STD", "0.1"], "PRETRAIN.COLOR_STD is 0.1: .*Set it to 0"),
        ([*MEAN, "PRETRAIN.SCALED_DECODE", "on"], "set PRETRAIN.SCALED_DECODE off"),
        ([*MEAN, "PRETRAIN.TEST_SIDE", "256"], "TEST_SIDE 256 is not PRETRAIN.CROP 224"),
        (["PRETRAIN.JITTER", "(480, 256)"], r"JITTER is \(480, 256\). Give the smaller side first"),
        (["PRETRAIN.CROP", "257"], "CROP 257: a crop does not fit into an image of side 256"),
        (
            ["PRETRAIN.MIXUP_ALPHA", "0.2", "ENGINE.IMAGES_PER_PASS", "1"],
            "and 1 does: raise SOLVER.IMS_PER_BATCH or ENGINE.IMAGES_PER_PASS",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(opts: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        settled(*opts)


@pytest.mark.parametrize("kind", ["area", "pad", "none"])
def test_sides_that_no_crop_is_cut_from_decide_nothing(kind: str) -> None:
    """PRETRAIN.JITTER is of AUGMENTATION paper alone."""
    opts = ["PRETRAIN.AUGMENTATION", kind, "PRETRAIN.JITTER", "(480, 256)"]
    assert settled(*opts).to_yaml() == resolve(None, opts).to_yaml()


def test_one_image_a_process_is_not_mixed() -> None:
    opts = ["PRETRAIN.CUTMIX_ALPHA", "1.0", "SOLVER.IMS_PER_BATCH", "4"]
    settled(*opts, processes=2)
    with pytest.raises(ConfigError, match="and 1 does"):
        settled(*opts, processes=4)


@pytest.mark.parametrize(("key", "needed"), ONLY_WITH)
def test_a_key_that_does_nothing_without_another_is_refused(key: str, needed: str) -> None:
    odd = {"TEST.VALIDATION_LOSS": "True", "TRANSFER.HEAD_NAMES": "('car=auto',)"}
    value = odd.get(key, "17")
    on = {
        "PRETRAIN.PLATEAU": "train",
        "SOLVER.EMA_DECAY": "0.9",
        "TEST.EVAL_PERIOD": "5",
        "TEST.BEST_METRIC": "top1_error",
        "MODEL.MASK_ON": "True",
        "TRANSFER.HEADS": "by_name",
        "DATASETS.TEST": "('voc_2007_test',)",
    }
    others = {n: on[n] for k, n in ONLY_WITH if k == key and n != needed}
    stated = [word for pair in ({key: value} | others).items() for word in pair]
    with pytest.raises(ConfigError, match=f"{key} is read with {needed} alone, which is off"):
        check_dependent(resolve(None, stated))
    check_dependent(resolve(None, [*stated, needed, on[needed]]))


def test_the_linear_rule_scales_periods_and_the_averages_share_with_the_batch() -> None:
    """Twice the batch: half the steps between measurements, twice the share of new weights."""
    config = resolve(None, [
        "SOLVER.REFERENCE_BATCH", "256", "SOLVER.IMS_PER_BATCH", "512", "SOLVER.BASE_LR", "0.1",
        "SOLVER.SCALE_LR", "linear", *PLATEAU, "SOLVER.EMA_DECAY", "0.99",
    ])  # fmt: skip
    # What the command line states stays; of a file it is scaled.
    config.stated = {"PRETRAIN.PLATEAU": "command line"}
    check_reference_batch(config)
    recipe = config.cfg.PRETRAIN
    assert recipe.PLATEAU_PERIOD == 2500
    assert pytest.approx(0.98) == config.cfg.SOLVER.EMA_DECAY
    assert pytest.approx(0.2) == config.cfg.SOLVER.BASE_LR
