"""`train_det --explain` of presets: what it states is what a run would have, without any data."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from resdet import weights
from resdet.cli.training import train_det
from resdet.config import flatten, get_cfg, resolve
from resdet.detect.plan import plan_of_detector
from resdet.errors import ConfigError, WeightsError
from tests.support import children, tiny, trainings
from tests.support.preset_files import CONFIGS

# Of each recipe and data set; the number of classes is VOC's or COCO's own.
PRESETS = {
    "coco_r101.yaml": 80,
    "stated/coco_vgg16_stated.yaml": 80,
    "voc07_vgg16.yaml": 20,
    "voc0712_r101.yaml": 20,
    "voc0712pp_r50.yaml": 20,
    "modern/coco_r50_modern.yaml": 80,
    "modern/voc0712_r18_modern.yaml": 20,
    "fpn/coco_vgg16_fpn.yaml": 80,
    "fpn/voc07_r101_fpn.yaml": 20,
    "dc5/coco_r50_dc5.yaml": 80,
}


def explain(path: Path, *opts: str) -> None:
    args = argparse.Namespace(
        config=str(path), opts=list(opts), explain=True, estimate=False, eval_only=False,
        resume=None, output=None, profile=False, best=False,
    )  # fmt: skip
    assert train_det._main(args) == 0


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", PRESETS)
def test_every_statement_is_of_the_resolved_config(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first line, each key that the file states, and the classes; file and line as they are."""
    explain(CONFIGS / name)
    first, *lines = capsys.readouterr().out.splitlines()
    cfg = resolve(CONFIGS / name).cfg
    assert first.startswith(f"Train {cfg.MODEL.NET.NAME} on {', '.join(cfg.DATASETS.TRAIN)}: ")
    assert f": {cfg.SOLVER.MAX_ITER:,} steps of {cfg.SOLVER.IMS_PER_BATCH} images, on " in first
    tests = f"test on {', '.join(cfg.DATASETS.TEST)}."
    assert first.endswith(
        tests if cfg.DATASETS.TEST else "DATASETS.TEST is empty, so nothing is scored."
    )
    keys = dict(flatten(cfg))
    defaults = dict(flatten(get_cfg()))
    stated = {k for k in resolve(CONFIGS / name).stated if keys[k] != defaults[k]}
    derived = {"MODEL.BACKBONE.FREEZE_AT", "MODEL.DEVICE"}
    assert stated - derived <= {line.split()[0] for line in lines if line}
    for line in lines:
        if line and (source := re.search(r" (\w+\.yaml), line (\d+)$", line)):
            key = line.split()[0]
            (file,) = set(CONFIGS.rglob(source[1]))
            leaf = key.rpartition(".")[2]
            assert leaf in file.read_text("utf-8").splitlines()[int(source[2]) - 1]
    classes = next(line for line in lines if line.startswith("MODEL.ROI_HEADS.NUM_CLASSES"))
    assert classes.split() == ["MODEL.ROI_HEADS.NUM_CLASSES", str(PRESETS[name]), "the", "data",
                               "sets"]  # fmt: skip


def test_classes_of_a_set_that_is_not_read_are_not_guessed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sets = ("DATASETS.TRAIN", "('voc:mine:train',)", "DATASETS.TEST", "('voc:mine:test',)")
    explain(CONFIGS / "voc07_r50.yaml", *sets)
    assert re.search(
        r"NUM_CLASSES +\? +the data sets, which are not read here", capsys.readouterr().out
    )


def test_keys_of_a_net_of_ours_beside_detectron2s_own_backbone_are_refused(tmp_path: Path) -> None:
    """Nothing would read them there; what the page says to give leads on."""
    stock = tmp_path / "stock.yaml"
    stock.write_text(
        "MODEL: {MASK_ON: False}\nDATASETS: {TRAIN: \"('voc_2007_trainval',)\"}\n", "utf-8"
    )
    with pytest.raises(ConfigError, match="command line: MODEL.NET.WIDTH") as refused:
        explain(stock, "TRANSFER.FROM_SCRATCH", "True", "MODEL.NET.WIDTH", "0.5")
    assert "MODEL.BACKBONE.NAME is build_resnet_backbone" in str(refused.value)
    net = ("MODEL.NET.NAME", "resnet50", "MODEL.BACKBONE.NAME", "build_net_fpn_backbone")
    heads = ("MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_BOX_HEAD.NAME",
             "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", "1")  # fmt: skip
    explain(stock, "TRANSFER.FROM_SCRATCH", "True", "MODEL.NET.WIDTH", "0.5", *net, *heads)


def test_the_plan_is_stated_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: 70,000 steps of 2 over 5,011 images, 27.9 epochs; 3 sides x 3 ratios on conv5."""
    explain(CONFIGS / "voc07_vgg16.yaml", "TRANSFER.FROM_SCRATCH", "True")
    lines = capsys.readouterr().out.splitlines()
    assert "batch      2 images: one process; rate 0.001" in lines
    length = "length     70,000 steps, 140,000 images: 27.9 epochs of 5,011"
    assert f"{length}, as published: voc_2007_trainval is not here" in lines
    assert (
        "anchors    9 a cell of conv5 (stride 16): sides 128, 256, 512, ratios 0.5, 1, 2" in lines
    )
    assert any(line.startswith("frozen     no stage; ") for line in lines)
    start = lines.index(next(x for x in lines if x.startswith("Not as in ")))
    end = lines.index("and, as in every run:")
    found = lines[start + 1 : end]
    assert found[0] == (
        "* start (MODEL.WEIGHTS: random weights; paper: pretrained on ImageNet, He appendix A)"
    )
    keys = [re.search(r"\(([A-Z_.]+): ", line)[1] for line in found]  # type: ignore[index]
    assert keys == [
        "MODEL.WEIGHTS", "SOLVER.SCHEME", "MODEL.BACKBONE.FREEZE_AT", "SOLVER.WARMUP_ITERS"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["voc07_r18.yaml", "alternating/voc07_r50_alternating.yaml"])
def test_images_that_are_here_are_counted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three of VOC 2007's 5,011: 12 steps of 2 images are 8 epochs, RPN's of 1 are 4."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    main = tiny.voc_tree(tmp_path / "VOC2007") / "ImageSets" / "Main"
    (main / "train.txt").rename(main / "trainval.txt")
    steps = ("SOLVER.MAX_ITER", "12", "SOLVER.STEPS", "(9,)")
    if "alternating" in name:
        steps += ("SOLVER.RPN.MAX_ITER", "12", "SOLVER.RPN.STEPS", "(9,)")
    explain(CONFIGS / name, "TRANSFER.FROM_SCRATCH", "True", *steps)
    out = capsys.readouterr().out
    assert "length     12 steps, 24 images: 8.0 epochs of 3\n" in out
    assert ("length     12 steps, 12 images: 4.0 epochs of 3\n" in out) == ("alternating" in name)


def test_a_drop_behind_the_end_is_said_to_be_none(capsys: pytest.CaptureFixture[str]) -> None:
    """SOLVER.STEPS of the preset beside a short MAX_ITER: the rate never falls."""
    explain(CONFIGS / "voc07_r18.yaml", "TRANSFER.FROM_SCRATCH", "True", "SOLVER.MAX_ITER", "10")
    assert "none before the end" in capsys.readouterr().out


def test_weights_that_a_training_would_refuse_are_refused(tmp_path: Path) -> None:
    """With the page of the training: what is explained can begin."""
    file = tmp_path / "net.safetensors"
    trainings.net_to_hand_over(file)
    words = ("MODEL.WEIGHTS", str(file), "MODEL.NET.WIDTH", "0.125")
    with pytest.raises(WeightsError, match="'nothing', which fits no tensor of the net"):
        explain(CONFIGS / "voc07_r18.yaml", *words, "TRANSFER.NEW", "('nothing',)")
    tensors, card = weights.load(file)
    weights.save(file, {k: v for k, v in tensors.items() if not k.startswith("res5")}, card)
    with pytest.raises(WeightsError, match=r"Missing in the file:\n  res5"):
        explain(CONFIGS / "voc07_r18.yaml", *words)


def test_frozen_stages_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainings.net_to_hand_over(tmp_path / "net.safetensors")
    words = ("MODEL.WEIGHTS", str(tmp_path / "net.safetensors"), "MODEL.NET.WIDTH", "0.125")
    explain(CONFIGS / "voc07_r18.yaml", *words)
    out = capsys.readouterr().out
    assert "frozen     stem, res2; " in out and "norms of the net: FrozenBatchNorm2d" in out
    assert "* channels of the net (MODEL.NET.WIDTH: 0.125; paper: 1.0, He 4.1, table 1)" in out


def test_own_sets_are_held_against_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    sets = ("DATASETS.TRAIN", "('mine_train',)", "DATASETS.TEST", "('mine_test',)")
    explain(CONFIGS / "voc07_r50.yaml", *sets, "TRANSFER.FROM_SCRATCH", "True")
    out = capsys.readouterr().out
    assert "The papers have no experiment on these sets." in out
    assert "epochs follow from the training set, which is not read here" in out


@pytest.mark.parametrize(
    ("opts", "start", "expected"),
    [
        ([], 0, 3 * 50 + 50),
        ([], 20, 2 * 50 + 50),
        (["TEST.VALIDATION_LOSS", "True"], 0, 3 * (50 + 50) + 50),
        (["TEST.VALIDATION_LOSS", "True", "TEST.EVAL_IMAGES", "10"], 0, 3 * (10 + 10) + 50),
        (["TEST.EVAL_PERIOD", "0"], 0, 50),
    ],
)
def test_images_that_are_scored_are_counted(opts: list[str], start: int, expected: int) -> None:
    """80 steps: detections and losses after 20, 40, 60; detections alone at the end."""
    cfg = resolve(None, ["SOLVER.MAX_ITER", "80", "TEST.EVAL_PERIOD", "20", "DATASETS.TEST",
                         "('a',)", *opts]).cfg  # fmt: skip
    plan = plan_of_detector(cfg, torch.nn.Linear(2, 2), start=start, tested=[50])
    assert plan.scored_images == expected


def test_a_rate_that_follows_the_batch_has_its_rule_as_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the line of the file, which has another value."""
    config = trainings.detector(trainings.FROM_SCRATCH, {"SOLVER.REFERENCE_BATCH": 16})
    (tmp_path / "c.yaml").write_text(config, encoding="utf-8")
    explain(tmp_path / "c.yaml", "SOLVER.SCALE_LR", "linear")
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("SOLVER.BASE_LR "))
    assert " ".join(line.split()[1:]) == "0.00125 SOLVER.SCALE_LR linear, batch 2 of 16"


def test_an_estimate_takes_steps_and_keeps_nothing(tmp_path: Path) -> None:
    tiny.voc_tree(tmp_path / "voc")
    config = trainings.detector(trainings.FROM_SCRATCH, {"SOLVER.MAX_ITER": 1000})
    (tmp_path / "c.yaml").write_text(config, encoding="utf-8")
    done = children.run_cli("train_det", "--config", "c.yaml", "--estimate", "--profile",
                            cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "backward" in done.stdout
    assert "length     1,000 steps, 2,000 images: 666.7 epochs of 3" in done.stdout
    assert "anchors    6 a cell of res4 (stride 16)" in done.stdout
    assert re.search(r"estimate from 10 steps: \S+ s a step .* in all, scoring", done.stdout)
    assert {p.name for p in tmp_path.iterdir()} <= {"c.yaml", "voc", "runs", "cache"}
    assert not list((tmp_path / "runs").glob("*"))
    both = children.run_cli("train_det", "--config", "c.yaml", "--eval-only", "--explain",
                            cwd=tmp_path)  # fmt: skip
    assert both.returncode == 2 and "--eval-only trains nothing" in both.stderr
