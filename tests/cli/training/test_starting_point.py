"""What a detector's training may begin with: refused before a set is read or a folder made."""

from __future__ import annotations

import pytest

pytest.importorskip("detectron2")

from resdet.cli.main import main
from resdet.cli.training.starting_point import StartingPoint, refuse_unfit
from resdet.config import resolve
from resdet.errors import ConfigError
from tests.support.preset_files import CONFIGS


def test_a_whole_detector_does_not_begin_the_four_steps() -> None:
    """Steps 1 and 2 each begin with a classifier; a joint training may begin with a detector."""
    start = StartingPoint(detector="d.pth")
    path = CONFIGS / "voc07_r50.yaml"
    refuse_unfit(resolve(path).cfg, start)
    with pytest.raises(ConfigError, match=r"is alternating, and d\.pth holds a whole detector"):
        refuse_unfit(resolve(path, ["SOLVER.SCHEME", "alternating"]).cfg, start)


def test_predictors_come_from_a_detector_alone() -> None:
    cfg = resolve(None, ["TRANSFER.HEADS", "by_name"]).cfg
    refuse_unfit(cfg, StartingPoint(detector="d.pth"))
    with pytest.raises(ConfigError, match=r"TRANSFER\.HEADS is by_name, and MODEL\.WEIGHTS is"):
        refuse_unfit(cfg, StartingPoint())


def test_classes_of_predictors_need_predictors() -> None:
    """The key was read with a detector alone, and without a word not beside a classifier."""
    cfg = resolve(None, ["TRANSFER.HEAD_CLASSES", "voc_2007_test"]).cfg
    refuse_unfit(cfg, StartingPoint(detector="d.pth"))
    refuse_unfit(cfg, StartingPoint(is_here=False))
    with pytest.raises(ConfigError, match=r"HEAD_CLASSES is voc_2007_test, and MODEL\.WEIGHTS is"):
        refuse_unfit(cfg, StartingPoint())


def test_nothing_to_train_on_is_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    """It ended in a traceback, with exit code 70, once the run folder was there."""
    words = ("--config", str(CONFIGS / "voc07_r50.yaml"), "--explain", "DATASETS.TRAIN", "()")
    assert main(["train_det", *words, "TRANSFER.FROM_SCRATCH", "True"]) == 2
    assert "DATASETS.TRAIN is empty, so there is nothing to train on" in capsys.readouterr().err
