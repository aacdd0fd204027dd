"""Whole detector trainings: AdamW, rates by depth, an average, validation losses, an early end."""

import json

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.run.folder import Run
from tests.support import children, tiny, trainings

RECIPE = {
    "SOLVER.OPTIMIZER": "AdamW",
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.LAYER_DECAY": 0.7,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR",
    "SOLVER.STEPS": None,
    "SOLVER.EMA_DECAY": 0.8,
    "SOLVER.EMA_STEPS": 2,
    "SOLVER.MAX_ITER": 8,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "ENGINE.KEEP_CHECKPOINTS": 20,
    "TEST.VALIDATION_LOSS": True,
    "TEST.EVAL_PERIOD": 3,
}
KEYS = ("MODEL.WEIGHTS", "net.safetensors")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("recipes")
    tiny.voc_tree(place / "voc")
    trainings.net_to_hand_over(place / "net.safetensors")
    (place / "c.yaml").write_text(trainings.detector(trainings.HANDED_OVER, RECIPE), "utf-8")
    run_to("one", place)
    return place


def run_to(output, place, *more, **how):
    words = ("train_det", "--config", "c.yaml", "--output", output, *more, *KEYS)
    done = children.run_cli(*words, cwd=place, **how)
    assert done.returncode == (-9 if how else 0), done.stderr
    return done


def model_of(path):
    return torch.load(path, weights_only=True)["model"]


def test_the_kept_detector_is_the_average_of_the_steps(place):
    """a = 0.8 a + 0.2 w after steps 0, 2, 4, 6, from the checkpoints' weights."""
    average = None
    for step in (0, 2, 4, 6):
        state = model_of(place / "one" / "checkpoints" / f"step_{step + 1:07d}.pth")
        average = state if average is None else {
            k: 0.8 * t + 0.2 * state[k] if t.is_floating_point() else state[k]
            for k, t in average.items()
        }  # fmt: skip
    kept = model_of(place / "one" / "model_final.pth")
    assert kept.keys() == average.keys()
    for name, tensor in average.items():
        # 0.8 a + 0.2 w and torch's a + 0.2 (w - a) round apart: 4 updates of values below 300.
        torch.testing.assert_close(kept[name], tensor, rtol=1e-6, atol=1e-6, msg=name)
    last = model_of(place / "one" / "checkpoints" / "step_0000008.pth")
    assert any(not torch.equal(kept[k], last[k]) for k in kept)


def test_rates_are_those_of_the_depth(place):
    """AdamW's groups in a checkpoint: ResNet-18's res5 (the tail) 0.7, res4 0.49, res3 0.343; stem
    and res2 are frozen."""
    state = torch.load(place / "one" / "checkpoints" / "step_0000001.pth", weights_only=True)
    rates = {round(group["initial_lr"], 9) for group in state["optimizer"]["param_groups"]}
    assert rates == {0.001, 0.0007, 0.00049, 0.000343}
    # Detectron2's cosine over 8 steps: the second has (1 + cos(pi / 8)) / 2 of the first.
    for group in state["optimizer"]["param_groups"]:
        assert group["lr"] / group["initial_lr"] == pytest.approx(0.9619398, rel=1e-6)


def test_validation_losses_are_in_the_metrics(place):
    lines = (place / "one" / "metrics.json").read_text("utf-8").splitlines()
    found = [json.loads(line) for line in lines if "voc:voc:test/validation_loss" in line]
    parts = [k for k in found[-1] if "/validation_loss_" in k]
    assert len(parts) == 4
    total = sum(found[-1][k] for k in parts)
    assert found[-1]["voc:voc:test/validation_loss"] == pytest.approx(total)


def test_killed_and_resumed_equals_one_go_to_the_bit(place):
    """Both moments, the average and the cosine come back."""
    run_to("two", place, kill_at=5)
    run_to("two", place, "--resume")
    one, two = (model_of(place / name / "model_final.pth") for name in ("one", "two"))
    assert all(torch.equal(one[k], two[k]) for k in one)
    metrics = [(place / name / "metrics.json").read_text("utf-8") for name in ("one", "two")]
    lines = [[json.loads(x) for x in text.splitlines()] for text in metrics]
    losses = [[x["total_loss"] for x in each if "total_loss" in x] for each in lines]
    assert losses[0] == losses[1] and losses[0]


def test_an_early_end_is_recorded_and_a_resume_keeps_it(place):
    """At a rate of 0 no evaluation is better than the first: 2 steps and 2 more in a row."""
    keys = ("SOLVER.BASE_LR", "0.0", "TEST.BEST_METRIC", "AP50", "TEST.EVAL_PERIOD", "1",
            "TEST.EARLY_STOP", "2", "TEST.VALIDATION_LOSS", "False")  # fmt: skip
    done = children.run_cli("train_det", "--config", "c.yaml", "--output", "early", *KEYS, *keys,
                            cwd=place)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "TEST.EARLY_STOP" in done.stderr + done.stdout
    info = Run.open(place / "early").info
    assert (info["state"], info["steps"], info["ended_by"]) == ("finished", 3, "TEST.EARLY_STOP")
    assert info["samples"] == 6 and info["best"]["step"] == 1
    final = (place / "early" / "model_final.pth").read_bytes()
    again = children.run_cli("train_det", "--config", "c.yaml", "--output", "early", "--resume",
                             *KEYS, *keys, cwd=place)  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert Run.open(place / "early").info["steps"] == 3
    assert model_of(place / "early" / "model_final.pth").keys() and final
