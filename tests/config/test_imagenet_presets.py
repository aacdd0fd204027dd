"""ImageNet's presets: what appendix C states, twins, and that nothing else is in their folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.config import check_reference_batch, flatten, refuse_keys_of_other, resolve
from resdet.evaluation.published.published_tables import published
from tests.support.preset_files import CONFIGS, IMAGENET


def test_both_tracks_have_both_nets() -> None:
    expected = {f"imagenet_{t}_{n}" for t in ("det", "loc") for n in ("r101", "vgg16")}
    assert {path.stem for path in IMAGENET} == expected


@pytest.mark.parametrize("path", IMAGENET, ids=lambda p: p.stem)
def test_twins_differ_in_the_net_alone(path: Path) -> None:
    twin = path.read_text(encoding="utf-8").split("# Twin     ")[1].split(";")[0]
    a, b = (dict(flatten(resolve(p).cfg)) for p in (path, path.parent / twin))
    assert {key for key in a if a[key] != b[key]} == {"MODEL.NET.NAME"}


@pytest.mark.parametrize("path", IMAGENET, ids=lambda p: p.stem)
def test_every_key_is_read_by_its_command(path: Path) -> None:
    config = resolve(path)
    check_reference_batch(config)
    refuse_keys_of_other(config, "train_loc" if "_loc_" in path.stem else "train_det")


def test_loc_is_as_appendix_c_states() -> None:
    """224 crops of a side of 256 to 480, 256 images a step, 8 anchors, 200 proposals, R-CNN."""
    cfg = resolve(CONFIGS / "localization" / "imagenet_loc_r101.yaml").cfg
    loc = cfg.LOC
    assert (loc.CROP, tuple(loc.JITTER), cfg.SOLVER.IMS_PER_BATCH) == (224, (256, 480), 256)
    assert (loc.ANCHORS_PER_IMAGE, loc.PROPOSALS, loc.RCNN) == (8, 200, "on")
    assert (tuple(loc.TEST), loc.TEST_SIDE) == (("centre", "dense"), 256)
    assert tuple(cfg.DATASETS.TRAIN) == ("ilsvrc_loc_train",)


def test_det_trains_on_train_and_val1_and_is_tested_on_val2() -> None:
    """He et al. 2015, appendix B; the sets of table 12's rows."""
    cfg = resolve(CONFIGS / "imagenet" / "imagenet_det_r101.yaml").cfg
    (number, *_) = published(source="table 12", data_set="ilsvrc_det_val2", net="resnet101")
    assert tuple(cfg.DATASETS.TRAIN) == number.train == ("ilsvrc_det_train", "ilsvrc_det_val1")
    assert tuple(cfg.DATASETS.TEST) == ("ilsvrc_det_val2",)


def test_the_header_has_table_13s_numbers() -> None:
    text = (CONFIGS / "localization" / "imagenet_loc_r101.yaml").read_text(encoding="utf-8")
    header = text.split("# Twin")[0]
    table = {f"{row.value:.1f}" for row in published(source="table 13", net="resnet101")}
    assert set(re.findall(r"\d+\.\d", header)) == {"13.3", "11.7", "14.4", "10.6"}
    assert {"13.3", "11.7", "14.4", "10.6"} <= table
