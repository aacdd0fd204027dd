"""The sets of a detector's commands: what trains may lack images, what scores may not."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.cli.training.detection_sets import load_set, sets_to_score
from resdet.data import DataOptions
from resdet.errors import ConfigError, DataError
from tests.support import tiny

CLASSES = ("ape", "bee")


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataOptions:
    """One missing image is accepted; the test list has one."""
    tiny.voc_tree(tmp_path / "voc")
    monkeypatch.chdir(tmp_path)
    name = (tmp_path / "voc/ImageSets/Main/test.txt").read_text(encoding="utf-8").split()[0]
    (tmp_path / f"voc/JPEGImages/{name}.jpg").unlink()
    return DataOptions(allow_missing=1, masks=False)


def test_a_test_set_is_whole_whatever_a_training_set_may_lack(options: DataOptions) -> None:
    """F1; `compare --ladder` scored what was left of the images."""
    assert len(load_set("voc:voc:test", options)) == 2
    with pytest.raises(DataError, match=r"(?s)voc:voc:test.*1 .*missing|has no file"):
        sets_to_score(["voc:voc:test"], options, CLASSES)


def test_classes_are_put_in_the_detectors_order_and_others_are_refused(
    options: DataOptions,
) -> None:
    (data,) = sets_to_score(["voc:voc:train"], options, CLASSES[::-1], "d.pth")
    assert data.classes == CLASSES[::-1]
    with pytest.raises(ConfigError, match=r"d\.pth was trained for 1 classes.*not in both: bee"):
        sets_to_score(["voc:voc:train"], options, ("ape",), "d.pth")
