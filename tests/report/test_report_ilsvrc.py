"""Runs on ILSVRC's DET are ranked by its own mAP, with an interval of that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resdet.errors import RunError
from resdet.evaluation.analysis.image_noise import mean_ap
from resdet.evaluation.inputs.result_folder import evaluate_folder
from resdet.report import compare, runs
from resdet.report.scores import read_scores
from resdet.run.folder import read_json, write_json
from tests.report.conftest import read_report
from tests.support.fabricate import fabricate_run

SET = "ilsvrc_det_val2"
OPTIONS: dict[str, Any] = {
    "data_set": SET, "evaluators": ("ilsvrc", "coco"), "voc_year": None, "num_images": 60,
    "num_samples": 0, "absent": ("7",),
}  # fmt: skip


def results(run: Path) -> Path:
    return run / "results" / SET


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two nets on 60 images, with two pairs of image and class that are not scored."""
    folder = tmp_path_factory.mktemp("det")
    made = [fabricate_run(folder / "a", net="vgg11", skill=0.5, **OPTIONS),
            fabricate_run(folder / "b", net="resnet18", skill=0.8, **OPTIONS)]  # fmt: skip
    for run in made:
        file = results(run) / "ground_truth.json.gz"
        truth = read_json(file)
        first = truth["annotations"][0]
        truth["info"]["not_scored"] = [[1, first["category_id"]], [2, 3]]
        write_json(file, truth)
    return made


def test_the_sets_own_map_ranks_with_its_interval(two: list[Path], tmp_path: Path) -> None:
    """`evaluate_folder`, as `evaluate ilsvrc det`, on the same files."""
    report = read_report(two, tmp_path)
    (one,) = report.json["sets"].values()
    expected = [evaluate_folder(results(run)).ilsvrc for run in two]
    assert one["metric"] == one["gain_metric"]
    assert one["metric"]["title"] == "mAP (ILSVRC DET)"
    assert list(one["values"].values()) == [e.mean_ap for e in expected if e]
    assert one["absent_classes"] == ["7"]
    assert expected[0] is not None
    assert one["per_class"]["A"]["3"] == expected[0].classes[4].ap  # digits by name, ids from 1
    (gain,) = one["gains"]
    assert gain["interval"]["low"] < gain["absolute"] < gain["interval"]["high"]
    assert gain["interval"]["difference"] == pytest.approx(gain["absolute"], abs=1e-12)
    assert "mAP (ILSVRC DET)" in report.markdown and "AP50 (VOC" not in report.markdown
    assert one["coco"]["A"]["AP"] is not None


@pytest.mark.parametrize("pairs", [[], [[1, 1], [2, 3]], [[3, 9]]])
def test_another_blacklist_is_another_ground_truth(
    two: list[Path], tmp_path: Path, pairs: list[list[int]]
) -> None:
    """It decides mAP, whether a pair that it leaves out has an object or not."""
    other = tmp_path / "other"
    shutil.copytree(two[1], other)
    file = results(other) / "ground_truth.json.gz"
    truth = read_json(file)
    truth["info"]["not_scored"] = pairs
    write_json(file, truth)
    (results(other) / "ilsvrc.json").unlink(missing_ok=True)
    report = read_report([two[0], other], tmp_path / "page")
    assert report.json["verdict"] == "NOT COMPARABLE"
    reasons = " ".join(report.json["reasons"])
    assert "the ground truth differs" in reasons
    told = f"2 pairs in A, {len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'} in B"
    assert (told in reasons) is (len(pairs) != 2)
    (one,) = report.json["sets"].values()
    assert one["gains"] == []


def test_every_image_once_gives_the_map(two: list[Path]) -> None:
    """The bootstrap's mean AP with each image drawn once is the metric's, blacklist and all."""
    for place, run in enumerate(two):
        found = read_scores(runs.read_columns(two)[place], SET)
        result = evaluate_folder(results(run)).ilsvrc
        assert result is not None and result.blacklisted == 2
        value = mean_ap(found.ranked_by_set, np.ones((1, 60), dtype=np.int64))[0, 0]
        assert value == pytest.approx(result.mean_ap, abs=1e-12)


def test_by_coco_ranks_by_cocos_ap(two: list[Path], tmp_path: Path) -> None:
    paths = compare(two, tmp_path, by="coco")
    (one,) = json.loads(paths.json.read_text(encoding="utf-8"))["sets"].values()
    assert one["metric"]["title"] == "AP (COCO, IoU .50 to .95)"


def test_another_stored_number_is_refused(two: list[Path], tmp_path: Path) -> None:
    file = results(two[0]) / "ilsvrc.json"
    write_json(file, {"protocol": "ILSVRC DET", "mean_ap": 0.9, "classes": {}})
    try:
        with pytest.raises(RunError, match=r"ilsvrc\.json has mean_ap 0\.9, the result files"):
            compare(two, tmp_path)
    finally:
        file.unlink()
