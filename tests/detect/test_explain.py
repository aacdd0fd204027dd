"""`train_det --explain` of presets: what it states is what a run would have, without any data."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.cli import train_det
from resdet.config import flatten, get_cfg, resolve
from resdet.errors import ConfigError
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
        config=str(path), opts=list(opts), explain=True, eval_only=False, resume=None, output=None,
        profile=False, best=False,
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
    assert f": {cfg.SOLVER.MAX_ITER} steps of {cfg.SOLVER.IMS_PER_BATCH} images, on " in first
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
    heads = ("MODEL.ROI_HEADS.NAME", "StandardROIHeads")
    explain(stock, "TRANSFER.FROM_SCRATCH", "True", "MODEL.NET.WIDTH", "0.5", *net, *heads)
