"""What the presets of detectors start from: MODEL.WEIGHTS auto, and nothing random untyped."""

import argparse
import re
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.cli.main import main
from resdet.cli.training import auto_weights
from resdet.config import Config, presets, resolve
from resdet.errors import ConfigError
from resdet.run import layout
from tests.support.preset_files import CONFIGS, IMAGENET, LEAVES
from tests.support.starting_weights import MSRA, empty_caches, in_detectron2s_cache, pretrained


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    empty_caches(tmp_path, monkeypatch)


def settled(name: str, *opts: str) -> Config:
    config = resolve(presets.find(name), opts)
    args = argparse.Namespace(resume=False, eval_only=False, explain=False)
    auto_weights.settle(config, Path("runs") / name, args)
    return config


def test_every_preset_of_a_detector_has_auto_and_no_random_weights():
    starts = {
        (config.cfg.MODEL.WEIGHTS, config.cfg.TRANSFER.FROM_SCRATCH)
        for config in map(resolve, (*LEAVES, *IMAGENET))
    }
    assert len(LEAVES) + len(IMAGENET) == 108 and starts == {("auto", False)}


def test_the_demos_state_that_they_may_start_from_nothing():
    """Half of its runs are twins from random weights; the presets are the same."""
    demo = [p for p in (CONFIGS / "demo").glob("*.yaml") if "pretrain" not in p.name]
    starts = {p.stem: resolve(p).cfg for p in demo if not p.stem.startswith("base")}
    assert sorted(starts) == ["alternating", "resnet", "vgg"]
    for cfg in starts.values():
        assert (cfg.MODEL.WEIGHTS, cfg.TRANSFER.FROM_SCRATCH) == ("", True)


def test_every_preset_has_a_run_to_start_from_or_public_weights():
    """Its header names them; they are what auto takes."""
    for path in (*LEAVES, *IMAGENET):
        cfg = resolve(path).cfg
        pretraining = auto_weights.pretraining_of(cfg)
        header = path.read_text("utf-8").replace("\n#          ", " ")
        if cfg.MODEL.NET.NAME.startswith("timm:"):
            # No preset pretrains one.
            address = cfg.MODEL.NET.NAME.replace("timm:", "timm://")
            assert pretraining is None and auto_weights.public_of(cfg).address == address
            assert f"# Weights  auto: {address}\n" in header
            continue
        assert pretraining is not None, path
        assert f"/{pretraining.preset}.yaml\n" in header
        public = auto_weights.public_of(cfg)
        weights = f"auto: {pretraining.folder / pretraining.file}"
        assert f"# Weights  {weights}{f', else {public.address}' if public else ''};" in header


@pytest.mark.parametrize(
    "name",
    [
        "coco_r101",
        "fpn/voc07_r50_fpn",
        "localization/imagenet_loc_r101",
        "alternating/coco_r101_alternating",
        "coco_r101_context",
    ],
)
def test_a_preset_takes_the_public_weights_of_its_net(name):
    for file in ("R-50.pkl", "R-101.pkl"):
        in_detectron2s_cache(file)
    weights = settled(Path(name).name).cfg.MODEL.WEIGHTS
    assert weights == f"{MSRA}{'R-50' if 'r50' in name else 'R-101'}.pkl"


@pytest.mark.parametrize(
    ("preset", "start"),
    [
        ("voc0712_r101_from_coco", "coco_r101"),
        ("voc0712pp_vgg16_from_coco", "coco_vgg16"),
        ("voc0712_r101_plus", "coco_r101_context"),
        ("voc0712pp_vgg16_plus", "coco_vgg16_context"),
    ],
)
def test_predictors_by_name_come_from_the_detector_of_coco(preset, start):
    """A classifier has none, so neither its run nor public weights will do."""
    in_detectron2s_cache("R-101.pkl")
    pretrained("imagenet_resnet101", "finished")
    with pytest.raises(ConfigError, match="nobody publishes a detector") as error:
        settled(preset)
    page = str(error.value)
    assert f"python tools/train_det.py --config {start}\n" in page
    assert "FROM_SCRATCH" not in page and "TRANSFER.HEADS new" in page
    own = pretrained(start, "finished", file=layout.DETECTOR)
    config = settled(preset)
    assert config.cfg.MODEL.WEIGHTS == str(own) == f"runs/{start}/model_final.pth"
    assert config.derived["MODEL.WEIGHTS"] == "auto: a detector trained here on COCO"


def test_a_detector_of_coco_with_other_anchors_is_not_taken():
    sizes = ("MODEL.ANCHOR_GENERATOR.SIZES", "[[32, 64, 128, 256]]")
    pretrained("coco_r101", "finished", *sizes, file=layout.DETECTOR)
    with pytest.raises(ConfigError, match=r"SIZES is \[\[32, 64, 128, 256\]\] there, \[\[64,"):
        settled("voc0712_r101_from_coco")


def test_weights_that_are_taken_away_are_not_replaced_by_random_ones(capsys):
    """MODEL.WEIGHTS '' of a preset had been enough to train from random weights."""
    words = ["train_det", "--config", "coco_r101", "--explain", "MODEL.WEIGHTS", ""]
    assert main(words) == 2
    assert "set TRANSFER.FROM_SCRATCH True to train from random weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "name", "weights"),
    [
        ("train_det", "voc0712_r101_plus", "runs/coco_r101_context/model_final.pth"),
        ("train_det", "voc07_vgg16_alternating", "torchvision://vgg16/IMAGENET1K_V1"),
        ("train_loc", "imagenet_loc_r101", f"{MSRA}R-101.pkl"),
    ],
)
def test_explain_is_of_the_weights_that_a_training_would_take(command, name, weights, capsys):
    """Frozen stages, norms and scheme do not wait for the file; what its card sets is marked."""
    assert main([command, "--config", name, "--explain"]) == 0
    out, log = capsys.readouterr()
    assert f"Weights: {weights} (not here yet)\n" in out
    assert re.search(r"^MODEL\.WEIGHTS +\S+ +auto: not here yet$", out, re.MULTILINE)
    for key in ("INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"):
        assert re.search(rf"^{key} +\? +the card of the weights, which are", out, re.MULTILINE)
    assert "random weights" not in out
    assert f"Explained as from {weights}." in log
