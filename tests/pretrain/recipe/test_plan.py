"""The plan of a training by hand, the estimate's arithmetic, and the two flags that print them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

pytest.importorskip("detectron2")

from resdet import nets
from resdet.config import check_reference_batch, resolve
from resdet.engine.starts.start_estimate import Plan, estimate_of
from resdet.pretrain.recipe.plan import plan_of_classifier
from tests.support import children, tiny, trainings


def plan_of(*opts: str, **numbers) -> Plan:
    cfg = resolve(None, ["MODEL.NET.NAME", "resnet18", "SOLVER.IMS_PER_BATCH", "256", *opts]).cfg
    with torch.device("meta"):
        net = nets.build("resnet18")
    return plan_of_classifier(cfg, net, **numbers)


def test_the_plan_of_a_whole_imagenet_training():
    """600,000 steps of 256 over 1,281,167 images: 119.9 epochs, 1.814e9 x 3 each (docs/cost.md)."""
    plan = plan_of(
        *("SOLVER.MAX_ITER", "600000", "SOLVER.BASE_LR", "0.1", "TEST.EVAL_PERIOD", "0"),
        images=1_281_167,
        test_images=(50_000, 50_000),
    )
    lines = "\n".join(plan.lines())
    assert "batch      256 images: one process; rate 0.1" in lines
    assert "600,000 steps, 153,600,000 images: 119.9 epochs of 1,281,167" in lines
    assert "11,689,512 parameters, 1,814,073,344 multiply-adds an image" in lines
    work = 600_000 * 256 * 1_814_073_344 * 3
    assert f"work       {work:.3g} multiply-adds: {work / 15e12 / 3600:.1f} h at 15e12" in lines
    # Weights, statistics and counters of 20 norms, and as much again of momentum.
    weights = 4 * (11_689_512 + 9_600) + 20 * 8
    assert plan.disk.checkpoint == 2 * weights
    assert plan.scored_images == 50_000


def test_an_average_of_the_weights_is_in_a_checkpoint():
    one, more = plan_of(), plan_of("SOLVER.EMA_DECAY", "0.9")
    assert 2 * more.disk.checkpoint == 3 * one.disk.checkpoint


def test_a_plateau_scores_the_validation_set_alone():
    """100 steps: val after every 10, both sets after 25, 50, 75 and at the end."""
    plan = plan_of(
        *("SOLVER.MAX_ITER", "100", "TEST.EVAL_PERIOD", "25"),
        *("PRETRAIN.PLATEAU", "val", "PRETRAIN.PLATEAU_PERIOD", "10"),
        test_images=(7, 1007),
    )
    assert plan.scored_images == 10 * 7 + 4 * 1007


@pytest.mark.parametrize(
    ("number", "expected"), [("0", 0), ("-1", 5000), ("1000", 768), ("100", 256)]
)
def test_statistics_of_norms_pass_whole_batches_forward_or_all_images(number, expected):
    plan = plan_of("PRETRAIN.BN_IMAGES", number, images=5000, test_images=(0, 0))
    assert plan.statistics_images == expected


def test_the_rule_of_another_batch_stands_beside_the_rate():
    """0.1 belongs to 256 images; of 64 it is a quarter, or as it was."""
    for way, rate in (("linear", "0.025"), ("keep", "0.1")):
        config = resolve(None, ["MODEL.NET.NAME", "resnet18", "SOLVER.BASE_LR", "0.1"])
        config.cfg.SOLVER.REFERENCE_BATCH, config.cfg.SOLVER.IMS_PER_BATCH = 256, 64
        config.cfg.SOLVER.SCALE_LR = way
        config.stated.clear()
        check_reference_batch(config)
        with torch.device("meta"):
            plan = plan_of_classifier(config.cfg, nets.build("resnet18"))
        expected = f"rate {rate} (SOLVER.SCALE_LR {way}, from a batch of 256)"
        assert plan.lines()[0].endswith(expected)


def test_without_data_epochs_are_left_open():
    assert "epochs follow from the training set" in plan_of().lines()[1]


def test_the_estimate_is_the_median_step_times_the_steps_and_a_third_for_scoring():
    """1,000 steps of 2 s, and 2,000 + 1,000 images at 2 / 100 / 3 s: 2,000 s + 20 s."""
    plan = replace(plan_of(), steps=1000, batch=100, scored_images=2000, statistics_images=1000)
    found = estimate_of(plan, [2.0, 1.0, 9.0, 2.0, 2.0], [0.5, 0.1, 0.1], "cpu")
    assert found.seconds == pytest.approx(2020)
    assert (found.step_seconds, found.data_seconds, found.measured) == (2.0, 0.1, 5)
    assert 2**20 < found.memory_bytes < 2**40
    assert found.line().startswith("estimate from 5 steps: 2 s a step (0.1 s of it waiting")
    assert " 34 min in all" in found.line()


# -- the flags -----------------------------------------------------------------------------------


def test_explain_needs_no_data_and_estimate_keeps_nothing(tmp_path):
    """One prints the plan and the keys; the other steps 13 times, prints, and leaves no folder."""
    config = trainings.classifier({"SOLVER.MAX_ITER": 400, "PRETRAIN.PLATEAU": "val",
                                   "PRETRAIN.PLATEAU_PERIOD": 100})  # fmt: skip
    (tmp_path / "c.yaml").write_text(config, encoding="utf-8")
    command = ("pretrain_cls", "--config", "c.yaml", "--output", "run")
    done = children.run_cli(*command, "--explain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Train resnet18 on data/train, on cpu; test on data/val." in done.stdout
    assert "400 steps, 2,400 images: epochs follow from the training set" in done.stdout
    assert "PRETRAIN.PLATEAU_PERIOD" in done.stdout and "c.yaml, line" in done.stdout

    tiny.class_folders(tmp_path / "data")
    done = children.run_cli(*command, "--estimate", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "400 steps, 2,400 images: 133.3 epochs of 18" in done.stdout
    assert "estimate from 10 steps: " in done.stdout
    for words, said in (
        (("--eval-only", "--estimate"), "--eval-only trains nothing"),
        (("--explain", "--estimate"), "not allowed with argument"),
        (("--resume", "auto", "--estimate"), "--estimate takes steps from the start"),
    ):
        done = children.run_cli(*command, *words, cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"c.yaml", "data", "cache"}
